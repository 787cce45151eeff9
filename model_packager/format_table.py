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
SIGNATURE_BYTES = 64  # Ed25519, of the SHA-256 before it; present when HeaderFlag.SIGNED is set
PUBLIC_KEY_BYTES = 32


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

# Payloads of the wire protocol's messages: the fixed part of each; docs/PROTOCOL.md says what follows it. A
# message that has no struct here has an empty payload.

HELLO_REQUEST: tuple[Field, ...] = (
    Field("protocol_version", "H", "the client's, 1"),
    Field("max_payload", "H", "largest payload that the client takes"),
    Field("session", "I", "chosen at random; a HELLO of a session that the device knows opens no new one"),
)

HELLO_REPLY: tuple[Field, ...] = (
    Field("protocol_version", "B", "the device's, 1"),
    Field("format_version", "B", "largest format version that its loader reads"),
    Field("architecture", "B", "of native code in .mpy files, as MicroPython numbers it; 0 = none"),
    Field("model_state", "B", "ModelState"),
    Field("max_payload", "H", "largest payload that the device takes and sends in this session"),
    Field("slot_count", "B", "slots for models: 1, or 2 with Capability SLOTS"),
    Field("active_slot", "B", "slot of the running model"),
    Field("capabilities", "I", "Capability bits"),
    Field("features", "I", "Feature bits of its loader"),
    Field("operators", "I", "bit n is set when it has operator id n"),
    Field("heap_free_bytes", "I", "free RAM at this moment"),
    Field("slot_bytes", "I", "longest file that a slot can hold"),
    Field("model_id", "I", "of the running model; 0 without one"),
    Field("model_version", "I", "of the running model; 0 without one"),
    Field("model_sha256", "32s", "the SHA-256 in the running model's trailer; zeros without one"),
)

BEGIN_REQUEST: tuple[Field, ...] = (
    Field("file_bytes", "I", "length of the file that follows in DATA"),
    Field("sha256", "32s", "SHA-256 of the file without its trailer, as its trailer holds it"),
    Field("flags", "B", "BeginFlag bits"),
    Field("slot", "B", "must be 0: the device takes the slot that is not active"),
    Field("reserved", "H", "must be 0"),
)

COMMIT_REQUEST: tuple[Field, ...] = (Field("flags", "B", "must be 0"),)
COMMIT_REPLY: tuple[Field, ...] = (Field("load_us", "I", "microseconds of checking, loading, golden test"),)

DATA_REQUEST: tuple[Field, ...] = (Field("offset", "I", "of the first byte that follows, in the file"),)
# The answer to BEGIN, DATA and SET_INPUT.
OFFSET_REPLY: tuple[Field, ...] = (Field("next_offset", "I", "the byte that the device waits for"),)

INFO_REPLY: tuple[Field, ...] = (
    Field("heap_free_bytes", "I", "free RAM"),
    Field("heap_bytes", "I", "all RAM of the heap"),
    Field("storage_free_bytes", "I", "free space where models are kept"),
    Field("arena_bytes", "I", "of the running model"),
    Field("scratch_bytes", "I", "stream scratch of the running model"),
    Field("received_bytes", "I", "of the file that is being transferred"),
    Field("bad_frames", "I", "frames that failed their check since the server started"),
    Field("uptime_ms", "I", "since the server started; may wrap"),
    Field("operator_count", "H", "of the running model"),
    Field("input_count", "B", "of the running model"),
    Field("output_count", "B", "of the running model"),
    Field("model_error", "b", "ErrorCode of a stored file that did not load, or 0"),
    Field("reserved", "B", "0"),
    Field("reserved2", "H", "0"),
)

SET_INPUT_REQUEST: tuple[Field, ...] = (
    Field("offset", "I", "of the first byte that follows, in the input tensor"),
    Field("input", "B", "index of the model's input"),
    Field("reserved", "B", "must be 0"),
    Field("reserved2", "H", "must be 0"),
)

RUN_REQUEST: tuple[Field, ...] = (Field("flags", "B", "must be 0"),)
RUN_REPLY: tuple[Field, ...] = (Field("run_us", "I", "microseconds of the inference, by the device's clock"),)

GET_OUTPUT_REQUEST: tuple[Field, ...] = (
    Field("offset", "I", "first byte wanted of the output tensor"),
    Field("length", "H", "bytes wanted at most"),
    Field("output", "B", "index of the model's output"),
    Field("reserved", "B", "must be 0"),
)
GET_OUTPUT_REPLY: tuple[Field, ...] = (Field("output_bytes", "I", "length of the whole output tensor"),)

BENCH_REQUEST: tuple[Field, ...] = (
    Field("runs", "H", "inferences, 1 or more; without WINDOW their times must fit one payload"),
    Field("flags", "B", "BenchFlag bits"),
    Field("reserved", "B", "must be 0"),
)
BENCH_WINDOW_REPLY: tuple[Field, ...] = (
    Field("window_us", "I", "microseconds of all runs together, by the device's clock"),
)

PROFILE_REQUEST: tuple[Field, ...] = (
    Field("first", "H", "first operator wanted; 0 makes a new timed run"),
    Field("reserved", "H", "must be 0"),
)
PROFILE_REPLY: tuple[Field, ...] = (
    Field("operator_count", "H", "of the running model"),
    Field("reserved", "H", "0"),
)

RESET_REQUEST: tuple[Field, ...] = (Field("kind", "B", "ResetKind"),)

ERROR_REPLY: tuple[Field, ...] = (
    Field("code", "b", "ErrorCode"),
    Field("message", "B", "id of the request that failed; 0 when the frame could not be read"),
)

STRUCTS = {
    "header": HEADER,
    "section_entry": SECTION_ENTRY,
    "golden": GOLDEN,
    "hello_request": HELLO_REQUEST,
    "hello_reply": HELLO_REPLY,
    "begin_request": BEGIN_REQUEST,
    "data_request": DATA_REQUEST,
    "offset_reply": OFFSET_REPLY,
    "commit_request": COMMIT_REQUEST,
    "commit_reply": COMMIT_REPLY,
    "info_reply": INFO_REPLY,
    "set_input_request": SET_INPUT_REQUEST,
    "run_request": RUN_REQUEST,
    "run_reply": RUN_REPLY,
    "get_output_request": GET_OUTPUT_REQUEST,
    "get_output_reply": GET_OUTPUT_REPLY,
    "bench_request": BENCH_REQUEST,
    "bench_window_reply": BENCH_WINDOW_REPLY,
    "profile_request": PROFILE_REQUEST,
    "profile_reply": PROFILE_REPLY,
    "reset_request": RESET_REQUEST,
    "error_reply": ERROR_REPLY,
}


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
    SPARSE_ROW_LENGTH = 1 << 16  # of a SPARSE stream: positions in a decoded row have 16 bits
    WEIGHTS = 1 << 27  # of one tensor; the largest layer of VGG-16 has 103 million


# ----------------------------------------------------------------------------------------------- tensors


class DType(enum.IntEnum):
    INT8 = 0
    INT16 = 1
    INT32 = 2
    BIT = 3  # channels packed into 32-bit words, bit 1 is +1 and bit 0 is -1
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
    FLOATS = 3  # rows times cols floats; only with FLOAT_TENSORS
    FUNCTION = 4  # a function of one float, its parameters as float32; only with FLOAT_TENSORS


class FloatFormat(enum.IntEnum):
    """How a float is stored; it is computed with as float32."""

    FP32 = 0  # IEEE 754 binary32
    FP16 = 1  # IEEE 754 binary16
    BFLOAT16 = 2  # the upper half of a binary32


class FloatFunction(enum.IntEnum):
    RELU = 0  # max(x, 0)
    RELU6 = 1  # min(max(x, 0), 6)
    RELU_N1_TO_1 = 2  # min(max(x, -1), 1)
    CLIP = 3  # parameters low, high
    LEAKY_RELU = 4  # parameter alpha
    HARD_SIGMOID = 5  # min(max(alpha x + beta, 0), 1), parameters alpha, beta
    HARD_SWISH = 6  # x min(max(x + 3, 0), 6) / 6
    LOGISTIC = 7  # 1 / (1 + exp(-x))
    TANH = 8
    SIGN = 9  # 1 where x >= 0, else -1


FUNCTION_PARAMETERS: dict[FloatFunction, tuple[str, ...]] = {
    FloatFunction.CLIP: ("low", "high"),
    FloatFunction.LEAKY_RELU: ("alpha",),
    FloatFunction.HARD_SIGMOID: ("alpha", "beta"),
}


class RequantForm(enum.IntEnum):
    PACKED = 0  # 32-bit words: bits 0-29 multiplier - 2^30, bits 30-31 shift - shift_base
    WIDE = 1  # count int32 multipliers, then count int8 shifts
    POWER_OF_TWO = 2  # count int8 right shifts, rounding half up: dynamic fixed point
    SIGN = 3  # no payload: the output bit is 1 where the accumulator is not negative


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
    ConstantKind.FLOATS: (
        ("data_offset", "u"),
        ("data_bytes", "u"),
        ("rows", "u"),
        ("cols", "u"),
        ("format", "u"),
    ),
    ConstantKind.FUNCTION: (
        ("data_offset", "u"),
        ("data_bytes", "u"),
        ("function", "u"),
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
    IDENTITY = 0  # the weight itself: two's complement (FIXED), zigzag (HUFFMAN, CLASS), sign first (RANGE)
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
RANGE_SHIFT_BITS = 3  # of gap_bits, the adaptation shift; the bits above are the context distance
RANGE_SHIFT_MIN = 4
RANGE_SHIFT_MAX = 7
RANGE_SIGN_CONTEXTS = 9  # DENSE and BITMAP: 3 * sign of the previous weight + sign of the distant one
RANGE_FLAG_CONTEXTS = 4  # BITMAP: 2 * previous weight is not zero + distant weight is not zero
RANGE_TOP_BITS = 31  # range stays below 2^31, so that every step fits a signed 32-bit word
RANGE_RENORMALISE_BITS = 23
RANGE_GAP_CLASS_BITS = 5  # depth of the bit tree of gap classes


# --------------------------------------------------------------------------------------------- operators


class ScheduleKind(enum.IntEnum):
    """How an operator is executed; the memory plan is right only if every executor obeys."""

    WHOLE = 0  # input and output do not overlap
    IN_PLACE = 1  # the output starts at the input's offset; parameter: rows per band (0 = channel planes)
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
    INTERNAL = -50  # the device server itself failed; the detail is its exception


# ---------------------------------------------------------------------------------------------- messages


class Message(enum.IntEnum):
    """Message ids of the wire protocol; a reply has the request's id with bit 7 set."""

    HELLO = 1  # open a session; what the device is, has and runs
    BEGIN = 2  # start to transfer a model file
    DATA = 3  # a piece of it
    COMMIT = 4  # verify the file, load it, try it, and run it instead of the model before
    CONFIRM = 5  # keep the model that runs on trial
    ABORT = 6  # forget the transfer
    INFO = 7  # counters, memory, and the model's inputs and outputs
    SET_INPUT = 8  # a piece of an input tensor
    RUN = 9  # one inference
    GET_OUTPUT = 10  # a piece of an output tensor
    BENCH = 11  # time several inferences
    PROFILE = 12  # time each operator of one inference
    RESET = 13  # clear the model's state, or start the server again
    ERROR = 127  # only as a reply: the request failed


class Capability(enum.IntFlag):
    """What a device server can do beyond the messages of version 1."""

    PROFILE = 1  # PROFILE gives the time of each operator
    SLOTS = 2  # a new model is written beside the stored one, which stays whole
    SIGNATURES = 4  # has a key, and refuses what it did not sign
    TRIAL = 8  # tries the golden test; a new model runs on trial until CONFIRM
    TRIGGER = 16  # marks inferences on a pin, for a power meter
    INSTRUCTIONS = 32  # its clock counts instructions: replies give them in place of microseconds


class BeginFlag(enum.IntFlag):
    """How to take a new model; the other bits must be 0."""

    FORCE = 1  # also when its version is below that of the running model of the same id


class BenchFlag(enum.IntFlag):
    """How to time several inferences; the other bits must be 0."""

    WINDOW = 1  # with TRIGGER: the pin is on for all runs without a break, and their time is told as one


class ModelState(enum.IntEnum):
    NONE = 0  # no model is stored
    READY = 1  # a model is loaded
    BAD = 2  # the stored file failed its checks; INFO says which
    TRIAL = 3  # a model is loaded; without CONFIRM, the one before it is back at the next start


class ResetKind(enum.IntEnum):
    STATE = 0  # persistent tensors go back to their initial values
    SERVER = 1  # forget the transfer, inputs and outputs, and load the stored model again


# Framing: delimiter, escaped content, delimiter. Content: message id, sequence number, payload, CRC-32.
WIRE_DELIMITER = 10  # line feed: ends and may begin a frame
WIRE_ESCAPE = 27  # the next byte is the original XOR WIRE_ESCAPE_XOR
WIRE_ESCAPE_XOR = 64
WIRE_INTERRUPT = 3  # Ctrl-C: never sent inside a frame
WIRE_RETURN = 13  # carriage return: never sent inside a frame, ignored by receivers
WIRE_OVERHEAD_BYTES = 6  # message id, sequence number and CRC-32
WIRE_MIN_PAYLOAD_BYTES = 128  # every device takes at least this
WIRE_MAX_PAYLOAD_BYTES = 4096  # no device takes more
WIRE_REPLY_BIT = 128  # set in the message id of a reply
WIRE_CRC_RESIDUE = 0x2144DF1C  # CRC-32 of a content that ends in its own little-endian CRC-32

# The device's side of MLPerf Tiny's text protocol (docs/MLPERF.md).
MLPERF_TERMINATOR = 37  # "%" ends a command
MLPERF_COMMAND_BYTES = 80  # of the longest command, without its end
MLPERF_BAUD = 115200  # in the modes performance and accuracy
MLPERF_ENERGY_BAUD = 9600  # in the mode energy, behind the interface board
MLPERF_PULSE_US = 2  # least time that a pulse on the pin takes, in the mode energy; the benchmark asks for 1
MLPERF_WARMUPS = 10  # inferences before the measured ones where the command does not say
MLPERF_PRINT_BYTES = 16  # that `db print` shows where the command does not say
MLPERF_LINE_BYTES = 8  # of the buffer, in a line of `db print`
MLPERF_FRACTION = 1000000  # results have six decimals
MLPERF_PROFILE = b"ULPMark for tinyML Firmware V0.0.1"  # which the benchmark's runners look for
