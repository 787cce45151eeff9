"""Layout SPARSE: the non-zero weights as (gap, value) entries, counted on across rows.

With FIXED and HUFFMAN a gap has gap_bits bits, and a longer one is bridged by filler entries of weight 0, as
in Deep Compression (Han, Mao, Dally 2016, figure 3). CLASS and RANGE code any gap.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from model_packager.encoders.bit_stream import Int8Array, IntArray, bad_stream
from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.encoders.symbol_coder import SymbolReader
from model_packager.encoders.value_map import ValueTable


@dataclass(frozen=True)
class Entries:
    """Entries in scan order: gaps (n,) and weights (n,), int64; ``max_row_entries`` counts no fillers."""

    gaps: IntArray
    weights: IntArray
    max_row_entries: int


def find_entries(values: Int8Array | IntArray) -> Entries:
    """One entry for every non-zero weight of the matrix ``values`` (rows, cols)."""
    weights = values.ravel()
    positions = np.flatnonzero(weights)
    gaps = np.diff(positions, prepend=-1) - 1
    return Entries(gaps, weights[positions].astype(np.int64), int((values != 0).sum(axis=1).max(initial=0)))


def insert_fillers(entries: Entries, gap_bits: int) -> Entries:
    """Entries whose gaps are all below 2^gap_bits: a filler covers 2^gap_bits zeros, its own position
    included.
    """
    filler_counts = entries.gaps >> gap_bits
    last = np.cumsum(filler_counts + 1) - 1  # where each real entry ends up
    gaps = np.full(int(last[-1]) + 1 if len(last) else 0, (1 << gap_bits) - 1, np.int64)
    weights = np.zeros_like(gaps)
    gaps[last] = entries.gaps & ((1 << gap_bits) - 1)
    weights[last] = entries.weights
    return Entries(gaps, weights, entries.max_row_entries)


def decode_sparse(reader: SymbolReader, table: ValueTable, descriptor: StreamDescriptor) -> Int8Array:
    """Weights (rows * cols,); raises ``bad_stream``."""
    weights = _decode_at_once(reader, table, descriptor)
    return _decode_one_by_one(reader, table, descriptor) if weights is None else weights


def _decode_at_once(
    reader: SymbolReader, table: ValueTable, descriptor: StreamDescriptor
) -> Int8Array | None:
    """The weights by NumPy; None, with nothing read, where the coder cannot or where anything is wrong:
    ``_decode_one_by_one`` then finds the words for it."""
    found = reader.peek_entries(descriptor.entry_count)
    if found is None:
        return None
    gaps, indexes, bits = found
    positions = np.cumsum(gaps + 1) - 1
    if positions[-1:].sum() >= descriptor.weight_count or indexes.max(initial=0) >= len(table.weights):
        return None
    values = table.weights[indexes]
    _, in_row = np.unique(positions[values != 0] // descriptor.cols, return_counts=True)
    if in_row.max(initial=0) > descriptor.max_row_entries:
        return None
    weights = np.zeros(descriptor.weight_count, np.int8)
    weights[positions] = values
    reader.skip_bits(bits)
    reader.finish()
    return weights


def _decode_one_by_one(reader: SymbolReader, table: ValueTable, descriptor: StreamDescriptor) -> Int8Array:
    """The weights, or the error that names what is wrong first."""
    # A short stream may stand for many zeros: nothing here grows with rows but the weights themselves.
    weights = np.zeros(descriptor.weight_count, np.int8)
    by_index = table.weights.tolist()
    row_entries: Counter[int] = Counter()
    position = -1
    for _ in range(descriptor.entry_count):
        position += reader.read_gap() + 1
        index = reader.read_value(None)
        if index >= len(by_index):
            raise bad_stream(f"value index {index} is not below {len(by_index)}")
        if position >= descriptor.weight_count:
            raise bad_stream("an entry lies behind the last weight")
        if by_index[index]:
            weights[position] = by_index[index]
            row_entries[position // descriptor.cols] += 1
    longest = max(row_entries.values(), default=0)
    if longest > descriptor.max_row_entries:
        raise bad_stream(f"a row has {longest} entries, more than {descriptor.max_row_entries}")
    reader.finish()
    return weights
