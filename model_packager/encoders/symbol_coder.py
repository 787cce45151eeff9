"""Where layouts and coders meet: a layout asks a coder to write or read values, gaps and flags.

Encoders: FIXED, HUFFMAN and CLASS each are a ``SymbolCoder``, planned from histograms, which tells the exact
size before anything is written. Decoders: every coder, RANGE included, is a ``SymbolReader``.
"""

from __future__ import annotations

from typing import Protocol

from model_packager.encoders.bit_stream import BitReader, Fields, IntArray

# Weights of the two neighbours that give the range coder its contexts; None where a layout has none.
Neighbours = tuple[int, int] | None


class SymbolCoder(Protocol):
    """Codes arrays of symbols as fields of the bit stream."""

    tables: bytes  # code lengths, as the payload stores them
    value_costs: IntArray  # bits by value index
    gap_costs: IntArray  # bits by gap symbol; empty where the layout has no gaps

    def value_fields(self, indexes: IntArray) -> Fields:
        """Fields of the value indexes (n,)."""

    def gap_fields(self, gaps: IntArray) -> Fields:
        """Fields of the gaps (n,)."""


class SymbolReader(Protocol):
    """Reads the symbols of one stream in order; every method raises ``bad_stream``."""

    def read_value(self, neighbours: Neighbours) -> int:
        """The next value index; it may still lie outside the value table."""

    def read_gap(self) -> int:
        """The number of zeros before the next entry."""

    def read_flag(self, neighbours: tuple[int, int]) -> int:
        """The next flag of a bitmap."""

    def peek_entries(self, count: int) -> tuple[IntArray, IntArray, int] | None:
        """(gaps, value indexes, bits) of the next ``count`` entries without taking them; None where this
        coder cannot read them at once, or where they are not all sound."""

    def skip_bits(self, count: int) -> None:
        """Takes what ``peek_entries`` has seen."""

    def finish(self) -> None:
        """Checks that the payload ends here."""


class BitStreamReader:
    """What FIXED, HUFFMAN and CLASS share: flags are raw bits, and the bit reader knows the end."""

    def __init__(self, reader: BitReader) -> None:
        self._reader = reader

    def read_flag(self, neighbours: tuple[int, int]) -> int:
        return self._reader.read(1)

    def peek_entries(self, count: int) -> tuple[IntArray, IntArray, int] | None:
        return None

    def skip_bits(self, count: int) -> None:
        self._reader.skip(count)

    def finish(self) -> None:
        self._reader.finish()
