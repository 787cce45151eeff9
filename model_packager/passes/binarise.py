"""Binarises weights: each row becomes its signs times one magnitude.

Source: Rastegari et al. 2016, "XNOR-Net", section 3.1 (binary-weight networks): the best magnitude is the
mean of the row's absolute weights. The magnitude goes into the requantisation, so a row is stored as one bit
per weight.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from model_packager.model import Model
from model_packager.passes.select_layers import real_weights, row_scales, select_layers, set_weights


def binarise(model: Model, match: str | Sequence[str] = "*") -> Model:
    """A new integer model whose chosen layers have the weights -1 and +1 times a magnitude for each row."""
    binary = copy.deepcopy(model)
    for layer in select_layers(binary, match):
        weights = real_weights(layer)
        magnitudes = np.abs(weights).mean(axis=1)
        scales = np.where(magnitudes > 0, magnitudes, row_scales(layer))
        set_weights(binary, layer, np.where(weights < 0, -1, 1), scales)
    return binary
