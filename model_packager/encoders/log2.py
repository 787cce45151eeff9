"""Value map LOG2: zero, or a sign and a power of two, so that a multiplication is a shift.

Logarithmic weights as in Miyashita, Lee, Murmann 2016. Nothing is stored: index 0 is 0, index 2k + 1 is +2^k
and 2k + 2 is -2^k for k = 0 to 6, index 15 is -128.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_stream import IntArray

LOG2_BITS = 4


def log2_table() -> IntArray:
    """Weights (16,) int64 by index."""
    powers = 1 << np.arange(7)
    return np.concatenate([[0], np.stack([powers, -powers], axis=1).ravel(), [-128]]).astype(np.int64)


def is_log2(weights: IntArray) -> bool:
    """Whether every weight is zero or a signed power of two."""
    return bool(np.isin(weights, log2_table()).all())
