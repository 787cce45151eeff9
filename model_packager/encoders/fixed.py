"""Coder FIXED: values of value_bits bits, gaps of gap_bits bits.

DENSE with IDENTITY at 8 bits is the raw storage that every tensor may fall back to; at 4, 3 or 2 bits it is
plain low-bit quantisation, with CODEBOOK weight sharing, with TERNARY two bits per weight, with LOG2 four.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_stream import BitReader, Fields, IntArray
from model_packager.encoders.symbol_coder import BitStreamReader, Neighbours


class FixedCoder:
    """Writes every symbol in as many bits as the descriptor says."""

    tables = b""

    def __init__(self, value_bits: int, gap_bits: int = 0) -> None:
        self.value_bits = value_bits
        self.gap_bits = gap_bits
        self.value_costs = np.full(1 << value_bits, value_bits, np.int64)
        self.gap_costs = np.full(1 << gap_bits if gap_bits else 0, gap_bits, np.int64)

    def value_fields(self, indexes: IntArray) -> Fields:
        return [(indexes, np.full_like(indexes, self.value_bits))]

    def gap_fields(self, gaps: IntArray) -> Fields:
        return [(gaps, np.full_like(gaps, self.gap_bits))]


class FixedReader(BitStreamReader):
    """Reads what ``FixedCoder`` writes."""

    def __init__(self, reader: BitReader, value_bits: int, gap_bits: int) -> None:
        super().__init__(reader)
        self._value_bits = value_bits
        self._gap_bits = gap_bits

    def read_value(self, neighbours: Neighbours) -> int:
        return self._reader.read(self._value_bits)

    def read_gap(self) -> int:
        return self._reader.read(self._gap_bits)
