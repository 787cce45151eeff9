"""Coder HUFFMAN, and the canonical length-limited codes that CLASS shares with it.

Only code lengths are stored, a nibble each. Codes are assigned as in RFC 1951, section 3.2.2 (shorter first,
then by symbol) and written most significant bit first, as DEFLATE does. Lengths come from package-merge
(Larmore and Hirschberg 1990), which is optimal under a length limit: 15 bits here, 6 for CLASS.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_stream import BitReader, Fields, IntArray, bad_stream
from model_packager.encoders.entry_scan import PrefixTable, scan_entries
from model_packager.encoders.symbol_coder import BitStreamReader, Neighbours
from model_packager.format_table import HUFFMAN_MAX_LENGTH_BITS


def code_lengths(counts: IntArray, limit_bits: int) -> IntArray:
    """Optimal code lengths (n,) for symbol ``counts`` (n,), none above ``limit_bits``; 0 for a count of 0.

    A single used symbol gets length 1. ``limit_bits`` must allow as many codes as there are used symbols.
    """
    used = np.flatnonzero(counts)
    lengths = np.zeros(len(counts), np.int64)
    if len(used) <= 1:
        lengths[used] = 1
        return lengths
    order = used[np.argsort(counts[used], kind="stable")]
    leaves = counts[order].astype(np.int64)
    # Each level's list merges the leaves with the pairs of the list below; is_leaf remembers which is which.
    merged, levels = leaves, [np.ones(len(leaves), bool)]
    for _ in range(limit_bits - 1):
        pairs = merged[: len(merged) // 2 * 2].reshape(-1, 2).sum(axis=1)
        weights = np.concatenate([leaves, pairs])
        by_weight = np.argsort(weights, kind="stable")
        merged = weights[by_weight]
        levels.append(by_weight < len(leaves))
    # The cheapest 2n - 2 items of the top list; every taken pair takes two items of the list below.
    taken = 2 * len(leaves) - 2
    for is_leaf in reversed(levels):
        leaf_count = int(is_leaf[:taken].sum())
        lengths[order[:leaf_count]] += 1
        taken = 2 * (taken - leaf_count)
    return lengths


def canonical_codes(lengths: IntArray) -> IntArray:
    """The code of every symbol (n,), its first bit in bit 0, so that it can be written as a field."""
    codes = np.zeros(len(lengths), np.int64)
    code = 0
    for length in range(1, int(lengths.max(initial=0)) + 1):
        for symbol in np.flatnonzero(lengths == length):
            codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
            code += 1
        code <<= 1
    return codes


def nibbles_to_bytes(lengths: IntArray) -> bytes:
    """Code lengths as stored: two per byte, the first in the low nibble; the last nibble of an odd count is
    0.
    """
    padded = np.zeros((len(lengths) + 1) // 2 * 2, np.uint8)
    padded[: len(lengths)] = lengths
    return (padded[::2] | padded[1::2] << 4).tobytes()


def nibble_table_bytes(symbol_count: int) -> int:
    """Stored size of the lengths of ``symbol_count`` symbols."""
    return (symbol_count + 1) // 2


def read_nibbles(data: bytes, symbol_count: int) -> IntArray:
    """Code lengths (symbol_count,) from the start of ``data``; raises ``bad_stream``."""
    stored = np.frombuffer(data[: nibble_table_bytes(symbol_count)], np.uint8)
    if len(stored) < nibble_table_bytes(symbol_count):
        raise bad_stream("the payload ends inside the code lengths")
    nibbles = np.stack([stored & 15, stored >> 4], axis=1).ravel().astype(np.int64)
    if nibbles[symbol_count:].any():
        raise bad_stream("the padding nibble of the code lengths is not zero")
    return nibbles[:symbol_count]


class DecodeTable:
    """One canonical code; looks the next symbol up by as many bits as the longest code has.

    Raises ``bad_stream`` for lengths above ``limit_bits``, for no code at all, and for an over-subscribed or
    incomplete code; a single symbol of length 1 is the one incomplete code that is legal.
    """

    def __init__(self, lengths: IntArray, limit_bits: int) -> None:
        self._width = int(lengths.max(initial=0))
        if self._width > limit_bits:
            raise bad_stream(f"a code length of {self._width} bits is above {limit_bits}")
        used = np.flatnonzero(lengths)
        space = int((1 << (limit_bits - lengths[used])).sum())
        single = len(used) == 1 and self._width == 1
        if space > 1 << limit_bits:
            raise bad_stream("the code lengths are over-subscribed")
        if space < 1 << limit_bits and not single:
            raise bad_stream("the code lengths leave codes unused")
        codes = canonical_codes(lengths)
        # -1 marks the bit that the code of a single symbol leaves unused.
        self._symbols = [-1] * (1 << self._width)
        for symbol in used.tolist():
            for slot in range(int(codes[symbol]), 1 << self._width, 1 << int(lengths[symbol])):
                self._symbols[slot] = symbol
        self._lengths = lengths.tolist()

    def as_prefixes(self) -> PrefixTable:
        """The code for ``scan_entries``."""
        symbols = np.array(self._symbols, np.int64)
        lengths = np.array([*self._lengths, 1], np.int64)  # the last for symbol -1
        return PrefixTable(self._width, symbols, lengths[symbols])

    def read(self, reader: BitReader) -> int:
        """The next symbol."""
        symbol = self._symbols[reader.peek(self._width)]
        if symbol < 0:
            raise bad_stream("a bit sequence stands for no symbol")
        reader.skip(self._lengths[symbol])
        return symbol


class HuffmanCoder:
    """Canonical codes for value indexes and, in the SPARSE layout, for gaps below 2^gap_bits."""

    def __init__(self, value_counts: IntArray, gap_counts: IntArray) -> None:
        self.value_costs = code_lengths(value_counts, HUFFMAN_MAX_LENGTH_BITS)
        self.gap_costs = code_lengths(gap_counts, HUFFMAN_MAX_LENGTH_BITS)
        self.tables = nibbles_to_bytes(self.gap_costs) + nibbles_to_bytes(self.value_costs)

    def value_fields(self, indexes: IntArray) -> Fields:
        return [(canonical_codes(self.value_costs)[indexes], self.value_costs[indexes])]

    def gap_fields(self, gaps: IntArray) -> Fields:
        return [(canonical_codes(self.gap_costs)[gaps], self.gap_costs[gaps])]


class HuffmanReader(BitStreamReader):
    """Reads what ``HuffmanCoder`` writes; ``data`` starts with the code lengths. ``gap_bits`` 0: no gaps."""

    def __init__(self, data: bytes, value_count: int, gap_bits: int) -> None:
        gap_count = 1 << gap_bits if gap_bits else 0
        gap_bytes = nibble_table_bytes(gap_count)
        value_bytes = nibble_table_bytes(value_count)
        if gap_count:
            self._gaps = DecodeTable(read_nibbles(data, gap_count), HUFFMAN_MAX_LENGTH_BITS)
        self._values = DecodeTable(read_nibbles(data[gap_bytes:], value_count), HUFFMAN_MAX_LENGTH_BITS)
        self._codes = data[gap_bytes + value_bytes :]
        super().__init__(BitReader(self._codes))

    def peek_entries(self, count: int) -> tuple[IntArray, IntArray, int] | None:
        """As ``SymbolReader``; from the start of the payload, before anything else is read."""
        return scan_entries(self._codes, count, self._gaps.as_prefixes(), self._values.as_prefixes())

    def read_value(self, neighbours: Neighbours) -> int:
        return self._values.read(self._reader)

    def read_gap(self) -> int:
        return self._gaps.read(self._reader)
