"""Prunes by magnitude, in one shot: the smallest weights become zero.

Source: Han et al. 2015, "Learning both weights and connections for efficient neural networks", section 3
(without the retraining, which needs the training data).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import UsageError
from model_packager.model import Model, Operator
from model_packager.passes.select_layers import real_weights, select_layers, weights_of

Array = npt.NDArray[Any]

SCOPES = ("layer", "global")


def prune(
    model: Model,
    match: str | Sequence[str] = "*",
    density: float | None = None,
    threshold: float | None = None,
    scope: str = "layer",
) -> Model:
    """A new integer model in which the chosen layers keep only their largest weights.

    Give either `density`, the share of weights to keep (0..1; in each layer, or over all chosen layers
    together with `scope` "global"), or `threshold`: weights of a smaller magnitude go; it is in units of the
    standard deviation of the layer's weights, as in the paper's section 3.4 on thresholds.
    """
    if (density is None) == (threshold is None):
        raise UsageError("prune needs either a density or a threshold")
    if scope not in SCOPES:
        raise UsageError(f"the scope of prune is {' or '.join(SCOPES)}, not '{scope}'")
    if density is not None and not 0 <= density <= 1:
        raise UsageError(f"the density of prune is {density:g}, not between 0 and 1")
    if threshold is not None and threshold < 0:
        raise UsageError(f"the threshold of prune is {threshold:g}, below 0")
    pruned = copy.deepcopy(model)
    layers = select_layers(pruned, match)
    if threshold is not None:
        for layer in layers:
            magnitudes = np.abs(real_weights(layer))
            _keep(layer, magnitudes >= threshold * real_weights(layer).std())
    elif scope == "layer":
        for layer in layers:
            _keep(layer, largest(np.abs(real_weights(layer)), density or 0.0))
    else:
        _prune_together(layers, density or 0.0)
    return pruned


def largest(magnitudes: Array, density: float) -> Array:
    """Mask of the round(density * size) largest values, without zeros; of equals the first stay."""
    count = round(density * magnitudes.size)
    mask = np.zeros(magnitudes.size, bool)
    mask[np.argsort(-magnitudes.reshape(-1), kind="stable")[:count]] = True
    return mask.reshape(magnitudes.shape) & (magnitudes > 0)


def _prune_together(layers: list[Operator], density: float) -> None:
    magnitudes = [np.abs(real_weights(layer)) for layer in layers]
    kept = largest(np.concatenate([part.reshape(-1) for part in magnitudes]), density)
    start = 0
    for layer, part in zip(layers, magnitudes, strict=True):
        _keep(layer, kept[start : start + part.size].reshape(part.shape))
        start += part.size


def _keep(layer: Operator, mask: Array) -> None:
    weights = weights_of(layer)
    weights.values = np.where(mask, weights.values, 0).astype(np.int8)
