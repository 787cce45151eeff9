"""Tensors of bits (-1 and +1): importing this extends Program, Operator and Network by them.

It is a module of its own because only binary networks need it: thimble/__init__.py imports it where it is
installed, and a board without it refuses such a model as unsupported_feature. A tensor of bits is kept in
`Program.tensors` as bytes: the channels are the bytes of a position, so that whatever moves bytes moves bits.
`Program.bits` has the true number of channels by tensor.
"""

from array import array

from micropython import const

import thimble
from thimble.interpreter import Network, _Weighted
from thimble.loader import Operator, Program, refuse

try:
    from thimble import bit_kernels
except (ImportError, SyntaxError, ValueError):  # no native code on this board
    from thimble import bit_kernels_bytecode as bit_kernels  # type: ignore[no-redef]

# generated:begin DType:BIT Feature:BIT_ACTIVATIONS ConstantKind:REQUANT RequantForm:POWER_OF_TWO,SIGN
# generated:also Layout:BITS ValueMap:BINARY OperatorKind:CONV_2D,FULLY_CONNECTED,MAX_POOL_2D,PAD,RESHAPE
# generated:also Limit:TENSOR_BYTES,ROW_LENGTH Attr:CONV_2D.GROUPS
# generated:also ErrorCode:LIMIT_EXCEEDED,BAD_TENSOR,BAD_CONSTANT,BAD_PORT,BAD_STREAM
# generated:also Attr:MAX_POOL_2D.KERNEL_H,MAX_POOL_2D.KERNEL_W,MAX_POOL_2D.STRIDE_H,MAX_POOL_2D.STRIDE_W
# generated:also Attr:MAX_POOL_2D.PAD_TOP,MAX_POOL_2D.PAD_LEFT,MAX_POOL_2D.CLAMP_MIN,MAX_POOL_2D.CLAMP_MAX
_DTYPE_BIT = const(3)
_FEATURE_BIT_ACTIVATIONS = const(4096)
_CONSTANT_REQUANT = const(2)
_REQUANT_FORM_POWER_OF_TWO = const(2)
_REQUANT_FORM_SIGN = const(3)
_LAYOUT_BITS = const(3)
_MAP_BINARY = const(4)
_OPERATOR_CONV_2D = const(1)
_OPERATOR_FULLY_CONNECTED = const(3)
_OPERATOR_MAX_POOL_2D = const(8)
_OPERATOR_PAD = const(13)
_OPERATOR_RESHAPE = const(14)
_MAX_TENSOR_BYTES = const(1073741824)
_MAX_ROW_LENGTH = const(16777216)
_CONV_2D_GROUPS = const(12)
_ERROR_LIMIT_EXCEEDED = const(-13)
_ERROR_BAD_TENSOR = const(-14)
_ERROR_BAD_CONSTANT = const(-15)
_ERROR_BAD_PORT = const(-17)
_ERROR_BAD_STREAM = const(-18)
_MAX_POOL_2D_KERNEL_H = const(0)
_MAX_POOL_2D_KERNEL_W = const(1)
_MAX_POOL_2D_STRIDE_H = const(2)
_MAX_POOL_2D_STRIDE_W = const(3)
_MAX_POOL_2D_PAD_TOP = const(4)
_MAX_POOL_2D_PAD_LEFT = const(5)
_MAX_POOL_2D_CLAMP_MIN = const(8)
_MAX_POOL_2D_CLAMP_MAX = const(9)
# generated:end

_T_OFFSET = const(0)
_T_BYTES = const(1)
_T_SHAPE = const(2)
_T_FLAGS = const(6)
_T_SIZE = const(7)
_P_ZERO = const(0)
_P_OUT_ZERO = const(1)
_P_LOW = const(2)
_P_HIGH = const(3)
_P_KERNEL_H = const(4)
_P_KERNEL_W = const(5)
_P_STRIDE_W = const(7)
_P_CHANNELS = const(10)
_P_MASK = const(11)
_P_COLUMN = const(12)
_P_DILATION_H = const(13)
_P_DILATION_W = const(14)
_P_X = const(16)
_P_OUT = const(17)
_P_OUT_STRIDE_X = const(18)
_P_Y_START = const(20)
_P_Y_STOP = const(21)
_P_OUT_W = const(22)
_P_IN_H = const(23)
_P_IN_W = const(24)
_P_DEPTH = const(25)
_P_PIXEL = const(26)
_P_POWER_OF_TWO = const(27)

# Twice the number of bits of each byte.
_COUNTS = bytes([2 * sum(byte >> bit & 1 for bit in range(8)) for byte in range(256)])

_plain_tensor = Program._tensor
_plain_constant = Program._constant
_plain_ports = Program._ports
_plain_check = Operator.check
_plain_shapes = Operator._shapes
_plain_kernel_bytes = Network._kernel_bytes
_plain_step = Network._step


# -- loading


def _tensor(self, dtype):
    table = self.tensors
    if not table:
        self.bits = {}
    if dtype != _DTYPE_BIT or not self.features & _FEATURE_BIT_ACTIVATIONS:
        _plain_tensor(self, dtype)
        return
    _plain_tensor(self, 0)
    at = len(table) - _T_SIZE
    channels = table[at + _T_SHAPE + 3]
    size = (channels + 31) // 32 * 4
    total = table[at + _T_BYTES] // channels * size
    self.refuse(total > _MAX_TENSOR_BYTES, _ERROR_LIMIT_EXCEEDED)
    self.refuse(table[at] & 3 or table[at + _T_FLAGS], _ERROR_BAD_TENSOR)
    table[at + _T_BYTES] = total
    table[at + _T_SHAPE + 3] = size
    self.bits[at // _T_SIZE] = channels


def _constant(self, end):
    at = self.at
    kind, offset, size, count, form, base = (self.fields(-1) + [0, 0])[:6]
    if kind != _CONSTANT_REQUANT or form != _REQUANT_FORM_SIGN or count != 1:
        self.at = at
        return _plain_constant(self, end)
    known = self.features & _FEATURE_BIT_ACTIVATIONS
    self.refuse(not known or size or base or offset != end, _ERROR_BAD_CONSTANT)
    return end


def _ports(self, limit):
    ports = _plain_ports(self, limit)
    for port in ports:
        self.refuse(port[0] in self.bits, _ERROR_BAD_PORT)
    return ports


def _check(self, program, index, head, ready):
    self._bits = program.bits
    _plain_check(self, program, index, head, ready)


def _shapes(self, ins, out, fields):
    require = self._require
    bits = self._bits
    a = self.attributes
    kind = self.kind
    before = bits.get(self.inputs[0], 0)
    after = bits.get(self.outputs[0], 0)
    if self.is_weighted():
        require((fields[1][4] == _REQUANT_FORM_SIGN) == (after != 0))
    if before or after or any(tensor in bits for tensor in self.inputs):
        require(not self.schedule)
        if kind == _OPERATOR_CONV_2D or kind == _OPERATOR_FULLY_CONNECTED:
            x = array("i", ins[0])
            if before:
                require(fields[0][5] == _LAYOUT_BITS and fields[0][7] == _MAP_BINARY and not a[_P_ZERO])
                if kind == _OPERATOR_CONV_2D:
                    require(a[_CONV_2D_GROUPS] == a[_P_DILATION_H] == a[_P_DILATION_W] == 1)
                    size = x[_T_SHAPE + 3]
                else:
                    size = x[_T_BYTES]
                require(size <= _MAX_ROW_LENGTH)
                x[_T_BYTES] = x[_T_SHAPE + 3] = 8 * size
            if after:
                require(not a[_P_OUT_ZERO] and a[_P_LOW] == -128 and a[_P_HIGH] == 127)
                require(kind == _OPERATOR_CONV_2D or out[_T_BYTES] == out[_T_SHAPE + 3])
                out = array("i", out)
                out[_T_BYTES] = out[_T_SHAPE + 3] = after
            ins = [x]
        elif kind == _OPERATOR_MAX_POOL_2D:
            low = a[_MAX_POOL_2D_CLAMP_MIN]
            require(before == after and low == -128 and a[_MAX_POOL_2D_CLAMP_MAX] == 127)
        elif kind == _OPERATOR_PAD:
            require(before == after and not a[0])
        else:
            require(kind == _OPERATOR_RESHAPE and before and after)
            require(before == after or not (before | after) & 31)
    _plain_shapes(self, ins, out, fields)


# -- running


def _kernel_bytes(self, operator):
    bits = self.program.bits
    if operator.is_weighted():
        if operator.inputs[0] in bits:
            # Rows are used as they lie in the file: takes off what _prepare adds for one.
            return -self.program.fields(operator.constants[0] - 1)[4]
        if operator.outputs[0] in bits:
            out = self._tensor(operator.outputs[0])
            return out[_T_SHAPE + 1] * out[_T_SHAPE + 2]
    return _plain_kernel_bytes(self, operator)


def _step(self, operator, head):
    bits = self.program.bits
    before = bits.get(operator.inputs[0], 0)
    after = bits.get(operator.outputs[0], 0)
    if not before and not after:
        _plain_step(self, operator, head)
        return
    lane = bit_kernels
    if self.kernels.__name__.endswith("bytecode"):
        from thimble import bit_kernels_bytecode as lane  # type: ignore[no-redef]
    x = self._tensor(operator.inputs[0])
    out = self._tensor(operator.outputs[0])
    if operator.is_weighted():
        _weighted(self, lane, operator, x, out, before, after)
    elif operator.kind == _OPERATOR_MAX_POOL_2D:
        _pool(self, lane, operator.attributes, x, out)
    else:
        operator.attributes[0] = -128  # PAD: the byte 0
        _plain_step(self, operator, head)


class _Words:
    """Rows of a binary stream as they lie in the file; in the place of a Stream."""

    def __init__(self, source, at, size):
        self._source = source
        self._next = at
        self._size = size
        self.row = 0

    def next_row(self):
        at = self._next
        self._next = at + self._size
        if self._source.data is None:
            self.buffer = self._source.read(at, self._size)
        else:
            self.buffer = self._source.data
            self.row = at
        return 0


def _weighted(self, lane, operator, x, out, before, after):
    """CONV_2D or FULLY_CONNECTED with bits at one end or both, one channel after the other."""
    program = self.program
    arena = self.arena
    work = _Weighted(self, operator, 0, len(self.scratch))
    p = work.p
    if operator.kind == _OPERATOR_CONV_2D:
        work.geometry(x, out)
    else:
        # One cell.
        before *= x[_T_BYTES] // x[_T_SHAPE + 3]
        work.x = x[_T_OFFSET]
        work._per_group = work.rows
        p[_P_KERNEL_H] = int(not work.pairs)
        for index in (_P_KERNEL_W, _P_DILATION_W, _P_IN_H, _P_IN_W, _P_Y_STOP, _P_OUT_W):
            p[index] = 1
        p[_P_DEPTH] = p[_P_PIXEL] = x[_T_BYTES]
    if before:
        f = program.fields(operator.constants[0] - 1)
        refuse(f[2] * 8 != f[3] * f[4], _ERROR_BAD_STREAM, f[1])
        work.stream = _Words(program.source, program.data_offset + f[1], f[4] >> 3)  # type: ignore[assignment]
    height = p[_P_Y_STOP]
    width = p[_P_OUT_W]
    step = out[_T_SHAPE + 3]
    if after:
        # What SIGN asks for: the sum, with no bits shifted out.
        work._scales = [_CONSTANT_REQUANT, 0, 0, 1, _REQUANT_FORM_POWER_OF_TWO, 0]
        work._scale_data = (b"\0", 0)
        p[_P_POWER_OF_TWO] = p[_P_OUT_ZERO] = p[_P_HIGH] = 1
        p[_P_LOW] = 0
        self._copy(out[_T_OFFSET], 0, out[_T_BYTES], x=b"\0", step=0)
    if not before:
        count = height * width
        at = work.left[1] - count
        work.target(at, out, 1, width)
        p[_P_Y_STOP] = height
        p[_P_OUT_W] = width
        p[_P_OUT] = at
    p[_P_CHANNELS] = before
    p[_P_COLUMN] = 0
    for channel in range(work.rows):
        bias, count = work.next()
        buffer = work.stream.buffer
        if not before:
            if work.pairs:
                bias = self.kernels.dot_pairs(buffer, arena, buffer, p, work.stream.state, bias, count)
            self.kernels.convolve(buffer, p, arena, self.scratch, bias)
            target = out[_T_OFFSET] + channel // 8
            lane.merge(self.scratch, arena, at, target, step, 1 << (channel & 7), height * width)
        elif after:
            p[_P_MASK] = 1 << (channel & 7)
            p[_P_OUT] = out[_T_OFFSET] + channel // 8
            lane.match(buffer, p, arena, arena, _COUNTS, bias)
        else:
            _requantised(self, lane, buffer, p, out[_T_OFFSET] + channel, height, width, bias)


def _requantised(self, lane, buffer, p, target, height, width, bias):
    """A channel from bits to int8: one output after the other, as accumulators without weights."""
    p[_P_MASK] = 0
    p[_P_OUT_W] = 1
    kernel = p[_P_KERNEL_H]
    for y in range(height):
        p[_P_Y_START] = y
        p[_P_Y_STOP] = y + 1
        for p[_P_COLUMN] in range(width):
            p[_P_OUT] = target + p[_P_COLUMN] * p[_P_OUT_STRIDE_X]
            acc = lane.match(buffer, p, self.arena, self.arena, _COUNTS, bias)
            p[_P_KERNEL_H] = 0
            self.kernels.convolve(self.arena, p, self.arena, self.arena, acc)
            p[_P_KERNEL_H] = kernel


def _pool(self, lane, a, x, out):
    """The largest of -1 and +1: OR."""
    height = x[_T_SHAPE + 1]
    width = x[_T_SHAPE + 2]
    step = x[_T_SHAPE + 3]
    self._copy(out[_T_OFFSET], 0, out[_T_BYTES], x=b"\0", step=0)
    target = out[_T_OFFSET]
    for y in range(out[_T_SHAPE + 1]):
        top = y * a[_MAX_POOL_2D_STRIDE_H] - a[_MAX_POOL_2D_PAD_TOP]
        rows = range(max(top, 0), min(top + a[_MAX_POOL_2D_KERNEL_H], height))
        for column in range(out[_T_SHAPE + 2]):
            left = column * a[_MAX_POOL_2D_STRIDE_W] - a[_MAX_POOL_2D_PAD_LEFT]
            for iy in rows:
                for ix in range(max(left, 0), min(left + a[_MAX_POOL_2D_KERNEL_W], width)):
                    at = x[_T_OFFSET] + (iy * width + ix) * step
                    lane.merge(self.arena, self.arena, at, target, 1, 1, step)
            target += step


Program._tensor = _tensor  # type: ignore[method-assign]
Program._constant = _constant  # type: ignore[method-assign]
Program._ports = _ports  # type: ignore[method-assign]
Operator.check = _check  # type: ignore[method-assign]
Operator._shapes = _shapes  # type: ignore[method-assign]
Network._kernel_bytes = _kernel_bytes  # type: ignore[method-assign]
Network._step = _step  # type: ignore[method-assign]
# In the sources the loader is a module of its own; on a board it is part of thimble/__init__.
for _module in (thimble, getattr(thimble, "loader", thimble)):
    _module.FEATURES |= _FEATURE_BIT_ACTIVATIONS  # type: ignore[union-attr]
