"""One-dimensional clustering of weighted integers: the optimum, and Lloyd's iteration from a given start.

An int8 tensor has at most 256 distinct values, so everything works on a histogram: `levels` (n,) ascending
integers with positive `weights` (n,). A clustering is its centroids, ascending int64, at most k of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import UsageError

Array = npt.NDArray[Any]

INITIALISATIONS = ("exact", "linear", "density")
_LLOYD_STEPS = 100


def cluster(levels: Array, weights: Array, k: int, initialisation: str = "exact") -> Array:
    """Centroids of at most `k` clusters, integers.

    "exact": least weighted squared error of all clusterings, by dynamic programming over split points (in one
    dimension an optimal cluster is an interval; Wang and Song 2011, "Ckmeans.1d.dp"). "linear" and "density":
    k-means from centroids spaced evenly over the range, or over the cumulative distribution (Han et al. 2016,
    "Deep compression", section 3.2).
    """
    if initialisation not in INITIALISATIONS:
        raise UsageError(
            f"there is no initialisation '{initialisation}'; there are {', '.join(INITIALISATIONS)}"
        )
    if k >= len(levels):
        return levels.astype(np.int64)
    if initialisation == "exact":
        return _optimal(levels, weights, k)
    low, high = float(levels[0]), float(levels[-1])
    if initialisation == "linear":
        start = np.linspace(low, high, k)
    else:
        share = np.cumsum(weights) / np.sum(weights)
        start = levels[np.searchsorted(share, (np.arange(k) + 0.5) / k).clip(0, len(levels) - 1)]
    return _lloyd(levels, weights, np.asarray(start, np.float64))


def nearest(values: Array, centroids: Array) -> Array:
    """Each value's nearest centroid (the lower one of two equally near)."""
    ordered = np.sort(centroids)
    boundaries = (ordered[1:] + ordered[:-1]) / 2
    return ordered[np.searchsorted(boundaries, values, side="left")]


def squared_error(levels: Array, weights: Array, centroids: Array) -> float:
    """The weighted squared error of a clustering."""
    return float(np.sum(weights * (levels - nearest(levels, centroids)) ** 2))


def _interval_costs(levels: Array, weights: Array) -> tuple[Array, Array]:
    """cost[i, j] and integer centroid[i, j] of one cluster over levels i..j; infinite below the diagonal."""
    x, w = levels.astype(np.float64), weights.astype(np.float64)
    sums = [np.concatenate([[0.0], np.cumsum(part)]) for part in (w, w * x, w * x * x)]
    mass, first, second = (part[np.newaxis, 1:] - part[:-1, np.newaxis] for part in sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        centroid = np.round(first / mass)
        cost = second - 2 * centroid * first + centroid**2 * mass
    below = np.tri(len(levels), k=-1, dtype=bool)
    return np.where(below, np.inf, np.maximum(cost, 0)), np.where(below, 0, centroid)


def _optimal(levels: Array, weights: Array, k: int) -> Array:
    cost, centroid = _interval_costs(levels, weights)
    best = cost[0]  # best[j]: levels 0..j in the clusters so far
    starts = []  # for each further cluster: where the one that ends at j begins
    for _ in range(1, k):
        extended = np.vstack([np.full(len(levels), np.inf), best[:-1, np.newaxis] + cost[1:]])
        starts.append(np.argmin(extended, axis=0))
        best = extended.min(axis=0)
    centroids, end = [], len(levels) - 1
    for start in reversed(starts):
        centroids.append(centroid[start[end], end])
        end = int(start[end]) - 1
    centroids.append(centroid[0, end])
    return np.unique(np.array(centroids, np.int64))


def _lloyd(levels: Array, weights: Array, start: Array) -> Array:
    centroids = np.unique(start)
    for _ in range(_LLOYD_STEPS):
        boundaries = (centroids[1:] + centroids[:-1]) / 2
        member = np.searchsorted(boundaries, levels, side="left")
        mass = np.bincount(member, weights, len(centroids))
        total = np.bincount(member, weights * levels, len(centroids))
        moved = np.where(mass > 0, total / np.maximum(mass, 1e-300), centroids)
        if np.allclose(moved, centroids):
            break
        centroids = np.unique(moved)
    return np.unique(np.round(centroids).astype(np.int64))
