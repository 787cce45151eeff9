"""Joulescope's JS220 through its maker's driver, pyjoulescope_driver (extra `joulescope`).

Current, voltage and the general-purpose input 0 are three streams of blocks. Each block says the number of
its first sample in steps of the instrument's full rate, how many steps lie between two of its samples, and
their values: float32, or for the input bits, the first in the lowest bit of a byte. A sample that the
instrument missed is no number.
"""

from __future__ import annotations

import contextlib
import queue
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.meters.trace import LEVEL, MEASURED, Samples, join_samples, make_samples
from model_packager.errors import DeviceError, NoDeviceError, UsageError

MISSING = "the meter js220 needs pyjoulescope_driver: pip install thimble-runtime[joulescope]"
CURRENT, VOLTAGE, INPUT = "s/i", "s/v", "s/gpi/0"
STREAMS = (CURRENT, VOLTAGE, INPUT)
MOST_AMPERES = 10.0  # of its widest range
RATES_HZ = (1_000_000, 500_000, 200_000, 100_000, 50_000, 20_000, 10_000)


@dataclass(frozen=True)
class Options:
    """`rate_hz`: samples a second, one of RATES_HZ."""

    rate_hz: int = 100_000


class BlockJoiner:
    """Blocks of the three streams to samples, as soon as all three have come."""

    def __init__(self) -> None:
        self._blocks: dict[str, list[tuple[NDArray[np.int64], NDArray[Any]]]] = defaultdict(list)
        self._first: int | None = None

    def add(self, stream: str, block: dict[str, Any]) -> None:
        """A block as the driver gives it."""
        values = np.asarray(block["data"])
        if stream == INPUT:
            values = np.unpackbits(values.view(np.uint8), bitorder="little")
        step = int(block["decimate_factor"])
        numbers = int(block["sample_id"]) + step * np.arange(len(values), dtype=np.int64)
        self._rate_hz = float(block["sample_rate"])
        self._blocks[stream].append((numbers, values))

    def take(self) -> Samples:
        """The samples whose voltage and input are known; the others stay."""
        if any(not self._blocks[stream] for stream in STREAMS):
            return join_samples([])
        joined = {stream: self._joined(stream) for stream in STREAMS}
        until = min(int(numbers[-1]) for numbers, _ in joined.values())
        numbers, amperes = joined[CURRENT]
        ready = numbers <= until
        at = numbers[ready]
        volts, level = (self._at(*joined[stream], at) for stream in (VOLTAGE, INPUT))
        for stream, (its_numbers, values) in joined.items():
            # The last one before stays: it still stands where a stream has fewer samples.
            kept = max(0, int(np.searchsorted(its_numbers, until, side="right")) - (stream != CURRENT))
            self._blocks[stream] = [(its_numbers[kept:], values[kept:])] if kept < len(values) else []
        if len(at) and self._first is None:
            self._first = int(at[0])
        whole = np.isfinite(amperes[ready]) & np.isfinite(volts)
        current = amperes[ready][whole]
        return make_samples(
            time_s=(at[whole] - (self._first or 0)) / self._rate_hz,
            current_amperes=current,
            voltage_volts=volts[whole],
            trigger=level[whole],
            clipped=np.abs(current) >= MOST_AMPERES,
        )

    def _joined(self, stream: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        numbers, values = zip(*self._blocks[stream], strict=True)
        return np.concatenate(numbers), np.concatenate(values)

    @staticmethod
    def _at(numbers: NDArray[np.int64], values: NDArray[Any], wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The value that stands at each wanted number: that of the sample at it, or before."""
        return values[np.maximum(np.searchsorted(numbers, wanted, side="right") - 1, 0)]


class Js220:
    """An instrument; see `Meter`."""

    trigger_marks = LEVEL
    supply_source = MEASURED
    title = "Joulescope JS220"

    def __init__(self, driver: Any, path: str, options: Options, closing: contextlib.ExitStack) -> None:
        self._driver = driver
        self._path = path
        self._closing = closing
        self._queue: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._joiner = BlockJoiner()
        self._callback = self._on_data  # the driver knows it by its identity
        self.supply_volts: float | None = None
        self._publish("s/i/range/mode", "auto")
        self._publish("s/v/range/mode", "auto")
        self._publish("h/fs", options.rate_hz)

    def _publish(self, topic: str, value: Any) -> None:
        try:
            self._driver.publish(f"{self._path}/{topic}", value)
        except Exception as error:  # the driver raises RuntimeError, TimeoutError and others
            raise DeviceError(f"the JS220 does not take {topic}: {error}") from error

    def _on_data(self, topic: str, block: dict[str, Any]) -> None:
        self._queue.put((topic.removeprefix(f"{self._path}/").removesuffix("/!data"), block))

    def start(self) -> None:
        self._joiner = BlockJoiner()
        for stream in STREAMS:
            self._driver.subscribe(f"{self._path}/{stream}/!data", "pub", self._callback)
        for stream in STREAMS:
            self._publish(f"{stream}/ctrl", 1)

    def read(self, timeout_s: float) -> Samples:
        with contextlib.suppress(queue.Empty):
            self._joiner.add(*self._queue.get(timeout=timeout_s))
            while True:
                self._joiner.add(*self._queue.get_nowait())
        return self._joiner.take()

    def stop(self) -> None:
        for stream in STREAMS:
            self._publish(f"{stream}/ctrl", 0)
            self._driver.unsubscribe(f"{self._path}/{stream}/!data", self._callback)

    def close(self) -> None:
        self._closing.close()


def open_meter(place: str | None, options: Options, volts: float | None) -> Js220:
    """The instrument with that serial number, or the only one. As `meter.open_meter`."""
    if volts is not None:
        raise UsageError("the JS220 measures the voltage itself: leave out --volts")
    if options.rate_hz not in RATES_HZ:
        raise UsageError(f"the JS220's rate_hz is one of {', '.join(map(str, RATES_HZ))}")
    try:
        from pyjoulescope_driver import Driver
    except ImportError:
        raise UsageError(MISSING) from None
    with contextlib.ExitStack() as stack:
        driver = stack.enter_context(Driver())
        path = _path(driver.device_paths(), place)
        try:
            driver.open(path, mode="defaults")
        except Exception as error:  # as in `Js220._publish`
            raise NoDeviceError(f"cannot open the JS220 at {path}: {error}") from error
        stack.callback(driver.close, path)
        closing = contextlib.ExitStack()
        meter = Js220(driver, path, options, closing)
        closing.enter_context(stack.pop_all())
    return meter


def _path(paths: list[str], serial_number: str | None) -> str:
    found = [path for path in paths if "/js220/" in path.lower()]
    if serial_number is not None:
        found = [path for path in found if path.lower().endswith(f"/{serial_number.lower()}")]
    if len(found) != 1:
        what = "no JS220 is plugged in" if not found else "there are several JS220s"
        raise NoDeviceError(f"{what}: give its serial number with --meter js220:NUMBER")
    return found[0]
