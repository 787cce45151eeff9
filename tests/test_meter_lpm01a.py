"""The LPM01A's driver: its lines, and a simulated board on a pseudo-terminal."""

from __future__ import annotations

import numpy as np
import pytest

from host_tools.energy import measure
from host_tools.meters import lpm01a
from host_tools.meters.lpm01a import LineDecoder
from host_tools.meters.meter import open_meter, parse_name
from host_tools.meters.trace import Samples, Trace, TraceInfo
from model_packager.errors import DeviceError, DeviceTimeout, MeasurementError, NoDeviceError, UsageError
from tests.simulated_meters import SimulatedLpm01a
from tests.traces import record

STREAM = (
    b"\r\nPowerShield > ack start\r\nTimeStamp: 000s 000ms, buff 00%\r\n"
    b"6409-07\r\n2972-06\r\nevent 1 ris\r\n5000-05\r\n0000-10\r\nend\r\n"
)


def decoder(most_amperes: float = 0.050) -> LineDecoder:
    return LineDecoder(3.0, most_amperes)


def test_lines_are_decoded_as_um2243_says() -> None:
    samples = decoder().decode(STREAM)
    np.testing.assert_allclose(samples.current_amperes, [640.9e-6, 2.972e-3, 0.05, 0], rtol=1e-6)
    assert samples.trigger.tolist() == [False, False, True, False]  # the first sample after the event
    assert samples.clipped.tolist() == [False, False, True, False]
    assert samples.time_s.tolist() == pytest.approx([0, 0.0002, 0.0004, 0.0006])


def test_split_reads_give_the_same_samples() -> None:
    whole = decoder().decode(STREAM)
    for size in (1, 2, 5, 9, 31):
        split = decoder()
        pieces = [split.decode(STREAM[at : at + size]) for at in range(0, len(STREAM), size)]
        for name in ("time_s", "current_amperes", "trigger", "clipped"):
            joined = np.concatenate([getattr(piece, name) for piece in pieces])
            np.testing.assert_array_equal(joined, getattr(whole, name))


def test_lost_samples_are_seen_by_the_time_stamps_and_by_broken_lines() -> None:
    lines = ["1000-06\r\n"] * 990 + ["TimeStamp: 000s 200ms, buff 01%\r\n"] + ["1000-06\r\n"] * 3
    numbers = np.rint(decoder().decode("".join(lines).encode()).time_s * 5000)
    assert numbers[-4:].tolist() == [989, 1000, 1001, 1002]
    broken = decoder().decode(b"1000-06\r\n10001000-06\r\n1000+99\r\n1000-06\r\n")
    assert np.rint(broken.time_s * 5000).tolist() == [0, 3]


@pytest.mark.parametrize("line", [b"error: overcurrent\r\n", b"PowerShield > Error 12\r\n"])
def test_error_in_the_stream_is_named(line: bytes) -> None:
    with pytest.raises(MeasurementError, match="the LPM01A stops with"):
        decoder().decode(b"1000-06\r\n" + line)


def test_full_buffer_is_refused() -> None:
    with pytest.raises(MeasurementError, match="buffer ran over"):
        decoder().decode(b"TimeStamp: 001s 000ms, buff 100%\r\n")


def pulses(time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """20 mA while the pin is on, 0.1 s of every 0.3 s, 3 mA otherwise."""
    level = (time_s % 0.3 > 0.2).astype(int)
    return np.where(level == 1, 20e-3, 3e-3), level


def test_simulated_board_gives_its_load_and_the_ends_of_its_windows() -> None:
    with SimulatedLpm01a(pulses) as board:
        samples = record(f"lpm01a:{board.port}", 3.0, 1.5)
        board.settle()
        commands = list(board.commands)
    assert commands[0] == "htc" and commands[-2:] == ["stop", "hrc"]
    assert {"volt 3000m", "format ascii_dec", "freq 5k", "trigsrc sw", "acqtime inf"} <= set(commands)
    assert commands.index("volt 3000m") < commands.index("pwr on nostatus") < commands.index("start")
    assert len(samples) > 3000 and (np.rint(samples.time_s * 5000) == np.arange(len(samples))).all()
    assert set(np.round(samples.current_amperes * 1e3)) == {3, 20}
    ends = np.flatnonzero(samples.trigger)
    assert 2 <= len(ends) <= 6 and set(np.diff(ends)) <= {1499, 1500, 1501}
    # The windows that those ends and the device's times make have the power of the load.
    kept = slice(ends[ends > 800][0] - 800, ends[-1] + 400)
    part = Samples(*(getattr(samples, name)[kept] for name in Samples.__dataclass_fields__))
    count = int(part.trigger.sum())
    info = TraceInfo("x", 3.0, "set", "end", runs=(2,) * count, device_us=(99_000,) * count)
    measured = measure(Trace(part, info))
    assert measured.gross_uj.mean == pytest.approx(20e-3 * 3.0 * 0.099 / 2 * 1e6, rel=0.01)
    assert measured.net_uj.mean == pytest.approx(17e-3 * 3.0 * 0.099 / 2 * 1e6, rel=0.02)


def test_simulated_board_that_refuses_or_is_silent_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatedLpm01a(pulses, refused=["eventsrc"]) as board:
        with pytest.raises(DeviceError, match=r"refuses 'eventsrc d7 fal': not today"):
            record(f"lpm01a:{board.port}", 3.0, 0.1)
    monkeypatch.setattr(lpm01a, "ANSWER_WAIT_S", 0.3)
    with SimulatedLpm01a(pulses) as board:
        monkeypatch.setattr(board, "receive", lambda data: None)
        with pytest.raises(DeviceTimeout, match="no LPM01A answers there"):
            record(f"lpm01a:{board.port}", 3.0, 0.1)


def test_simulated_board_whose_buffer_runs_over_is_refused() -> None:
    with SimulatedLpm01a(pulses, buffer_percent=100) as board:
        with pytest.raises(MeasurementError, match="buffer ran over"):
            record(f"lpm01a:{board.port}", 3.0, 1.0)
        board.settle()
        assert board.commands[-2:] == ["stop", "hrc"]


def test_simulated_board_loses_samples_visibly() -> None:
    with SimulatedLpm01a(pulses, dropped=range(500, 520)) as board:
        samples = record(f"lpm01a:{board.port},acqmode=stat", 3.0, 0.8)
        assert "acqmode stat" in board.commands
    numbers = np.rint(samples.time_s * 5000).astype(int)
    after = numbers[numbers >= 1000]
    assert len(after) > 0 and after[0] == 1000
    assert len(set(range(1000)) - set(numbers)) == 20


def test_board_names_that_make_no_sense() -> None:
    with pytest.raises(NoDeviceError, match="no LPM01A is plugged in"):
        open_meter(parse_name("lpm01a"), 3.0)
    for name, volts in (("lpm01a:x,acqmode=slow", 3.0), ("lpm01a:x", None), ("lpm01a:x", 5.0)):
        with pytest.raises(UsageError):
            open_meter(parse_name(name), volts)
