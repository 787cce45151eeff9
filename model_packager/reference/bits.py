"""1-bit activations in the reference: arrays of -1 and +1 that meet binary weights, signs of accumulators.

A device counts the bits in which words differ: acc = k - 2 * popcount(x ^ w), where k counts the channels of
the cells inside the image. That is the sum of products of -1 and +1, which is what is computed here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def match_channels(x: Array, weights: Array) -> tuple[Array, Array]:
    """(x, weights) with equal last axes, whose products have the accumulators of docs/NUMERICS.md.

    x: int8 (..., channels). weights: int8 (rows, ..., depth). Where `depth` is larger, x is of bits, and the
    weights beyond the channels meet bits of 0: a weight of -1 does not count, one of +1 takes off 2.
    """
    channels = x.shape[-1]
    beyond = (weights[..., channels:].astype(np.int64) + 1).sum(axis=-1, keepdims=True)
    weights = weights[..., :channels]
    if not beyond.any():
        return x, weights
    ones = np.ones((*x.shape[:-1], 1), np.int8)
    return np.concatenate([x, ones], axis=-1), np.concatenate([weights, -beyond], axis=-1).astype(np.int8)


def signs(accumulators: Array) -> Array:
    """int8: +1 where an accumulator is not negative, else -1."""
    return np.where(accumulators >= 0, 1, -1).astype(np.int8)
