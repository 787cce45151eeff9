"""Value map TERNARY: 0, +positive or -negative, with the two magnitudes (1 to 127) at the payload's start.

Ternary weight networks (Li, Zhang, Liu 2016) have one magnitude; trained ternary quantisation (Zhu et al.
2017) has two.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_stream import IntArray, bad_stream

MAGNITUDE_BYTES = 2


def ternary_magnitudes(weights: IntArray) -> tuple[int, int] | None:
    """The (positive, negative) magnitudes of ``weights``, or None when they are not ternary.

    A sign that does not occur gets the magnitude 1.
    """
    values = np.unique(weights[weights != 0])
    positive, negative = values[values > 0], -values[values < 0]
    if len(positive) > 1 or len(negative) > 1 or np.any(values == -128):
        return None
    return (int(positive[0]) if len(positive) else 1, int(negative[0]) if len(negative) else 1)


def ternary_bytes(magnitudes: tuple[int, int]) -> bytes:
    """The magnitudes as the payload stores them."""
    return bytes(magnitudes)


def ternary_table(payload: bytes) -> IntArray:
    """Weights (3,) int64 by index: 0, +positive, -negative. Raises ``bad_stream`` for a bad magnitude."""
    positive, negative = payload[:MAGNITUDE_BYTES]
    if not (1 <= positive <= 127 and 1 <= negative <= 127):
        raise bad_stream(f"ternary magnitudes {positive} and {negative} are not between 1 and 127")
    return np.array([0, positive, -negative], np.int64)
