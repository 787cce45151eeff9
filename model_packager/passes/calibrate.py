"""Finds the range of every activation of a float model over a calibration set.

In: a float model and some hundred samples, float32 (N, *shape[1:]) for each input. Out: one (low, high) for
each tensor, for ``quantise`` to turn into scales and zero points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import UsageError
from model_packager.model import Model
from model_packager.reference import run_all

Array = npt.NDArray[Any]
Range = tuple[float, float]

METHODS = ("minmax", "percentile")
_CHUNK_ELEMENTS = 1 << 22  # activations held at once
_BINS = 4096


def calibrate(
    model: Model, samples: Sequence[Array], method: str = "minmax", percentile: float = 99.99
) -> list[Range]:
    """(low, high) of each tensor, by index.

    samples: one float32 array (N, *shape[1:]) for each model input. `method` "minmax" takes the extremes;
    "percentile" leaves (100 - `percentile`) / 2 per cent of the values out at each end (a histogram of 4,096
    bins; Krishnamoorthi 2018, section 3.1). Raises ``UsageError`` for unusable samples or a bad method.
    """
    if method not in METHODS:
        raise UsageError(f"there is no calibration method '{method}'; there are {' and '.join(METHODS)}")
    if not 50 < percentile <= 100:
        raise UsageError(f"the calibration percentile is {percentile:g}, not between 50 and 100")
    extremes = [(np.inf, -np.inf)] * len(model.tensors)
    for values in activation_chunks(model, samples):
        extremes = [
            (min(low, float(part.min())), max(high, float(part.max())))
            for (low, high), part in zip(extremes, values, strict=True)
        ]
    _require_finite(model, extremes)
    if method == "minmax":
        return extremes
    return _cut_tails(model, samples, extremes, (100 - percentile) / 200)


def activation_chunks(model: Model, samples: Sequence[Array]) -> Iterator[list[Array]]:
    """Every tensor of the model, (n, *shape[1:]), for some samples at a time."""
    counts = {len(array) for array in samples}
    if len(counts) != 1 or 0 in counts:
        raise UsageError("the calibration arrays are empty or have different numbers of samples")
    per_sample = sum(tensor.element_count for tensor in model.tensors)
    step = max(1, _CHUNK_ELEMENTS // per_sample)
    for start in range(0, counts.pop(), step):
        yield run_all(model, [array[start : start + step] for array in samples])


def _require_finite(model: Model, ranges: list[Range]) -> None:
    for tensor, (low, high) in zip(model.tensors, ranges, strict=True):
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UsageError(f"on the calibration set, tensor '{tensor.name}' is not finite")


def _cut_tails(model: Model, samples: Sequence[Array], extremes: list[Range], tail: float) -> list[Range]:
    counts = [np.zeros(_BINS, np.int64) for _ in extremes]
    for values in activation_chunks(model, samples):
        for count, part, (low, high) in zip(counts, values, extremes, strict=True):
            if high > low:
                count += np.histogram(part, _BINS, (low, high))[0]
    return [_inner_range(count, low, high, tail) for count, (low, high) in zip(counts, extremes, strict=True)]


def _inner_range(count: Array, low: float, high: float, tail: float) -> Range:
    """The bins' edges between which all but `tail` of the values at each end lie."""
    if high <= low:
        return low, high
    edges = np.linspace(low, high, _BINS + 1)
    share = np.cumsum(count) / count.sum()
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    return float(edges[min(first, _BINS - 1)]), float(edges[min(last + 1, _BINS)])
