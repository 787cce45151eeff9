"""For tests of `thimble energy`: traces whose energy is known by arithmetic, and recordings from a meter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from host_tools.meters.meter import Recorder, open_meter, parse_name
from host_tools.meters.trace import Samples, Trace, TraceInfo, make_samples

RATE_HZ = 10_000


def rectangles(
    windows: Sequence[tuple[float, float]],
    length_s: float,
    idle_amperes: float = 0.002,
    active: Callable[[np.ndarray], np.ndarray] | float = 0.010,
    volts: float = 3.0,
    rate_hz: float = RATE_HZ,
) -> Samples:
    """Samples with the trigger, and another current, within `windows` (start and end in seconds). `active`:
    amperes there, perhaps as a function of the time since the window began."""
    time_s = np.arange(round(length_s * rate_hz)) / rate_hz
    trigger = np.zeros(len(time_s), bool)
    current = np.full(len(time_s), idle_amperes)
    for start_s, end_s in windows:
        inside = slice(round(start_s * rate_hz), round(end_s * rate_hz))
        trigger[inside] = True
        current[inside] = active(time_s[inside] - start_s) if callable(active) else active
    return make_samples(time_s=time_s, current_amperes=current, voltage_volts=volts, trigger=trigger)


def trace_of(
    samples: Samples, windows: Sequence[tuple[float, float]], runs: int = 10, **info: object
) -> Trace:
    """A recording of `runs` inferences in each window, which the device timed right."""
    device_us = tuple(round((end_s - start_s) * 1e6) for start_s, end_s in windows)
    given = {"meter": "a test", "supply_volts": 3.0, "supply_source": "set", **info}
    return Trace(samples, TraceInfo(runs=(runs,) * len(windows), device_us=device_us, **given))  # type: ignore[arg-type]


def record(name: str, volts: float, seconds: float) -> Samples:
    """What the meter of that name gives within some seconds."""
    meter = open_meter(parse_name(name), volts)
    try:
        with Recorder(meter) as recorder:
            recorder.wait(seconds)
        return recorder.samples()
    finally:
        meter.close()
