"""The JS220's driver: its blocks, and its calls of pyjoulescope_driver.

The instrument and its USB cannot be had here; `FakeDriver` takes the calls of the real package that the real
package documents, and sends blocks as its streams do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from host_tools.meters.js220 import BlockJoiner
from host_tools.meters.meter import Recorder, open_meter, parse_name
from model_packager.errors import DeviceError, NoDeviceError, UsageError

FULL_RATE_HZ, STEP = 2_000_000, 20


def block(first: int, values: Any, step: int = STEP) -> dict[str, Any]:
    return {
        "sample_id": first * step,
        "sample_rate": FULL_RATE_HZ,
        "decimate_factor": step,
        "data": np.array(values),
    }


def bits(levels: list[int]) -> np.ndarray:
    return np.packbits(levels, bitorder="little")


def test_blocks_of_three_streams_become_samples_where_all_are_there() -> None:
    joiner = BlockJoiner()
    joiner.add("s/i", block(50, np.float32([0.01, 0.02, 0.03, 0.04])))
    assert len(joiner.take()) == 0
    joiner.add("s/v", block(50, np.float32([3.0, 3.1, 3.2])))
    assert len(joiner.take()) == 0
    joiner.add("s/gpi/0", block(48, bits([0, 0, 0, 1, 1, 0, 0, 0])))
    samples = joiner.take()
    np.testing.assert_allclose(samples.time_s, [0, 1e-5, 2e-5])
    np.testing.assert_allclose(samples.current_amperes, [0.01, 0.02, 0.03])
    np.testing.assert_allclose(samples.voltage_volts, [3.0, 3.1, 3.2], rtol=1e-6)
    assert samples.trigger.tolist() == [False, True, True]
    joiner.add("s/v", block(53, np.float32([3.3, 3.4])))
    later = joiner.take()
    np.testing.assert_allclose(later.time_s, [3e-5])
    np.testing.assert_allclose(later.current_amperes, [0.04])
    np.testing.assert_allclose(later.voltage_volts, [3.3], rtol=1e-6)


def test_input_at_the_full_rate_is_that_at_the_current_samples() -> None:
    joiner = BlockJoiner()
    joiner.add("s/i", block(0, np.float32([0.1] * 4)))
    joiner.add("s/v", block(0, np.float32([3.0] * 4)))
    levels = np.zeros(80, int)
    levels[20:41] = 1  # of the full rate: samples 1 and 2
    joiner.add("s/gpi/0", block(0, bits(levels.tolist()), step=1))
    assert joiner.take().trigger.tolist() == [False, True, True, False]


def test_missing_samples_are_gaps_in_time() -> None:
    joiner = BlockJoiner()
    joiner.add("s/i", block(0, np.float32([0.1, np.nan, 0.1, 11.0])))
    joiner.add("s/v", block(0, np.float32([3.0] * 4)))
    joiner.add("s/gpi/0", block(0, bits([0] * 8)))
    samples = joiner.take()
    np.testing.assert_allclose(samples.time_s, [0, 2e-5, 3e-5])
    assert samples.clipped.tolist() == [False, False, True]


class FakeDriver:
    """What this project calls of pyjoulescope_driver.Driver."""

    paths = ["u/js110/001234", "u/js220/005678"]
    refuses = ""
    last: FakeDriver

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._subscribers: dict[str, Callable[[str, Any], None]] = {}
        FakeDriver.last = self

    def __enter__(self) -> FakeDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append(("finalize",))

    def device_paths(self) -> list[str]:
        return list(self.paths)

    def open(self, path: str, mode: str) -> None:
        self.calls.append(("open", path, mode))

    def close(self, path: str) -> None:
        self.calls.append(("close", path))

    def publish(self, topic: str, value: Any) -> None:
        if self.refuses and topic.endswith(self.refuses):
            raise RuntimeError("no such topic")
        self.calls.append((topic.removeprefix("u/js220/005678/"), value))
        if topic.endswith("s/gpi/0/ctrl") and value == 1:
            for first in range(0, 800, 80):
                self._send("s/i", block(first, np.full(80, 0.02, np.float32)))
                self._send("s/v", block(first, np.full(80, 3.3, np.float32)))
                self._send("s/gpi/0", block(first, bits([first // 80 % 2] * 80)))

    def _send(self, stream: str, data: dict[str, Any]) -> None:
        topic = f"u/js220/005678/{stream}/!data"
        self._subscribers[topic](topic, data)

    def subscribe(self, topic: str, flags: str, function: Callable[[str, Any], None]) -> None:
        assert flags == "pub"
        self._subscribers[topic] = function

    def unsubscribe(self, topic: str, function: Callable[[str, Any], None]) -> None:
        assert self._subscribers.pop(topic) is function


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> type[FakeDriver]:
    module = ModuleType("pyjoulescope_driver")
    module.Driver = FakeDriver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", module)
    return FakeDriver


def test_instrument_is_opened_set_up_streamed_and_closed(driver: type[FakeDriver]) -> None:
    meter = open_meter(parse_name("js220"), None)
    assert meter.supply_volts is None and meter.supply_source == "measured"
    with Recorder(meter) as recorder:
        recorder.wait(0.1)
    meter.close()
    samples = recorder.samples()
    assert len(samples) == 800
    np.testing.assert_allclose(np.diff(samples.time_s), 1e-5)
    assert samples.trigger.reshape(10, 80).all(axis=1).tolist() == [False, True] * 5
    calls = driver.last.calls
    assert calls[0] == ("open", "u/js220/005678", "defaults")
    assert ("h/fs", 100_000) in calls and ("s/i/range/mode", "auto") in calls
    for stream in ("s/i", "s/v", "s/gpi/0"):
        assert calls.index((f"{stream}/ctrl", 1)) < calls.index((f"{stream}/ctrl", 0))
    assert calls[-2:] == [("close", "u/js220/005678"), ("finalize",)]


def test_without_the_package_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", None)
    with pytest.raises(UsageError, match=r"pip install thimble-runtime\[joulescope\]"):
        open_meter(parse_name("js220"), None)


def test_instrument_that_is_not_there_or_refuses_is_one_sentence(
    driver: type[FakeDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoDeviceError, match="no JS220 is plugged in"):
        open_meter(parse_name("js220:99"), None)
    assert driver.last.calls == [("finalize",)]
    monkeypatch.setattr(driver, "paths", ["u/js220/1", "u/js220/2"])
    with pytest.raises(NoDeviceError, match="several JS220s"):
        open_meter(parse_name("js220"), None)
    open_meter(parse_name("js220:2"), None).close()
    monkeypatch.setattr(driver, "refuses", "h/fs")
    with pytest.raises(DeviceError, match="does not take h/fs: no such topic"):
        open_meter(parse_name("js220:1"), None)
    assert driver.last.calls[-2:] == [("close", "u/js220/1"), ("finalize",)]


def test_options_that_make_no_sense(driver: type[FakeDriver]) -> None:
    for name, volts, sentence in (
        ("js220", 3.3, "leave out --volts"),
        ("js220,rate_hz=123", None, "rate_hz is one of"),
    ):
        with pytest.raises(UsageError, match=sentence):
            open_meter(parse_name(name), volts)
