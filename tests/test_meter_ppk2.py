"""The PPK2's driver: words bit by bit, lost samples, and a simulated kit on a pseudo-terminal."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from host_tools.meters.meter import Recorder, open_meter, parse_name
from host_tools.meters.ppk2 import Modifiers, WordDecoder, parse_metadata
from host_tools.transports import SerialTransport
from model_packager.errors import DeviceTimeout, LostSamples, NoDeviceError, UsageError
from tests.simulated_meters import SimulatedPpk2
from tests.traces import record


def word(reading: int, current_range: int, counter: int, logic: int = 0) -> bytes:
    return struct.pack("<I", reading | current_range << 14 | (counter % 64) << 18 | logic << 24)


def decoder(modifiers: Modifiers | None = None, volts: float = 3.0, channel: int = 0) -> WordDecoder:
    return WordDecoder(modifiers or Modifiers(), volts, channel)


def test_word_is_decoded_bit_by_bit() -> None:
    # 0x854BA234: logic 0b10000101, counter 0b010010, unused bit 17 set, range 0b110 (there is none above 4),
    # reading 0b10_0010_0011_0100 (8756).
    samples = decoder().decode(bytes([0x34, 0xA2, 0x4B, 0x85]))
    assert samples.trigger.tolist() == [True]
    assert decoder(channel=1).decode(bytes([0x34, 0xA2, 0x4B, 0x85])).trigger.tolist() == [False]
    x = 8756 * 4 * 1.8 / (163840 * 0.043)
    assert samples.current_amperes[0] == pytest.approx(x * (x + 1), rel=1e-6)
    assert samples.voltage_volts.tolist() == [3.0] and samples.time_s.tolist() == [0.0]


def test_current_has_all_factors_of_its_range() -> None:
    modifiers = parse_metadata("\n".join(f"{name}2: {value}" for name, value in FACTORS.items()))
    (current,) = decoder(modifiers, volts=3.3).decode(word(1000, 2, 0)).current_amperes
    x = (4000 - 10.0) * 1.8 / 163840 / 10.5
    assert current == pytest.approx(1.03 * (x * (2.0 * x + 0.97) + 1e-6 * 3.3 + 5e-6), rel=1e-6)


FACTORS = {"R": 10.5, "GS": 2.0, "GI": 0.97, "O": 10.0, "S": 1e-6, "I": 5e-6, "UG": 1.03}


@pytest.mark.parametrize(
    ("line", "name", "expected"),
    [
        ("R1: 99.5", "r", 99.5),
        ("r1:99.5", "r", 99.5),
        ("R1: -nan", "r", 101.65),
        ("R1: nan", "r", 101.65),
        ("R1: inf", "r", 101.65),
        ("R1: 0", "r", 101.65),
        ("UG1: 0.0", "ug", 1.0),
        ("O1: 0.0", "o", 0.0),
        ("O1: -12.5\r", "o", -12.5),
        ("GS1: 1.5e-3", "gs", 0.0015),
        ("HW: 9156\nR1 100", "r", 101.65),
        ("", "r", 101.65),
    ],
)
def test_metadata_variants(line: str, name: str, expected: float) -> None:
    assert getattr(parse_metadata(f"Calibrated: 0\n{line}\nIA: 56\n"), name)[1] == expected


def test_counter_wraps_without_loss_and_tells_every_lost_sample() -> None:
    kept = [number for number in range(300) if number not in {70, 130, 131, 132, 255}]
    samples = decoder().decode(b"".join(word(100, 0, number) for number in kept))
    np.testing.assert_array_equal(np.rint(samples.time_s * 1e5), kept)
    # 63 lost samples bring the counter back to where it was.
    seen = decoder().decode(word(1, 0, 5) + word(1, 0, 5) + word(1, 0, 6))
    assert np.rint(seen.time_s * 1e5).tolist() == [0, 64, 65]


def test_split_reads_give_the_same_samples() -> None:
    stream = b"".join(word(number, number % 5, number + 9, number >> 6 & 1) for number in range(500))
    whole = decoder().decode(stream)
    for size in (1, 3, 4, 7, 64, 333):
        split = decoder()
        pieces = [split.decode(stream[at : at + size]) for at in range(0, len(stream), size)]
        for name in ("time_s", "current_amperes", "trigger", "clipped"):
            joined = np.concatenate([getattr(piece, name) for piece in pieces])
            np.testing.assert_array_equal(joined, getattr(whole, name))


def test_stream_that_lost_bytes_is_refused() -> None:
    stream = b"".join(word(number * 37 % 16384, number % 3, number) for number in range(2000))
    split = decoder()
    split.decode(stream[:4000])
    with pytest.raises(LostSamples, match="out of step"):
        split.decode(stream[4001:])


def test_full_reading_is_clipped() -> None:
    assert decoder().decode(word(16383, 4, 0) + word(16382, 4, 1)).clipped.tolist() == [True, False]


# ------------------------------------------------------------------------------------- the kit on a pty


def steps(time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Currents of every range in turn, 10 ms each, with the pin on in every other step."""
    number = (time_s * 100).astype(int)
    return np.array([20e-6, 200e-6, 2e-3, 20e-3, 200e-3])[number % 5], number % 2


def test_simulated_kit_gives_its_load_in_every_range() -> None:
    with SimulatedPpk2(steps, dropped=[5000, 5001], leftover=b"") as kit:
        samples = record(f"ppk2:{kit.port}", 3.3, 0.6)
        kit.settle()
        commands = list(kit.commands)
    assert commands[0] == b"\x07" and b"\x11\x02" in commands and b"\x0d\x0c\xe4" in commands  # 3300 mV
    assert commands.index(b"\x0d\x0c\xe4") < commands.index(b"\x0c\x01") < commands.index(b"\x06")
    assert commands[-1] == b"\x07" and b"\x0c\x00" not in commands
    assert len(samples) > 10_000
    numbers = np.rint(samples.time_s * 1e5).astype(int)
    assert sorted(set(range(numbers[-1] + 1)) - set(numbers)) == [5000, 5001]
    levels = np.array([20e-6, 200e-6, 2e-3, 20e-3, 200e-3])
    nearest = levels[np.argmin(np.abs(np.log(samples.current_amperes[:, None] / levels)), axis=1)]
    np.testing.assert_allclose(samples.current_amperes, nearest, rtol=0.01)
    assert set(np.round(nearest * 1e6).astype(int)) == {20, 200, 2000, 20000, 200000}
    # The pin changes where the current does.
    np.testing.assert_array_equal(np.diff(samples.trigger) != 0, np.diff(nearest) != 0)


def test_simulated_kit_as_ampere_meter_sets_no_voltage() -> None:
    with SimulatedPpk2(steps) as kit:
        meter = open_meter(parse_name(f"ppk2:{kit.port},mode=ampere"), None)
        with pytest.raises(UsageError, match="--volts"):
            meter.start()
        meter.supply_volts = 3.0
        meter.start()
        deadline = time.monotonic() + 5
        while not (data := meter.read(0.1)).time_s.size:
            assert time.monotonic() < deadline
        assert data.voltage_volts[0] == 3.0
        meter.stop()
        meter.close()
        kit.settle()
        assert b"\x11\x01" in kit.commands
        assert not [command for command in kit.commands if command[0] == 0x0D]


def test_simulated_kit_that_still_samples_is_understood() -> None:
    with SimulatedPpk2(steps) as kit:
        first = SerialTransport(kit.port)
        first.write(b"\x06")
        time.sleep(0.3)
        first.close()
        samples = record(f"ppk2:{kit.port}", 3.3, 0.4)
    assert len(samples) > 1000 and samples.time_s[0] == 0


def test_simulated_kit_that_sends_no_samples_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_tools.meters.meter.FIRST_SAMPLE_WAIT_S", 0.3)
    with SimulatedPpk2(steps) as kit:
        monkeypatch.setattr(kit, "start", lambda: None)
        meter = open_meter(parse_name(f"ppk2:{kit.port}"), 3.3)
        with pytest.raises(DeviceTimeout, match="the meter sent no sample within"):
            with Recorder(meter) as recorder:
                recorder.wait_for_first()
        meter.close()
        kit.settle()
        assert kit.commands[-1] == b"\x07"


def test_recorder_catches_up_with_a_meter_that_is_late() -> None:
    with SimulatedPpk2(steps) as kit:  # its samples come 0.15 s late
        meter = open_meter(parse_name(f"ppk2:{kit.port}"), 3.3)
        with Recorder(meter) as recorder:
            recorder.wait_for_first()
            started = time.monotonic()
            recorder.wait(0.2)
            recorder.catch_up()
            waited_s = time.monotonic() - started
        meter.close()
    assert recorder.samples().time_s[-1] >= 0.2 and waited_s >= 0.2


def test_kit_without_answer_or_place_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_tools.meters.ppk2.METADATA_WAIT_S", 0.2)
    with SimulatedPpk2(steps, metadata=["no end of it" * 1000]) as kit:
        with pytest.raises(DeviceTimeout, match="no PPK2 answers there"):
            open_meter(parse_name(f"ppk2:{kit.port}"), 3.3)
    with pytest.raises(NoDeviceError, match="no PPK2 is plugged in"):
        open_meter(parse_name("ppk2"), 3.3)
    for name, volts, sentence in (
        ("ppk2:x", None, "say with how many volts"),
        ("ppk2:x", 5.5, "supplies 0.8 to 5 V, not 5.5"),
        ("ppk2:x,mode=both", 3.3, "source or ampere"),
        ("ppk2:x,channel=8", 3.3, "logic channels 0 to 7"),
        ("ppk2:x,channel=a", 3.3, "channel cannot be 'a'"),
        ("ppk2:x,shunt=1", 3.3, "no option 'shunt'; it has mode, channel"),
        ("ppk2:x,mode", 3.3, "no OPTION=VALUE"),
        ("ppk3:x", 3.3, "no meter is called 'ppk3'"),
    ):
        with pytest.raises(UsageError, match=sentence):
            open_meter(parse_name(name), volts)
