"""Runs a checked program: a `Network` owns the arena and the scratch and executes operator after operator.

Activations in the arena are offset binary (q + 128 as an unsigned byte) while the network runs, and plain
int8 in the inputs before and the outputs after it. Every operator obeys the schedule in the file; the memory
plan is right only so (docs/DESIGN.md). Operators of a fused pair run as one step.
"""

import time
from array import array

from micropython import const

from thimble.errors import ThimbleError
from thimble.loader import Operator, Program, Source
from thimble.streams import Stream, row_bytes, stream_bytes

try:
    from thimble import kernels
except (ImportError, SyntaxError, ValueError):  # no native code on this board
    from thimble import kernels_bytecode as kernels

# generated:begin OperatorKind ScheduleKind RequantForm ConstantKind:WEIGHTS ErrorCode:BAD_INPUT,BAD_STREAM
# generated:also Layout:SPARSE Attr:CONV_2D Attr:ADD Attr:MUL Attr:MEAN Attr:SOFTMAX Attr:AVERAGE_POOL_2D
# generated:also Attr:RESIZE_NEAREST
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
_SCHEDULE_WHOLE = const(0)
_SCHEDULE_IN_PLACE = const(1)
_SCHEDULE_BANDS = const(2)
_SCHEDULE_FUSED_DEPTHWISE = const(3)
_SCHEDULE_FUSED_ADD = const(4)
_REQUANT_FORM_PACKED = const(0)
_REQUANT_FORM_WIDE = const(1)
_REQUANT_FORM_POWER_OF_TWO = const(2)
_CONSTANT_WEIGHTS = const(0)
_ERROR_BAD_INPUT = const(-22)
_ERROR_BAD_STREAM = const(-18)
_LAYOUT_SPARSE = const(1)
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
_ADD_INPUT1_ZERO_POINT = const(0)
_ADD_INPUT2_ZERO_POINT = const(1)
_ADD_OUTPUT_ZERO_POINT = const(2)
_ADD_INPUT1_MULTIPLIER = const(3)
_ADD_INPUT1_SHIFT = const(4)
_ADD_INPUT2_MULTIPLIER = const(5)
_ADD_INPUT2_SHIFT = const(6)
_ADD_OUTPUT_MULTIPLIER = const(7)
_ADD_OUTPUT_SHIFT = const(8)
_ADD_LEFT_SHIFT = const(9)
_ADD_CLAMP_MIN = const(10)
_ADD_CLAMP_MAX = const(11)
_MUL_INPUT1_ZERO_POINT = const(0)
_MUL_INPUT2_ZERO_POINT = const(1)
_MUL_OUTPUT_ZERO_POINT = const(2)
_MUL_MULTIPLIER = const(3)
_MUL_SHIFT = const(4)
_MUL_CLAMP_MIN = const(5)
_MUL_CLAMP_MAX = const(6)
_MEAN_AXES = const(0)
_MEAN_INPUT_ZERO_POINT = const(1)
_MEAN_OUTPUT_ZERO_POINT = const(2)
_MEAN_MULTIPLIER = const(3)
_MEAN_SHIFT = const(4)
_SOFTMAX_MULTIPLIER = const(0)
_SOFTMAX_SHIFT = const(1)
_SOFTMAX_DIFF_MIN = const(2)
_AVERAGE_POOL_2D_KERNEL_H = const(0)
_AVERAGE_POOL_2D_KERNEL_W = const(1)
_AVERAGE_POOL_2D_STRIDE_H = const(2)
_AVERAGE_POOL_2D_STRIDE_W = const(3)
_AVERAGE_POOL_2D_PAD_TOP = const(4)
_AVERAGE_POOL_2D_PAD_LEFT = const(5)
_AVERAGE_POOL_2D_PAD_BOTTOM = const(6)
_AVERAGE_POOL_2D_PAD_RIGHT = const(7)
_AVERAGE_POOL_2D_CLAMP_MIN = const(8)
_AVERAGE_POOL_2D_CLAMP_MAX = const(9)
_RESIZE_NEAREST_ALIGN_CORNERS = const(0)
_RESIZE_NEAREST_HALF_PIXEL_CENTERS = const(1)
# generated:end

# Fields of a tensor in Program.tensors
_T_OFFSET = const(0)
_T_BYTES = const(1)
_T_SHAPE = const(2)
_T_FLAGS = const(6)
_T_SIZE = const(7)

# Parameters of the kernels
_P_ROW = const(0)
_P_X = const(1)
_P_OUT = const(2)
_P_OUT_STRIDE_X = const(3)
_P_OUT_STRIDE_Y = const(4)
_P_Y_START = const(5)
_P_Y_STOP = const(6)
_P_OUT_W = const(7)
_P_STRIDE_H = const(8)
_P_STRIDE_W = const(9)
_P_PAD_TOP = const(10)
_P_PAD_LEFT = const(11)
_P_KERNEL_H = const(12)
_P_KERNEL_W = const(13)
_P_DILATION_H = const(14)
_P_DILATION_W = const(15)
_P_IN_H = const(16)
_P_IN_W = const(17)
_P_DEPTH = const(18)
_P_PIXEL = const(19)
_P_ZERO = const(20)
_P_OUT_ZERO = const(21)
_P_LOW = const(22)
_P_HIGH = const(23)
_P_MODE = const(24)
_P_SCALE = const(25)
_P_X2 = const(5)
_P_STRIDE1 = const(6)
_P_STRIDE2 = const(7)
_P_COUNT = const(8)
_P_ZERO2 = const(9)
_P_LEFT_SHIFT = const(10)
_P_COUNTS = const(3)
_P_OUT_STRIDES = const(7)
_P_X_STRIDES = const(11)
_P_XOR = const(15)
_P_OUT_H = const(18)
_P_CHANNELS = const(19)
_P_SIZE = const(40)

_PAIRS_COLS = const(65536)  # positions of pairs have 16 bits


def _strides(shape):
    """Of a tensor NHWC: elements from one index to the next on each axis."""
    w = shape[3]
    h = shape[2] * w
    return (shape[1] * h, h, w, 1)


class _Weighted:
    """What a convolution or fully connected operator needs while it runs: its stream and parameters, and how
    a channel's bias and scale are found."""

    def __init__(self, network):
        self.network = network
        self.p = array("i", bytes(4 * _P_SIZE))
        self.stream = Stream(network.program.source, network.kernels, network.scratch, network.window_bytes)

    def open(self, operator, wide, narrow):
        network = self.network
        program = network.program
        self.operator = operator
        a = operator.attributes
        p = self.p
        f = program.fields(operator.constants[0] - 1)
        self.rows = f[3]
        self.pairs = network.uses_pairs(operator, f)
        left = self.stream.open(f, program.data_offset + f[1], wide, narrow, self.pairs)
        self._requant = program.fields(operator.constants[1] - 1)
        self._bias = program.fields(operator.constants[2] - 1) if len(operator.constants) > 2 else None
        self._requant_data, self._requant_at = network.constant(self._requant)
        if self._bias:
            self._bias_data, self._bias_at = network.constant(self._bias)
        p[_P_ZERO] = a[_CONV_2D_INPUT_ZERO_POINT] + 128
        p[_P_OUT_ZERO] = a[_CONV_2D_OUTPUT_ZERO_POINT] + 128
        p[_P_LOW] = a[_CONV_2D_CLAMP_MIN] + 128
        p[_P_HIGH] = a[_CONV_2D_CLAMP_MAX] + 128
        p[_P_MODE] = int(self._requant[4] == _REQUANT_FORM_POWER_OF_TWO)
        self._channel = 0
        return left

    def geometry(self, x, out):
        """Parameters of a convolution with kernel and strides of its attributes, NHWC in and out."""
        a = self.operator.attributes
        p = self.p
        p[_P_X] = x[_T_OFFSET]
        p[_P_STRIDE_H] = a[_CONV_2D_STRIDE_H]
        p[_P_STRIDE_W] = a[_CONV_2D_STRIDE_W]
        p[_P_PAD_TOP] = a[_CONV_2D_PAD_TOP]
        p[_P_PAD_LEFT] = a[_CONV_2D_PAD_LEFT]
        p[_P_KERNEL_H] = a[_CONV_2D_KERNEL_H]
        p[_P_KERNEL_W] = a[_CONV_2D_KERNEL_W]
        p[_P_DILATION_H] = a[_CONV_2D_DILATION_H]
        p[_P_DILATION_W] = a[_CONV_2D_DILATION_W]
        p[_P_IN_H] = x[_T_SHAPE + 1]
        p[_P_IN_W] = x[_T_SHAPE + 2]
        p[_P_PIXEL] = x[_T_SHAPE + 3]
        p[_P_DEPTH] = x[_T_SHAPE + 3] // a[_CONV_2D_GROUPS]
        self.target(out[_T_OFFSET], out)
        p[_P_OUT_STRIDE_X] = out[_T_SHAPE + 3]
        p[_P_OUT_STRIDE_Y] = out[_T_SHAPE + 2] * out[_T_SHAPE + 3]

    def target(self, at, out):
        p = self.p
        p[_P_OUT] = at
        p[_P_Y_START] = 0
        p[_P_Y_STOP] = out[_T_SHAPE + 1]
        p[_P_OUT_W] = out[_T_SHAPE + 2]

    def rewind(self):
        self.stream.rewind()
        self._channel = 0

    def next(self):
        """The next channel's row, scale and bias; returns (bias, number of pairs)."""
        count = self.stream.next_row()
        p = self.p
        p[_P_ROW] = self.stream.row
        channel = self._channel
        self._channel = channel + 1
        bias = 0
        if self._bias:
            bits = self._bias[4]
            start = bits * channel
            data = self._bias_data
            at = self._bias_at + (start >> 3)
            for shift in range(0, (start & 7) + bits, 8):
                bias |= data[at] << shift
                at += 1
            bias = (bias >> (start & 7)) & (1 << bits) - 1
            bias -= bias >> bits - 1 << bits
        if self._requant[3] > 1:
            self._scale(channel)
        elif not channel:
            self._scale(0)
        return bias, count

    def _scale(self, channel):
        p = self.p
        data = self._requant_data
        at = self._requant_at
        form = self._requant[4]
        count = self._requant[3]
        if form == _REQUANT_FORM_POWER_OF_TWO:
            p[_P_SCALE + 3] = data[at + channel]
            return
        word = at + 4 * channel
        high = data[word + 2] | data[word + 3] << 8
        if form == _REQUANT_FORM_PACKED:
            shift = (high >> 14) + self._requant[5]
            high = (high & 0x3FFF) + 0x4000
        else:
            shift = (data[at + 4 * count + channel] ^ 128) - 128
        p[_P_SCALE] = high
        p[_P_SCALE + 1] = data[word] | data[word + 1] << 8
        p[_P_SCALE + 2] = max(shift, 0)
        p[_P_SCALE + 3] = max(-shift, 0)


class Network:
    """A loaded model. Fill `inputs` (writable int8 memoryviews into the arena), call `invoke`, read
    `outputs`; or call `run`. Inputs are used up by a run: tensors share the arena."""

    def __init__(self, source, window_bytes=512, lane=None):
        self.kernels = lane or kernels
        self.window_bytes = window_bytes
        program = self.program = Program(Source(source))
        self.model_id = program.model_id
        self.model_version = program.model_version
        self.sha256 = program.sha256
        self.arena_bytes = program.arena_bytes
        self.scratch_bytes = program.scratch_bytes
        self.operator_count = len(program.operators)
        self.arena = bytearray(program.arena_bytes)
        self.inputs = self._views(program.inputs)
        self.outputs = self._views(program.outputs)
        self._p = array("i", bytes(4 * _P_SIZE))
        self._prepare()
        self.reset()

    def _prepare(self):
        """Allocate what the largest operator needs, once."""
        program = self.program
        total = constants = 0
        head = 0
        fused = False
        for index in range(self.operator_count):
            operator = self._operator(index)
            own = self._kernel_bytes(operator, fused)
            if operator.is_weighted():
                f = program.fields(operator.constants[0] - 1)
                wide, narrow = stream_bytes(f)
                own += wide + narrow + row_bytes(f, program.source.data is None, self.uses_pairs(operator, f))
                size = sum(program.fields(constant - 1)[2] for constant in operator.constants[1:] if constant)
                constants = max(constants, size)
            total = max(total, own + head)
            fused = operator.schedule >= _SCHEDULE_FUSED_DEPTHWISE
            head = own if fused else 0
        self.scratch = memoryview(bytearray(total))
        self._constant_bytes = constants

    def _operator(self, index):
        program = self.program
        program.at = program.operators[index]
        operator = Operator()
        operator.read(program)
        return operator

    def _tensor(self, index):
        at = index * _T_SIZE
        return self.program.tensors[at : at + _T_SIZE]

    def _span(self, index):
        start = self.program.tensors[index * _T_SIZE]
        return start, start + self.program.tensors[index * _T_SIZE + _T_BYTES]

    def _views(self, ports):
        views = []
        for port in ports:
            start, stop = self._span(port[0])
            views.append(memoryview(self.arena)[start:stop])
        return views

    def uses_pairs(self, operator, f):
        return operator.kind == _OPERATOR_FULLY_CONNECTED and f[5] == _LAYOUT_SPARSE and f[4] <= _PAIRS_COLS

    def constant(self, fields):
        """(buffer, offset) of a constant's data."""
        source = self.program.source
        at = self.program.data_offset + fields[1]
        if source.data is not None:
            return source.data, at
        return source.read(at, fields[2]), 0

    def _padded(self, operator):
        """(height, width) of the plane that a depthwise operator's kernel sees."""
        a = operator.attributes
        out = self._tensor(operator.outputs[0])
        h = (
            (out[_T_SHAPE + 1] - 1) * a[_CONV_2D_STRIDE_H]
            + (a[_CONV_2D_KERNEL_H] - 1) * a[_CONV_2D_DILATION_H]
            + 1
        )
        w = (
            (out[_T_SHAPE + 2] - 1) * a[_CONV_2D_STRIDE_W]
            + (a[_CONV_2D_KERNEL_W] - 1) * a[_CONV_2D_DILATION_W]
            + 1
        )
        return h, w

    def _kernel_bytes(self, operator, is_tail):
        """Scratch for planes and bands; model_packager.passes.kernel_scratch has the same formulas."""
        kind = operator.kind
        schedule = operator.schedule
        if kind == _OPERATOR_DEPTHWISE_CONV_2D:
            h, w = self._padded(operator)
            return h * w
        x = self._tensor(operator.inputs[0])
        if kind == _OPERATOR_CONV_2D:
            if schedule == _SCHEDULE_IN_PLACE:
                return operator.parameter * x[_T_SHAPE + 2] * x[_T_SHAPE + 3]
            if schedule == _SCHEDULE_FUSED_ADD:
                out = self._tensor(operator.outputs[0])
                return out[_T_SHAPE + 1] * out[_T_SHAPE + 2]
        return 0

    def close(self):
        """Give back the file."""
        self.program.source.close()

    def reset(self):
        """Clear the persistent tensors."""
        for index in range(len(self.program.tensors) // _T_SIZE):
            if self.program.tensors[index * _T_SIZE + _T_FLAGS]:
                ports = [port[0] for port in self.program.inputs + self.program.outputs]
                start, stop = self._span(index)
                for place in range(start, stop):
                    self.arena[place] = 0 if index in ports else 128

    def run(self, x):
        """Outputs (int8 memoryviews into the arena, valid until the next run; one alone is not in a list)
        for the input x, or a list of inputs: bytes-like, int8.

        Raises ThimbleError: bad_input, or bad_stream when weights do not decode.
        """
        inputs = x if isinstance(x, (list, tuple)) else [x]
        if len(inputs) != len(self.inputs):
            raise ThimbleError(_ERROR_BAD_INPUT, "%d inputs" % len(inputs))
        for index, view in enumerate(self.inputs):
            given = memoryview(inputs[index])
            if hasattr(given, "cast"):
                given = given.cast("B")  # the host's arrays have shapes and formats
            if len(given) != len(view):
                raise ThimbleError(_ERROR_BAD_INPUT, "input %d: %d bytes" % (index, len(given)))
            view[:] = given
        self.invoke()
        return self.outputs if len(self.outputs) > 1 else self.outputs[0]

    def invoke(self, times=None):
        """Run once on what is in `inputs`. `times` gets the microseconds of each operator; the head of a
        fused pair has 0, its tail the time of both."""
        program = self.program
        self._toggle(program.inputs, program.outputs)
        head = None
        for index in range(self.operator_count):
            operator = self._operator(index)
            started = time.ticks_us() if times is not None else 0
            if operator.schedule >= _SCHEDULE_FUSED_DEPTHWISE and not head:
                head = operator
            else:
                self._step(operator, head)
                head = None
            if times is not None:
                times.append(0 if head else time.ticks_diff(time.ticks_us(), started))
        self._toggle(program.outputs, program.inputs)

    def _toggle(self, ports, others):
        """Change the ports' tensors between int8 and offset binary, and the persistent ones of the others."""
        done = []
        tensors = self.program.tensors
        for which in (ports, others):
            for port in which:
                at = port[0] * _T_SIZE
                start = tensors[at]
                if start not in done and (which is ports or tensors[at + _T_FLAGS]):
                    done.append(start)
                    self._copy(start, start, 1, tensors[at + _T_BYTES], mask=128)

    # -- copies

    def _copy(self, out_at, x_at, rows, row, out_stride=0, x_stride=0, mask=0, out=None, x=None, step=1):
        """Copy `rows` runs of `row` bytes; `step` is between the bytes read."""
        p = self._p
        p[_P_X] = x_at
        p[_P_OUT] = out_at
        p[_P_XOR] = mask
        for index, value in enumerate((1, 1, rows, row, 0, 0, out_stride, 1, 0, 0, x_stride, step)):
            p[_P_COUNTS + index] = value
        arena = self.arena
        self.kernels.walk(arena if out is None else out, arena if x is None else x, p, 1)

    def _walk(self, out_at, x_at, counts, out_strides, x_strides, store=1):
        p = self._p
        p[_P_OUT] = out_at
        p[_P_X] = x_at
        p[_P_XOR] = 0
        for axis in range(4):
            p[_P_COUNTS + axis] = counts[axis]
            p[_P_OUT_STRIDES + axis] = out_strides[axis]
            p[_P_X_STRIDES + axis] = x_strides[axis]
        return self.kernels.walk(self.arena, self.arena, p, store)

    # -- operators

    def _step(self, operator, head):
        kind = operator.kind
        out = self._tensor(operator.outputs[0])
        x = self._tensor(operator.inputs[0])
        a = operator.attributes
        if head or operator.is_weighted():
            self._weighted(head or operator, operator, out)
        elif kind <= _OPERATOR_MUL or kind >= _OPERATOR_MAXIMUM:
            self._two_inputs(operator, x, out)
        elif kind in (_OPERATOR_AVERAGE_POOL_2D, _OPERATOR_MAX_POOL_2D):
            self._pool(kind, a, x, out)
        elif kind == _OPERATOR_MEAN:
            self._mean(a, x, out)
        elif kind == _OPERATOR_SOFTMAX:
            self._softmax(a, x, out)
        elif kind == _OPERATOR_LOOKUP:
            data, at = self.constant(self.program.fields(operator.constants[0] - 1))
            self.kernels.lookup(self.arena, self.arena, data, out[0], x[0], at, out[_T_BYTES])
        elif kind == _OPERATOR_RESHAPE:
            if x[0] != out[0]:
                self._copy(out[0], x[0], 1, out[_T_BYTES])
        elif kind == _OPERATOR_RESIZE_NEAREST:
            self._resize(a, x, out)
        else:
            self._rearrange(operator, a, out)

    def _rearrange(self, operator, a, out):
        kind = operator.kind
        to = _strides(out[_T_SHAPE:_T_FLAGS])
        at = out[0]
        if kind == _OPERATOR_PAD:
            value = bytes((a[0] + 128,))
            self._copy(at, 0, 1, out[_T_BYTES], x=value, step=0)
            for axis in range(4):
                at += a[1 + axis] * to[axis]
        for tensor in operator.inputs:
            x = self._tensor(tensor)
            shape = x[_T_SHAPE:_T_FLAGS]
            strides = _strides(shape)
            start = x[0]
            if kind == _OPERATOR_SLICE:
                for axis in range(4):
                    start += a[axis] * strides[axis]
                strides = [a[4 + axis] * strides[axis] for axis in range(4)]
                shape = out[_T_SHAPE:_T_FLAGS]
            elif kind == _OPERATOR_TRANSPOSE:
                strides = [strides[a[axis]] for axis in range(4)]
                shape = out[_T_SHAPE:_T_FLAGS]
            self._walk(at, start, shape, to, strides)
            if kind == _OPERATOR_CONCATENATION:
                at += shape[a[0]] * to[a[0]]

    def _resize(self, a, x, out):
        columns = self._nearest(a, x[_T_SHAPE + 2], out[_T_SHAPE + 2])
        channels = out[_T_SHAPE + 3]
        target = out[0]
        for batch in range(out[_T_SHAPE]):
            for y in self._nearest(a, x[_T_SHAPE + 1], out[_T_SHAPE + 1]):
                row = x[0] + (batch * x[_T_SHAPE + 1] + y) * x[_T_SHAPE + 2] * channels
                for column in columns:
                    self._copy(target, row + column * channels, 1, channels)
                    target += channels

    @staticmethod
    def _nearest(a, size, out_size):
        """Input cell of each output cell, as TFLM finds it in float32 (resize_nearest_neighbor.h): the same
        roundings in integers."""
        aligned = a[_RESIZE_NEAREST_ALIGN_CORNERS] and out_size > 1
        numerator = size - aligned
        denominator = out_size - aligned
        shift = 0
        while numerator and numerator << shift < denominator << 23:
            shift += 1
        scale = _round_even(numerator << shift, denominator)
        cells = array("i")
        for index in range(out_size):
            place = (2 * index + a[_RESIZE_NEAREST_HALF_PIXEL_CENTERS]) * scale
            extra = 0
            while place >> extra >= 1 << 24:
                extra += 1
            place = _round_even(place, 1 << extra) << extra
            if a[_RESIZE_NEAREST_ALIGN_CORNERS]:
                place += 1 << shift
            cells.append(min(place >> shift + 1, size - 1))
        return cells

    def _two_inputs(self, operator, x, out):
        a = operator.attributes
        kind = operator.kind
        p = self._p
        y = self._tensor(operator.inputs[1])
        p[_P_LOW] = 0
        p[_P_HIGH] = 255
        p[_P_ZERO] = p[_P_ZERO2] = p[_P_OUT_ZERO] = 0
        p[_P_MODE] = kind - _OPERATOR_ADD if kind <= _OPERATOR_MUL else kind - _OPERATOR_MAXIMUM + 3
        if kind <= _OPERATOR_MUL:
            self._sum_parameters(kind, a)
        p[_P_OUT_STRIDE_X] = 1
        out4 = out[_T_SHAPE:_T_FLAGS]
        if out[_T_BYTES] == x[_T_BYTES] == y[_T_BYTES]:
            p[_P_STRIDE1] = p[_P_STRIDE2] = 1
            self._combine(out[0], x[0], y[0], out[_T_BYTES])
            return
        # Broadcasting: a stride of 0 along every axis of size 1.
        strides = []
        for tensor in (x, y):
            own = _strides(tensor[_T_SHAPE:_T_FLAGS])
            strides.append([own[axis] if tensor[_T_SHAPE + axis] > 1 else 0 for axis in range(4)])
        s1, s2 = strides
        p[_P_STRIDE1] = s1[3]
        p[_P_STRIDE2] = s2[3]
        target = out[0]
        for n in range(out4[0]):
            for h in range(out4[1]):
                for w in range(out4[2]):
                    first = x[0] + n * s1[0] + h * s1[1] + w * s1[2]
                    second = y[0] + n * s2[0] + h * s2[1] + w * s2[2]
                    self._combine(target, first, second, out4[3])
                    target += out4[3]

    def _combine(self, out, x1, x2, count, plane=None, other=None):
        p = self._p
        p[_P_OUT] = out
        p[_P_X] = x1
        p[_P_X2] = x2
        p[_P_COUNT] = count
        arena = self.arena
        self.kernels.arithmetic(
            arena, arena if plane is None else plane, arena if other is None else other, p
        )

    def _sum_parameters(self, kind, a):
        p = self._p
        p[_P_ZERO] = a[0] + 128
        p[_P_ZERO2] = a[1] + 128
        p[_P_OUT_ZERO] = a[2] + 128
        if kind == _OPERATOR_MUL:
            self._scale(_P_SCALE + 8, a[_MUL_MULTIPLIER], a[_MUL_SHIFT])
            clamp = _MUL_CLAMP_MIN
        else:
            for index in range(3):
                at = _ADD_INPUT1_MULTIPLIER + 2 * index
                self._scale(_P_SCALE + 4 * index, a[at], a[at + 1])
            p[_P_LEFT_SHIFT] = a[_ADD_LEFT_SHIFT]
            clamp = _ADD_CLAMP_MIN
        p[_P_LOW] = a[clamp] + 128
        p[_P_HIGH] = a[clamp + 1] + 128

    def _scale(self, at, multiplier, shift):
        p = self._p
        p[at] = multiplier >> 16
        p[at + 1] = multiplier & 0xFFFF
        p[at + 2] = max(shift, 0)
        p[at + 3] = max(-shift, 0)

    def _pool(self, kind, a, x, out):
        p = self._p
        p[_P_X] = x[0]
        p[_P_OUT] = out[0]
        p[_P_OUT_W] = out[_T_SHAPE + 2]
        p[_P_OUT_H] = out[_T_SHAPE + 1]
        p[_P_CHANNELS] = x[_T_SHAPE + 3]
        p[_P_IN_H] = x[_T_SHAPE + 1]
        p[_P_IN_W] = x[_T_SHAPE + 2]
        p[_P_STRIDE_H] = a[_AVERAGE_POOL_2D_STRIDE_H]
        p[_P_STRIDE_W] = a[_AVERAGE_POOL_2D_STRIDE_W]
        p[_P_KERNEL_H] = a[_AVERAGE_POOL_2D_KERNEL_H]
        p[_P_KERNEL_W] = a[_AVERAGE_POOL_2D_KERNEL_W]
        p[_P_PAD_TOP] = a[_AVERAGE_POOL_2D_PAD_TOP]
        p[_P_PAD_LEFT] = a[_AVERAGE_POOL_2D_PAD_LEFT]
        p[_P_LOW] = a[_AVERAGE_POOL_2D_CLAMP_MIN] + 128
        p[_P_HIGH] = a[_AVERAGE_POOL_2D_CLAMP_MAX] + 128
        p[_P_MODE] = kind - _OPERATOR_AVERAGE_POOL_2D
        self.kernels.pool(self.arena, self.arena, p)

    def _mean(self, a, x, out):
        shape = x[_T_SHAPE:_T_FLAGS]
        strides = _strides(shape)
        counts = [1, 1, 1, 1]
        kept = [1, 1, 1, 1]
        cells = 1
        for axis in range(4):
            if a[_MEAN_AXES] >> axis & 1:
                counts[axis] = shape[axis]
                cells *= shape[axis]
            else:
                kept[axis] = shape[axis]
        zero = (a[_MEAN_INPUT_ZERO_POINT] + 128) * cells
        place = [0, 0, 0, 0]
        p = self._p
        for target in range(out[0], out[0] + out[_T_BYTES]):
            start = x[0]
            for axis in range(4):
                start += place[axis] * strides[axis]
            total = self._walk(0, start, counts, strides, strides, 0) - zero
            self._scale(_P_SCALE, a[_MEAN_MULTIPLIER], a[_MEAN_SHIFT])
            p[_P_OUT_ZERO] = a[_MEAN_OUTPUT_ZERO_POINT] + 128
            p[_P_LOW] = 0
            p[_P_HIGH] = 255
            p[_P_MODE] = 0
            self._store(p, target, total)
            axis = 3
            while axis:
                place[axis] += 1
                if place[axis] < kept[axis]:
                    break
                place[axis] = 0
                axis -= 1
            if not axis:
                place[0] += 1

    def _store(self, p, target, total):
        """One output from an accumulator: a convolution without weights."""
        p[_P_X] = p[_P_ROW] = p[_P_ZERO] = p[_P_KERNEL_H] = p[_P_Y_START] = p[_P_OUT_STRIDE_Y] = 0
        p[_P_Y_STOP] = p[_P_OUT_W] = 1
        p[_P_OUT] = target
        self.kernels.convolve(self.arena, self.arena, self.arena, p, total)

    def _softmax(self, a, x, out):
        """Over the last axis; reference/softmax.h with gemmlowp's fixed-point exponential and reciprocal."""
        arena = self.arena
        depth = x[_T_SHAPE + 3]
        multiplier = a[_SOFTMAX_MULTIPLIER]
        shift = a[_SOFTMAX_SHIFT]
        for start in range(0, x[_T_BYTES], depth):
            at = x[0] + start
            largest = max(arena[at : at + depth])
            exponentials = array("i")
            total = 0
            for index in range(at, at + depth):
                difference = arena[index] - largest
                e = 0
                if difference >= a[_SOFTMAX_DIFF_MIN]:
                    e = _exponential(_high_product(_wrap(difference << shift), multiplier))
                exponentials.append(e)
                total += _divide_by_power(e, 12)
            bits = 0
            while total >> bits:
                bits += 1
            scale = _reciprocal((total << 32 - bits) - (1 << 31))
            for index in range(depth):
                # 8 bits of 1 / 256 remain of Q0.31 times Q(12 - headroom)
                value = _divide_by_power(_high_product(scale, exponentials[index]), 3 + bits)
                arena[out[0] + start + index] = min(value, 255)

    def _weighted(self, operator, tail, out):
        """CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED under any schedule; `tail` is the other one of a
        pair."""
        x = self._tensor(operator.inputs[0])
        arena = self.arena
        kernels = self.kernels
        work = _Weighted(self)
        wide, narrow = work.open(operator, 0, len(self.scratch))
        if operator.kind == _OPERATOR_DEPTHWISE_CONV_2D:
            self._depthwise(work, x, out, narrow)
        elif operator.kind == _OPERATOR_FULLY_CONNECTED:
            self._fully_connected(work, x, out)
        elif tail is not operator:
            if tail.kind == _OPERATOR_DEPTHWISE_CONV_2D:
                self._fused_depthwise(work, tail, x, out, wide, narrow)
            else:
                self._fused_add(work, tail, x, out, narrow)
        else:
            work.geometry(x, out)
            p = work.p
            height = out[_T_SHAPE + 1]
            band = operator.parameter or height
            in_place = operator.schedule == _SCHEDULE_IN_PLACE
            if in_place:
                p[_P_X] = narrow = narrow - band * x[_T_SHAPE + 2] * x[_T_SHAPE + 3]
            first_out = p[_P_OUT]
            first_x = p[_P_X]
            for start in range(0, height, band):
                stop = min(start + band, height)
                source = arena
                if start:
                    work.rewind()
                if in_place:
                    size = x[_T_SHAPE + 2] * x[_T_SHAPE + 3]
                    source = self.scratch
                    self._copy(narrow, x[0] + start * size, 1, (stop - start) * size, out=source)
                    p[_P_IN_H] = p[_P_Y_STOP] = stop - start
                    first_out = out[0] + start * p[_P_OUT_STRIDE_Y]
                else:
                    p[_P_Y_START] = start
                    p[_P_Y_STOP] = stop
                per_group = work.rows // operator.attributes[_CONV_2D_GROUPS]
                for channel in range(work.rows):
                    p[_P_OUT] = first_out + channel
                    p[_P_X] = first_x + channel // per_group * p[_P_DEPTH]
                    bias, _ = work.next()
                    kernels.convolve(work.stream.buffer, source, arena, p, bias)

    def _fully_connected(self, work, x, out):
        p = work.p
        kernels = self.kernels
        arena = self.arena
        p[_P_X] = x[0]
        p[_P_IN_H] = p[_P_IN_W] = p[_P_KERNEL_H] = p[_P_KERNEL_W] = p[_P_DILATION_W] = 1
        p[_P_DEPTH] = p[_P_PIXEL] = x[_T_BYTES]
        p[_P_Y_STOP] = p[_P_OUT_W] = 1
        if work.pairs:
            p[_P_KERNEL_H] = 0
        for target in range(out[0], out[0] + work.rows):
            bias, count = work.next()
            p[_P_OUT] = target
            if work.pairs:
                stream = work.stream
                bias = kernels.dot_pairs(stream.buffer, arena, stream.buffer, p, stream.state, bias, count)
            kernels.convolve(work.stream.buffer, arena, arena, p, bias)

    def _open_plane(self, work, narrow):
        """Set up a depthwise operator on a padded plane in scratch; returns (offset, height, width)."""
        operator = work.operator
        p = work.p
        work.geometry(self._tensor(operator.inputs[0]), self._tensor(operator.outputs[0]))
        h, w = self._padded(operator)
        p[_P_X] = narrow = narrow - h * w
        p[_P_PAD_TOP] = p[_P_PAD_LEFT] = 0
        p[_P_IN_H] = h
        p[_P_IN_W] = w
        p[_P_DEPTH] = p[_P_PIXEL] = 1
        return narrow, h, w

    def _clear_plane(self, work, at, size):
        self._copy(at, 0, 1, size, out=self.scratch, x=bytes((work.p[_P_ZERO],)), step=0)

    def _depthwise(self, work, x, out, narrow):
        """Channel by channel: the input plane with its padding in scratch, then the outputs."""
        operator = work.operator
        a = operator.attributes
        p = work.p
        at, h, w = self._open_plane(work, narrow)
        self._clear_plane(work, at, h * w)
        channels = x[_T_SHAPE + 3]
        width = x[_T_SHAPE + 2]
        top = a[_CONV_2D_PAD_TOP]
        left = a[_CONV_2D_PAD_LEFT]
        rows = min(x[_T_SHAPE + 1], h - top)
        columns = min(width, w - left)
        height = out[_T_SHAPE + 1]
        band = operator.parameter or height
        multiplier = work.rows // channels
        for start in range(0, height, band):
            if start:
                work.rewind()
            p[_P_Y_START] = start
            p[_P_Y_STOP] = min(start + band, height)
            for channel in range(work.rows):
                if channel % multiplier == 0 and rows > 0 and columns > 0:
                    source = x[0] + channel // multiplier
                    stride = width * channels
                    self._copy(
                        at + top * w + left, source, rows, columns, w, stride, 0, self.scratch, step=channels
                    )
                bias, _ = work.next()
                p[_P_OUT] = out[0] + channel
                self.kernels.convolve(work.stream.buffer, self.scratch, self.arena, p, bias)

    def _fused_depthwise(self, work, tail, x, out, wide, narrow):
        """Each channel's plane goes from the convolution into padded scratch and from there through the
        tail."""
        second = _Weighted(self)
        wide, narrow = second.open(tail, wide, narrow)
        at, h, w = self._open_plane(second, narrow)
        self._clear_plane(second, at, h * w)
        middle = self._tensor(tail.inputs[0])
        work.geometry(x, middle)
        p = work.p
        a = tail.attributes
        # Rows and columns that the tail's window never reaches are not made.
        top = a[_CONV_2D_PAD_TOP]
        left = a[_CONV_2D_PAD_LEFT]
        p[_P_Y_STOP] = max(0, min(middle[_T_SHAPE + 1], h - top))
        p[_P_OUT_W] = max(0, min(middle[_T_SHAPE + 2], w - left))
        p[_P_OUT] = at + top * w + left
        p[_P_OUT_STRIDE_X] = 1
        p[_P_OUT_STRIDE_Y] = w
        per_group = work.rows // work.operator.attributes[_CONV_2D_GROUPS]
        for channel in range(work.rows):
            p[_P_X] = x[0] + channel // per_group * p[_P_DEPTH]
            bias, _ = work.next()
            self.kernels.convolve(work.stream.buffer, self.arena, self.scratch, p, bias)
            bias, _ = second.next()
            second.p[_P_OUT] = out[0] + channel
            self.kernels.convolve(second.stream.buffer, self.scratch, self.arena, second.p, bias)

    def _fused_add(self, work, tail, x, out, narrow):
        """Each channel's plane goes into scratch and is added to the other input's channel."""
        middle = work.operator.outputs[0]
        plane_first = tail.inputs[0] == middle
        other = self._tensor(tail.inputs[1 if plane_first else 0])
        work.geometry(x, self._tensor(middle))
        p = work.p
        count = out[_T_SHAPE + 1] * out[_T_SHAPE + 2]
        channels = out[_T_SHAPE + 3]
        at = narrow - count
        p[_P_OUT] = at
        p[_P_OUT_STRIDE_X] = 1
        p[_P_OUT_STRIDE_Y] = out[_T_SHAPE + 2]
        self._p[_P_MODE] = tail.kind - _OPERATOR_ADD
        self._sum_parameters(tail.kind, tail.attributes)
        self._p[_P_OUT_STRIDE_X] = channels
        self._p[_P_STRIDE1] = 1 if plane_first else channels
        self._p[_P_STRIDE2] = channels if plane_first else 1
        per_group = work.rows // work.operator.attributes[_CONV_2D_GROUPS]
        for channel in range(work.rows):
            p[_P_X] = x[0] + channel // per_group * p[_P_DEPTH]
            bias, _ = work.next()
            self.kernels.convolve(work.stream.buffer, self.arena, self.scratch, p, bias)
            own = other[0] + channel
            if plane_first:
                self._combine(out[0] + channel, at, own, count, plane=self.scratch)
            else:
                self._combine(out[0] + channel, own, at, count, other=self.scratch)


def _round_even(numerator, denominator):
    """Nearest integer of a quotient, halves to even, as float arithmetic rounds."""
    whole = numerator // denominator
    rest = 2 * (numerator - whole * denominator)
    return whole + (rest > denominator or (rest == denominator and whole & 1))


def _wrap(x):
    return (x + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def _high_product(a, b):
    """gemmlowp's SaturatingRoundingDoublingHighMul."""
    return min(a * b + 0x40000000 >> 31, 0x7FFFFFFF)


def _divide_by_power(x, exponent):
    """gemmlowp's RoundingDivideByPOT: halves away from zero."""
    if not exponent:
        return x
    return (x + (x >> 31) >> exponent - 1) + 1 >> 1


def _exponential(a):
    """exp(a) in Q0.31 for a <= 0 in Q5.26; gemmlowp's exp_on_negative_values."""
    if not a:
        return 0x7FFFFFFF
    within = (a & 0xFFFFFF) - 0x1000000
    # exp on [-1/4, 0) by a polynomial about -1/8
    x = (within << 5) + (1 << 28)
    x2 = _high_product(x, x)
    x3 = _high_product(x2, x)
    x4 = _divide_by_power(_high_product(x2, x2), 2)
    factor = x + _divide_by_power(_high_product(x4 + x3, 715827883) + x2, 1)
    result = 1895147668 + _high_product(1895147668, factor)
    rest = within - a >> 24
    for factor in (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242):
        if rest & 1:
            result = _high_product(result, factor)
        rest >>= 1
    return result


def _reciprocal(a):
    """1 / (1 + a) in Q0.31 for a in [0, 1) in Q0.31: three Newton-Raphson steps; gemmlowp's
    one_over_one_plus_x."""
    half = a + 0x80000000 >> 1
    x = 1515870810 + _high_product(half, -1010580540)
    for _ in range(3):
        error = _high_product(x, (1 << 29) - _high_product(half, x))
        x = _wrap(x + min(max(error << 2, -0x80000000), 0x7FFFFFFF))
    return min(x << 1, 0x7FFFFFFF)
