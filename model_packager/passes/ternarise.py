"""Ternarises weights: -n, 0 and +p.

Sources: Li and Liu 2016, "Ternary weight networks", section 2.2 (threshold 0.7 of the mean magnitude, one
magnitude for each row, which goes into the requantisation); Zhu et al. 2017, "Trained ternary quantization",
section 3 (a magnitude of its own for each sign of a layer; here the means instead of trained values).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import UsageError
from model_packager.model import Model
from model_packager.passes.select_layers import real_weights, row_scales, select_layers, set_weights

Array = npt.NDArray[Any]

METHODS = ("twn", "ttq")
TWN_THRESHOLD = 0.7  # of the mean magnitude: section 2.2
TTQ_THRESHOLD = 0.05  # of the largest magnitude: section 3.1
_LARGEST_MAGNITUDE = 127


def ternarise(
    model: Model, match: str | Sequence[str] = "*", method: str = "twn", threshold: float | None = None
) -> Model:
    """A new integer model whose chosen layers have three weight values.

    `threshold`, below which weights become zero, is a share of the row's mean magnitude ("twn", default 0.7)
    or of the layer's largest magnitude ("ttq", default 0.05).
    """
    if method not in METHODS:
        raise UsageError(f"the method of ternarise is {' or '.join(METHODS)}, not '{method}'")
    if threshold is not None and not 0 <= threshold < 1:
        raise UsageError(f"the threshold of ternarise is {threshold:g}, not from 0 to below 1")
    ternary = copy.deepcopy(model)
    for layer in select_layers(ternary, match):
        weights = real_weights(layer)
        if method == "twn":
            values, scales = _one_magnitude(weights, TWN_THRESHOLD if threshold is None else threshold)
        else:
            values, scales = _two_magnitudes(weights, TTQ_THRESHOLD if threshold is None else threshold)
        set_weights(ternary, layer, values, np.where(scales > 0, scales, row_scales(layer)))
    return ternary


def _one_magnitude(weights: Array, threshold: float) -> tuple[Array, Array]:
    magnitudes = np.abs(weights)
    kept = magnitudes > threshold * magnitudes.mean(axis=1, keepdims=True)
    scales = np.where(kept, magnitudes, 0).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
    return np.where(kept, np.sign(weights), 0).astype(np.int8), scales


def _two_magnitudes(weights: Array, threshold: float) -> tuple[Array, Array]:
    magnitudes = np.abs(weights)
    kept = magnitudes > threshold * magnitudes.max()
    means = [
        weights[kept & side].mean() if np.any(kept & side) else 0.0 for side in (weights > 0, weights < 0)
    ]
    scale = max(means[0], -means[1]) / _LARGEST_MAGNITUDE
    if scale == 0:
        return np.zeros(weights.shape, np.int8), np.zeros(len(weights))
    positive, negative = (max(1, round(abs(mean) / scale)) for mean in means)
    values = np.where(kept, np.where(weights > 0, positive, -negative), 0)
    return values.astype(np.int8), np.full(len(weights), scale)
