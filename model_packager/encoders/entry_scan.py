"""Reads many (gap, value) entries of a bit stream at once, in NumPy: what makes networks of millions of
weights readable in seconds.

Each bit of the stream could be the first of an entry. So, chunk by chunk, the entry that would start at each
bit is looked up, for all bits together; a plain loop then hops from entry to entry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_packager.encoders.bit_stream import IntArray
from model_packager.format_table import HUFFMAN_MAX_LENGTH_BITS

CHUNK_BITS = 1 << 19


@dataclass(frozen=True)
class PrefixTable:
    """One code: by the next ``width`` bits (at most 15), the symbol, -1 for none, and its length; (1 <<
    width,)."""

    width: int
    symbols: IntArray
    lengths: IntArray


def scan_entries(
    data: bytes, count: int, gaps: PrefixTable, values: PrefixTable
) -> tuple[IntArray, IntArray, int] | None:
    """(gaps, value indexes, bits read) of ``count`` entries, or None where ``data`` has fewer or a bit
    sequence stands for no symbol."""
    end = 8 * len(data)
    if count * 2 > end + 2:  # an entry has two bits at least
        return None
    padded = np.frombuffer(data + bytes(8), np.uint8).astype(np.uint32)
    words = padded[:-3] | padded[1:-2] << 8 | padded[2:-1] << 16 | padded[3:] << 24
    bits = np.arange(8, dtype=np.uint32)
    found_gaps, found_values = [], []
    start, left = 0, count
    while left:
        first_byte = start >> 3
        last_byte = min(first_byte + (CHUNK_BITS >> 3) + 4, len(words))
        # Bits from `start` on; the look-ahead of one entry's gap lies within the four bytes more.
        windows = (words[first_byte:last_byte, np.newaxis] >> bits).ravel()[start & 7 :]
        size = min(len(windows) - HUFFMAN_MAX_LENGTH_BITS - 1, CHUNK_BITS)
        gap_slots = windows[:size] & np.uint32((1 << gaps.width) - 1)
        value_starts = np.arange(size) + gaps.lengths[gap_slots]
        value_slots = windows[value_starts] & np.uint32((1 << values.width) - 1)
        steps = (value_starts + values.lengths[value_slots]).tolist()
        places: list[int] = []
        place = 0
        while place < size and len(places) < left:
            places.append(place)
            place = steps[place]
        gap_symbols, value_symbols = gaps.symbols[gap_slots[places]], values.symbols[value_slots[places]]
        start, left = start + place, left - len(places)
        if start > end or not places or gap_symbols.min() < 0 or value_symbols.min() < 0:
            return None
        found_gaps.append(gap_symbols)
        found_values.append(value_symbols)
    nothing = np.zeros(0, np.int64)
    return np.concatenate([nothing, *found_gaps]), np.concatenate([nothing, *found_values]), start
