"""Checks a model and finds its parts: a file or a buffer goes in, a `Program` comes out, or a ThimbleError.

The checks are those of docs/FORMAT.md, section 7, in its order; the first that fails gives the error.
Nothing runs and nothing is kept before all have passed; after them kernels trust. What is kept is small:
numbers in arrays, and where in the PROGRAM section each constant and operator stands, so that they are read
again when they are needed.
"""

import hashlib
import struct
from array import array
from binascii import crc32

from micropython import const

from thimble.errors import ThimbleError
from thimble.streams import check_stream, stream_bytes

# generated:begin Value:MAGIC,FORMAT_VERSION,SHA256_BYTES,SIGNATURE_BYTES Struct:HEADER.FORMAT,HEADER.BYTES
# generated:also Struct:SECTION_ENTRY.FORMAT,SECTION_ENTRY.BYTES Struct:GOLDEN.BYTES
# generated:also Struct:HEADER.HEADER_CRC32 HeaderFlag:SIGNED SectionFlag:CRITICAL
# generated:also SectionKind:PROGRAM,DATA,GOLDEN
# generated:also ErrorCode:TRUNCATED,BAD_MAGIC,UNSUPPORTED_VERSION,RESERVED_BITS,BAD_HEADER_CRC
# generated:also ErrorCode:BAD_SECTION
# generated:also ErrorCode:UNSUPPORTED_SECTION,BAD_SECTION_CRC,BAD_HASH,UNSUPPORTED_FEATURE
# generated:also ErrorCode:UNSUPPORTED_OPERATOR,BAD_VARINT,LIMIT_EXCEEDED,BAD_TENSOR
# generated:also ErrorCode:BAD_CONSTANT,BAD_OPERATOR,BAD_PORT ErrorCode:ARENA_TOO_SMALL,SCRATCH_TOO_SMALL
# generated:also Limit:FILE_BYTES,SECTIONS,TENSORS,CONSTANTS,OPERATORS,RANK,TENSOR_BYTES
# generated:also Limit:OPERATOR_INPUTS
# generated:also Limit:OPERATOR_OUTPUTS,OPERATOR_CONSTANTS,OPERATOR_ATTRIBUTES,MODEL_INPUTS
# generated:also Limit:MODEL_OUTPUTS Limit:ROW_LENGTH DType:INT32,FLOAT32 TensorFlag:PERSISTENT
# generated:also PortFlag:FLOAT Feature:PERSISTENT_TENSORS Feature:IN_PLACE,SPARSE Feature:FUSED_ADD
# generated:also Layout:BITS RequantForm ScheduleKind OperatorKind
# generated:also ConstantKind:WEIGHTS,INTEGERS,REQUANT Table:DEFAULT_RECORDS
# generated:also Attr:CONV_2D Attr:MEAN Attr:SOFTMAX
_MAGIC = const(b"THMB")
_FORMAT_VERSION = const(1)
_SHA256_BYTES = const(32)
_SIGNATURE_BYTES = const(64)
_HEADER_FORMAT = const("<4sBBHIIIIIIII")
_HEADER_BYTES = const(40)
_SECTION_ENTRY_FORMAT = const("<BBHIII")
_SECTION_ENTRY_BYTES = const(16)
_GOLDEN_BYTES = const(8)
_HEADER_HEADER_CRC32_OFFSET = const(36)
_HEADER_FLAG_SIGNED = const(1)
_SECTION_FLAG_CRITICAL = const(1)
_SECTION_PROGRAM = const(1)
_SECTION_DATA = const(2)
_SECTION_GOLDEN = const(4)
_ERROR_TRUNCATED = const(-1)
_ERROR_BAD_MAGIC = const(-2)
_ERROR_UNSUPPORTED_VERSION = const(-3)
_ERROR_RESERVED_BITS = const(-4)
_ERROR_BAD_HEADER_CRC = const(-5)
_ERROR_BAD_SECTION = const(-6)
_ERROR_UNSUPPORTED_SECTION = const(-7)
_ERROR_BAD_SECTION_CRC = const(-8)
_ERROR_BAD_HASH = const(-9)
_ERROR_UNSUPPORTED_FEATURE = const(-10)
_ERROR_UNSUPPORTED_OPERATOR = const(-11)
_ERROR_BAD_VARINT = const(-12)
_ERROR_LIMIT_EXCEEDED = const(-13)
_ERROR_BAD_TENSOR = const(-14)
_ERROR_BAD_CONSTANT = const(-15)
_ERROR_BAD_OPERATOR = const(-16)
_ERROR_BAD_PORT = const(-17)
_ERROR_ARENA_TOO_SMALL = const(-19)
_ERROR_SCRATCH_TOO_SMALL = const(-20)
_MAX_FILE_BYTES = const(1073741824)
_MAX_SECTIONS = const(16)
_MAX_TENSORS = const(1024)
_MAX_CONSTANTS = const(4096)
_MAX_OPERATORS = const(1024)
_MAX_RANK = const(6)
_MAX_TENSOR_BYTES = const(1073741824)
_MAX_OPERATOR_INPUTS = const(16)
_MAX_OPERATOR_OUTPUTS = const(16)
_MAX_OPERATOR_CONSTANTS = const(4)
_MAX_OPERATOR_ATTRIBUTES = const(24)
_MAX_MODEL_INPUTS = const(16)
_MAX_MODEL_OUTPUTS = const(16)
_MAX_ROW_LENGTH = const(16777216)
_DTYPE_INT32 = const(2)
_DTYPE_FLOAT32 = const(4)
_TENSOR_FLAG_PERSISTENT = const(1)
_PORT_FLAG_FLOAT = const(1)
_FEATURE_PERSISTENT_TENSORS = const(8192)
_FEATURE_IN_PLACE = const(128)
_FEATURE_SPARSE = const(16)
_FEATURE_FUSED_ADD = const(1024)
_LAYOUT_BITS = const(3)
_REQUANT_FORM_PACKED = const(0)
_REQUANT_FORM_WIDE = const(1)
_REQUANT_FORM_POWER_OF_TWO = const(2)
_REQUANT_FORM_SIGN = const(3)
_SCHEDULE_WHOLE = const(0)
_SCHEDULE_IN_PLACE = const(1)
_SCHEDULE_BANDS = const(2)
_SCHEDULE_FUSED_DEPTHWISE = const(3)
_SCHEDULE_FUSED_ADD = const(4)
_OPERATOR_CONV_2D = const(1)
_OPERATOR_DEPTHWISE_CONV_2D = const(2)
_OPERATOR_FULLY_CONNECTED = const(3)
_OPERATOR_ADD = const(4)
_OPERATOR_SUB = const(5)
_OPERATOR_MUL = const(6)
_OPERATOR_AVERAGE_POOL_2D = const(7)
_OPERATOR_MAX_POOL_2D = const(8)
_OPERATOR_MEAN = const(9)
_OPERATOR_SOFTMAX = const(10)
_OPERATOR_LOOKUP = const(11)
_OPERATOR_CONCATENATION = const(12)
_OPERATOR_PAD = const(13)
_OPERATOR_RESHAPE = const(14)
_OPERATOR_TRANSPOSE = const(15)
_OPERATOR_SLICE = const(16)
_OPERATOR_RESIZE_NEAREST = const(17)
_OPERATOR_MAXIMUM = const(18)
_OPERATOR_MINIMUM = const(19)
_CONSTANT_WEIGHTS = const(0)
_CONSTANT_INTEGERS = const(1)
_CONSTANT_REQUANT = const(2)
_DEFAULT_RECORDS = (
    b"\x01\x0f\x00\x00\x80\x7f\x01\x01\x01\x01\x00\x00\x00\x00\x01\x01\x01"
    b"\x02\x0f\x00\x00\x80\x7f\x01\x01\x01\x01\x00\x00\x00\x00\x01\x01\x01"
    b"\x03\x04\x00\x00\x80\x7f"
    b"\x04\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x14\x80\x7f"
    b"\x05\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x14\x80\x7f"
    b"\x06\x07\x00\x00\x00\x00\x00\x80\x7f"
    b"\x07\x0a\x01\x01\x01\x01\x00\x00\x00\x00\x80\x7f"
    b"\x08\x0a\x01\x01\x01\x01\x00\x00\x00\x00\x80\x7f"
    b"\x09\x05\x06\x00\x00\x00\x00"
    b"\x0a\x03\x00\x00\x00"
    b"\x0b\x00"
    b"\x0c\x01\x03"
    b"\x0d\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x0e\x00"
    b"\x0f\x04\x00\x01\x02\x03"
    b"\x10\x08\x00\x00\x00\x00\x01\x01\x01\x01"
    b"\x11\x02\x00\x00"
    b"\x12\x00"
    b"\x13\x00"
)
_CONV_2D_INPUT_ZERO_POINT = const(0)
_CONV_2D_OUTPUT_ZERO_POINT = const(1)
_CONV_2D_CLAMP_MIN = const(2)
_CONV_2D_CLAMP_MAX = const(3)
_CONV_2D_KERNEL_H = const(4)
_CONV_2D_KERNEL_W = const(5)
_CONV_2D_STRIDE_H = const(6)
_CONV_2D_STRIDE_W = const(7)
_CONV_2D_PAD_TOP = const(8)
_CONV_2D_PAD_LEFT = const(9)
_CONV_2D_PAD_BOTTOM = const(10)
_CONV_2D_PAD_RIGHT = const(11)
_CONV_2D_GROUPS = const(12)
_CONV_2D_DILATION_H = const(13)
_CONV_2D_DILATION_W = const(14)
_MEAN_AXES = const(0)
_MEAN_INPUT_ZERO_POINT = const(1)
_MEAN_OUTPUT_ZERO_POINT = const(2)
_MEAN_MULTIPLIER = const(3)
_MEAN_SHIFT = const(4)
_SOFTMAX_MULTIPLIER = const(0)
_SOFTMAX_SHIFT = const(1)
_SOFTMAX_DIFF_MIN = const(2)
# generated:end

FEATURES = (_FEATURE_FUSED_ADD << 1) - 1 | _FEATURE_PERSISTENT_TENSORS
OPERATORS = (1 << _OPERATOR_MINIMUM + 1) - 2

# Fields of a tensor in Program.tensors
_T_OFFSET = const(0)
_T_BYTES = const(1)
_T_SHAPE = const(2)  # four of them, NHWC
_T_FLAGS = const(6)
_T_SIZE = const(7)

_ATTRIBUTE_ROOM = const(32)  # attributes, behind them what the interpreter adds for a kernel
_PIECE_BYTES = const(256)
_WINDOW_LIMIT = const(65535)
_SHIFT_MIN = const(-31)
_SHIFT_MAX = const(30)


def refuse(wrong, code, where, what="byte"):
    if wrong:
        raise ThimbleError(code, "%s %d" % (what, where))


class Source:
    """The bytes of a model: `data` is a memoryview of all of them, or None for a file that is read in
    pieces."""

    def __init__(self, source):
        self.data = None
        if not isinstance(source, str):
            try:
                self.data = memoryview(source)
            except TypeError:
                source = str(source)  # a path object of the host
        if self.data is None:
            file = open(source, "rb")
            try:
                self.data = memoryview(file)  # ROMFS maps its files into memory
            except TypeError:
                self.file = file
                self.size = file.seek(0, 2)
                return
        self.size = len(self.data)

    def read(self, offset, size):
        if self.data is not None:
            return self.data[offset : offset + size]
        self.file.seek(offset)
        return self.file.read(size)

    def readinto(self, offset, buffer):
        self.file.seek(offset)
        self.file.readinto(buffer)

    def pieces(self, start, end):
        """The bytes from start to end, in pieces that fit a small heap."""
        while start < end:
            size = min(_PIECE_BYTES, end - start)
            yield self.read(start, size)
            start += size

    def crc32(self, start, end, crc=0):
        for piece in self.pieces(start, end):
            crc = crc32(piece, crc)
        return crc

    def require_zeros(self, start, end, code):
        for piece in self.pieces(start, end):
            refuse(any(piece), code, start)

    def close(self):
        if self.data is None:
            self.file.close()


class Program:
    """A checked model. `operators` and `constants` hold positions within the PROGRAM section, `code`."""

    def __init__(self, source):
        self.source = source
        self._header()
        self._sections()
        self._hash()
        self._parse()
        self._cross_check()

    # -- envelope

    def _header(self):
        source = self.source
        size = source.size
        refuse(size < _HEADER_BYTES + _SHA256_BYTES, _ERROR_TRUNCATED, size)
        head = source.read(0, _HEADER_BYTES)
        (
            magic,
            version,
            flags,
            sections,
            file_bytes,
            self.features,
            self._operators_used,
            self.arena_bytes,
            self.scratch_bytes,
            self.model_id,
            self.model_version,
            crc,
        ) = struct.unpack(_HEADER_FORMAT, head)
        refuse(magic != _MAGIC, _ERROR_BAD_MAGIC, 0)
        refuse(version != _FORMAT_VERSION, _ERROR_UNSUPPORTED_VERSION, version, "version")
        refuse(flags & ~_HEADER_FLAG_SIGNED, _ERROR_RESERVED_BITS, 5)
        refuse(file_bytes > _MAX_FILE_BYTES, _ERROR_LIMIT_EXCEEDED, 8)
        refuse(file_bytes > size, _ERROR_TRUNCATED, 8)
        refuse(file_bytes != size, _ERROR_BAD_SECTION, 8)
        refuse(sections > _MAX_SECTIONS, _ERROR_LIMIT_EXCEEDED, 6)
        self._body_end = size - _SHA256_BYTES - (_SIGNATURE_BYTES if flags else 0)
        self._table_end = _HEADER_BYTES + sections * _SECTION_ENTRY_BYTES
        refuse(self._table_end > self._body_end, _ERROR_TRUNCATED, 40)
        found = source.crc32(_HEADER_BYTES, self._table_end, source.crc32(0, _HEADER_HEADER_CRC32_OFFSET))
        refuse(found != crc, _ERROR_BAD_HEADER_CRC, 36)

    def _sections(self):
        source = self.source
        end = self._table_end
        seen = 0
        for at in range(_HEADER_BYTES, self._table_end, _SECTION_ENTRY_BYTES):
            kind, flags, reserved, offset, length, crc = struct.unpack(
                _SECTION_ENTRY_FORMAT, source.read(at, _SECTION_ENTRY_BYTES)
            )
            refuse(flags & ~_SECTION_FLAG_CRITICAL or reserved, _ERROR_RESERVED_BITS, at)
            refuse(
                offset != end + 3 & ~3 or offset > self._body_end or length > self._body_end - offset,
                _ERROR_BAD_SECTION,
                at,
            )
            source.require_zeros(end, offset, _ERROR_BAD_SECTION)
            if 0 < kind <= _SECTION_GOLDEN:
                repeated = seen >> kind & 1
                refuse(
                    repeated
                    or (kind <= _SECTION_DATA and not flags)
                    or (kind == _SECTION_GOLDEN and length != _GOLDEN_BYTES),
                    _ERROR_BAD_SECTION,
                    at,
                )
                seen |= 1 << kind
            else:
                refuse(flags, _ERROR_UNSUPPORTED_SECTION, at)
            end = offset + length
            refuse(source.crc32(offset, end) != crc, _ERROR_BAD_SECTION_CRC, at)
            if kind == _SECTION_PROGRAM:
                self._program = (offset, length)
            elif kind == _SECTION_DATA:
                self.data_offset = offset
                self._data_bytes = length
            elif kind == _SECTION_GOLDEN:
                refuse(not any(source.read(offset, 4)), _ERROR_BAD_SECTION, offset)
        refuse(
            ~seen & (1 << _SECTION_PROGRAM | 1 << _SECTION_DATA) or end + 3 & ~3 != self._body_end,
            _ERROR_BAD_SECTION,
            end,
        )
        source.require_zeros(end, self._body_end, _ERROR_BAD_SECTION)

    def _hash(self):
        digest = hashlib.sha256()
        for piece in self.source.pieces(0, self._body_end):
            digest.update(piece)
        self.sha256 = bytes(self.source.read(self._body_end, _SHA256_BYTES))
        refuse(digest.digest() != self.sha256, _ERROR_BAD_HASH, self._body_end)
        missing = self.features & ~FEATURES
        refuse(missing, _ERROR_UNSUPPORTED_FEATURE, missing, "bits")
        missing = self._operators_used & ~OPERATORS
        refuse(missing, _ERROR_UNSUPPORTED_OPERATOR, missing, "bits")
        refuse(
            self.arena_bytes > _MAX_TENSOR_BYTES or self.scratch_bytes > _MAX_TENSOR_BYTES,
            _ERROR_LIMIT_EXCEEDED,
            20,
        )

    # -- reading the PROGRAM section; `at` is the next byte

    def byte(self):
        self.at += 1
        try:
            return self.code[self.at - 1]
        except IndexError:
            self.refuse(True, _ERROR_TRUNCATED)

    def u(self):
        """An unsigned varint."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            if shift == 28 and byte > 15:
                break
            value |= (byte & 127) << shift
            if byte < 128:
                if byte or not shift:
                    return value
                break
        self.refuse(True, _ERROR_BAD_VARINT)

    def s(self):
        """A zigzag varint."""
        value = self.u()
        return value >> 1 ^ -(value & 1)

    def count(self, limit):
        value = self.u()
        self.refuse(value > limit, _ERROR_LIMIT_EXCEEDED)
        return value

    def refuse(self, wrong, code):
        refuse(wrong, code, self._program[0] + self.at)

    def _need(self, feature):
        self.refuse(feature & ~self.features, _ERROR_UNSUPPORTED_FEATURE)

    def _flags(self, known):
        flags = self.u()
        self.refuse(flags & ~known, _ERROR_RESERVED_BITS)
        return flags

    def _parse(self):
        self.code = self.source.read(*self._program)
        self.at = 0
        self.tensors = array("i")
        for _ in range(self.count(_MAX_TENSORS)):
            self._tensor(self.u())
        self.constants = array("I")
        end = 0
        for _ in range(self.count(_MAX_CONSTANTS)):
            self.constants.append(self.at)
            end = self._constant(end)
        self.refuse(end != self._data_bytes, _ERROR_BAD_CONSTANT)
        self.operators = array("I")
        for _ in range(self.count(_MAX_OPERATORS)):
            self.operators.append(self.at)
            Operator().read(self)
        self.inputs = self._ports(_MAX_MODEL_INPUTS)
        self.outputs = self._ports(_MAX_MODEL_OUTPUTS)
        self.refuse(self.at != len(self.code), _ERROR_BAD_SECTION)

    def _tensor(self, dtype):
        self.refuse(dtype > _DTYPE_FLOAT32 or dtype == _DTYPE_INT32, _ERROR_BAD_TENSOR)
        self.refuse(dtype, _ERROR_UNSUPPORTED_FEATURE)
        flags = self._flags(_TENSOR_FLAG_PERSISTENT)
        if flags:
            self._need(_FEATURE_PERSISTENT_TENSORS)
        shape = [1, 1, 1, 1]
        size = 1
        for _ in range(self.count(_MAX_RANK)):
            dimension = self.u()
            self.refuse(not dimension, _ERROR_BAD_TENSOR)
            size *= dimension
            self.refuse(size > _MAX_TENSOR_BYTES, _ERROR_LIMIT_EXCEEDED)
            first = shape.pop(0)
            shape[0] *= first
            shape.append(dimension)
        offset = self.u()
        # An offset of 2^30 and more is beyond every arena; cut down, it is so without leaving the array's
        # words.
        self.tensors.append(min(offset, _MAX_TENSOR_BYTES))
        self.tensors.append(size)
        for dimension in shape:
            self.tensors.append(dimension)
        self.tensors.append(flags)

    def fields(self, index):
        """[kind, fields ...] of a constant."""
        self.at = self.constants[index]
        kind = self.u()
        self.refuse(kind > _CONSTANT_REQUANT, _ERROR_BAD_CONSTANT)
        fields = [kind]
        for _ in range(b"\x0c\4\4"[kind]):
            fields.append(self.u())
        if kind == _CONSTANT_REQUANT:
            fields.append(self.s())
        return fields

    def _constant(self, end):
        """Check the constant at hand, of which data may start at `end`; returns where its data ends."""
        fields = self.fields(-1)
        kind = fields[0]
        offset = fields[1]
        size = fields[2]
        aligned = False
        if kind == _CONSTANT_WEIGHTS:
            self._need(check_stream(fields))
            aligned = fields[5] == _LAYOUT_BITS
        else:
            count = fields[3]
            bits = fields[4]
            self.refuse(not count, _ERROR_BAD_CONSTANT)
            self.refuse(count > _MAX_ROW_LENGTH, _ERROR_LIMIT_EXCEEDED)
            if kind == _CONSTANT_INTEGERS:
                wrong = not 1 <= bits <= 32 or size != count * bits + 7 >> 3
            else:
                # `bits` is the form here
                packed = bits == _REQUANT_FORM_PACKED
                wrong = bits > _REQUANT_FORM_POWER_OF_TWO or size != b"\4\5\1"[bits] * count
                wrong = wrong or not (_SHIFT_MIN <= fields[5] <= _SHIFT_MAX - 3 if packed else fields[5] == 0)
                aligned = bits != _REQUANT_FORM_POWER_OF_TWO
            self.refuse(wrong, _ERROR_BAD_CONSTANT)
        self.refuse(
            offset != (end + 3 & ~3 if aligned else end)
            or offset > self._data_bytes
            or size > self._data_bytes - offset,
            _ERROR_BAD_CONSTANT,
        )
        base = self.data_offset
        self.source.require_zeros(base + end, base + offset, _ERROR_BAD_CONSTANT)
        end = offset + size
        if kind == _CONSTANT_INTEGERS:
            used = count * bits & 7
            self.refuse(used and self.source.read(base + end - 1, 1)[0] >> used, _ERROR_BAD_CONSTANT)
        elif kind == _CONSTANT_REQUANT and not packed:
            wide = bits == _REQUANT_FORM_WIDE
            for index in range(count):
                self.refuse(
                    wide and self.source.read(base + offset + 4 * index + 3, 1)[0] > 127, _ERROR_BAD_CONSTANT
                )
                shift = self.source.read(base + end - count + index, 1)[0] + 128 & 255
                self.refuse(
                    not (128 + _SHIFT_MIN <= shift <= 128 + _SHIFT_MAX if wide else 128 <= shift <= 128 + 31),
                    _ERROR_BAD_CONSTANT,
                )
        return end

    def _ports(self, limit):
        """[(tensor, flags, zero point, scale)] of the inputs or outputs."""
        ports = []  # type: list
        count = self.count(limit)
        self.refuse(not count, _ERROR_BAD_PORT)
        for _ in range(count):
            tensor = self.u()
            flags = self.u()
            zero_point = self.s()
            for _ in range(4):
                self.byte()
            scale = struct.unpack("<f", self.code[self.at - 4 : self.at])[0]
            self.refuse(tensor >= len(self.tensors) // _T_SIZE, _ERROR_BAD_PORT)
            self.refuse(flags & ~_PORT_FLAG_FLOAT, _ERROR_RESERVED_BITS)
            self.refuse(not -128 <= zero_point <= 127 or not scale > 0 or scale * 0 != 0, _ERROR_BAD_PORT)
            for port in ports:
                self.refuse(port[0] == tensor, _ERROR_BAD_PORT)
            ports.append((tensor, flags, zero_point, scale))
        return ports

    # -- cross checks

    def _cross_check(self):
        count = len(self.tensors) // _T_SIZE
        ready = bytearray(count)  # 1: has a value, 2: and was written
        placed = bytearray(b"\1" * count)
        for port in self.inputs:
            ready[port[0]] = 3
        for index in range(count):
            if self.tensors[index * _T_SIZE + _T_FLAGS]:
                ready[index] |= 1
        head = None
        scratch = largest = 0
        for index in range(len(self.operators)):
            operator = Operator()
            self.at = self.operators[index]
            operator.read(self)
            operator.check(self, index, head, ready)
            output = operator.outputs[0]
            ready[output] = 3
            needed = 0
            if operator.is_weighted():
                needed = sum(stream_bytes(self.fields(operator.constants[0] - 1)))
            if head:
                needed += scratch
                ready[head.outputs[0]] &= 2
            refuse(needed > self.scratch_bytes, _ERROR_SCRATCH_TOO_SMALL, index, "operator")
            scratch = needed
            largest = max(largest, needed)
            head = operator if not head and operator.schedule >= _SCHEDULE_FUSED_DEPTHWISE else None
            if head:
                placed[output] = 0
        # Both sizes are exact, so that no file can ask for more RAM than it uses.
        refuse(largest != self.scratch_bytes, _ERROR_BAD_CONSTANT, 24)
        largest = 0
        for index in range(count):
            at = index * _T_SIZE
            end = placed[index] and self.tensors[at] + self.tensors[at + _T_BYTES]
            refuse(end > self.arena_bytes, _ERROR_ARENA_TOO_SMALL, index, "tensor")
            largest = max(largest, end)
        refuse(largest + 3 & ~3 != self.arena_bytes, _ERROR_BAD_TENSOR, 20)
        for index, port in enumerate(self.outputs):
            refuse(not ready[port[0]] & 1, _ERROR_BAD_PORT, index, "output")


class Operator:
    """One operator of the PROGRAM section. `attributes` are ints with the defaults filled in; a constant is
    its index + 1, 0 for none."""

    def __init__(self):
        self.attributes = array("i", bytes(4 * _ATTRIBUTE_ROOM))

    def read(self, program):
        """Read the operator at hand."""
        bad = _ERROR_BAD_OPERATOR
        kind = self.kind = program.u()
        program.refuse(kind > 31 or not program._operators_used >> kind & 1, _ERROR_UNSUPPORTED_OPERATOR)
        schedule = self.schedule = program.u()
        program.refuse(schedule > _SCHEDULE_FUSED_ADD, bad)
        self.parameter = 0
        if schedule:
            program._need(_FEATURE_IN_PLACE << schedule - 1)
            self.parameter = program.u()
        tensors = len(program.tensors) // _T_SIZE
        self.inputs = self._indexes(program, _MAX_OPERATOR_INPUTS, tensors)
        self.outputs = self._indexes(program, _MAX_OPERATOR_OUTPUTS, tensors)
        self.constants = self._indexes(program, _MAX_OPERATOR_CONSTANTS, len(program.constants) + 1)
        program.refuse(self.constants and not self.constants[-1], bad)
        at = 0
        while _DEFAULT_RECORDS[at] != kind:
            at += 2 + _DEFAULT_RECORDS[at + 1]
        known = _DEFAULT_RECORDS[at + 1]
        at += 2
        count = program.count(_MAX_OPERATOR_ATTRIBUTES)
        # All are read before they are counted, as the order of the checks wants.
        for index in range(count):
            value = program.s()
            if index < known:
                self.attributes[index] = value
                default = self._default(at + index)
        program.refuse(count > known or (count and value == default), bad)
        for index in range(count, known):
            self.attributes[index] = self._default(at + index)

    @staticmethod
    def _default(at):
        return (_DEFAULT_RECORDS[at] ^ 128) - 128

    @staticmethod
    def _indexes(program, limit, end):
        indexes = []
        for _ in range(program.count(limit)):
            index = program.u()
            program.refuse(index >= end, _ERROR_BAD_OPERATOR)
            indexes.append(index)
        return indexes

    def is_weighted(self):
        return self.kind <= _OPERATOR_FULLY_CONNECTED

    def _is_element_wise(self):
        kind = self.kind
        return _OPERATOR_ADD <= kind <= _OPERATOR_MUL or kind == _OPERATOR_LOOKUP or kind >= _OPERATOR_MAXIMUM

    def _require(self, condition):
        refuse(not condition, _ERROR_BAD_OPERATOR, self._index, "operator")

    def _between(self, index, low, high):
        value = self.attributes[index]
        self._require(low <= value <= high)
        return value

    def _zero_point(self, *indexes):
        for index in indexes:
            self._between(index, -128, 127)

    def _scaling(self, index):
        self._between(index, 0, 0x7FFFFFFF)
        self._between(index + 1, _SHIFT_MIN, _SHIFT_MAX)

    def _clamp(self, index):
        self._between(index + 1, self._between(index, -128, 127), 127)

    def check(self, program, index, head, ready):
        """Everything that must agree: operands, shapes, attributes, constants, schedule. `ready`: see
        Program."""
        self._index = index
        require = self._require
        kind = self.kind
        table = program.tensors
        two = _OPERATOR_ADD <= kind <= _OPERATOR_MUL or kind >= _OPERATOR_MAXIMUM
        count = len(self.inputs)
        require(count == 1 + two or (kind == _OPERATOR_CONCATENATION and count))
        require(len(self.outputs) == 1)
        wanted = b"\0\2\1" if self.is_weighted() else b"\1" if kind == _OPERATOR_LOOKUP else b""
        constants = self.constants
        require(len(constants) <= len(wanted))
        fields = []
        for place, form in enumerate(wanted):
            constant = constants[place] if place < len(constants) else 0
            require(constant or place == 2)
            if constant:
                fields.append(program.fields(constant - 1))
                require(fields[place][0] == form)
        for tensor in self.inputs:
            require(ready[tensor] & 1)
        output = self.outputs[0]
        require(not ready[output] & 2)
        ins = [table[tensor * _T_SIZE : tensor * _T_SIZE + _T_SIZE] for tensor in self.inputs]
        out = table[output * _T_SIZE : output * _T_SIZE + _T_SIZE]
        self._shapes(ins, out, fields)
        self._schedule(program, head, ins, out)

    def _shapes(self, ins, out, fields):
        kind = self.kind
        require = self._require
        a = self.attributes
        x = ins[0]
        x4 = x[_T_SHAPE:_T_FLAGS]
        out4 = out[_T_SHAPE:_T_FLAGS]
        same_count = x[_T_BYTES] == out[_T_BYTES]
        axes = range(4)
        if self.is_weighted():
            self._zero_point(_CONV_2D_INPUT_ZERO_POINT, _CONV_2D_OUTPUT_ZERO_POINT)
            self._clamp(_CONV_2D_CLAMP_MIN)
            rows = fields[0][3]
            cols = fields[0][4]
            require(fields[1][3] in (1, rows))
            require(len(fields) < 3 or fields[2][3] == rows)
            if kind == _OPERATOR_FULLY_CONNECTED:
                require(cols == x[_T_BYTES] and rows == out[_T_BYTES])
                return
            self._window(x4, out4, _CONV_2D_KERNEL_H, _CONV_2D_DILATION_H)
            taps = a[_CONV_2D_KERNEL_H] * a[_CONV_2D_KERNEL_W]
            channels = x4[3]
            require(rows == out4[3])
            if kind == _OPERATOR_CONV_2D:
                groups = self._between(_CONV_2D_GROUPS, 1, channels)
                require(channels % groups == 0 and rows % groups == 0)
                taps *= channels // groups
            else:
                require(a[_CONV_2D_GROUPS] == 1 and rows % channels == 0)
            require(cols == taps)
        elif kind in (_OPERATOR_AVERAGE_POOL_2D, _OPERATOR_MAX_POOL_2D):
            self._window(x4, out4, 0, 0)
            require(x4[3] == out4[3])
            self._clamp(8)
        elif kind == _OPERATOR_MEAN:
            mask = self._between(_MEAN_AXES, 1, 15)
            kept = 1
            for axis in axes:
                if not mask >> axis & 1:
                    kept *= x4[axis]
            require(out[_T_BYTES] == kept)
            self._zero_point(_MEAN_INPUT_ZERO_POINT, _MEAN_OUTPUT_ZERO_POINT)
            self._scaling(_MEAN_MULTIPLIER)
        elif kind == _OPERATOR_SOFTMAX:
            require(x4 == out4)
            self._between(_SOFTMAX_MULTIPLIER, 0, 0x7FFFFFFF)
            self._between(_SOFTMAX_SHIFT, 0, _SHIFT_MAX)
            require(a[_SOFTMAX_DIFF_MIN] <= 0)
        elif kind == _OPERATOR_LOOKUP:
            require(same_count and fields[0][3] == 256 and fields[0][4] == 8)
        elif kind == _OPERATOR_RESHAPE:
            require(same_count)
        elif kind == _OPERATOR_RESIZE_NEAREST:
            require(x4[0] == out4[0] and x4[3] == out4[3])
            self._between(0, 0, 1)
            self._between(1, 0, 1)
        elif len(ins) == 2 and kind != _OPERATOR_CONCATENATION:
            y4 = ins[1][_T_SHAPE:_T_FLAGS]
            for axis in axes:
                pair = (x4[axis], y4[axis])
                require((pair[0] == pair[1] or 1 in pair) and out4[axis] == max(pair))
            if kind < _OPERATOR_MAXIMUM:
                self._zero_point(0, 1, 2)
                if kind == _OPERATOR_MUL:
                    self._scaling(3)
                    self._clamp(5)
                else:
                    self._scaling(3)
                    self._scaling(5)
                    self._scaling(7)
                    self._between(9, 0, _SHIFT_MAX)
                    self._clamp(10)
        else:
            if kind == _OPERATOR_CONCATENATION:
                joined = self._between(0, 0, 3)
            elif kind == _OPERATOR_PAD:
                self._zero_point(0)
            elif kind == _OPERATOR_TRANSPOSE:
                require(sorted(a[:4]) == [0, 1, 2, 3])
            for axis in axes:
                before = x4[axis]
                after = out4[axis]
                if kind == _OPERATOR_CONCATENATION:
                    sizes = [tensor[_T_SHAPE + axis] for tensor in ins]
                    fits = sum(sizes) == after if axis == joined else min(sizes) == max(sizes) == after
                elif kind == _OPERATOR_PAD:
                    fits = (
                        self._between(1 + axis, 0, after) + before + self._between(5 + axis, 0, after)
                        == after
                    )
                elif kind == _OPERATOR_TRANSPOSE:
                    fits = after == x4[a[axis]]
                else:
                    begin = self._between(axis, 0, before - 1)
                    fits = begin + (after - 1) * self._between(4 + axis, 1, before) < before
                require(fits)

    def _window(self, x4, out4, at, dilations):
        """Kernel, strides, pads and dilations (0: a pool, which has none) give the output's size."""
        require = self._require
        require(x4[0] == 1 and out4[0] == 1)
        for axis in (0, 1):
            kernel = self._between(at + axis, 1, _WINDOW_LIMIT)
            stride = self._between(at + 2 + axis, 1, _WINDOW_LIMIT)
            dilation = self._between(dilations + axis, 1, _WINDOW_LIMIT) if dilations else 1
            extent = (kernel - 1) * dilation + 1
            widest = _WINDOW_LIMIT if dilations else extent - 1
            reach = x4[1 + axis] + self._between(at + 4 + axis, 0, widest)
            reach += self._between(at + 6 + axis, 0, widest) - extent
            require(reach >= 0 and out4[1 + axis] == reach // stride + 1)

    def _schedule(self, program, head, ins, out):
        require = self._require
        kind = self.kind
        schedule = self.schedule
        parameter = self.parameter
        a = self.attributes
        same = [x[_T_OFFSET] == out[_T_OFFSET] for x in ins]
        apart = [x[0] >= out[0] + out[_T_BYTES] or out[0] >= x[0] + x[_T_BYTES] for x in ins]
        shapes = [x[_T_SHAPE:_T_FLAGS] == out[_T_SHAPE:_T_FLAGS] for x in ins]
        fused = schedule >= _SCHEDULE_FUSED_DEPTHWISE
        if head:
            table = program.tensors
            at = head.inputs[0] * _T_SIZE
            between = head.outputs[0]
            require(table[at] >= out[0] + out[_T_BYTES] or out[0] >= table[at] + table[at + _T_BYTES])
            if kind == _OPERATOR_DEPTHWISE_CONV_2D:
                require(ins[0][_T_SHAPE + 3] == out[_T_SHAPE + 3] and not schedule)
                return
            other = 1 if self.inputs[0] == between else 0
            require(all(shapes) and parameter == 0)
            require(same[other] if schedule == _SCHEDULE_IN_PLACE else not schedule and apart[other])
        elif fused:
            require(kind == _OPERATOR_CONV_2D and self._index + 1 < len(program.operators))
            program.at = program.operators[self._index + 1]
            tail = Operator()
            tail.read(program)
            if schedule == _SCHEDULE_FUSED_ADD:
                require(tail.kind in (_OPERATOR_ADD, _OPERATOR_SUB))
            else:
                require(tail.kind == _OPERATOR_DEPTHWISE_CONV_2D)
            output = self.outputs[0]
            require(tail.inputs.count(output) == 1 and not out[_T_FLAGS])
            for port in program.outputs:
                require(port[0] != output)
        elif schedule == _SCHEDULE_IN_PLACE:
            if kind == _OPERATOR_CONV_2D:
                ones = a[_CONV_2D_KERNEL_H : _CONV_2D_STRIDE_W + 1]
                require(
                    min(ones) == max(ones) == a[_CONV_2D_GROUPS] == 1
                    and out[_T_SHAPE + 1 : _T_SHAPE + 3] == ins[0][_T_SHAPE + 1 : _T_SHAPE + 3]
                    and out[_T_SHAPE + 3] <= ins[0][_T_SHAPE + 3]
                )
                require(1 <= parameter <= out[_T_SHAPE + 1])
            else:
                require(parameter == 0)
                if kind == _OPERATOR_DEPTHWISE_CONV_2D:
                    require(a[_CONV_2D_STRIDE_H] == a[_CONV_2D_STRIDE_W] == 1 and shapes[0])
                else:
                    require(self._is_element_wise())
            require(any(same))
            for index, x in enumerate(ins):
                if not same[index]:
                    require(apart[index])
                elif self._is_element_wise():
                    require(x[_T_BYTES] == out[_T_BYTES])
        elif schedule == _SCHEDULE_BANDS:
            require(kind <= _OPERATOR_DEPTHWISE_CONV_2D and 1 <= parameter <= out[_T_SHAPE + 1] and apart[0])
        else:
            for index in range(len(ins)):
                require(apart[index] or (same[index] and kind == _OPERATOR_RESHAPE))
        if fused:
            require(parameter == 0)
