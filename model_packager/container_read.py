"""Reads a Thimble file down to its raw fields: bytes go in, a ``ParsedFile`` comes out, or a ``FormatError``.

Checks run in the order of docs/FORMAT.md, section 7, and the first that fails gives the error: the envelope
(header, sections, hashes) first, then the PROGRAM section byte by byte. ``container.parse`` calls both and
adds the cross checks of ``container_check``. Weights are located, not decoded."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from model_packager.encoders.descriptor import StreamDescriptor, check_descriptor
from model_packager.encoders.floats import ITEM_BYTES, unpack_floats
from model_packager.errors import FormatError
from model_packager.format_table import (
    CONSTANT_FIELDS,
    FORMAT_VERSION,
    FUNCTION_PARAMETERS,
    GOLDEN,
    HEADER,
    MAGIC,
    OPERATOR_ATTRIBUTES,
    SECTION_ALIGNMENT_BYTES,
    SECTION_ENTRY,
    SHA256_BYTES,
    SIGNATURE_BYTES,
    Coder,
    ConstantKind,
    DType,
    ErrorCode,
    Feature,
    FloatFormat,
    FloatFunction,
    HeaderFlag,
    Layout,
    Limit,
    OperatorKind,
    PortFlag,
    RequantForm,
    ScheduleKind,
    SectionFlag,
    SectionKind,
    TensorFlag,
    ValueMap,
    struct_format,
)
from model_packager.model import bit_channels

Buffer = bytes | bytearray | memoryview
Span = tuple[int, int, str]  # offset, length, what

# Version 1 defines these bits but no bytes that would use them, so no reader of version 1 has them.
RESERVED_FEATURES = Feature.ROW_INDEX | Feature.COLUMN_SCAN
READER_FEATURES = int(sum(Feature)) & ~int(RESERVED_FEATURES)
READER_OPERATORS = sum(1 << kind for kind in OperatorKind)

# The descriptor's fields that are plain numbers, under the same names in the file.
STREAM_COUNTS = ("value_bits", "gap_bits", "value_count", "entry_count", "max_row_entries")

SHIFT_MIN, SHIFT_MAX = -31, 30  # of a requantisation, positive is left

SCHEDULE_FEATURES = {
    ScheduleKind.IN_PLACE: Feature.IN_PLACE,
    ScheduleKind.BANDS: Feature.BANDS,
    ScheduleKind.FUSED_DEPTHWISE: Feature.FUSED_DEPTHWISE,
    ScheduleKind.FUSED_ADD: Feature.FUSED_ADD,
}
DTYPE_FEATURES = {
    DType.INT16: Feature.INT16_ACTIVATIONS,
    DType.BIT: Feature.BIT_ACTIVATIONS,
    DType.FLOAT32: Feature.FLOAT_TENSORS,
}
# Constants of models that are stored as floats.
FLOAT_CONSTANTS = (ConstantKind.FLOATS, ConstantKind.FUNCTION)
DTYPE_ALIGNMENTS = {DType.INT8: 1, DType.INT16: 2, DType.BIT: 4, DType.FLOAT32: 4}
# Of zero points; bits and floats have none.
DTYPE_RANGES = {
    DType.INT8: (-128, 127),
    DType.INT16: (-32768, 32767),
    DType.BIT: (0, 0),
    DType.FLOAT32: (0, 0),
}


@dataclass(frozen=True)
class Header:
    """The fixed struct at the start of the file; sizes in bytes."""

    version: int
    flags: HeaderFlag
    section_count: int
    file_bytes: int
    required_features: int
    required_operators: int
    arena_bytes: int
    scratch_bytes: int
    model_id: int
    model_version: int
    header_crc32: int


@dataclass(frozen=True)
class Section:
    """One entry of the section table; ``kind`` is a plain integer because ancillary kinds may be unknown."""

    kind: int
    flags: SectionFlag
    offset: int
    length: int
    crc32: int


@dataclass(frozen=True)
class ParsedTensor:
    dtype: DType
    flags: TensorFlag
    shape: tuple[int, ...]
    arena_offset: int

    @property
    def element_count(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        if self.dtype is DType.BIT:
            channels = self.shape4[3]
            return self.element_count // channels * bit_channels(channels) // 8
        return self.element_count * DTYPE_ALIGNMENTS[self.dtype]

    @property
    def shape4(self) -> tuple[int, int, int, int]:
        """NHWC: ones added on the left, or leading dimensions multiplied together."""
        padded = (1,) * (4 - len(self.shape)) + self.shape
        return math.prod(padded[:-3]), padded[-3], padded[-2], padded[-1]


@dataclass(frozen=True)
class ParsedConstant:
    """``fields`` as in ``CONSTANT_FIELDS``; ``offset`` counts from the start of the file."""

    kind: ConstantKind
    fields: dict[str, int]
    offset: int

    @property
    def length(self) -> int:
        return self.fields["data_bytes"]


@dataclass(frozen=True)
class ParsedOperator:
    """``constants`` holds an index or None for each position; ``attributes`` includes the defaults."""

    kind: OperatorKind
    schedule: ScheduleKind
    schedule_parameter: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: tuple[int | None, ...]
    attributes: dict[str, int]


@dataclass(frozen=True)
class ParsedPort:
    tensor: int
    flags: PortFlag
    zero_point: int
    scale: float


@dataclass
class ParsedFile:
    """A file whose checks all passed. ``metadata`` is the raw JSON or None, ``golden`` (seed, CRC-32) or
    None, ``spans`` every byte of the file as (offset, length, what), without gaps."""

    header: Header
    sections: list[Section]
    data: bytes
    tensors: list[ParsedTensor] = field(default_factory=list)
    constants: list[ParsedConstant] = field(default_factory=list)
    operators: list[ParsedOperator] = field(default_factory=list)
    inputs: list[ParsedPort] = field(default_factory=list)
    outputs: list[ParsedPort] = field(default_factory=list)
    metadata: bytes | None = None
    golden: tuple[int, int] | None = None
    sha256: bytes = b""
    signature: bytes | None = None
    spans: list[Span] = field(default_factory=list)

    def payload(self, constant: ParsedConstant) -> bytes:
        """The bytes of one constant."""
        return self.data[constant.offset : constant.offset + constant.length]

    def section(self, kind: SectionKind) -> Section:
        """The section of a kind that a valid file has exactly once."""
        return next(section for section in self.sections if section.kind == kind)


def aligned(offset: int) -> int:
    """`offset` rounded up to the alignment of sections and of word-wise constants."""
    return -(-offset // SECTION_ALIGNMENT_BYTES) * SECTION_ALIGNMENT_BYTES


def fail(code: ErrorCode, detail: str) -> FormatError:
    return FormatError(code, detail)


# ---------------------------------------------------------------------------------------------- envelope


def read_header(data: bytes) -> Header:
    header_bytes = struct.calcsize(struct_format(HEADER))
    shortest = header_bytes + SHA256_BYTES
    if len(data) < shortest:
        raise fail(ErrorCode.TRUNCATED, f"{len(data)} bytes; the shortest file has {shortest}")
    magic, *numbers = struct.unpack_from(struct_format(HEADER), data)
    if magic != MAGIC:
        raise fail(ErrorCode.BAD_MAGIC, f"byte 0: the file starts with {magic!r}, not {MAGIC!r}")
    header = Header(*numbers)
    if header.version != FORMAT_VERSION:
        raise fail(ErrorCode.UNSUPPORTED_VERSION, f"byte 4: version {header.version}, not {FORMAT_VERSION}")
    if header.flags & ~sum(HeaderFlag):
        raise fail(ErrorCode.RESERVED_BITS, f"byte 5: reserved header flags 0x{header.flags:02x}")
    _check_lengths(header, len(data), header_bytes)
    table_end = header_bytes + header.section_count * struct.calcsize(struct_format(SECTION_ENTRY))
    covered = data[: header_bytes - 4] + data[header_bytes:table_end]
    if zlib.crc32(covered) != header.header_crc32:
        raise fail(ErrorCode.BAD_HEADER_CRC, f"byte {header_bytes - 4}: CRC of header and table differs")
    return header


def trailer_bytes(flags: int) -> int:
    """Length of the trailer under these header flags."""
    return SHA256_BYTES + (SIGNATURE_BYTES if flags & HeaderFlag.SIGNED else 0)


def _check_lengths(header: Header, given_bytes: int, header_bytes: int) -> None:
    if header.file_bytes > Limit.FILE_BYTES:
        raise fail(ErrorCode.LIMIT_EXCEEDED, f"byte 8: file_bytes {header.file_bytes} > {Limit.FILE_BYTES}")
    if header.file_bytes > given_bytes:
        raise fail(
            ErrorCode.TRUNCATED, f"byte 8: the file says {header.file_bytes} bytes and has {given_bytes}"
        )
    if header.file_bytes < given_bytes:
        raise fail(
            ErrorCode.BAD_SECTION, f"byte 8: the file says {header.file_bytes} bytes and has {given_bytes}"
        )
    if header.section_count > Limit.SECTIONS:
        raise fail(ErrorCode.LIMIT_EXCEEDED, f"byte 6: {header.section_count} sections > {Limit.SECTIONS}")
    entry_bytes = struct.calcsize(struct_format(SECTION_ENTRY))
    needed = header_bytes + header.section_count * entry_bytes + trailer_bytes(header.flags)
    if given_bytes < needed:
        raise fail(ErrorCode.TRUNCATED, f"byte {header_bytes}: table and trailer need {needed} bytes")


class SectionWalk:
    """Checks the section table against the bytes, section by section, and notes what every byte is."""

    def __init__(self, data: bytes, header: Header) -> None:
        self.data = data
        self.header_bytes = struct.calcsize(struct_format(HEADER))
        self.entry_bytes = struct.calcsize(struct_format(SECTION_ENTRY))
        self.end = self.header_bytes + header.section_count * self.entry_bytes
        self.body_end = len(data) - trailer_bytes(header.flags)
        self.sections: list[Section] = []
        self.golden: tuple[int, int] | None = None
        self.spans: list[Span] = [(0, self.header_bytes, "header")]
        self.outer: list[Span] = []
        for index in range(header.section_count):
            self._section(index)
        self._finish()

    def _section(self, index: int) -> None:
        where = self.header_bytes + index * self.entry_bytes
        kind, flags, reserved, offset, length, crc32 = struct.unpack_from(
            struct_format(SECTION_ENTRY), self.data, where
        )
        what = f"byte {where}: section {index} (kind {kind})"
        if flags & ~sum(SectionFlag) or reserved:
            raise fail(ErrorCode.RESERVED_BITS, f"{what} has reserved bits set")
        if offset != aligned(self.end):
            raise fail(ErrorCode.BAD_SECTION, f"{what} starts at {offset}, not at {aligned(self.end)}")
        if offset > self.body_end or length > self.body_end - offset:
            raise fail(ErrorCode.BAD_SECTION, f"{what} runs into the trailer at byte {self.body_end}")
        self._padding(offset)
        section = Section(kind, SectionFlag(flags), offset, length, crc32)
        self._check_kind(section, what)
        body = self.data[offset : offset + length]
        if zlib.crc32(body) != crc32:
            raise fail(ErrorCode.BAD_SECTION_CRC, f"{what}: CRC of its {length} bytes at {offset} differs")
        if kind == SectionKind.GOLDEN:
            self.golden = struct.unpack(struct_format(GOLDEN), body)
            if self.golden[0] == 0:
                raise fail(ErrorCode.BAD_SECTION, f"byte {offset}: the golden seed is 0")
        name = SectionKind(kind).name if kind in set(SectionKind) else f"unknown section kind {kind}"
        self.spans.append((where, self.entry_bytes, f"section table: {name}"))
        self.outer.append((offset, length, name))
        self.sections.append(section)
        self.end = offset + length

    def _padding(self, offset: int) -> None:
        if any(self.data[self.end : offset]):
            raise fail(ErrorCode.BAD_SECTION, f"byte {self.end}: padding before byte {offset} is not zero")
        self.outer.append((self.end, offset - self.end, "padding"))

    def _check_kind(self, section: Section, what: str) -> None:
        critical = bool(section.flags & SectionFlag.CRITICAL)
        if section.kind not in set(SectionKind):
            if critical:
                raise fail(ErrorCode.UNSUPPORTED_SECTION, f"{what} is critical and unknown")
            return
        if any(other.kind == section.kind for other in self.sections):
            raise fail(ErrorCode.BAD_SECTION, f"{what} is repeated")
        if section.kind in (SectionKind.PROGRAM, SectionKind.DATA) and not critical:
            raise fail(ErrorCode.BAD_SECTION, f"{what} is not marked critical")
        if section.kind == SectionKind.GOLDEN and section.length != struct.calcsize(struct_format(GOLDEN)):
            raise fail(ErrorCode.BAD_SECTION, f"{what} has {section.length} bytes")

    def _finish(self) -> None:
        for kind in (SectionKind.PROGRAM, SectionKind.DATA):
            if not any(section.kind == kind for section in self.sections):
                raise fail(ErrorCode.BAD_SECTION, f"byte 40: there is no {kind.name} section")
        if aligned(self.end) != self.body_end:
            raise fail(
                ErrorCode.BAD_SECTION,
                f"byte {self.end}: the sections end here and the trailer starts at {self.body_end}",
            )
        self._padding(self.body_end)
        self.outer.append((self.body_end, SHA256_BYTES, "SHA-256"))
        if self.body_end + SHA256_BYTES < len(self.data):
            self.outer.append((self.body_end + SHA256_BYTES, SIGNATURE_BYTES, "signature"))


# -------------------------------------------------------------------------------------- PROGRAM section


class _Cursor:
    """Reads the PROGRAM section; ``offset`` counts from the start of the file."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data, self.offset, self.end = data, start, end

    def _byte(self) -> int:
        if self.offset >= self.end:
            raise fail(ErrorCode.TRUNCATED, f"byte {self.offset}: the PROGRAM section ends inside a field")
        self.offset += 1
        return self.data[self.offset - 1]

    def u(self) -> int:
        """An unsigned LEB128 varint of at most 32 bits in its shortest form."""
        start, value = self.offset, 0
        for position in range(5):
            byte = self._byte()
            if position == 4 and byte > 0x0F:
                break
            value |= (byte & 0x7F) << 7 * position
            if byte < 0x80:
                if byte == 0 and position:
                    raise fail(ErrorCode.BAD_VARINT, f"byte {start}: a varint is longer than it needs to be")
                return value
        raise fail(ErrorCode.BAD_VARINT, f"byte {start}: a varint has more than 32 bits")

    def s(self) -> int:
        """A zigzag varint: 0, -1, 1, -2 ... are stored as 0, 1, 2, 3 ..."""
        value = self.u()
        return (value >> 1) ^ -(value & 1)

    def count(self, limit: Limit) -> int:
        start, value = self.offset, self.u()
        if value > limit:
            raise fail(ErrorCode.LIMIT_EXCEEDED, f"byte {start}: {value} {limit.name.lower()} > {limit}")
        return value

    def float32(self) -> float:
        raw = bytes(self._byte() for _ in range(4))
        return float(struct.unpack("<f", raw)[0])


class ProgramReader:
    """Parses the PROGRAM section into `parsed`, in byte order; every element is checked as soon as it is
    read.
    """

    def __init__(self, parsed: ParsedFile) -> None:
        self.parsed = parsed
        self.header = parsed.header
        section = parsed.section(SectionKind.PROGRAM)
        self.cursor = _Cursor(parsed.data, section.offset, section.offset + section.length)
        self.spans: list[Span] = []
        data_section = parsed.section(SectionKind.DATA)
        self.data_start, self.data_bytes = data_section.offset, data_section.length
        self.data_end = 0  # within DATA: where the last constant ended
        self.data_spans: list[Span] = []

    def read(self) -> None:
        self._repeat(Limit.TENSORS, "tensor", self._tensor)
        self._repeat(Limit.CONSTANTS, "constant", self._constant)
        if self.data_end != self.data_bytes:
            raise fail(
                ErrorCode.BAD_CONSTANT,
                f"byte {self.cursor.offset}: the constants end at byte {self.data_end} of the DATA section,"
                f" which has {self.data_bytes}",
            )
        self._repeat(Limit.OPERATORS, "operator", self._operator)
        self._repeat(Limit.MODEL_INPUTS, "input", lambda index: self._port(self.parsed.inputs, "input"))
        self._repeat(Limit.MODEL_OUTPUTS, "output", lambda index: self._port(self.parsed.outputs, "output"))
        if self.cursor.offset != self.cursor.end:
            raise fail(ErrorCode.BAD_SECTION, f"byte {self.cursor.offset}: bytes behind the program")

    def _repeat(self, limit: Limit, name: str, read: Callable[[int], None]) -> None:
        start = self.cursor.offset
        count = self.cursor.count(limit)
        if not count and name in ("input", "output"):
            raise fail(ErrorCode.BAD_PORT, f"byte {start}: the model has no {name}")
        self.spans.append((start, self.cursor.offset - start, f"{name} count"))
        for index in range(count):
            start = self.cursor.offset
            read(index)
            self.spans.append((start, self.cursor.offset - start, f"{name} {index}"))

    def _need(self, feature: int, what: str) -> None:
        if feature & ~self.header.required_features:
            missing = Feature(feature & ~self.header.required_features)
            raise fail(ErrorCode.UNSUPPORTED_FEATURE, f"{what} uses {missing!s}, not required by the header")

    # -- tensors

    def _tensor(self, index: int) -> None:
        what = f"byte {self.cursor.offset}: tensor {index}"
        dtype_code = self.cursor.u()
        if dtype_code not in set(DType) or dtype_code == DType.INT32:
            raise fail(ErrorCode.BAD_TENSOR, f"{what} has dtype {dtype_code}")
        dtype = DType(dtype_code)
        self._need(DTYPE_FEATURES.get(dtype, Feature(0)), what)
        flags = self.cursor.u()
        if flags & ~sum(TensorFlag):
            raise fail(ErrorCode.RESERVED_BITS, f"{what} has reserved flags 0x{flags:x}")
        if flags & TensorFlag.PERSISTENT:
            self._need(Feature.PERSISTENT_TENSORS, what)
        tensor = ParsedTensor(dtype, TensorFlag(flags), self._shape(dtype, what), self.cursor.u())
        if tensor.size_bytes > Limit.TENSOR_BYTES:
            raise fail(ErrorCode.LIMIT_EXCEEDED, f"{what} has more than {Limit.TENSOR_BYTES} bytes")
        if tensor.arena_offset % DTYPE_ALIGNMENTS[dtype]:
            raise fail(ErrorCode.BAD_TENSOR, f"{what} has an unaligned arena offset, {tensor.arena_offset}")
        if dtype is DType.BIT and flags:
            raise fail(ErrorCode.BAD_TENSOR, f"{what} holds bits and is persistent")
        self.parsed.tensors.append(tensor)

    def _shape(self, dtype: DType, what: str) -> tuple[int, ...]:
        shape: list[int] = []
        size_bytes = 1 if dtype is DType.BIT else DTYPE_ALIGNMENTS[dtype]
        for _ in range(self.cursor.count(Limit.RANK)):
            dimension = self.cursor.u()
            if dimension == 0:
                raise fail(ErrorCode.BAD_TENSOR, f"{what} has a dimension of 0")
            size_bytes *= dimension
            if dimension > Limit.DIMENSION or size_bytes > Limit.TENSOR_BYTES:
                raise fail(ErrorCode.LIMIT_EXCEEDED, f"{what} has more than {Limit.TENSOR_BYTES} bytes")
            shape.append(dimension)
        return tuple(shape)

    # -- constants

    def _constant(self, index: int) -> None:
        what = f"byte {self.cursor.offset}: constant {index}"
        kind_code = self.cursor.u()
        with_floats = self.header.required_features & Feature.FLOAT_TENSORS
        if kind_code not in set(ConstantKind) or (kind_code in FLOAT_CONSTANTS and not with_floats):
            raise fail(ErrorCode.BAD_CONSTANT, f"{what} has kind {kind_code}")
        kind = ConstantKind(kind_code)
        fields = {
            name: self.cursor.s() if code == "s" else self.cursor.u() for name, code in CONSTANT_FIELDS[kind]
        }
        if kind is ConstantKind.WEIGHTS:
            self._need(stream_features(stream_descriptor(fields, what)), what)
        elif kind is ConstantKind.INTEGERS:
            _check_integers_fields(fields, what)
        elif kind in FLOAT_CONSTANTS:
            _check_float_fields(kind, fields, what)
        else:
            _check_requant_fields(fields, self.header.required_features, what)
        constant = ParsedConstant(kind, fields, self.data_start + fields["data_offset"])
        self._place(constant, index, what)
        self.parsed.constants.append(constant)
        if kind is ConstantKind.INTEGERS:
            _check_integers_payload(fields, self.parsed.payload(constant), what)
        elif kind in FLOAT_CONSTANTS:
            _check_float_payload(kind, fields, self.parsed.payload(constant), what)
        elif kind is ConstantKind.REQUANT:
            _check_requant_payload(fields, self.parsed.payload(constant), what)

    def _place(self, constant: ParsedConstant, index: int, what: str) -> None:
        """Constants follow each other; zeros fill up to a multiple of 4 before one that is read in words."""
        expected = aligned(self.data_end) if is_word_aligned(constant) else self.data_end
        offset, length = constant.fields["data_offset"], constant.length
        if offset != expected:
            raise fail(ErrorCode.BAD_CONSTANT, f"{what} starts at byte {offset} of DATA, not at {expected}")
        if offset > self.data_bytes or length > self.data_bytes - offset:
            raise fail(ErrorCode.BAD_CONSTANT, f"{what} ends behind the {self.data_bytes} bytes of DATA")
        gap_start = self.data_start + self.data_end
        if any(self.parsed.data[gap_start : constant.offset]):
            raise fail(ErrorCode.BAD_CONSTANT, f"byte {gap_start}: padding before {index} is not zero")
        self.data_spans.append((gap_start, constant.offset - gap_start, "padding"))
        self.data_spans.append((constant.offset, length, f"constant {index}: {constant.kind.name.lower()}"))
        self.data_end = offset + length

    # -- operators

    def _operator(self, index: int) -> None:
        what = f"byte {self.cursor.offset}: operator {index}"
        kind_code = self.cursor.u()
        # The required operators are known to the reader, so whatever they name is one of OperatorKind.
        if kind_code > 31 or not self.header.required_operators >> kind_code & 1:
            raise fail(
                ErrorCode.UNSUPPORTED_OPERATOR, f"{what} has kind {kind_code}, not a required operator"
            )
        kind = OperatorKind(kind_code)
        schedule_code = self.cursor.u()
        if schedule_code not in set(ScheduleKind):
            raise fail(ErrorCode.BAD_OPERATOR, f"{what} has schedule {schedule_code}")
        schedule = ScheduleKind(schedule_code)
        self._need(SCHEDULE_FEATURES.get(schedule, Feature(0)), what)
        parameter = self.cursor.u() if schedule is not ScheduleKind.WHOLE else 0
        inputs = self._tensor_indexes(Limit.OPERATOR_INPUTS, what)
        outputs = self._tensor_indexes(Limit.OPERATOR_OUTPUTS, what)
        constants = self._constant_indexes(what)
        attributes = self._attributes(kind, what)
        self.parsed.operators.append(
            ParsedOperator(kind, schedule, parameter, inputs, outputs, constants, attributes)
        )

    def _tensor_indexes(self, limit: Limit, what: str) -> tuple[int, ...]:
        indexes = []
        for _ in range(self.cursor.count(limit)):
            indexes.append(self.cursor.u())
            if indexes[-1] >= len(self.parsed.tensors):
                raise fail(ErrorCode.BAD_OPERATOR, f"{what} names tensor {indexes[-1]}, which does not exist")
        return tuple(indexes)

    def _constant_indexes(self, what: str) -> tuple[int | None, ...]:
        indexes: list[int | None] = []
        for _ in range(self.cursor.count(Limit.OPERATOR_CONSTANTS)):
            reference = self.cursor.u()
            if reference > len(self.parsed.constants):
                raise fail(ErrorCode.BAD_OPERATOR, f"{what} names constant {reference - 1}: there is none")
            indexes.append(reference - 1 if reference else None)
        if indexes and indexes[-1] is None:
            raise fail(ErrorCode.BAD_OPERATOR, f"{what} ends its list of constants with none")
        return tuple(indexes)

    def _attributes(self, kind: OperatorKind, what: str) -> dict[str, int]:
        known = OPERATOR_ATTRIBUTES[kind]
        stored = [self.cursor.s() for _ in range(self.cursor.count(Limit.OPERATOR_ATTRIBUTES))]
        if len(stored) > len(known):
            raise fail(
                ErrorCode.BAD_OPERATOR, f"{what} ({kind.name}) has {len(stored)} attributes, not {len(known)}"
            )
        if stored and stored[-1] == known[len(stored) - 1].default:
            raise fail(ErrorCode.BAD_OPERATOR, f"{what} stores a trailing attribute that has its default")
        complete = stored + [item.default for item in known[len(stored) :]]
        return {item.name: value for item, value in zip(known, complete, strict=True)}

    # -- ports

    def _port(self, ports: list[ParsedPort], name: str) -> None:
        what = f"byte {self.cursor.offset}: {name} {len(ports)}"
        tensor, flags = self.cursor.u(), self.cursor.u()
        zero_point, scale = self.cursor.s(), self.cursor.float32()
        if tensor >= len(self.parsed.tensors):
            raise fail(ErrorCode.BAD_PORT, f"{what} names tensor {tensor}, which does not exist")
        if flags & ~sum(PortFlag):
            raise fail(ErrorCode.RESERVED_BITS, f"{what} has reserved flags 0x{flags:x}")
        if self.parsed.tensors[tensor].dtype is DType.BIT:
            raise fail(ErrorCode.BAD_PORT, f"{what} is a tensor of bits")
        low, high = DTYPE_RANGES[self.parsed.tensors[tensor].dtype]
        if not low <= zero_point <= high:
            raise fail(ErrorCode.BAD_PORT, f"{what} has zero point {zero_point}, outside {low} to {high}")
        if not (math.isfinite(scale) and scale > 0):
            raise fail(ErrorCode.BAD_PORT, f"{what} has scale {scale}")
        if any(port.tensor == tensor for port in ports):
            raise fail(ErrorCode.BAD_PORT, f"{what} names tensor {tensor} a second time")
        ports.append(ParsedPort(tensor, PortFlag(flags), zero_point, scale))


def stream_descriptor(fields: dict[str, int], what: str = "weights") -> StreamDescriptor:
    """The descriptor in the fields of a WEIGHTS constant, checked.

    Raises:
        FormatError: ``bad_constant`` for an unknown layout, coder or value map, else as ``check_descriptor``.
    """
    kinds: tuple[tuple[str, type[Layout] | type[Coder] | type[ValueMap]], ...] = (
        ("layout", Layout), ("coder", Coder), ("value_map", ValueMap)
    )  # fmt: skip
    for name, kind in kinds:
        if fields[name] not in set(kind):
            raise fail(ErrorCode.BAD_CONSTANT, f"{what} has {name} {fields[name]}")
    descriptor = StreamDescriptor(
        fields["rows"],
        fields["cols"],
        Layout(fields["layout"]),
        Coder(fields["coder"]),
        ValueMap(fields["value_map"]),
        **{name: fields[name] for name in STREAM_COUNTS},
    )
    try:
        check_descriptor(descriptor)
    except FormatError as error:
        raise fail(error.code, f"{what}: {error.detail}") from None
    return descriptor


def stream_features(descriptor: StreamDescriptor) -> Feature:
    """What a reader must have to decode such a stream."""
    layouts = {Layout.SPARSE: Feature.SPARSE, Layout.BITMAP: Feature.BITMAP, Layout.BITS: Feature.BITS}
    return Feature(1 << descriptor.coder) | layouts.get(descriptor.layout, Feature(0))


def is_word_aligned(constant: ParsedConstant) -> bool:
    """Whether the constant starts at a multiple of 4 in the file, because readers take it word by word."""
    if constant.kind is ConstantKind.REQUANT:
        return constant.fields["form"] in (RequantForm.PACKED, RequantForm.WIDE)
    return constant.kind is ConstantKind.WEIGHTS and constant.fields["layout"] == Layout.BITS


def _check_count(fields: dict[str, int], what: str) -> None:
    if fields["count"] == 0:
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} is empty")
    if fields["count"] > Limit.ROW_LENGTH:
        raise fail(ErrorCode.LIMIT_EXCEEDED, f"{what} has {fields['count']} values > {Limit.ROW_LENGTH}")


def _check_data_bytes(fields: dict[str, int], needed: int, what: str) -> None:
    if fields["data_bytes"] != needed:
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} has {fields['data_bytes']} bytes and needs {needed}")


def _check_integers_fields(fields: dict[str, int], what: str) -> None:
    _check_count(fields, what)
    if not 1 <= fields["bits"] <= 32:
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} has integers of {fields['bits']} bits")
    _check_data_bytes(fields, (fields["count"] * fields["bits"] + 7) // 8, what)


def _check_integers_payload(fields: dict[str, int], payload: bytes, what: str) -> None:
    used_bits = fields["count"] * fields["bits"] % 8
    if used_bits and payload[-1] >> used_bits:
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} does not end with zero bits")


def _check_requant_fields(fields: dict[str, int], features: int, what: str) -> None:
    _check_count(fields, what)
    form, shift_base = fields["form"], fields["shift_base"]
    sign = form == RequantForm.SIGN and fields["count"] == 1 and features & Feature.BIT_ACTIVATIONS
    if form not in (RequantForm.PACKED, RequantForm.WIDE, RequantForm.POWER_OF_TWO) and not sign:
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} has requantisation form {form}")
    highest = SHIFT_MAX - 3 if form == RequantForm.PACKED else 0
    lowest = SHIFT_MIN if form == RequantForm.PACKED else 0
    if not lowest <= shift_base <= highest:
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} has shift_base {shift_base}, not {lowest} to {highest}")
    value_bytes = (4, 5, 1, 0)[form]
    _check_data_bytes(fields, value_bytes * fields["count"], what)


def _check_requant_payload(fields: dict[str, int], payload: bytes, what: str) -> None:
    count = fields["count"]
    if fields["form"] == RequantForm.WIDE:
        if min(struct.unpack_from(f"<{count}i", payload)) < 0:
            raise fail(ErrorCode.BAD_CONSTANT, f"{what} has a negative multiplier")
        low, high, shifts = SHIFT_MIN, SHIFT_MAX, payload[4 * count :]
    else:
        low, high, shifts = 0, 31, payload
    if fields["form"] in (RequantForm.WIDE, RequantForm.POWER_OF_TWO):
        for shift in struct.unpack(f"<{count}b", shifts):
            if not low <= shift <= high:
                raise fail(ErrorCode.BAD_CONSTANT, f"{what} has a shift of {shift}, outside {low} to {high}")


def _check_float_fields(kind: ConstantKind, fields: dict[str, int], what: str) -> None:
    if kind is ConstantKind.FUNCTION:
        if fields["function"] not in set(FloatFunction):
            raise fail(ErrorCode.BAD_CONSTANT, f"{what} has function {fields['function']}")
        parameters = FUNCTION_PARAMETERS.get(FloatFunction(fields["function"]), ())
        _check_data_bytes(fields, 4 * len(parameters), what)
        return
    if fields["format"] not in set(FloatFormat):
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} has float format {fields['format']}")
    count = fields["rows"] * fields["cols"]
    if count == 0:
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} is empty")
    if count > Limit.WEIGHTS:
        raise fail(ErrorCode.LIMIT_EXCEEDED, f"{what} has {count} values > {Limit.WEIGHTS}")
    _check_data_bytes(fields, count * ITEM_BYTES[FloatFormat(fields["format"])], what)


def _check_float_payload(kind: ConstantKind, fields: dict[str, int], payload: bytes, what: str) -> None:
    stored_as = FloatFormat.FP32 if kind is ConstantKind.FUNCTION else FloatFormat(fields["format"])
    if not np.isfinite(unpack_floats(payload, stored_as)).all():
        raise fail(ErrorCode.BAD_CONSTANT, f"{what} has a value that is not finite")
