"""Shares weights: each layer keeps a codebook of few values, and its weights become the nearest of them.

Source: Han et al. 2016, "Deep compression", section 3 (without the retraining of the centroids). One codebook
serves all output channels; their scales stay in the requantisation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import UsageError
from model_packager.model import Model, Operator
from model_packager.passes.cluster import cluster, nearest
from model_packager.passes.select_layers import row_scales, select_layers, weights_of

Array = npt.NDArray[Any]


def share_weights(
    model: Model,
    match: str | Sequence[str] = "*",
    codebook_size: int = 16,
    initialisation: str = "exact",
    keep_zero: bool = True,
) -> Model:
    """A new integer model whose chosen layers have at most `codebook_size` (2 to 256) distinct weights.

    Clusters the int8 values of a layer, each weighed by its row's squared scale, so that the squared error of
    the real weights is what gets small. `initialisation` as in ``cluster``. With `keep_zero`, zeros stay zero
    and 0 is one of the entries, so that a pruned layer stays sparse.
    """
    if not 2 <= codebook_size <= 256:
        raise UsageError(f"the codebook size is {codebook_size}, not 2 to 256")
    shared = copy.deepcopy(model)
    for layer in select_layers(shared, match):
        codebook = _codebook(layer, codebook_size, initialisation, keep_zero)
        weights = weights_of(layer)
        snapped = nearest(weights.values.astype(np.int64), codebook)
        if keep_zero:
            snapped = np.where(weights.values == 0, 0, snapped)
        weights.values = snapped.astype(np.int8)
    return shared


def _codebook(layer: Operator, size: int, initialisation: str, keep_zero: bool) -> Array:
    values = weights_of(layer).values
    importance = np.broadcast_to(row_scales(layer)[:, np.newaxis] ** 2, values.shape)
    mass = np.bincount((values.astype(np.int64) + 128).reshape(-1), importance.reshape(-1), 256)
    levels = np.arange(-128, 128)
    has_zero = keep_zero and mass[128] > 0
    if has_zero:
        mass[128] = 0
    used = mass > 0
    if not used.any():
        return np.zeros(1, np.int64)
    centroids = cluster(levels[used], mass[used], size - has_zero, initialisation)
    return np.union1d(centroids, [0]) if has_zero else centroids
