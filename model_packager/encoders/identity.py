"""Value map IDENTITY: the weight itself is coded, in the form that suits the coder.

FIXED stores two's complement. HUFFMAN and CLASS code zigzag indexes (0, -1, 1, -2, ... are 0, 1, 2, 3, ...),
so that small weights have small indexes. RANGE codes the sign first and then the magnitude, so that the first
bit of its tree is the sign.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_stream import Int8Array, IntArray


def twos_complement_table(value_bits: int) -> IntArray:
    """Weights (2^value_bits,) int64 by two's complement code."""
    codes = np.arange(1 << value_bits)
    return np.where(codes >> (value_bits - 1), codes - (1 << value_bits), codes)


def zigzag_table(value_count: int) -> IntArray:
    """Weights (value_count,) int64 by zigzag index."""
    indexes = np.arange(value_count)
    return (indexes >> 1) ^ -(indexes & 1)


def sign_first_table(value_bits: int) -> IntArray:
    """Weights (2^value_bits,) int64: 0, 1, 2, ... in the lower half, -1, -2, -3, ... in the upper half."""
    half = 1 << (value_bits - 1)
    indexes = np.arange(1 << value_bits)
    return np.where(indexes < half, indexes, half - 1 - indexes)


def twos_complement_bits(weights: IntArray | Int8Array) -> int:
    """Fewest bits, at least 2, that hold all ``weights`` (-128 to 127) in two's complement or sign first."""
    magnitudes = weights ^ (weights >> 7)
    return max(2, int(magnitudes.max(initial=0)).bit_length() + 1)
