"""The one table of the Thimble format and protocol.

Everything that more than one component must agree on stands here and nowhere else: the fixed structs, the
enumerations, the attributes of each operator, the limits, the error codes and the message ids of the wire
protocol. ``model_packager.generate`` turns this module into the C header, into the ``const`` regions of the
MicroPython package and into the tables of docs/FORMAT.md and docs/PROTOCOL.md; a test fails when any of
those is stale. This module holds data only and imports nothing but the standard library.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAGIC = b"THMB"
FORMAT_VERSION = 1
PROTOCOL_VERSION = 1

SECTION_ALIGNMENT_BYTES = 4  # offset of every section, relative to the start of the file
SHA256_BYTES = 32
SIGNATURE_BYTES = 64  # Ed25519, present when HeaderFlag.SIGNED is set


# ---------------------------------------------------------------------------------------------- structs


@dataclass(frozen=True)
class Field:
    """One field of a fixed little-endian struct; ``code`` is a ``struct`` format code."""

    name: str
    code: str
    doc: str


HEADER: tuple[Field, ...] = (
    Field("magic", "4s", 'the bytes "THMB"'),
    Field("version", "B", "format version, 1"),
    Field("flags", "B", "HeaderFlag bits; the others are reserved and must be 0"),
    Field("section_count", "H", "number of entries in the section table"),
    Field("file_bytes", "I", "length of the whole file, trailer included"),
    Field("required_features", "I", "Feature bits that a reader must have"),
    Field("required_operators", "I", "bit n is set when operator id n is used"),
    Field("arena_bytes", "I", "activation arena, input and output tensors included"),
    Field("scratch_bytes", "I", "largest stream scratch of any operator"),
    Field("model_id", "I", "chosen by the user; models of one id replace each other; 0 = unnamed"),
    Field("model_version", "I", "monotonic; a device refuses to go back unless forced"),
    Field("header_crc32", "I", "CRC-32 of the 36 header bytes before it and of the whole section table"),
)

SECTION_ENTRY: tuple[Field, ...] = (
    Field("kind", "B", "SectionKind"),
    Field("flags", "B", "SectionFlag bits; the others are reserved and must be 0"),
    Field("reserved", "H", "must be 0"),
    Field("offset", "I", "from the start of the file, a multiple of 4"),
    Field("length", "I", "bytes, padding not included"),
    Field("crc32", "I", "CRC-32 of the section's bytes"),
)

GOLDEN: tuple[Field, ...] = (
    Field("seed", "I", "seed of the xorshift32 generator that fills all inputs in order; not 0"),
    Field("output_crc32", "I", "CRC-32 of all output tensors' bytes in order"),
)

STRUCTS = {"header": HEADER, "section_entry": SECTION_ENTRY, "golden": GOLDEN}


def struct_format(fields: tuple[Field, ...]) -> str:
    """The ``struct`` format string of a table of fields (little-endian, unpadded)."""
    return "<" + "".join(field.code for field in fields)


class HeaderFlag(enum.IntFlag):
    SIGNED = 1  # the trailer is SHA-256 followed by an Ed25519 signature


class SectionFlag(enum.IntFlag):
    CRITICAL = 1  # a reader that does not know the kind must refuse the file


class SectionKind(enum.IntEnum):
    PROGRAM = 1  # varints: tensors, constants, operators, inputs, outputs
    DATA = 2  # payloads of the constants
    METADATA = 3  # ancillary, UTF-8 JSON: names, labels, preprocessing
    GOLDEN = 4  # ancillary: the golden struct


class Feature(enum.IntFlag):
    """What a reader must be able to do; the bitmap a device reports in HELLO."""

    FIXED = 1 << 0
    HUFFMAN = 1 << 1
    CLASS = 1 << 2
    RANGE = 1 << 3
    SPARSE = 1 << 4
    BITMAP = 1 << 5
    BITS = 1 << 6
    IN_PLACE = 1 << 7
    BANDS = 1 << 8
    FUSED_DEPTHWISE = 1 << 9
    FUSED_ADD = 1 << 10
    INT16_ACTIVATIONS = 1 << 11
    BIT_ACTIVATIONS = 1 << 12
    PERSISTENT_TENSORS = 1 << 13
    ROW_INDEX = 1 << 14
    FLOAT_TENSORS = 1 << 15
    COLUMN_SCAN = 1 << 16


# ------------------------------------------------------------------------------------------------ limits


class Limit(enum.IntEnum):
    """Largest values a reader accepts; a larger one is ``limit_exceeded``."""

    FILE_BYTES = 1 << 30
    SECTIONS = 16
    TENSORS = 1024
    CONSTANTS = 4096
    OPERATORS = 1024
    RANK = 6
    DIMENSION = (1 << 31) - 1
    TENSOR_BYTES = 1 << 30
    OPERATOR_INPUTS = 16
    OPERATOR_OUTPUTS = 16
    OPERATOR_CONSTANTS = 4
    OPERATOR_ATTRIBUTES = 24
    MODEL_INPUTS = 16
    MODEL_OUTPUTS = 16
    ROW_LENGTH = 1 << 24


# ----------------------------------------------------------------------------------------------- tensors


class DType(enum.IntEnum):
    INT8 = 0
    INT16 = 1
    INT32 = 2
    BIT = 3  # packed, bit 1 is +1 and bit 0 is -1
    FLOAT32 = 4  # reference executor only


class TensorFlag(enum.IntFlag):
    PERSISTENT = 1  # keeps its content between runs, cleared by reset


class PortFlag(enum.IntFlag):
    FLOAT = 1  # the original model took or gave floats here: hosts convert by scale and zero point


# --------------------------------------------------------------------------------------------- constants


class ConstantKind(enum.IntEnum):
    WEIGHTS = 0  # a stream of rows
    INTEGERS = 1  # count signed integers of `bits` bits each, packed LSB first
    REQUANT = 2  # multipliers and shifts, one or one per output channel


class RequantForm(enum.IntEnum):
    PACKED = 0  # 32-bit words: bits 0-29 multiplier - 2^30, bits 30-31 shift - shift_base
    WIDE = 1  # count int32 multipliers, then count int8 shifts
    POWER_OF_TWO = 2  # count int8 right shifts, rounding half up: dynamic fixed point


# Fields of a constant in the PROGRAM section, in order; `s` is a zigzag varint, `u` an unsigned varint.
CONSTANT_FIELDS: dict[ConstantKind, tuple[tuple[str, str], ...]] = {
    ConstantKind.WEIGHTS: (
        ("data_offset", "u"),  # from the start of the DATA section
        ("data_bytes", "u"),
        ("rows", "u"),
        ("cols", "u"),
        ("layout", "u"),
        ("coder", "u"),
        ("value_map", "u"),
        ("value_bits", "u"),
        ("gap_bits", "u"),
        ("value_count", "u"),
        ("entry_count", "u"),
        ("max_row_entries", "u"),
    ),
    ConstantKind.INTEGERS: (
        ("data_offset", "u"),
        ("data_bytes", "u"),
        ("count", "u"),
        ("bits", "u"),
    ),
    ConstantKind.REQUANT: (
        ("data_offset", "u"),
        ("data_bytes", "u"),
        ("count", "u"),
        ("form", "u"),
        ("shift_base", "s"),
    ),
}


class Layout(enum.IntEnum):
    DENSE = 0  # a value for every position
    SPARSE = 1  # (gap, value) entries, running on across rows
    BITMAP = 2  # for every position a flag bit, then the value where the flag is 1
    BITS = 3  # word-aligned bit planes: one for BINARY, non-zero and sign planes for TERNARY


class Coder(enum.IntEnum):
    FIXED = 0  # value_bits per value, gap_bits per gap with filler zeros
    HUFFMAN = 1  # canonical Huffman of values and of gap_bits-wide gaps with filler zeros
    CLASS = 2  # class and mantissa: 6-bit limited Huffman tokens, raw mantissas
    RANGE = 3  # adaptive binary range coder


class ValueMap(enum.IntEnum):
    IDENTITY = 0  # the weight itself: two's complement (FIXED) or zigzag (other coders)
    CODEBOOK = 1  # value_count int8 entries
    TERNARY = 2  # index 0, 1, 2 = 0, +positive, -negative; two int8 magnitudes
    LOG2 = 3  # index 0 = 0, 2k + 1 = +2^k, 2k + 2 = -2^k
    BINARY = 4  # bit 1 = +1, bit 0 = -1


HUFFMAN_MAX_LENGTH_BITS = 15
HUFFMAN_PRIMARY_BITS = 6
CLASS_MAX_LENGTH_BITS = 6
CLASS_MAX_TOKENS = 32
CLASS_DIRECT_VALUES = 16  # value indexes below this are their own token
CLASS_GAP_MAX = 24  # largest gap class
RANGE_PROBABILITY_BITS = 12
RANGE_ADAPT_SHIFT = 5
RANGE_TOP_BITS = 31  # range stays below 2^31, so that every step fits a signed 32-bit word
RANGE_RENORMALISE_BITS = 23
RANGE_GAP_CLASS_BITS = 5  # depth of the bit tree of gap classes


# --------------------------------------------------------------------------------------------- operators


class ScheduleKind(enum.IntEnum):
    """How an operator is executed; the memory plan is right only if every executor obeys."""

    WHOLE = 0  # input and output do not overlap
    IN_PLACE = 1  # the output starts at the input's offset; parameter: band height in rows (0 = channel planes)
    BANDS = 2  # bands of `parameter` output rows, weights rewound for each band
    FUSED_DEPTHWISE = 3  # each output channel plane goes straight into the next operator, a depthwise one
    FUSED_ADD = 4  # each output channel plane goes straight into the next operator, an add


class OperatorKind(enum.IntEnum):
    CONV_2D = 1
    DEPTHWISE_CONV_2D = 2
    FULLY_CONNECTED = 3
    ADD = 4
    SUB = 5
    MUL = 6
    AVERAGE_POOL_2D = 7
    MAX_POOL_2D = 8
    MEAN = 9
    SOFTMAX = 10
    LOOKUP = 11
    CONCATENATION = 12
    PAD = 13
    RESHAPE = 14
    TRANSPOSE = 15
    SLICE = 16
    RESIZE_NEAREST = 17
    MAXIMUM = 18
    MINIMUM = 19


@dataclass(frozen=True)
class Attribute:
    """An operator attribute: a zigzag varint; trailing attributes that have their default are left out."""

    name: str
    default: int
    doc: str


def _attributes(*items: tuple[str, int, str]) -> tuple[Attribute, ...]:
    return tuple(Attribute(*item) for item in items)


_WEIGHTED = (
    ("input_zero_point", 0, "subtracted from each input"),
    ("output_zero_point", 0, "added after requantisation"),
    ("clamp_min", -128, "lower bound of the output"),
    ("clamp_max", 127, "upper bound of the output"),
)
_WINDOW = (
    ("kernel_h", 1, "rows"),
    ("kernel_w", 1, "columns"),
    ("stride_h", 1, "rows"),
    ("stride_w", 1, "columns"),
    ("pad_top", 0, "rows of zero point above"),
    ("pad_left", 0, "columns"),
    ("pad_bottom", 0, "rows"),
    ("pad_right", 0, "columns"),
)
_ADDED = (
    ("input1_zero_point", 0, ""),
    ("input2_zero_point", 0, ""),
    ("output_zero_point", 0, ""),
    ("input1_multiplier", 0, "see NUMERICS.md, add"),
    ("input1_shift", 0, ""),
    ("input2_multiplier", 0, ""),
    ("input2_shift", 0, ""),
    ("output_multiplier", 0, ""),
    ("output_shift", 0, ""),
    ("left_shift", 20, ""),
    ("clamp_min", -128, ""),
    ("clamp_max", 127, ""),
)
_CONVOLUTION = _attributes(
    *_WEIGHTED, *_WINDOW, ("groups", 1, "input channel groups"), ("dilation_h", 1, ""), ("dilation_w", 1, "")
)
_POOL = _attributes(*_WINDOW, ("clamp_min", -128, ""), ("clamp_max", 127, ""))

# Attributes of every operator, in file order. Tensors are NHWC; lower ranks are padded with 1 on the left.
OPERATOR_ATTRIBUTES: dict[OperatorKind, tuple[Attribute, ...]] = {
    OperatorKind.CONV_2D: _CONVOLUTION,
    OperatorKind.DEPTHWISE_CONV_2D: _CONVOLUTION,
    OperatorKind.FULLY_CONNECTED: _attributes(*_WEIGHTED),
    OperatorKind.ADD: _attributes(*_ADDED),
    OperatorKind.SUB: _attributes(*_ADDED),
    OperatorKind.MUL: _attributes(
        ("input1_zero_point", 0, ""),
        ("input2_zero_point", 0, ""),
        ("output_zero_point", 0, ""),
        ("multiplier", 0, ""),
        ("shift", 0, ""),
        ("clamp_min", -128, ""),
        ("clamp_max", 127, ""),
    ),
    OperatorKind.AVERAGE_POOL_2D: _POOL,
    OperatorKind.MAX_POOL_2D: _POOL,
    OperatorKind.MEAN: _attributes(
        ("axes", 6, "bit n set: reduce axis n of the 4-D NHWC shape"),
        ("input_zero_point", 0, ""),
        ("output_zero_point", 0, ""),
        ("multiplier", 0, "see NUMERICS.md, mean"),
        ("shift", 0, ""),
    ),
    OperatorKind.SOFTMAX: _attributes(
        ("multiplier", 0, "beta times scale, see NUMERICS.md, softmax"),
        ("shift", 0, ""),
        ("diff_min", 0, "differences below it count as exp = 0"),
    ),
    OperatorKind.LOOKUP: (),
    OperatorKind.CONCATENATION: _attributes(("axis", 3, "of the 4-D shape")),
    OperatorKind.PAD: _attributes(
        ("value", 0, "the padding value"),
        *((f"before_{axis}", 0, "") for axis in range(4)),
        *((f"after_{axis}", 0, "") for axis in range(4)),
    ),
    OperatorKind.RESHAPE: (),
    OperatorKind.TRANSPOSE: _attributes(*((f"axis_{axis}", axis, "source axis") for axis in range(4))),
    OperatorKind.SLICE: _attributes(
        *((f"begin_{axis}", 0, "") for axis in range(4)), *((f"stride_{axis}", 1, "") for axis in range(4))
    ),
    OperatorKind.RESIZE_NEAREST: _attributes(
        ("align_corners", 0, "0 or 1"), ("half_pixel_centers", 0, "0 or 1")
    ),
    OperatorKind.MAXIMUM: (),
    OperatorKind.MINIMUM: (),
}

# Constants of every operator, in file order; a name in brackets may be missing (index 0 means "none").
OPERATOR_CONSTANTS: dict[OperatorKind, tuple[str, ...]] = {
    OperatorKind.CONV_2D: ("weights", "requant", "[bias]"),
    OperatorKind.DEPTHWISE_CONV_2D: ("weights", "requant", "[bias]"),
    OperatorKind.FULLY_CONNECTED: ("weights", "requant", "[bias]"),
    OperatorKind.LOOKUP: ("table",),
}


# ------------------------------------------------------------------------------------------------ errors


class ErrorCode(enum.IntEnum):
    """Negative results of every executor; the same name in Python, C and on the wire."""

    TRUNCATED = -1  # the file ends before its own length, or a structure runs past its section
    BAD_MAGIC = -2
    UNSUPPORTED_VERSION = -3
    RESERVED_BITS = -4  # a reserved bit or field is not zero
    BAD_HEADER_CRC = -5
    BAD_SECTION = -6  # section table: overlap, order, alignment, missing or repeated section, padding
    UNSUPPORTED_SECTION = -7  # unknown critical section
    BAD_SECTION_CRC = -8
    BAD_HASH = -9  # SHA-256 of the file
    UNSUPPORTED_FEATURE = -10
    UNSUPPORTED_OPERATOR = -11
    BAD_VARINT = -12  # longer than 5 bytes, over 32 bits, or not minimal
    LIMIT_EXCEEDED = -13
    BAD_TENSOR = -14
    BAD_CONSTANT = -15
    BAD_OPERATOR = -16  # attributes, shapes or constants that contradict each other
    BAD_PORT = -17  # model inputs and outputs
    BAD_STREAM = -18  # code lengths or payload of a weight stream
    ARENA_TOO_SMALL = -19
    SCRATCH_TOO_SMALL = -20
    MISALIGNED = -21
    BAD_INPUT = -22  # an input array of the wrong length
    OUT_OF_MEMORY = -23
    BAD_SIGNATURE = -24
    UNSIGNED = -25  # a key is provisioned and the model carries no signature
    GOLDEN_MISMATCH = -26
    # wire protocol
    BAD_FRAME = -40
    UNKNOWN_MESSAGE = -41
    BAD_STATE = -42  # message not allowed now
    BAD_OFFSET = -43
    NO_MODEL = -44
    NO_SPACE = -45
    WRITE_FAILED = -46
    DOWNGRADE = -47
    BUSY = -48
    BAD_ARGUMENT = -49


# ---------------------------------------------------------------------------------------------- messages


class Message(enum.IntEnum):
    """Message ids of the wire protocol; a reply has the request's id with bit 7 set."""

    HELLO = 1
    BEGIN = 2
    DATA = 3
    COMMIT = 4
    CONFIRM = 5
    ABORT = 6
    INFO = 7
    SET_INPUT = 8
    RUN = 9
    GET_OUTPUT = 10
    BENCH = 11
    PROFILE = 12
    RESET = 13
    ERROR = 127
