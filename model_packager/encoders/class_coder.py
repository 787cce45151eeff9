"""Coder CLASS: class and mantissa. A token of at most 6 bits says roughly how large, raw bits say exactly.

A gap g is g + 1 = 2^c + mantissa: token c, then c raw bits. A value index below 16 is a token of its own; a
larger one with its leading one at bit n (4 to 7) is token 16 + 4 (n - 4) + the two bits below the leading
one, then n - 2 raw bits. Tokens have canonical Huffman codes of at most 6 bits, so that a decoder needs two
tables of 64 bytes.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_stream import BitReader, Fields, IntArray, bad_stream
from model_packager.encoders.huffman import (
    DecodeTable,
    canonical_codes,
    code_lengths,
    nibble_table_bytes,
    nibbles_to_bytes,
    read_nibbles,
)
from model_packager.encoders.symbol_coder import BitStreamReader, Neighbours
from model_packager.format_table import (
    CLASS_DIRECT_VALUES,
    CLASS_GAP_MAX,
    CLASS_MAX_LENGTH_BITS,
    CLASS_MAX_TOKENS,
)


def gap_class(gaps: IntArray) -> IntArray:
    """floor(log2(gap + 1)) of every gap, exact for all gaps below 2^31."""
    return np.frexp((gaps + 1).astype(np.float64))[1].astype(np.int64) - 1


def value_token(indexes: IntArray) -> tuple[IntArray, IntArray]:
    """(token, number of raw bits) of every value index (n,), 0 to 255."""
    leading = np.maximum(gap_class(indexes - 1), 4)
    large = CLASS_DIRECT_VALUES + 4 * (leading - 4) + ((indexes >> (leading - 2)) & 3)
    direct = indexes < CLASS_DIRECT_VALUES
    return np.where(direct, indexes, large), np.where(direct, 0, leading - 2)


class _Tokens:
    """A token table on the encoder's side: a count byte, then the code lengths."""

    def __init__(self, counts: IntArray) -> None:
        token_count = int(np.flatnonzero(counts).max(initial=-1)) + 1
        self.lengths = code_lengths(counts[:token_count], CLASS_MAX_LENGTH_BITS)
        self.codes = canonical_codes(self.lengths)
        self.stored = bytes([token_count]) + nibbles_to_bytes(self.lengths)

    def fields(self, tokens: IntArray) -> tuple[IntArray, IntArray]:
        return self.codes[tokens], self.lengths[tokens]


class ClassCoder:
    """Token codes for value indexes and, where ``class_counts`` is not empty, for gap classes.

    ``value_counts`` (value_count,) counts value indexes, ``class_counts`` gap classes.
    """

    def __init__(self, value_counts: IntArray, class_counts: IntArray) -> None:
        indexes = np.arange(len(value_counts))
        tokens, raw_bits = value_token(indexes)
        counts = np.bincount(tokens, weights=value_counts, minlength=1).astype(np.int64)
        self._values = _Tokens(counts)
        # Indexes that do not occur may have tokens beyond the table; they cost nothing as nothing uses them.
        used = np.minimum(tokens, len(self._values.lengths) - 1)
        self.value_costs = self._values.lengths[used] + raw_bits
        self.tables = self._values.stored
        self.gap_costs = np.zeros(0, np.int64)
        if len(class_counts):
            self._gaps = _Tokens(class_counts)
            self.gap_costs = np.zeros(len(class_counts), np.int64)
            known = len(self._gaps.lengths)
            self.gap_costs[:known] = self._gaps.lengths + np.arange(known)
            self.tables = self._gaps.stored + self.tables

    def value_fields(self, indexes: IntArray) -> Fields:
        tokens, raw_bits = value_token(indexes)
        return [self._values.fields(tokens), (indexes & ((1 << raw_bits) - 1), raw_bits)]

    def gap_fields(self, gaps: IntArray) -> Fields:
        classes = gap_class(gaps)
        return [self._gaps.fields(classes), (gaps + 1 - (1 << classes), classes)]


class ClassReader(BitStreamReader):
    """Reads what ``ClassCoder`` writes; ``data`` starts with the token tables."""

    def __init__(self, data: bytes, has_gaps: bool) -> None:
        if has_gaps:
            self._gaps, data = _read_tokens(data, CLASS_GAP_MAX + 1)
        self._values, data = _read_tokens(data, CLASS_MAX_TOKENS)
        super().__init__(BitReader(data))

    def read_value(self, neighbours: Neighbours) -> int:
        token = self._values.read(self._reader)
        if token < CLASS_DIRECT_VALUES:
            return token
        leading, top_bits = divmod(token - CLASS_DIRECT_VALUES, 4)
        raw_bits = leading + 2
        return ((4 + top_bits) << raw_bits) + self._reader.read(raw_bits)

    def read_gap(self) -> int:
        size = self._gaps.read(self._reader)
        return (1 << size) + self._reader.read(size) - 1


def _read_tokens(data: bytes, limit: int) -> tuple[DecodeTable, bytes]:
    """The token table at the start of ``data``, and the rest."""
    if not data:
        raise bad_stream("the payload ends before a token table")
    token_count = data[0]
    if not 1 <= token_count <= limit:
        raise bad_stream(f"a table of {token_count} tokens is not one of 1 to {limit}")
    lengths = read_nibbles(data[1:], token_count)
    return DecodeTable(lengths, CLASS_MAX_LENGTH_BITS), data[1 + nibble_table_bytes(token_count) :]
