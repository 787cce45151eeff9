"""Quantises weights uniformly to fewer than eight bits: int4, for example, or a width for each layer.

Source: Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference", section 3.1
(symmetric, per channel). The dense fixed-width encoding then stores so many bits a weight; kernels stay those
of int8.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from model_packager.errors import UsageError
from model_packager.model import Model
from model_packager.passes.select_layers import real_weights, row_scales, select_layers, set_weights


def quantise_bits(model: Model, match: str | Sequence[str] = "*", bits: int = 4) -> Model:
    """A new integer model whose chosen layers have weights of `bits` (2 to 8), from -(2^(bits-1) - 1) on,
    each row with a scale of its own.

    Raises ``UsageError`` for another width, or as ``select_layers``.
    """
    if not 2 <= bits <= 8:
        raise UsageError(f"quantise_bits takes 2 to 8 bits, not {bits}")
    top = (1 << (bits - 1)) - 1
    quantised = copy.deepcopy(model)
    for layer in select_layers(quantised, match):
        weights = real_weights(layer)
        peaks = np.abs(weights).max(axis=1)
        scales = np.where(peaks > 0, peaks / top, row_scales(layer))
        if layer.requant is not None and layer.requant.power_of_two:
            widened = np.ldexp(1.0, np.ceil(np.log2(scales.max())).astype(int))
            scales = np.full(len(weights), widened)
        values = np.clip(np.round(weights / scales[:, np.newaxis]), -top, top)
        set_weights(quantised, layer, values, scales)
    return quantised
