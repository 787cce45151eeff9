/* Constants of the Thimble format and protocol. Do not edit: generated from
 * model_packager/format_table.py by `python -m model_packager.generate`. */
#ifndef THIMBLE_FORMAT_H
#define THIMBLE_FORMAT_H

#define THIMBLE_MAGIC "THMB"
#define THIMBLE_FORMAT_VERSION 1
#define THIMBLE_PROTOCOL_VERSION 1
#define THIMBLE_SECTION_ALIGNMENT_BYTES 4
#define THIMBLE_SHA256_BYTES 32
#define THIMBLE_SIGNATURE_BYTES 64
#define THIMBLE_PUBLIC_KEY_BYTES 32
#define THIMBLE_HUFFMAN_MAX_LENGTH_BITS 15
#define THIMBLE_HUFFMAN_PRIMARY_BITS 6
#define THIMBLE_CLASS_MAX_LENGTH_BITS 6
#define THIMBLE_CLASS_MAX_TOKENS 32
#define THIMBLE_CLASS_DIRECT_VALUES 16
#define THIMBLE_CLASS_GAP_MAX 24
#define THIMBLE_RANGE_PROBABILITY_BITS 12
#define THIMBLE_RANGE_SHIFT_BITS 3
#define THIMBLE_RANGE_SHIFT_MIN 4
#define THIMBLE_RANGE_SHIFT_MAX 7
#define THIMBLE_RANGE_SIGN_CONTEXTS 9
#define THIMBLE_RANGE_FLAG_CONTEXTS 4
#define THIMBLE_RANGE_TOP_BITS 31
#define THIMBLE_RANGE_RENORMALISE_BITS 23
#define THIMBLE_RANGE_GAP_CLASS_BITS 5
#define THIMBLE_WIRE_DELIMITER 10
#define THIMBLE_WIRE_ESCAPE 27
#define THIMBLE_WIRE_ESCAPE_XOR 64
#define THIMBLE_WIRE_INTERRUPT 3
#define THIMBLE_WIRE_RETURN 13
#define THIMBLE_WIRE_OVERHEAD_BYTES 6
#define THIMBLE_WIRE_MIN_PAYLOAD_BYTES 128
#define THIMBLE_WIRE_MAX_PAYLOAD_BYTES 4096
#define THIMBLE_WIRE_REPLY_BIT 128
#define THIMBLE_WIRE_CRC_RESIDUE 558161692
#define THIMBLE_MLPERF_TERMINATOR 37
#define THIMBLE_MLPERF_COMMAND_BYTES 80
#define THIMBLE_MLPERF_BAUD 115200
#define THIMBLE_MLPERF_ENERGY_BAUD 9600
#define THIMBLE_MLPERF_PULSE_US 2
#define THIMBLE_MLPERF_WARMUPS 10
#define THIMBLE_MLPERF_PRINT_BYTES 16
#define THIMBLE_MLPERF_LINE_BYTES 8
#define THIMBLE_MLPERF_FRACTION 1000000
#define THIMBLE_MLPERF_PROFILE "ULPMark for tinyML Firmware V0.0.1"

/* Byte offsets of the fixed little-endian structs. */
#define THIMBLE_HEADER_MAGIC_OFFSET 0 /* the bytes "THMB" */
#define THIMBLE_HEADER_VERSION_OFFSET 4 /* format version, 1 */
#define THIMBLE_HEADER_FLAGS_OFFSET 5 /* HeaderFlag bits; the others are reserved and must be 0 */
#define THIMBLE_HEADER_SECTION_COUNT_OFFSET 6 /* number of entries in the section table */
#define THIMBLE_HEADER_FILE_BYTES_OFFSET 8 /* length of the whole file, trailer included */
#define THIMBLE_HEADER_REQUIRED_FEATURES_OFFSET 12 /* Feature bits that a reader must have */
#define THIMBLE_HEADER_REQUIRED_OPERATORS_OFFSET 16 /* bit n is set when operator id n is used */
#define THIMBLE_HEADER_ARENA_BYTES_OFFSET 20 /* activation arena, input and output tensors included */
#define THIMBLE_HEADER_SCRATCH_BYTES_OFFSET 24 /* largest stream scratch of any operator */
#define THIMBLE_HEADER_MODEL_ID_OFFSET 28 /* chosen by the user; models of one id replace each other; 0 = unnamed */
#define THIMBLE_HEADER_MODEL_VERSION_OFFSET 32 /* monotonic; a device refuses to go back unless forced */
#define THIMBLE_HEADER_HEADER_CRC32_OFFSET 36 /* CRC-32 of the 36 header bytes before it and of the whole section table */
#define THIMBLE_HEADER_BYTES 40

#define THIMBLE_SECTION_ENTRY_KIND_OFFSET 0 /* SectionKind */
#define THIMBLE_SECTION_ENTRY_FLAGS_OFFSET 1 /* SectionFlag bits; the others are reserved and must be 0 */
#define THIMBLE_SECTION_ENTRY_RESERVED_OFFSET 2 /* must be 0 */
#define THIMBLE_SECTION_ENTRY_OFFSET_OFFSET 4 /* from the start of the file, a multiple of 4 */
#define THIMBLE_SECTION_ENTRY_LENGTH_OFFSET 8 /* bytes, padding not included */
#define THIMBLE_SECTION_ENTRY_CRC32_OFFSET 12 /* CRC-32 of the section's bytes */
#define THIMBLE_SECTION_ENTRY_BYTES 16

#define THIMBLE_GOLDEN_SEED_OFFSET 0 /* seed of the xorshift32 generator that fills all inputs in order; not 0 */
#define THIMBLE_GOLDEN_OUTPUT_CRC32_OFFSET 4 /* CRC-32 of all output tensors' bytes in order */
#define THIMBLE_GOLDEN_BYTES 8

#define THIMBLE_HELLO_REQUEST_PROTOCOL_VERSION_OFFSET 0 /* the client's, 1 */
#define THIMBLE_HELLO_REQUEST_MAX_PAYLOAD_OFFSET 2 /* largest payload that the client takes */
#define THIMBLE_HELLO_REQUEST_SESSION_OFFSET 4 /* chosen at random; a HELLO of a session that the device knows opens no new one */
#define THIMBLE_HELLO_REQUEST_BYTES 8

#define THIMBLE_HELLO_REPLY_PROTOCOL_VERSION_OFFSET 0 /* the device's, 1 */
#define THIMBLE_HELLO_REPLY_FORMAT_VERSION_OFFSET 1 /* largest format version that its loader reads */
#define THIMBLE_HELLO_REPLY_ARCHITECTURE_OFFSET 2 /* of native code in .mpy files, as MicroPython numbers it; 0 = none */
#define THIMBLE_HELLO_REPLY_MODEL_STATE_OFFSET 3 /* ModelState */
#define THIMBLE_HELLO_REPLY_MAX_PAYLOAD_OFFSET 4 /* largest payload that the device takes and sends in this session */
#define THIMBLE_HELLO_REPLY_SLOT_COUNT_OFFSET 6 /* slots for models: 1, or 2 with Capability SLOTS */
#define THIMBLE_HELLO_REPLY_ACTIVE_SLOT_OFFSET 7 /* slot of the running model */
#define THIMBLE_HELLO_REPLY_CAPABILITIES_OFFSET 8 /* Capability bits */
#define THIMBLE_HELLO_REPLY_FEATURES_OFFSET 12 /* Feature bits of its loader */
#define THIMBLE_HELLO_REPLY_OPERATORS_OFFSET 16 /* bit n is set when it has operator id n */
#define THIMBLE_HELLO_REPLY_HEAP_FREE_BYTES_OFFSET 20 /* free RAM at this moment */
#define THIMBLE_HELLO_REPLY_SLOT_BYTES_OFFSET 24 /* longest file that a slot can hold */
#define THIMBLE_HELLO_REPLY_MODEL_ID_OFFSET 28 /* of the running model; 0 without one */
#define THIMBLE_HELLO_REPLY_MODEL_VERSION_OFFSET 32 /* of the running model; 0 without one */
#define THIMBLE_HELLO_REPLY_MODEL_SHA256_OFFSET 36 /* the SHA-256 in the running model's trailer; zeros without one */
#define THIMBLE_HELLO_REPLY_BYTES 68

#define THIMBLE_BEGIN_REQUEST_FILE_BYTES_OFFSET 0 /* length of the file that follows in DATA */
#define THIMBLE_BEGIN_REQUEST_SHA256_OFFSET 4 /* SHA-256 of the file without its trailer, as its trailer holds it */
#define THIMBLE_BEGIN_REQUEST_FLAGS_OFFSET 36 /* BeginFlag bits */
#define THIMBLE_BEGIN_REQUEST_SLOT_OFFSET 37 /* must be 0: the device takes the slot that is not active */
#define THIMBLE_BEGIN_REQUEST_RESERVED_OFFSET 38 /* must be 0 */
#define THIMBLE_BEGIN_REQUEST_BYTES 40

#define THIMBLE_DATA_REQUEST_OFFSET_OFFSET 0 /* of the first byte that follows, in the file */
#define THIMBLE_DATA_REQUEST_BYTES 4

#define THIMBLE_OFFSET_REPLY_NEXT_OFFSET_OFFSET 0 /* the byte that the device waits for */
#define THIMBLE_OFFSET_REPLY_BYTES 4

#define THIMBLE_COMMIT_REQUEST_FLAGS_OFFSET 0 /* must be 0 */
#define THIMBLE_COMMIT_REQUEST_BYTES 1

#define THIMBLE_COMMIT_REPLY_LOAD_US_OFFSET 0 /* microseconds of checking, loading, golden test */
#define THIMBLE_COMMIT_REPLY_BYTES 4

#define THIMBLE_INFO_REPLY_HEAP_FREE_BYTES_OFFSET 0 /* free RAM */
#define THIMBLE_INFO_REPLY_HEAP_BYTES_OFFSET 4 /* all RAM of the heap */
#define THIMBLE_INFO_REPLY_STORAGE_FREE_BYTES_OFFSET 8 /* free space where models are kept */
#define THIMBLE_INFO_REPLY_ARENA_BYTES_OFFSET 12 /* of the running model */
#define THIMBLE_INFO_REPLY_SCRATCH_BYTES_OFFSET 16 /* stream scratch of the running model */
#define THIMBLE_INFO_REPLY_RECEIVED_BYTES_OFFSET 20 /* of the file that is being transferred */
#define THIMBLE_INFO_REPLY_BAD_FRAMES_OFFSET 24 /* frames that failed their check since the server started */
#define THIMBLE_INFO_REPLY_UPTIME_MS_OFFSET 28 /* since the server started; may wrap */
#define THIMBLE_INFO_REPLY_OPERATOR_COUNT_OFFSET 32 /* of the running model */
#define THIMBLE_INFO_REPLY_INPUT_COUNT_OFFSET 34 /* of the running model */
#define THIMBLE_INFO_REPLY_OUTPUT_COUNT_OFFSET 35 /* of the running model */
#define THIMBLE_INFO_REPLY_MODEL_ERROR_OFFSET 36 /* ErrorCode of a stored file that did not load, or 0 */
#define THIMBLE_INFO_REPLY_RESERVED_OFFSET 37 /* 0 */
#define THIMBLE_INFO_REPLY_RESERVED2_OFFSET 38 /* 0 */
#define THIMBLE_INFO_REPLY_BYTES 40

#define THIMBLE_SET_INPUT_REQUEST_OFFSET_OFFSET 0 /* of the first byte that follows, in the input tensor */
#define THIMBLE_SET_INPUT_REQUEST_INPUT_OFFSET 4 /* index of the model's input */
#define THIMBLE_SET_INPUT_REQUEST_RESERVED_OFFSET 5 /* must be 0 */
#define THIMBLE_SET_INPUT_REQUEST_RESERVED2_OFFSET 6 /* must be 0 */
#define THIMBLE_SET_INPUT_REQUEST_BYTES 8

#define THIMBLE_RUN_REQUEST_FLAGS_OFFSET 0 /* must be 0 */
#define THIMBLE_RUN_REQUEST_BYTES 1

#define THIMBLE_RUN_REPLY_RUN_US_OFFSET 0 /* microseconds of the inference, by the device's clock */
#define THIMBLE_RUN_REPLY_BYTES 4

#define THIMBLE_GET_OUTPUT_REQUEST_OFFSET_OFFSET 0 /* first byte wanted of the output tensor */
#define THIMBLE_GET_OUTPUT_REQUEST_LENGTH_OFFSET 4 /* bytes wanted at most */
#define THIMBLE_GET_OUTPUT_REQUEST_OUTPUT_OFFSET 6 /* index of the model's output */
#define THIMBLE_GET_OUTPUT_REQUEST_RESERVED_OFFSET 7 /* must be 0 */
#define THIMBLE_GET_OUTPUT_REQUEST_BYTES 8

#define THIMBLE_GET_OUTPUT_REPLY_OUTPUT_BYTES_OFFSET 0 /* length of the whole output tensor */
#define THIMBLE_GET_OUTPUT_REPLY_BYTES 4

#define THIMBLE_BENCH_REQUEST_RUNS_OFFSET 0 /* inferences, 1 or more; without WINDOW their times must fit one payload */
#define THIMBLE_BENCH_REQUEST_FLAGS_OFFSET 2 /* BenchFlag bits */
#define THIMBLE_BENCH_REQUEST_RESERVED_OFFSET 3 /* must be 0 */
#define THIMBLE_BENCH_REQUEST_BYTES 4

#define THIMBLE_BENCH_WINDOW_REPLY_WINDOW_US_OFFSET 0 /* microseconds of all runs together, by the device's clock */
#define THIMBLE_BENCH_WINDOW_REPLY_BYTES 4

#define THIMBLE_PROFILE_REQUEST_FIRST_OFFSET 0 /* first operator wanted; 0 makes a new timed run */
#define THIMBLE_PROFILE_REQUEST_RESERVED_OFFSET 2 /* must be 0 */
#define THIMBLE_PROFILE_REQUEST_BYTES 4

#define THIMBLE_PROFILE_REPLY_OPERATOR_COUNT_OFFSET 0 /* of the running model */
#define THIMBLE_PROFILE_REPLY_RESERVED_OFFSET 2 /* 0 */
#define THIMBLE_PROFILE_REPLY_BYTES 4

#define THIMBLE_RESET_REQUEST_KIND_OFFSET 0 /* ResetKind */
#define THIMBLE_RESET_REQUEST_BYTES 1

#define THIMBLE_ERROR_REPLY_CODE_OFFSET 0 /* ErrorCode */
#define THIMBLE_ERROR_REPLY_MESSAGE_OFFSET 1 /* id of the request that failed; 0 when the frame could not be read */
#define THIMBLE_ERROR_REPLY_BYTES 2

enum thimble_header_flag {
    THIMBLE_HEADER_FLAG_SIGNED = 1, /* the trailer is SHA-256 followed by an Ed25519 signature */
};

enum thimble_section_flag {
    THIMBLE_SECTION_FLAG_CRITICAL = 1, /* a reader that does not know the kind must refuse the file */
};

enum thimble_section_kind {
    THIMBLE_SECTION_PROGRAM = 1, /* varints: tensors, constants, operators, inputs, outputs */
    THIMBLE_SECTION_DATA = 2, /* payloads of the constants */
    THIMBLE_SECTION_METADATA = 3, /* ancillary, UTF-8 JSON: names, labels, preprocessing */
    THIMBLE_SECTION_GOLDEN = 4, /* ancillary: the golden struct */
};

enum thimble_feature {
    THIMBLE_FEATURE_FIXED = 1,
    THIMBLE_FEATURE_HUFFMAN = 2,
    THIMBLE_FEATURE_CLASS = 4,
    THIMBLE_FEATURE_RANGE = 8,
    THIMBLE_FEATURE_SPARSE = 16,
    THIMBLE_FEATURE_BITMAP = 32,
    THIMBLE_FEATURE_BITS = 64,
    THIMBLE_FEATURE_IN_PLACE = 128,
    THIMBLE_FEATURE_BANDS = 256,
    THIMBLE_FEATURE_FUSED_DEPTHWISE = 512,
    THIMBLE_FEATURE_FUSED_ADD = 1024,
    THIMBLE_FEATURE_INT16_ACTIVATIONS = 2048,
    THIMBLE_FEATURE_BIT_ACTIVATIONS = 4096,
    THIMBLE_FEATURE_PERSISTENT_TENSORS = 8192,
    THIMBLE_FEATURE_ROW_INDEX = 16384,
    THIMBLE_FEATURE_FLOAT_TENSORS = 32768,
    THIMBLE_FEATURE_COLUMN_SCAN = 65536,
};

enum thimble_limit {
    THIMBLE_MAX_FILE_BYTES = 1073741824,
    THIMBLE_MAX_SECTIONS = 16,
    THIMBLE_MAX_TENSORS = 1024,
    THIMBLE_MAX_CONSTANTS = 4096,
    THIMBLE_MAX_OPERATORS = 1024,
    THIMBLE_MAX_RANK = 6,
    THIMBLE_MAX_DIMENSION = 2147483647,
    THIMBLE_MAX_TENSOR_BYTES = 1073741824,
    THIMBLE_MAX_OPERATOR_INPUTS = 16,
    THIMBLE_MAX_OPERATOR_OUTPUTS = 16,
    THIMBLE_MAX_OPERATOR_CONSTANTS = 4,
    THIMBLE_MAX_OPERATOR_ATTRIBUTES = 24,
    THIMBLE_MAX_MODEL_INPUTS = 16,
    THIMBLE_MAX_MODEL_OUTPUTS = 16,
    THIMBLE_MAX_ROW_LENGTH = 16777216,
    THIMBLE_MAX_SPARSE_ROW_LENGTH = 65536, /* of a SPARSE stream: positions in a decoded row have 16 bits */
    THIMBLE_MAX_WEIGHTS = 134217728, /* of one tensor; the largest layer of VGG-16 has 103 million */
};

enum thimble_dtype {
    THIMBLE_DTYPE_INT8 = 0,
    THIMBLE_DTYPE_INT16 = 1,
    THIMBLE_DTYPE_INT32 = 2,
    THIMBLE_DTYPE_BIT = 3, /* channels packed into 32-bit words, bit 1 is +1 and bit 0 is -1 */
    THIMBLE_DTYPE_FLOAT32 = 4, /* reference executor only */
};

enum thimble_tensor_flag {
    THIMBLE_TENSOR_FLAG_PERSISTENT = 1, /* keeps its content between runs, cleared by reset */
};

enum thimble_port_flag {
    THIMBLE_PORT_FLAG_FLOAT = 1, /* the original model took or gave floats here: hosts convert by scale and zero point */
};

enum thimble_constant_kind {
    THIMBLE_CONSTANT_WEIGHTS = 0, /* a stream of rows */
    THIMBLE_CONSTANT_INTEGERS = 1, /* count signed integers of `bits` bits each, packed LSB first */
    THIMBLE_CONSTANT_REQUANT = 2, /* multipliers and shifts, one or one per output channel */
    THIMBLE_CONSTANT_FLOATS = 3, /* rows times cols floats; only with FLOAT_TENSORS */
    THIMBLE_CONSTANT_FUNCTION = 4, /* a function of one float, its parameters as float32; only with FLOAT_TENSORS */
};

enum thimble_float_format {
    THIMBLE_FLOAT_FORMAT_FP32 = 0, /* IEEE 754 binary32 */
    THIMBLE_FLOAT_FORMAT_FP16 = 1, /* IEEE 754 binary16 */
    THIMBLE_FLOAT_FORMAT_BFLOAT16 = 2, /* the upper half of a binary32 */
};

enum thimble_float_function {
    THIMBLE_FLOAT_FUNCTION_RELU = 0, /* max(x, 0) */
    THIMBLE_FLOAT_FUNCTION_RELU6 = 1, /* min(max(x, 0), 6) */
    THIMBLE_FLOAT_FUNCTION_RELU_N1_TO_1 = 2, /* min(max(x, -1), 1) */
    THIMBLE_FLOAT_FUNCTION_CLIP = 3, /* parameters low, high */
    THIMBLE_FLOAT_FUNCTION_LEAKY_RELU = 4, /* parameter alpha */
    THIMBLE_FLOAT_FUNCTION_HARD_SIGMOID = 5, /* min(max(alpha x + beta, 0), 1), parameters alpha, beta */
    THIMBLE_FLOAT_FUNCTION_HARD_SWISH = 6, /* x min(max(x + 3, 0), 6) / 6 */
    THIMBLE_FLOAT_FUNCTION_LOGISTIC = 7, /* 1 / (1 + exp(-x)) */
    THIMBLE_FLOAT_FUNCTION_TANH = 8,
    THIMBLE_FLOAT_FUNCTION_SIGN = 9, /* 1 where x >= 0, else -1 */
};

enum thimble_requant_form {
    THIMBLE_REQUANT_FORM_PACKED = 0, /* 32-bit words: bits 0-29 multiplier - 2^30, bits 30-31 shift - shift_base */
    THIMBLE_REQUANT_FORM_WIDE = 1, /* count int32 multipliers, then count int8 shifts */
    THIMBLE_REQUANT_FORM_POWER_OF_TWO = 2, /* count int8 right shifts, rounding half up: dynamic fixed point */
    THIMBLE_REQUANT_FORM_SIGN = 3, /* no payload: the output bit is 1 where the accumulator is not negative */
};

enum thimble_layout {
    THIMBLE_LAYOUT_DENSE = 0, /* a value for every position */
    THIMBLE_LAYOUT_SPARSE = 1, /* (gap, value) entries, running on across rows */
    THIMBLE_LAYOUT_BITMAP = 2, /* for every position a flag bit, then the value where the flag is 1 */
    THIMBLE_LAYOUT_BITS = 3, /* word-aligned bit planes: one for BINARY, non-zero and sign planes for TERNARY */
};

enum thimble_coder {
    THIMBLE_CODER_FIXED = 0, /* value_bits per value, gap_bits per gap with filler zeros */
    THIMBLE_CODER_HUFFMAN = 1, /* canonical Huffman of values and of gap_bits-wide gaps with filler zeros */
    THIMBLE_CODER_CLASS = 2, /* class and mantissa: 6-bit limited Huffman tokens, raw mantissas */
    THIMBLE_CODER_RANGE = 3, /* adaptive binary range coder */
};

enum thimble_value_map {
    THIMBLE_MAP_IDENTITY = 0, /* the weight itself: two's complement (FIXED), zigzag (HUFFMAN, CLASS), sign first (RANGE) */
    THIMBLE_MAP_CODEBOOK = 1, /* value_count int8 entries */
    THIMBLE_MAP_TERNARY = 2, /* index 0, 1, 2 = 0, +positive, -negative; two int8 magnitudes */
    THIMBLE_MAP_LOG2 = 3, /* index 0 = 0, 2k + 1 = +2^k, 2k + 2 = -2^k */
    THIMBLE_MAP_BINARY = 4, /* bit 1 = +1, bit 0 = -1 */
};

enum thimble_schedule_kind {
    THIMBLE_SCHEDULE_WHOLE = 0, /* input and output do not overlap */
    THIMBLE_SCHEDULE_IN_PLACE = 1, /* the output starts at the input's offset; parameter: rows per band (0 = channel planes) */
    THIMBLE_SCHEDULE_BANDS = 2, /* bands of `parameter` output rows, weights rewound for each band */
    THIMBLE_SCHEDULE_FUSED_DEPTHWISE = 3, /* each output channel plane goes straight into the next operator, a depthwise one */
    THIMBLE_SCHEDULE_FUSED_ADD = 4, /* each output channel plane goes straight into the next operator, an add */
};

enum thimble_operator_kind {
    THIMBLE_OPERATOR_CONV_2D = 1,
    THIMBLE_OPERATOR_DEPTHWISE_CONV_2D = 2,
    THIMBLE_OPERATOR_FULLY_CONNECTED = 3,
    THIMBLE_OPERATOR_ADD = 4,
    THIMBLE_OPERATOR_SUB = 5,
    THIMBLE_OPERATOR_MUL = 6,
    THIMBLE_OPERATOR_AVERAGE_POOL_2D = 7,
    THIMBLE_OPERATOR_MAX_POOL_2D = 8,
    THIMBLE_OPERATOR_MEAN = 9,
    THIMBLE_OPERATOR_SOFTMAX = 10,
    THIMBLE_OPERATOR_LOOKUP = 11,
    THIMBLE_OPERATOR_CONCATENATION = 12,
    THIMBLE_OPERATOR_PAD = 13,
    THIMBLE_OPERATOR_RESHAPE = 14,
    THIMBLE_OPERATOR_TRANSPOSE = 15,
    THIMBLE_OPERATOR_SLICE = 16,
    THIMBLE_OPERATOR_RESIZE_NEAREST = 17,
    THIMBLE_OPERATOR_MAXIMUM = 18,
    THIMBLE_OPERATOR_MINIMUM = 19,
};

enum thimble_error_code {
    THIMBLE_ERROR_TRUNCATED = -1, /* the file ends before its own length, or a structure runs past its section */
    THIMBLE_ERROR_BAD_MAGIC = -2,
    THIMBLE_ERROR_UNSUPPORTED_VERSION = -3,
    THIMBLE_ERROR_RESERVED_BITS = -4, /* a reserved bit or field is not zero */
    THIMBLE_ERROR_BAD_HEADER_CRC = -5,
    THIMBLE_ERROR_BAD_SECTION = -6, /* section table: overlap, order, alignment, missing or repeated section, padding */
    THIMBLE_ERROR_UNSUPPORTED_SECTION = -7, /* unknown critical section */
    THIMBLE_ERROR_BAD_SECTION_CRC = -8,
    THIMBLE_ERROR_BAD_HASH = -9, /* SHA-256 of the file */
    THIMBLE_ERROR_UNSUPPORTED_FEATURE = -10,
    THIMBLE_ERROR_UNSUPPORTED_OPERATOR = -11,
    THIMBLE_ERROR_BAD_VARINT = -12, /* longer than 5 bytes, over 32 bits, or not minimal */
    THIMBLE_ERROR_LIMIT_EXCEEDED = -13,
    THIMBLE_ERROR_BAD_TENSOR = -14,
    THIMBLE_ERROR_BAD_CONSTANT = -15,
    THIMBLE_ERROR_BAD_OPERATOR = -16, /* attributes, shapes or constants that contradict each other */
    THIMBLE_ERROR_BAD_PORT = -17, /* model inputs and outputs */
    THIMBLE_ERROR_BAD_STREAM = -18, /* code lengths or payload of a weight stream */
    THIMBLE_ERROR_ARENA_TOO_SMALL = -19,
    THIMBLE_ERROR_SCRATCH_TOO_SMALL = -20,
    THIMBLE_ERROR_MISALIGNED = -21,
    THIMBLE_ERROR_BAD_INPUT = -22, /* an input array of the wrong length */
    THIMBLE_ERROR_OUT_OF_MEMORY = -23,
    THIMBLE_ERROR_BAD_SIGNATURE = -24,
    THIMBLE_ERROR_UNSIGNED = -25, /* a key is provisioned and the model carries no signature */
    THIMBLE_ERROR_GOLDEN_MISMATCH = -26,
    THIMBLE_ERROR_BAD_FRAME = -40,
    THIMBLE_ERROR_UNKNOWN_MESSAGE = -41,
    THIMBLE_ERROR_BAD_STATE = -42, /* message not allowed now */
    THIMBLE_ERROR_BAD_OFFSET = -43,
    THIMBLE_ERROR_NO_MODEL = -44,
    THIMBLE_ERROR_NO_SPACE = -45,
    THIMBLE_ERROR_WRITE_FAILED = -46,
    THIMBLE_ERROR_DOWNGRADE = -47,
    THIMBLE_ERROR_BUSY = -48,
    THIMBLE_ERROR_BAD_ARGUMENT = -49,
    THIMBLE_ERROR_INTERNAL = -50, /* the device server itself failed; the detail is its exception */
};

enum thimble_message {
    THIMBLE_MESSAGE_HELLO = 1, /* open a session; what the device is, has and runs */
    THIMBLE_MESSAGE_BEGIN = 2, /* start to transfer a model file */
    THIMBLE_MESSAGE_DATA = 3, /* a piece of it */
    THIMBLE_MESSAGE_COMMIT = 4, /* verify the file, load it, try it, and run it instead of the model before */
    THIMBLE_MESSAGE_CONFIRM = 5, /* keep the model that runs on trial */
    THIMBLE_MESSAGE_ABORT = 6, /* forget the transfer */
    THIMBLE_MESSAGE_INFO = 7, /* counters, memory, and the model's inputs and outputs */
    THIMBLE_MESSAGE_SET_INPUT = 8, /* a piece of an input tensor */
    THIMBLE_MESSAGE_RUN = 9, /* one inference */
    THIMBLE_MESSAGE_GET_OUTPUT = 10, /* a piece of an output tensor */
    THIMBLE_MESSAGE_BENCH = 11, /* time several inferences */
    THIMBLE_MESSAGE_PROFILE = 12, /* time each operator of one inference */
    THIMBLE_MESSAGE_RESET = 13, /* clear the model's state, or start the server again */
    THIMBLE_MESSAGE_ERROR = 127, /* only as a reply: the request failed */
};

enum thimble_capability {
    THIMBLE_CAPABILITY_PROFILE = 1, /* PROFILE gives the time of each operator */
    THIMBLE_CAPABILITY_SLOTS = 2, /* a new model is written beside the stored one, which stays whole */
    THIMBLE_CAPABILITY_SIGNATURES = 4, /* has a key, and refuses what it did not sign */
    THIMBLE_CAPABILITY_TRIAL = 8, /* tries the golden test; a new model runs on trial until CONFIRM */
    THIMBLE_CAPABILITY_TRIGGER = 16, /* marks inferences on a pin, for a power meter */
    THIMBLE_CAPABILITY_INSTRUCTIONS = 32, /* its clock counts instructions: replies give them in place of microseconds */
};

enum thimble_begin_flag {
    THIMBLE_BEGIN_FLAG_FORCE = 1, /* also when its version is below that of the running model of the same id */
};

enum thimble_bench_flag {
    THIMBLE_BENCH_FLAG_WINDOW = 1, /* with TRIGGER: the pin is on for all runs without a break, and their time is told as one */
};

enum thimble_model_state {
    THIMBLE_MODEL_STATE_NONE = 0, /* no model is stored */
    THIMBLE_MODEL_STATE_READY = 1, /* a model is loaded */
    THIMBLE_MODEL_STATE_BAD = 2, /* the stored file failed its checks; INFO says which */
    THIMBLE_MODEL_STATE_TRIAL = 3, /* a model is loaded; without CONFIRM, the one before it is back at the next start */
};

enum thimble_reset_kind {
    THIMBLE_RESET_KIND_STATE = 0, /* persistent tensors go back to their initial values */
    THIMBLE_RESET_KIND_SERVER = 1, /* forget the transfer, inputs and outputs, and load the stored model again */
};

/* Positions of the fields of a constant in the PROGRAM section. */
enum thimble_weights_field {
    THIMBLE_FIELD_WEIGHTS_DATA_OFFSET = 0,
    THIMBLE_FIELD_WEIGHTS_DATA_BYTES = 1,
    THIMBLE_FIELD_WEIGHTS_ROWS = 2,
    THIMBLE_FIELD_WEIGHTS_COLS = 3,
    THIMBLE_FIELD_WEIGHTS_LAYOUT = 4,
    THIMBLE_FIELD_WEIGHTS_CODER = 5,
    THIMBLE_FIELD_WEIGHTS_VALUE_MAP = 6,
    THIMBLE_FIELD_WEIGHTS_VALUE_BITS = 7,
    THIMBLE_FIELD_WEIGHTS_GAP_BITS = 8,
    THIMBLE_FIELD_WEIGHTS_VALUE_COUNT = 9,
    THIMBLE_FIELD_WEIGHTS_ENTRY_COUNT = 10,
    THIMBLE_FIELD_WEIGHTS_MAX_ROW_ENTRIES = 11,
    THIMBLE_WEIGHTS_FIELD_COUNT = 12,
};

enum thimble_integers_field {
    THIMBLE_FIELD_INTEGERS_DATA_OFFSET = 0,
    THIMBLE_FIELD_INTEGERS_DATA_BYTES = 1,
    THIMBLE_FIELD_INTEGERS_COUNT = 2,
    THIMBLE_FIELD_INTEGERS_BITS = 3,
    THIMBLE_INTEGERS_FIELD_COUNT = 4,
};

enum thimble_requant_field {
    THIMBLE_FIELD_REQUANT_DATA_OFFSET = 0,
    THIMBLE_FIELD_REQUANT_DATA_BYTES = 1,
    THIMBLE_FIELD_REQUANT_COUNT = 2,
    THIMBLE_FIELD_REQUANT_FORM = 3,
    THIMBLE_FIELD_REQUANT_SHIFT_BASE = 4,
    THIMBLE_REQUANT_FIELD_COUNT = 5,
};

enum thimble_floats_field {
    THIMBLE_FIELD_FLOATS_DATA_OFFSET = 0,
    THIMBLE_FIELD_FLOATS_DATA_BYTES = 1,
    THIMBLE_FIELD_FLOATS_ROWS = 2,
    THIMBLE_FIELD_FLOATS_COLS = 3,
    THIMBLE_FIELD_FLOATS_FORMAT = 4,
    THIMBLE_FLOATS_FIELD_COUNT = 5,
};

enum thimble_function_field {
    THIMBLE_FIELD_FUNCTION_DATA_OFFSET = 0,
    THIMBLE_FIELD_FUNCTION_DATA_BYTES = 1,
    THIMBLE_FIELD_FUNCTION_FUNCTION = 2,
    THIMBLE_FUNCTION_FIELD_COUNT = 3,
};

/* Positions of operator attributes. */
enum thimble_conv_2d_attribute {
    THIMBLE_CONV_2D_INPUT_ZERO_POINT = 0,
    THIMBLE_CONV_2D_OUTPUT_ZERO_POINT = 1,
    THIMBLE_CONV_2D_CLAMP_MIN = 2,
    THIMBLE_CONV_2D_CLAMP_MAX = 3,
    THIMBLE_CONV_2D_KERNEL_H = 4,
    THIMBLE_CONV_2D_KERNEL_W = 5,
    THIMBLE_CONV_2D_STRIDE_H = 6,
    THIMBLE_CONV_2D_STRIDE_W = 7,
    THIMBLE_CONV_2D_PAD_TOP = 8,
    THIMBLE_CONV_2D_PAD_LEFT = 9,
    THIMBLE_CONV_2D_PAD_BOTTOM = 10,
    THIMBLE_CONV_2D_PAD_RIGHT = 11,
    THIMBLE_CONV_2D_GROUPS = 12,
    THIMBLE_CONV_2D_DILATION_H = 13,
    THIMBLE_CONV_2D_DILATION_W = 14,
    THIMBLE_CONV_2D_ATTRIBUTE_COUNT = 15,
};

enum thimble_depthwise_conv_2d_attribute {
    THIMBLE_DEPTHWISE_CONV_2D_INPUT_ZERO_POINT = 0,
    THIMBLE_DEPTHWISE_CONV_2D_OUTPUT_ZERO_POINT = 1,
    THIMBLE_DEPTHWISE_CONV_2D_CLAMP_MIN = 2,
    THIMBLE_DEPTHWISE_CONV_2D_CLAMP_MAX = 3,
    THIMBLE_DEPTHWISE_CONV_2D_KERNEL_H = 4,
    THIMBLE_DEPTHWISE_CONV_2D_KERNEL_W = 5,
    THIMBLE_DEPTHWISE_CONV_2D_STRIDE_H = 6,
    THIMBLE_DEPTHWISE_CONV_2D_STRIDE_W = 7,
    THIMBLE_DEPTHWISE_CONV_2D_PAD_TOP = 8,
    THIMBLE_DEPTHWISE_CONV_2D_PAD_LEFT = 9,
    THIMBLE_DEPTHWISE_CONV_2D_PAD_BOTTOM = 10,
    THIMBLE_DEPTHWISE_CONV_2D_PAD_RIGHT = 11,
    THIMBLE_DEPTHWISE_CONV_2D_GROUPS = 12,
    THIMBLE_DEPTHWISE_CONV_2D_DILATION_H = 13,
    THIMBLE_DEPTHWISE_CONV_2D_DILATION_W = 14,
    THIMBLE_DEPTHWISE_CONV_2D_ATTRIBUTE_COUNT = 15,
};

enum thimble_fully_connected_attribute {
    THIMBLE_FULLY_CONNECTED_INPUT_ZERO_POINT = 0,
    THIMBLE_FULLY_CONNECTED_OUTPUT_ZERO_POINT = 1,
    THIMBLE_FULLY_CONNECTED_CLAMP_MIN = 2,
    THIMBLE_FULLY_CONNECTED_CLAMP_MAX = 3,
    THIMBLE_FULLY_CONNECTED_ATTRIBUTE_COUNT = 4,
};

enum thimble_add_attribute {
    THIMBLE_ADD_INPUT1_ZERO_POINT = 0,
    THIMBLE_ADD_INPUT2_ZERO_POINT = 1,
    THIMBLE_ADD_OUTPUT_ZERO_POINT = 2,
    THIMBLE_ADD_INPUT1_MULTIPLIER = 3,
    THIMBLE_ADD_INPUT1_SHIFT = 4,
    THIMBLE_ADD_INPUT2_MULTIPLIER = 5,
    THIMBLE_ADD_INPUT2_SHIFT = 6,
    THIMBLE_ADD_OUTPUT_MULTIPLIER = 7,
    THIMBLE_ADD_OUTPUT_SHIFT = 8,
    THIMBLE_ADD_LEFT_SHIFT = 9,
    THIMBLE_ADD_CLAMP_MIN = 10,
    THIMBLE_ADD_CLAMP_MAX = 11,
    THIMBLE_ADD_ATTRIBUTE_COUNT = 12,
};

enum thimble_sub_attribute {
    THIMBLE_SUB_INPUT1_ZERO_POINT = 0,
    THIMBLE_SUB_INPUT2_ZERO_POINT = 1,
    THIMBLE_SUB_OUTPUT_ZERO_POINT = 2,
    THIMBLE_SUB_INPUT1_MULTIPLIER = 3,
    THIMBLE_SUB_INPUT1_SHIFT = 4,
    THIMBLE_SUB_INPUT2_MULTIPLIER = 5,
    THIMBLE_SUB_INPUT2_SHIFT = 6,
    THIMBLE_SUB_OUTPUT_MULTIPLIER = 7,
    THIMBLE_SUB_OUTPUT_SHIFT = 8,
    THIMBLE_SUB_LEFT_SHIFT = 9,
    THIMBLE_SUB_CLAMP_MIN = 10,
    THIMBLE_SUB_CLAMP_MAX = 11,
    THIMBLE_SUB_ATTRIBUTE_COUNT = 12,
};

enum thimble_mul_attribute {
    THIMBLE_MUL_INPUT1_ZERO_POINT = 0,
    THIMBLE_MUL_INPUT2_ZERO_POINT = 1,
    THIMBLE_MUL_OUTPUT_ZERO_POINT = 2,
    THIMBLE_MUL_MULTIPLIER = 3,
    THIMBLE_MUL_SHIFT = 4,
    THIMBLE_MUL_CLAMP_MIN = 5,
    THIMBLE_MUL_CLAMP_MAX = 6,
    THIMBLE_MUL_ATTRIBUTE_COUNT = 7,
};

enum thimble_average_pool_2d_attribute {
    THIMBLE_AVERAGE_POOL_2D_KERNEL_H = 0,
    THIMBLE_AVERAGE_POOL_2D_KERNEL_W = 1,
    THIMBLE_AVERAGE_POOL_2D_STRIDE_H = 2,
    THIMBLE_AVERAGE_POOL_2D_STRIDE_W = 3,
    THIMBLE_AVERAGE_POOL_2D_PAD_TOP = 4,
    THIMBLE_AVERAGE_POOL_2D_PAD_LEFT = 5,
    THIMBLE_AVERAGE_POOL_2D_PAD_BOTTOM = 6,
    THIMBLE_AVERAGE_POOL_2D_PAD_RIGHT = 7,
    THIMBLE_AVERAGE_POOL_2D_CLAMP_MIN = 8,
    THIMBLE_AVERAGE_POOL_2D_CLAMP_MAX = 9,
    THIMBLE_AVERAGE_POOL_2D_ATTRIBUTE_COUNT = 10,
};

enum thimble_max_pool_2d_attribute {
    THIMBLE_MAX_POOL_2D_KERNEL_H = 0,
    THIMBLE_MAX_POOL_2D_KERNEL_W = 1,
    THIMBLE_MAX_POOL_2D_STRIDE_H = 2,
    THIMBLE_MAX_POOL_2D_STRIDE_W = 3,
    THIMBLE_MAX_POOL_2D_PAD_TOP = 4,
    THIMBLE_MAX_POOL_2D_PAD_LEFT = 5,
    THIMBLE_MAX_POOL_2D_PAD_BOTTOM = 6,
    THIMBLE_MAX_POOL_2D_PAD_RIGHT = 7,
    THIMBLE_MAX_POOL_2D_CLAMP_MIN = 8,
    THIMBLE_MAX_POOL_2D_CLAMP_MAX = 9,
    THIMBLE_MAX_POOL_2D_ATTRIBUTE_COUNT = 10,
};

enum thimble_mean_attribute {
    THIMBLE_MEAN_AXES = 0,
    THIMBLE_MEAN_INPUT_ZERO_POINT = 1,
    THIMBLE_MEAN_OUTPUT_ZERO_POINT = 2,
    THIMBLE_MEAN_MULTIPLIER = 3,
    THIMBLE_MEAN_SHIFT = 4,
    THIMBLE_MEAN_ATTRIBUTE_COUNT = 5,
};

enum thimble_softmax_attribute {
    THIMBLE_SOFTMAX_MULTIPLIER = 0,
    THIMBLE_SOFTMAX_SHIFT = 1,
    THIMBLE_SOFTMAX_DIFF_MIN = 2,
    THIMBLE_SOFTMAX_ATTRIBUTE_COUNT = 3,
};

enum thimble_concatenation_attribute {
    THIMBLE_CONCATENATION_AXIS = 0,
    THIMBLE_CONCATENATION_ATTRIBUTE_COUNT = 1,
};

enum thimble_pad_attribute {
    THIMBLE_PAD_VALUE = 0,
    THIMBLE_PAD_BEFORE_0 = 1,
    THIMBLE_PAD_BEFORE_1 = 2,
    THIMBLE_PAD_BEFORE_2 = 3,
    THIMBLE_PAD_BEFORE_3 = 4,
    THIMBLE_PAD_AFTER_0 = 5,
    THIMBLE_PAD_AFTER_1 = 6,
    THIMBLE_PAD_AFTER_2 = 7,
    THIMBLE_PAD_AFTER_3 = 8,
    THIMBLE_PAD_ATTRIBUTE_COUNT = 9,
};

enum thimble_transpose_attribute {
    THIMBLE_TRANSPOSE_AXIS_0 = 0,
    THIMBLE_TRANSPOSE_AXIS_1 = 1,
    THIMBLE_TRANSPOSE_AXIS_2 = 2,
    THIMBLE_TRANSPOSE_AXIS_3 = 3,
    THIMBLE_TRANSPOSE_ATTRIBUTE_COUNT = 4,
};

enum thimble_slice_attribute {
    THIMBLE_SLICE_BEGIN_0 = 0,
    THIMBLE_SLICE_BEGIN_1 = 1,
    THIMBLE_SLICE_BEGIN_2 = 2,
    THIMBLE_SLICE_BEGIN_3 = 3,
    THIMBLE_SLICE_STRIDE_0 = 4,
    THIMBLE_SLICE_STRIDE_1 = 5,
    THIMBLE_SLICE_STRIDE_2 = 6,
    THIMBLE_SLICE_STRIDE_3 = 7,
    THIMBLE_SLICE_ATTRIBUTE_COUNT = 8,
};

enum thimble_resize_nearest_attribute {
    THIMBLE_RESIZE_NEAREST_ALIGN_CORNERS = 0,
    THIMBLE_RESIZE_NEAREST_HALF_PIXEL_CENTERS = 1,
    THIMBLE_RESIZE_NEAREST_ATTRIBUTE_COUNT = 2,
};

/* Attribute defaults in this order, each within a signed byte. */
#define THIMBLE_CONV_2D_DEFAULTS {0, 0, -128, 127, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1}
#define THIMBLE_DEPTHWISE_CONV_2D_DEFAULTS {0, 0, -128, 127, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1}
#define THIMBLE_FULLY_CONNECTED_DEFAULTS {0, 0, -128, 127}
#define THIMBLE_ADD_DEFAULTS {0, 0, 0, 0, 0, 0, 0, 0, 0, 20, -128, 127}
#define THIMBLE_SUB_DEFAULTS {0, 0, 0, 0, 0, 0, 0, 0, 0, 20, -128, 127}
#define THIMBLE_MUL_DEFAULTS {0, 0, 0, 0, 0, -128, 127}
#define THIMBLE_AVERAGE_POOL_2D_DEFAULTS {1, 1, 1, 1, 0, 0, 0, 0, -128, 127}
#define THIMBLE_MAX_POOL_2D_DEFAULTS {1, 1, 1, 1, 0, 0, 0, 0, -128, 127}
#define THIMBLE_MEAN_DEFAULTS {6, 0, 0, 0, 0}
#define THIMBLE_SOFTMAX_DEFAULTS {0, 0, 0}
#define THIMBLE_CONCATENATION_DEFAULTS {3}
#define THIMBLE_PAD_DEFAULTS {0, 0, 0, 0, 0, 0, 0, 0, 0}
#define THIMBLE_TRANSPOSE_DEFAULTS {0, 1, 2, 3}
#define THIMBLE_SLICE_DEFAULTS {0, 0, 0, 0, 1, 1, 1, 1}
#define THIMBLE_RESIZE_NEAREST_DEFAULTS {0, 0}

#endif
