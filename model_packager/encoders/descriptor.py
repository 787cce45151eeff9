"""What a weight stream looks like: the fields that the file stores for it, shared by every encoder and decoder.

An encoder takes an int8 matrix (rows, cols) and gives a ``Stream``: the descriptor and the payload bytes. The
payload starts with the value map's entries (codebook or ternary magnitudes), then the code lengths of the
gap table and of the value table where the coder has them, then the bit stream; all are byte-aligned.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_packager.format_table import Coder, Layout, ValueMap


@dataclass(frozen=True)
class Encoding:
    """The combination layout x coder x value map; what a user or a pass can ask for by name."""

    layout: Layout
    coder: Coder
    value_map: ValueMap

    @property
    def name(self) -> str:
        """For example ``sparse-class-codebook``."""
        return f"{self.layout.name}-{self.coder.name}-{self.value_map.name}".lower()


@dataclass(frozen=True)
class StreamDescriptor:
    """The WEIGHTS fields of the format table, without the payload's place in the file.

    ``value_bits``: width of a value (FIXED), depth of the value tree (RANGE), else 0. ``gap_bits``: width of a
    relative index (SPARSE with FIXED or HUFFMAN), else 0. ``value_count``: codebook entries, or the alphabet
    size of the value coder (HUFFMAN and CLASS with other maps), else 0. ``entry_count``: entries of a sparse
    stream, fillers included; the number of non-zeros of a bitmap; else 0. ``max_row_entries``: the longest row
    of a sparse or bitmap stream, fillers not counted.
    """

    rows: int
    cols: int
    layout: Layout
    coder: Coder
    value_map: ValueMap
    value_bits: int = 0
    gap_bits: int = 0
    value_count: int = 0
    entry_count: int = 0
    max_row_entries: int = 0

    @property
    def encoding(self) -> Encoding:
        return Encoding(self.layout, self.coder, self.value_map)


@dataclass(frozen=True)
class Stream:
    """An encoded tensor."""

    descriptor: StreamDescriptor
    payload: bytes
