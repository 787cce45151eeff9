"""What a weight stream looks like: the fields that the file stores for it, shared by every encoder and
decoder.

An encoder takes an int8 matrix (rows, cols) and gives a ``Stream``: the descriptor and the payload bytes. The
payload starts with the value map's entries (codebook or ternary magnitudes), then the code lengths of the
gap table and of the value table where the coder has them, then the bit stream; all are byte-aligned.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from model_packager.errors import FormatError
from model_packager.format_table import (
    RANGE_SHIFT_BITS,
    RANGE_SHIFT_MAX,
    RANGE_SHIFT_MIN,
    Coder,
    ErrorCode,
    Layout,
    Limit,
    ValueMap,
)


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
class EncodingPattern:
    """Encodings to choose from: None stands for any."""

    layout: Layout | None
    coder: Coder | None
    value_map: ValueMap | None

    def matches(self, encoding: Encoding) -> bool:
        parts = (
            (self.layout, encoding.layout),
            (self.coder, encoding.coder),
            (self.value_map, encoding.value_map),
        )
        return all(wanted is None or wanted is part for wanted, part in parts)


@dataclass(frozen=True)
class StreamDescriptor:
    """The WEIGHTS fields of the format table, without the payload's place in the file.

    ``value_bits``: width of a value (FIXED), depth of the value tree (RANGE), else 0. ``gap_bits``: width of
    a relative index (SPARSE with FIXED or HUFFMAN); adaptation shift + 8 * context distance (RANGE); else 0.
    ``value_count``: codebook entries, or the alphabet size of the value coder (HUFFMAN and CLASS with other
    maps), else 0. ``entry_count``: entries of a sparse stream, fillers included; else 0. ``max_row_entries``:
    the longest row of a sparse stream, fillers not counted; else 0.
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

    @property
    def weight_count(self) -> int:
        return self.rows * self.cols

    @property
    def adaptation_shift(self) -> int:
        """RANGE: how slowly the probabilities move."""
        return self.gap_bits & ((1 << RANGE_SHIFT_BITS) - 1)

    @property
    def context_distance(self) -> int:
        """RANGE: how far back in scan order the second neighbour lies; 0 = there is none."""
        return self.gap_bits >> RANGE_SHIFT_BITS

    @property
    def stored_bytes(self) -> int:
        """Bytes of these fields in the PROGRAM section (LEB128 varints)."""
        return sum(max(1, (int(field).bit_length() + 6) // 7) for field in astuple(self))


@dataclass(frozen=True)
class Stream:
    """An encoded tensor."""

    descriptor: StreamDescriptor
    payload: bytes

    @property
    def stored_bytes(self) -> int:
        """Payload and descriptor: what the tensor costs in the file."""
        return len(self.payload) + self.descriptor.stored_bytes


def check_descriptor(descriptor: StreamDescriptor) -> None:
    """Checks the fields against each other, before any byte of the payload is looked at.

    Raises ``FormatError``: ``limit_exceeded`` for a matrix that no reader accepts, ``bad_stream`` for fields
    that a stream of this kind cannot have (docs/FORMAT.md, section 5.2).
    """
    longest = Limit.SPARSE_ROW_LENGTH if descriptor.layout is Layout.SPARSE else Limit.ROW_LENGTH
    if descriptor.cols > longest or descriptor.weight_count > Limit.WEIGHTS:
        raise FormatError(
            ErrorCode.LIMIT_EXCEEDED, f"a weight matrix of {descriptor.rows} x {descriptor.cols} is too large"
        )
    for name, (lowest, highest) in _bounds(descriptor).items():
        value = getattr(descriptor, name)
        if not lowest <= value <= highest:
            raise FormatError(
                ErrorCode.BAD_STREAM,
                f"{name} of a {descriptor.encoding.name} stream is {value}, not {lowest} to {highest}",
            )
    shift = descriptor.adaptation_shift
    if descriptor.coder is Coder.RANGE and not RANGE_SHIFT_MIN <= shift <= RANGE_SHIFT_MAX:
        raise FormatError(ErrorCode.BAD_STREAM, f"{shift} is no adaptation shift of the range coder")
    bits_map = descriptor.value_map in (ValueMap.BINARY, ValueMap.TERNARY)
    if descriptor.layout is Layout.BITS:
        legal = bits_map and descriptor.coder is Coder.FIXED
    else:
        legal = descriptor.value_map is not ValueMap.BINARY
    if not legal:
        raise FormatError(ErrorCode.BAD_STREAM, f"there is no encoding {descriptor.encoding.name}")


def _bounds(descriptor: StreamDescriptor) -> dict[str, tuple[int, int]]:
    """Lowest and highest legal value of every numeric field."""
    sparse = descriptor.layout is Layout.SPARSE
    lowest_entries = 0 if descriptor.coder is Coder.FIXED else 1
    return {
        "rows": (1, Limit.WEIGHTS),
        "cols": (1, Limit.ROW_LENGTH),
        "value_bits": _value_bits_bounds(descriptor),
        "gap_bits": _gap_bits_bounds(descriptor),
        "value_count": _value_count_bounds(descriptor),
        "entry_count": (lowest_entries, descriptor.weight_count) if sparse else (0, 0),
        "max_row_entries": (0, min(descriptor.cols, descriptor.entry_count)) if sparse else (0, 0),
    }


def _value_bits_bounds(descriptor: StreamDescriptor) -> tuple[int, int]:
    if descriptor.layout is Layout.BITS:
        planes = 2 if descriptor.value_map is ValueMap.TERNARY else 1
        return planes, planes
    if descriptor.coder is Coder.RANGE:
        return 1, 8
    if descriptor.coder is not Coder.FIXED:
        return 0, 0
    of_map = {ValueMap.IDENTITY: (2, 8), ValueMap.TERNARY: (2, 2), ValueMap.LOG2: (4, 4)}
    return of_map.get(descriptor.value_map, (1, 8))


def _gap_bits_bounds(descriptor: StreamDescriptor) -> tuple[int, int]:
    sparse = descriptor.layout is Layout.SPARSE
    if descriptor.coder is Coder.RANGE:
        farthest = 0 if sparse else descriptor.cols
        return 0, RANGE_SHIFT_MAX + (farthest << RANGE_SHIFT_BITS)
    if sparse and descriptor.coder in (Coder.FIXED, Coder.HUFFMAN):
        return 1, 8
    return 0, 0


def _value_count_bounds(descriptor: StreamDescriptor) -> tuple[int, int]:
    if descriptor.value_map is ValueMap.CODEBOOK:
        return 1, 256
    if descriptor.coder in (Coder.HUFFMAN, Coder.CLASS):
        return 1, {ValueMap.TERNARY: 3, ValueMap.LOG2: 16}.get(descriptor.value_map, 256)
    return 0, 0
