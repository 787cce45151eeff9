"""From a recording to the energy of an inference, and what `thimble energy --json` prints of it.

In goes a `Trace` (host_tools/meters/trace.py); out come its trigger windows, the energy of each with and
without the idle power beside it, and their spread. No meter and no device is known here. What must not be
believed is refused by name. Each sample stands until the next one, so that a constant power gives its exact
energy, and an edge of the trigger is known to one sample.

What is only estimated, from a data sheet's current or from the energy of single operations, is made here too;
its keys say `estimated`, and it is never part of a measurement.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.boards import Board
from host_tools.meters.trace import END, Samples, Trace
from model_packager.analysis import SOURCE, analyse
from model_packager.errors import ClippedSamples, LostSamples, MissingTrigger, ShortWindow
from model_packager.model import Model

LEAST_SAMPLES = 50  # in a window, and in the idle time beside it
MOST_LOST = MOST_CLIPPED = 1e-3  # of a window's samples
# Device and meter have clocks of their own: an RC oscillator may be off by some percent.
MOST_CLOCK_DIFFERENCE = 0.05
GUARD_S = 0.1  # beside a window, in which the device talks to the host; at most a quarter of the gap
TRACE_POINTS = 2000  # of the picture in the JSON


@dataclass(frozen=True)
class Window:
    """One trigger window: times by the meter's clock, `runs` inferences in `device_us` by the device's, and
    the energy of all of them: `gross_uj` as measured, `net_uj` without `idle_mw` for as long."""

    start_s: float
    end_s: float
    runs: int
    device_us: int
    gross_uj: float
    net_uj: float
    idle_mw: float


@dataclass(frozen=True)
class Spread:
    """Of the windows' figures; the standard deviation is that of the sample, 0 for one window."""

    mean: float
    standard_deviation: float
    min: float
    max: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.fmean(values), deviation, min(values), max(values))


@dataclass(frozen=True)
class Measurement:
    """The windows of a trace, and the energy of one inference in microjoules, window by window."""

    windows: tuple[Window, ...]
    gross_uj: Spread
    net_uj: Spread
    lost_samples: int
    clipped_samples: int


def measure(trace: Trace) -> Measurement:
    """The energy of an inference.

    Raises:
        MissingTrigger: the trigger windows are not those of `trace.info.runs`.
        ShortWindow: a window, or the idle time beside it, has too few samples.
        LostSamples, ClippedSamples: more of a window than can be neglected.
    """
    samples, info = trace.samples, trace.info
    spans = _spans(trace)
    energy_j, lost = _cumulative_energy(samples), _lost(samples)
    windows = []
    for number, (start_s, end_s) in enumerate(spans, 1):
        _check_window(samples, lost, number, start_s, end_s, info.device_us[number - 1])
        idle_w = _idle_power(samples, energy_j, spans, number - 1)
        gross_j = _energy_between(samples, energy_j, start_s, end_s)
        windows.append(
            Window(
                start_s,
                end_s,
                info.runs[number - 1],
                info.device_us[number - 1],
                gross_j * 1e6,
                (gross_j - idle_w * (end_s - start_s)) * 1e6,
                idle_w * 1e3,
            )
        )
    return Measurement(
        tuple(windows),
        spread([window.gross_uj / window.runs for window in windows]),
        spread([window.net_uj / window.runs for window in windows]),
        int(lost.sum()),
        int(samples.clipped.sum()),
    )


def _spans(trace: Trace) -> list[tuple[float, float]]:
    """Start and end of each window."""
    samples, info = trace.samples, trace.info
    trigger = samples.trigger
    edges = np.flatnonzero(np.diff(trigger.astype(np.int8))) + 1
    rising, falling = edges[trigger[edges]], edges[~trigger[edges]]
    wanted = len(info.runs)
    if wanted == 0:
        raise MissingTrigger("the trace does not say how many inferences its trigger windows hold")
    if len(trigger) and (trigger[0] or trigger[-1]):
        when = "begins" if trigger[0] else "ends"
        raise MissingTrigger(f"the trigger is on where the recording {when}: is its pin wired to the meter?")
    if len(rising) != wanted:
        raise MissingTrigger(
            f"the meter saw {len(rising)} trigger windows, and the device marked {wanted}: is its trigger "
            "pin wired to the meter?"
        )
    if info.trigger_marks == END:
        stops = samples.time_s[rising]
        spans = [(float(end - us / 1e6), float(end)) for end, us in zip(stops, info.device_us, strict=True)]
        for number, ((_, before_s), (start_s, _)) in enumerate(pairwise(spans), 2):
            if start_s < before_s:
                raise MissingTrigger(
                    f"trigger window {number} ended {spans[number - 1][1] - before_s:.4g} s after the one "
                    "before, and was longer by the device's clock: something else moves the trigger"
                )
        return spans
    starts, ends = samples.time_s[rising], samples.time_s[falling]
    return [(float(start), float(end)) for start, end in zip(starts, ends, strict=True)]


def _check_window(
    samples: Samples,
    missing: NDArray[np.int64],
    number: int,
    start_s: float,
    end_s: float,
    device_us: int,
) -> None:
    first, last = np.searchsorted(samples.time_s, (start_s, end_s))
    count = int(last - first)
    if start_s < samples.time_s[0]:
        raise MissingTrigger(f"trigger window {number} began before the recording")
    if count < LEAST_SAMPLES:
        raise ShortWindow(
            f"trigger window {number} of {(end_s - start_s) * 1e3:.3g} ms holds {count} samples, fewer than "
            f"{LEAST_SAMPLES}: measure longer (--seconds)"
        )
    lost = int(missing[first:last].sum())
    if lost > MOST_LOST * (count + lost):
        raise LostSamples(
            f"{lost:,} of {count + lost:,} samples of trigger window {number} were lost on the way: free the "
            "USB bus and this machine, and measure again"
        )
    clipped = int(samples.clipped[first:last].sum())
    if clipped > MOST_CLIPPED * count:
        raise ClippedSamples(
            f"the current was out of the meter's range in {clipped:,} of {count:,} samples of trigger window "
            f"{number}"
        )
    device_s = device_us / 1e6
    resolution_s = 2 * (end_s - start_s) / count
    if abs(end_s - start_s - device_s) > MOST_CLOCK_DIFFERENCE * device_s + resolution_s:
        raise MissingTrigger(
            f"trigger window {number} took {end_s - start_s:.4g} s by the meter's clock and {device_s:.4g} s "
            "by the device's: something else moves the trigger, or whole blocks of samples were lost"
        )


def _lost(samples: Samples) -> NDArray[np.int64]:
    """How many samples are missing behind each one, by the gaps in time."""
    steps = np.diff(samples.time_s)
    if not len(steps):
        return np.zeros(len(samples), np.int64)
    return np.append(np.rint(steps / np.median(steps)).astype(np.int64) - 1, 0).clip(0)


def _cumulative_energy(samples: Samples) -> NDArray[np.float64]:
    """Joules up to each sample."""
    power_w = power(samples)
    return np.concatenate(([0.0], np.cumsum(power_w[:-1] * np.diff(samples.time_s))))


def power(samples: Samples) -> NDArray[np.float64]:
    """Watts of each sample."""
    return samples.current_amperes.astype(np.float64) * samples.voltage_volts


def _energy_between(samples: Samples, energy_j: NDArray[np.float64], start_s: float, end_s: float) -> float:
    start_j, end_j = np.interp((start_s, end_s), samples.time_s, energy_j)
    return float(end_j - start_j)


def _idle_power(
    samples: Samples, energy_j: NDArray[np.float64], spans: list[tuple[float, float]], index: int
) -> float:
    """Watts between the window's neighbours and itself, on both sides, without the time in which the device
    talks to the host."""
    before_s = spans[index - 1][1] if index else float(samples.time_s[0])
    after_s = spans[index + 1][0] if index + 1 < len(spans) else float(samples.time_s[-1])
    start_s, end_s = spans[index]
    total_j = total_s = 0.0
    count = 0
    for begin, end in ((before_s, start_s), (end_s, after_s)):
        guard_s = min(GUARD_S, max(0.0, (end - begin) / 4))
        begin, end = begin + guard_s, end - guard_s
        if end > begin:
            total_j += _energy_between(samples, energy_j, begin, end)
            total_s += end - begin
            count += int(np.diff(np.searchsorted(samples.time_s, (begin, end)))[0])
    if count < LEAST_SAMPLES:
        raise ShortWindow(
            f"only {count} samples of idle time lie beside trigger window {index + 1}: wait longer (--idle)"
        )
    return total_j / total_s


# ------------------------------------------------------------------------------------------------- the JSON


def decimated(samples: Samples, points: int = TRACE_POINTS) -> dict[str, list[float]]:
    """At most `points` means of the power over equal times, for a picture: `time_s` (the middle of each) and
    `power_mw`. A time without any sample is left out."""
    start_s, end_s = samples.time_s[0], samples.time_s[-1]
    count = min(points, len(samples))
    edges = np.linspace(start_s, end_s, count + 1)
    place = np.clip(np.searchsorted(edges, samples.time_s, side="right") - 1, 0, count - 1)
    weights = np.bincount(place, minlength=count)
    sums = np.bincount(place, power(samples) * 1e3, minlength=count)
    filled = weights > 0
    middles = (edges[:-1] + edges[1:])[filled] / 2
    return {
        "time_s": [round(float(time), 6) for time in middles],
        "power_mw": [float(f"{value:.6g}") for value in sums[filled] / weights[filled]],
    }


def measurement_figures(trace: Trace, measured: Measurement) -> dict[str, Any]:
    """The `measurement` of the JSON; docs/ENERGY.md explains its keys."""
    samples, info = trace.samples, trace.info
    steps = np.diff(samples.time_s)
    return {
        "meter": info.meter,
        "supply_volts": info.supply_volts,
        "supply_source": info.supply_source,
        "sample_rate_hz": float(f"{1 / np.median(steps):.6g}"),
        "sample_count": len(samples),
        "lost_samples": measured.lost_samples,
        "clipped_samples": measured.clipped_samples,
        "energy_per_inference_uj": {"gross": asdict(measured.gross_uj), "net": asdict(measured.net_uj)},
        "windows": [asdict(window) for window in measured.windows],
        "trace": decimated(samples),
    }


# ------------------------------------------------------------------------------------------------- estimates


def estimate_by_current(board: Board, latency_us: float) -> dict[str, Any] | None:
    """What a board would take by its file's active current and supply, for a measured latency; None where the
    file knows no current or no supply."""
    volts, current = board.measurement.supply_volts, board.measurement.active_milliamps
    if volts is None or current is None:
        return None
    return {
        "estimated_uj": [volts * milliamps * latency_us / 1000 for milliamps in current],
        "supply_volts": volts,
        "active_milliamps": list(current),
        "source": board.source("measurement.active_milliamps"),
    }


def estimate_by_operations(model: Model) -> dict[str, Any]:
    """The arithmetic and memory accesses of an int8 network at 45 nm, as `thimble analyze` counts them."""
    (int8,) = (energy for energy in analyse(model).energy() if energy.precision == "int8")
    return {"estimated_uj": (int8.arithmetic_pj + int8.memory_pj) / 1e6, "source": SOURCE}
