"""Quantises weights to signed powers of two: a multiplication becomes a shift.

Source: Miyashita et al. 2016, "Convolutional neural networks using logarithmic data representation", section
3. The exponents are 0 to 6 (and zero itself), which is what four bits hold; each row's scale is the one, of a
few candidates within an octave, that makes the squared error smallest.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.model import Model
from model_packager.passes.select_layers import real_weights, row_scales, select_layers, set_weights

Array = npt.NDArray[Any]

LARGEST_EXPONENT = 6
_CANDIDATES = 16  # scales tried in an octave


def quantise_log2(model: Model, match: str | Sequence[str] = "*") -> Model:
    """A new integer model whose chosen layers have the weights 0 and +-2^0 .. +-2^6 times a row scale."""
    quantised = copy.deepcopy(model)
    for layer in select_layers(quantised, match):
        weights = real_weights(layer)
        peaks = np.abs(weights).max(axis=1)
        top = np.where(peaks > 0, peaks, row_scales(layer)) / (1 << LARGEST_EXPONENT)
        best_scales, best_error = top, np.full(len(weights), np.inf)
        for step in range(_CANDIDATES):
            scales = top * 2.0 ** (0.5 - step / _CANDIDATES)
            error = ((powers_of_two(weights, scales) * scales[:, np.newaxis] - weights) ** 2).sum(axis=1)
            best_scales = np.where(error < best_error, scales, best_scales)
            best_error = np.minimum(error, best_error)
        set_weights(quantised, layer, powers_of_two(weights, best_scales), best_scales)
    return quantised


def powers_of_two(weights: Array, scales: Array) -> Array:
    """Each weight over its row's scale, rounded in the log domain to a signed power of two, or to 0."""
    ratio = np.abs(weights) / scales[:, np.newaxis]
    with np.errstate(divide="ignore"):
        exponents = np.round(np.log2(ratio))
    powers = 2.0 ** np.clip(exponents, 0, LARGEST_EXPONENT)
    # Nearer to zero than to the smallest power.
    return np.where(ratio < 0.5, 0.0, np.sign(weights) * powers)
