"""Runs a checked program: a `Network` owns the arena and the scratch and executes operator after operator.

Activations in the arena are offset binary (q + 128 as an unsigned byte) while the network runs, and plain
int8 in the inputs before and the outputs after it. Every operator obeys the schedule in the file; the memory
plan is right only so (docs/DESIGN.md). Operators of a fused pair run as one step.
"""

import gc
import time
from array import array

from micropython import const

from thimble.errors import ThimbleError
from thimble.loader import Operator, Program, Source, refuse
from thimble.streams import Stream, row_bytes, stream_bytes

try:
    from thimble import kernels
except (ImportError, SyntaxError, ValueError):  # no native code on this board
    from thimble import kernels_bytecode as kernels  # type: ignore[no-redef]

# generated:begin OperatorKind ScheduleKind RequantForm ErrorCode:BAD_INPUT,OUT_OF_MEMORY Layout:SPARSE
# generated:also Attr:MEAN Attr:SOFTMAX Attr:CONV_2D Attr:MUL.MULTIPLIER,MUL.CLAMP_MIN Attr:AVERAGE_POOL_2D
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
_REQUANT_FORM_SIGN = const(3)
_ERROR_BAD_INPUT = const(-22)
_ERROR_OUT_OF_MEMORY = const(-23)
_LAYOUT_SPARSE = const(1)
_MEAN_AXES = const(0)
_MEAN_INPUT_ZERO_POINT = const(1)
_MEAN_OUTPUT_ZERO_POINT = const(2)
_MEAN_MULTIPLIER = const(3)
_MEAN_SHIFT = const(4)
_SOFTMAX_MULTIPLIER = const(0)
_SOFTMAX_SHIFT = const(1)
_SOFTMAX_DIFF_MIN = const(2)
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
_MUL_MULTIPLIER = const(3)
_MUL_CLAMP_MIN = const(5)
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
_P_ZERO = const(0)
_P_OUT_ZERO = const(1)
_P_LOW = const(2)
_P_HIGH = const(3)
_P_KERNEL_H = const(4)
_P_KERNEL_W = const(5)
_P_STRIDE_H = const(6)
_P_STRIDE_W = const(7)
_P_PAD_TOP = const(8)
_P_PAD_LEFT = const(9)
_P_DILATION_H = const(13)
_P_DILATION_W = const(14)
_P_ROW = const(15)
_P_X = const(16)
_P_OUT = const(17)
_P_OUT_STRIDE_X = const(18)
_P_OUT_STRIDE_Y = const(19)
_P_Y_START = const(20)
_P_Y_STOP = const(21)
_P_OUT_W = const(22)
_P_IN_H = const(23)
_P_IN_W = const(24)
_P_DEPTH = const(25)
_P_PIXEL = const(26)
_P_POWER_OF_TWO = const(27)
_P_MULTIPLIER = const(28)
_P_SHIFT = const(29)
_A_ZERO1 = const(0)
_A_ZERO2 = const(1)
_A_OUT_ZERO = const(2)
_A_SCALES = const(3)
_A_LEFT_SHIFT = const(9)
_A_LOW = const(10)
_A_HIGH = const(11)
_A_MODE = const(12)
_A_OUT = const(13)
_A_OUT_STRIDE = const(14)
_A_X1 = const(15)
_A_STRIDE1 = const(16)
_A_X2 = const(17)
_A_STRIDE2 = const(18)
_A_COUNT = const(19)
_W_OUT = const(0)
_W_X = const(1)
_W_MASK = const(2)
_W_TABLE = const(3)
_W_COUNTS = const(4)
_W_OUT_STRIDES = const(8)
_W_X_STRIDES = const(12)

_PAIRS_COLS = const(65536)  # positions of pairs have 16 bits
_P_SIZE = const(32)
_GARBAGE_BYTES = const(4096)
_DENSE = (0, 0, 0, 1)


def _strides(tensor):
    """Elements from one index to the next on each axis."""
    w = tensor[_T_SHAPE + 3]
    h = tensor[_T_SHAPE + 2] * w
    return [tensor[_T_SHAPE + 1] * h, h, w, 1]


class _Weighted:
    """A convolution or fully connected operator while it runs: its stream, its parameters `p` (which begin
    with its attributes), and where a channel's bias and scale are found."""

    def __init__(self, network, operator, wide, narrow):
        program = network.program
        constants = operator.constants
        p = self.p = operator.attributes
        for index in range(_P_HIGH + 1):
            p[index] += 128
        f = program.fields(constants[0] - 1)
        self.rows = f[3]
        self.pairs = uses_pairs(operator, f)
        self.stream = Stream(program.source, network.kernels, network.scratch, network.window_bytes)
        self.left = self.stream.open(f, program.data_offset + f[1], wide, narrow, self.pairs)
        self._scales = program.fields(constants[1] - 1)
        self._scale_data = network.constant(self._scales)
        self._biases = None
        if len(constants) > 2:
            self._biases = program.fields(constants[2] - 1)
            self._bias_data = network.constant(self._biases)
        p[_P_POWER_OF_TWO] = int(self._scales[4] == _REQUANT_FORM_POWER_OF_TWO)
        self._channel = 0
        self._per_group = 1

    def geometry(self, x, out):
        """A convolution of tensor x; the outputs lie as in tensor `out`."""
        p = self.p
        groups = p[_CONV_2D_GROUPS]
        self._per_group = self.rows // groups
        self.x = p[_P_X] = x[_T_OFFSET]
        p[_P_IN_H] = x[_T_SHAPE + 1]
        p[_P_IN_W] = x[_T_SHAPE + 2]
        p[_P_PIXEL] = x[_T_SHAPE + 3]
        p[_P_DEPTH] = x[_T_SHAPE + 3] // groups
        self.target(out[_T_OFFSET], out, out[_T_SHAPE + 3], out[_T_SHAPE + 2] * out[_T_SHAPE + 3])

    def target(self, at, out, stride_x, stride_y):
        p = self.p
        p[_P_OUT] = at
        p[_P_OUT_STRIDE_X] = stride_x
        p[_P_OUT_STRIDE_Y] = stride_y
        p[_P_Y_STOP] = out[_T_SHAPE + 1]
        p[_P_OUT_W] = out[_T_SHAPE + 2]

    def rewind(self):
        self.stream.rewind()
        self._channel = 0

    def next(self):
        """The next channel: its row, scale and inputs go into the parameters; returns (bias, number of
        pairs)."""
        count = self.stream.next_row()
        p = self.p
        p[_P_ROW] = self.stream.row
        channel = self._channel
        self._channel = channel + 1
        p[_P_X] = self.x + channel // self._per_group * p[_P_DEPTH]
        bias = 0
        if self._biases:
            data, at = self._bias_data
            bits = self._biases[4]
            start = bits * channel
            at += start >> 3
            for shift in range(0, (start & 7) + bits, 8):
                bias |= data[at] << shift
                at += 1
            bias = bias >> (start & 7) & (1 << bits) - 1
            bias -= bias >> bits - 1 << bits
        data, at = self._scale_data
        scales = self._scales
        if scales[3] == 1:
            channel = 0
        if scales[4] == _REQUANT_FORM_POWER_OF_TWO:
            p[_P_SHIFT] = 32 - data[at + channel]
        else:
            shift = at + 4 * scales[3] + channel
            at += 4 * channel
            high = data[at + 3]
            multiplier = (high << 8 | data[at + 2]) << 16 | data[at + 1] << 8 | data[at]
            if scales[4] == _REQUANT_FORM_PACKED:
                p[_P_SHIFT] = (high >> 6) + scales[5] + 32
                multiplier = multiplier & 0x3FFFFFFF | 0x40000000
            else:
                p[_P_SHIFT] = (data[shift] ^ 128) - 96
            p[_P_MULTIPLIER] = multiplier
        return bias, count

    def convolve(self, x, out):
        """The next channel of a convolution from buffer to buffer."""
        bias, _ = self.next()
        stream = self.stream
        stream.kernels.convolve(stream.buffer, self.p, x, out, bias)


def uses_pairs(operator, f):
    return operator.kind == _OPERATOR_FULLY_CONNECTED and f[5] == _LAYOUT_SPARSE and f[4] <= _PAIRS_COLS


class Network:
    """A loaded model. Fill `inputs` (writable int8 memoryviews into the arena), call `invoke`, read
    `outputs`; or call `run`. Inputs are used up by a run: tensors share the arena."""

    def __init__(self, source, window_bytes=512, lane=None):
        self.kernels = lane or kernels
        self.window_bytes = window_bytes
        source = Source(source)
        # The checks leave much garbage: unless it is collected early, what stays lies scattered among it,
        # and no place is left for the arena in a small heap.
        threshold = gc.threshold()
        gc.threshold(_GARBAGE_BYTES)
        try:
            self._load(Program(source))
        except Exception as error:
            source.close()
            if isinstance(error, MemoryError):
                raise ThimbleError(_ERROR_OUT_OF_MEMORY)
            raise
        finally:
            gc.threshold(threshold)

    def _load(self, program):
        self.program = program
        self.model_id = program.model_id
        self.model_version = program.model_version
        self.sha256 = program.sha256
        self.arena_bytes = program.arena_bytes
        self.scratch_bytes = program.scratch_bytes
        self.operator_count = len(program.operators)
        self._prepare()
        self.inputs = self._views(program.inputs)
        self.outputs = self._views(program.outputs)
        self.reset()

    def _prepare(self):
        """Lay out the RAM, once: the arena and, above the tensors that live while an operator runs, its
        scratch. model_packager.passes.kernel_scratch.ram_peak_bytes gives the same sum."""
        program = self.program
        count = self.operator_count
        last = {}
        for index in range(count):
            for tensor in self._operator(index).inputs:
                last[tensor] = index
        for port in program.outputs:
            last[port[0]] = count
        living = [port[0] for port in program.inputs if port[0] in last]
        for index in range(len(program.tensors) // _T_SIZE):
            if program.tensors[index * _T_SIZE + _T_FLAGS]:
                last[index] = count
                living.append(index)
        self._free = array("I", bytes(4 * count))
        total = program.arena_bytes
        own = end = 0
        head = False
        for index in range(count):
            operator = self._operator(index)
            if not head:
                own = end = 0
            own += self._kernel_bytes(operator)
            if operator.is_weighted():
                f = program.fields(operator.constants[0] - 1)
                wide, narrow = stream_bytes(f)
                own += wide + narrow + row_bytes(f, program.source.data is None, uses_pairs(operator, f))
            head = operator.schedule >= _SCHEDULE_FUSED_DEPTHWISE and not head
            if not head:
                living.append(operator.outputs[0])
            for tensor in living:
                end = max(end, self._span(tensor)[1] + 3 & ~3)
            self._free[index] = end
            total = max(total, end + own)
            if not head:
                living = [tensor for tensor in living if last.get(tensor, 0) > index]
        self.arena = bytearray(total)

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

    def _kernel_bytes(self, operator):
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
        refuse(len(inputs) != len(self.inputs), _ERROR_BAD_INPUT, len(inputs), "inputs")
        for index, view in enumerate(self.inputs):
            given = memoryview(inputs[index])
            if hasattr(given, "cast"):
                given = given.cast("B")  # the host's arrays have shapes and formats
            refuse(len(given) != len(view), _ERROR_BAD_INPUT, index, "input")
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
                self.scratch = memoryview(self.arena)[self._free[index] :]
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
                    self._copy(start, start, tensors[at + _T_BYTES], 128)

    # -- copies

    def _walk(
        self, target, start, counts, out_strides, x_strides, mode, mask=0, out=None, x=None, table=None, at=0
    ):
        """kernels.walk with `counts` steps on four axes; the arena is the default of out and x."""
        p = array("i", (target, start, mask, at))
        for values in (counts, out_strides, x_strides):
            for value in values:
                p.append(value)
        arena = self.arena
        x = arena if x is None else x
        return self.kernels.walk(p, 0, mode, x, x if table is None else table, arena if out is None else out)

    def _copy(self, target, start, count, mask=0, out=None, x=None, step=1):
        self._walk(target, start, (1, 1, 1, count), _DENSE, (0, 0, 0, step), 1, mask, out, x)

    # -- operators

    def _step(self, operator, head):
        kind = operator.kind
        out = self._tensor(operator.outputs[0])
        x = self._tensor(operator.inputs[0])
        a = operator.attributes
        size = out[_T_BYTES]
        if head or operator.is_weighted():
            self._weighted(head or operator, operator, out)
        elif kind <= _OPERATOR_MUL or kind >= _OPERATOR_MAXIMUM:
            self._two_inputs(operator, x, out)
        elif kind == _OPERATOR_MAX_POOL_2D or kind == _OPERATOR_AVERAGE_POOL_2D:
            self._pool(kind == _OPERATOR_MAX_POOL_2D, a, x, out)
        elif kind == _OPERATOR_MEAN:
            self._mean(a, x, out)
        elif kind == _OPERATOR_SOFTMAX:
            self._softmax(a, x, out)
        elif kind == _OPERATOR_LOOKUP:
            data, at = self.constant(self.program.fields(operator.constants[0] - 1))
            self._walk(out[0], x[0], (1, 1, 1, size), _DENSE, _DENSE, 2, 128, table=data, at=at)
        elif kind == _OPERATOR_RESHAPE:
            if x[0] != out[0]:
                self._copy(out[0], x[0], size)
        elif kind == _OPERATOR_RESIZE_NEAREST:
            self._resize(a, x, out)
        else:
            self._rearrange(operator, a, out)

    def _rearrange(self, operator, a, out):
        """PAD, TRANSPOSE, SLICE and CONCATENATION."""
        kind = operator.kind
        to = _strides(out)
        at = out[0]
        if kind == _OPERATOR_PAD:
            self._copy(at, 0, out[_T_BYTES], x=bytes((a[0] + 128,)), step=0)
            for axis in range(4):
                at += a[1 + axis] * to[axis]
        for tensor in operator.inputs:
            x = self._tensor(tensor)
            strides = _strides(x)
            start = x[0]
            shape = x if kind == _OPERATOR_CONCATENATION or kind == _OPERATOR_PAD else out
            if kind == _OPERATOR_SLICE:
                for axis in range(4):
                    start += a[axis] * strides[axis]
                    strides[axis] *= a[4 + axis]
            elif kind == _OPERATOR_TRANSPOSE:
                strides = [strides[a[axis]] for axis in range(4)]
            self._walk(at, start, shape[_T_SHAPE:_T_FLAGS], to, strides, 1)
            if kind == _OPERATOR_CONCATENATION:
                at += x[_T_SHAPE + a[0]] * to[a[0]]

    def _resize(self, a, x, out):
        channels = out[_T_SHAPE + 3]
        columns = _nearest(a, x[_T_SHAPE + 2], out[_T_SHAPE + 2])
        target = out[0]
        for batch in range(out[_T_SHAPE]):
            for y in _nearest(a, x[_T_SHAPE + 1], out[_T_SHAPE + 1]):
                row = x[0] + (batch * x[_T_SHAPE + 1] + y) * x[_T_SHAPE + 2] * channels
                for column in columns:
                    self._copy(target, row + column * channels, channels)
                    target += channels

    def _two_inputs(self, operator, x, out):
        kind = operator.kind
        p = operator.attributes
        if kind <= _OPERATOR_MUL:
            self._sum_parameters(kind, p)
        else:
            p[_A_HIGH] = 255
            p[_A_MODE] = kind - _OPERATOR_MAXIMUM + 3
        p[_A_OUT_STRIDE] = 1
        y = self._tensor(operator.inputs[1])
        size = out[_T_BYTES]
        if size == x[_T_BYTES] == y[_T_BYTES]:
            p[_A_STRIDE1] = p[_A_STRIDE2] = 1
            self._combine(p, out[0], x[0], y[0], size)
            return
        # Broadcasting: a stride of 0 along every axis of size 1.
        strides = []
        for tensor in (x, y):
            own = _strides(tensor)
            for axis in range(4):
                strides.append(own[axis] if tensor[_T_SHAPE + axis] > 1 else 0)
        p[_A_STRIDE1] = strides[3]
        p[_A_STRIDE2] = strides[7]
        target = out[0]
        for n in range(out[_T_SHAPE]):
            for h in range(out[_T_SHAPE + 1]):
                for w in range(out[_T_SHAPE + 2]):
                    first = x[0] + n * strides[0] + h * strides[1] + w * strides[2]
                    second = y[0] + n * strides[4] + h * strides[5] + w * strides[6]
                    self._combine(p, target, first, second, out[_T_SHAPE + 3])
                    target += out[_T_SHAPE + 3]

    def _combine(self, p, out, x1, x2, count, first=None, second=None):
        p[_A_OUT] = out
        p[_A_X1] = x1
        p[_A_X2] = x2
        p[_A_COUNT] = count
        arena = self.arena
        self.kernels.arithmetic(p, 0, first or arena, second or arena, arena)

    @staticmethod
    def _sum_parameters(kind, p):
        """The attributes of ADD, SUB or MUL as kernels.arithmetic wants them."""
        p[_A_MODE] = kind - _OPERATOR_ADD
        if kind == _OPERATOR_MUL:
            for index in range(2):
                p[_A_LOW + index] = p[_MUL_CLAMP_MIN + index]
                p[_A_SCALES + 4 + index] = p[_MUL_MULTIPLIER + index]
        for index in (_A_ZERO1, _A_ZERO2, _A_OUT_ZERO, _A_LOW, _A_HIGH):
            p[index] += 128
        for index in (_A_SCALES + 1, _A_SCALES + 3, _A_SCALES + 5):
            p[index] += 32

    def _pool(self, largest, a, x, out):
        height = x[_T_SHAPE + 1]
        width = x[_T_SHAPE + 2]
        channels = x[_T_SHAPE + 3]
        low = a[_AVERAGE_POOL_2D_CLAMP_MIN] + 128
        high = a[_AVERAGE_POOL_2D_CLAMP_MAX] + 128
        target = out[0]
        p = array("i", (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, low, high, 3, 0, 1, 0, 1, 0, 1, 0))
        for y in range(out[_T_SHAPE + 1]):
            top = y * a[_AVERAGE_POOL_2D_STRIDE_H] - a[_AVERAGE_POOL_2D_PAD_TOP]
            rows = range(max(top, 0), min(top + a[_AVERAGE_POOL_2D_KERNEL_H], height))
            for column in range(out[_T_SHAPE + 2]):
                left = column * a[_AVERAGE_POOL_2D_STRIDE_W] - a[_AVERAGE_POOL_2D_PAD_LEFT]
                columns = range(max(left, 0), min(left + a[_AVERAGE_POOL_2D_KERNEL_W], width))
                start = x[0] + (rows[0] * width + columns[0]) * channels
                if largest:
                    # The largest so far, with the next cell of all channels.
                    best = start
                    for iy in rows:
                        for ix in columns:
                            self._combine(p, target, best, x[0] + (iy * width + ix) * channels, channels)
                            best = target
                else:
                    count = len(rows) * len(columns)
                    counts = (1, 1, len(rows), len(columns))
                    strides = (0, 0, width * channels, channels)
                    for channel in range(channels):
                        total = self._walk(0, start + channel, counts, strides, strides, 0) - 128 * count
                        # halves away from zero
                        total = (
                            (total + count // 2) // count if total > 0 else -((count // 2 - total) // count)
                        )
                        self.arena[target + channel] = min(max(total + 128, low), high)
                target += channels

    def _mean(self, a, x, out):
        counts = [1, 1, 1, 1]
        kept = [1, 1, 1, 1]
        cells = 1
        for axis in range(4):
            if a[_MEAN_AXES] >> axis & 1:
                counts[axis] = x[_T_SHAPE + axis]
                cells *= counts[axis]
            else:
                kept[axis] = x[_T_SHAPE + axis]
        strides = _strides(x)
        zero = (a[_MEAN_INPUT_ZERO_POINT] + 128) * cells
        # One output from an accumulator is a convolution without weights.
        p = array("i", bytes(4 * _P_SIZE))
        p[_P_OUT_ZERO] = a[_MEAN_OUTPUT_ZERO_POINT] + 128
        p[_P_HIGH] = 255
        p[_P_MULTIPLIER] = a[_MEAN_MULTIPLIER]
        p[_P_SHIFT] = a[_MEAN_SHIFT] + 32
        p[_P_OUT_W] = p[_P_Y_STOP] = 1
        for index in range(out[_T_BYTES]):
            start = x[0]
            rest = index
            for axis in (3, 2, 1, 0):
                start += rest % kept[axis] * strides[axis]
                rest //= kept[axis]
            total = self._walk(0, start, counts, strides, strides, 0) - zero
            p[_P_OUT] = out[0] + index
            self.kernels.convolve(self.arena, p, self.arena, self.arena, total)

    def _softmax(self, a, x, out):
        """Over the last axis; reference/softmax.h with gemmlowp's fixed-point exponential and reciprocal."""
        arena = self.arena
        depth = x[_T_SHAPE + 3]
        for start in range(0, x[_T_BYTES], depth):
            at = x[0] + start
            largest = max(arena[at : at + depth])
            exponentials = array("i")
            total = 0
            for index in range(at, at + depth):
                difference = arena[index] - largest
                e = 0
                if difference >= a[_SOFTMAX_DIFF_MIN]:
                    e = _exponential(
                        _high_product(_wrap(difference << a[_SOFTMAX_SHIFT]), a[_SOFTMAX_MULTIPLIER])
                    )
                exponentials.append(e)
                total += _divide_by_power(e, 12)
            bits = 0
            while total >> bits:
                bits += 1
            scale = _reciprocal((total << 32 - bits) - (1 << 31))
            at = out[0] + start
            for e in exponentials:
                # what remains above 8 bits of Q0.31, and of the sum's headroom
                arena[at] = min(_divide_by_power(_high_product(scale, e), 3 + bits), 255)
                at += 1

    def _weighted(self, operator, tail, out):
        """CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED under any schedule; `tail` is the other one of a
        pair."""
        x = self._tensor(operator.inputs[0])
        work = _Weighted(self, operator, 0, len(self.scratch))
        if operator.kind == _OPERATOR_DEPTHWISE_CONV_2D:
            self._depthwise(work, operator, x, out)
        elif operator.kind == _OPERATOR_FULLY_CONNECTED:
            self._fully_connected(work, x, out)
        elif tail is operator:
            self._convolution(work, operator, x, out)
        elif tail.kind == _OPERATOR_DEPTHWISE_CONV_2D:
            self._fused_depthwise(work, tail, x, out)
        else:
            self._fused_add(work, operator, tail, x, out)

    def _fully_connected(self, work, x, out):
        p = work.p
        arena = self.arena
        work.x = x[0]
        p[_P_KERNEL_H] = int(not work.pairs)
        p[_P_KERNEL_W] = p[_P_DILATION_W] = p[_P_IN_H] = p[_P_IN_W] = p[_P_Y_STOP] = p[_P_OUT_W] = 1
        p[_P_DEPTH] = p[_P_PIXEL] = x[_T_BYTES]
        for target in range(out[0], out[0] + work.rows):
            p[_P_OUT] = target
            bias, count = work.next()
            stream = work.stream
            p[_P_X] = x[0]
            if work.pairs:
                bias = self.kernels.dot_pairs(
                    stream.buffer, arena, stream.buffer, p, stream.state, bias, count
                )
            self.kernels.convolve(stream.buffer, p, arena, arena, bias)

    def _convolution(self, work, operator, x, out):
        work.geometry(x, out)
        p = work.p
        height = out[_T_SHAPE + 1]
        band = operator.parameter or height
        row = x[_T_SHAPE + 2] * x[_T_SHAPE + 3]
        in_place = operator.schedule == _SCHEDULE_IN_PLACE
        source = self.scratch if in_place else self.arena
        if in_place:
            work.x = work.left[1] - band * row
        for start in range(0, height, band):
            stop = min(start + band, height)
            if start:
                work.rewind()
            first = out[0]
            if in_place:
                # The band's inputs are copied aside, so it is an image of its own.
                self._copy(work.x, x[0] + start * row, (stop - start) * row, out=source)
                p[_P_IN_H] = p[_P_Y_STOP] = stop - start
                first += start * p[_P_OUT_STRIDE_Y]
            else:
                p[_P_Y_START] = start
                p[_P_Y_STOP] = stop
            for p[_P_OUT] in range(first, first + work.rows):
                work.convolve(source, self.arena)

    def _open_plane(self, work, operator, x, out):
        """Make room for the padded plane of a depthwise operator, in which all its windows lie; returns
        where the channel begins, the length of the plane's rows, and how many rows and columns of the
        channel it holds."""
        p = work.p
        work.geometry(x, out)
        h, w = self._padded(operator)
        at = work.left[1] - h * w
        self._copy(at, 0, h * w, out=self.scratch, x=bytes((p[_P_ZERO],)), step=0)
        top = p[_P_PAD_TOP]
        left = p[_P_PAD_LEFT]
        work.x = at
        p[_P_PAD_TOP] = p[_P_PAD_LEFT] = 0
        p[_P_IN_H] = h
        p[_P_IN_W] = w
        p[_P_PIXEL] = 1
        p[_P_DEPTH] = 1
        # All channels read the same plane.
        work._per_group = work.rows
        rows = max(0, min(x[_T_SHAPE + 1], h - top))
        columns = max(0, min(x[_T_SHAPE + 2], w - left))
        return at + top * w + left, w, rows, columns

    def _depthwise(self, work, operator, x, out):
        """Channel by channel: the input plane with its padding in scratch, then the outputs."""
        p = work.p
        at, w, rows, columns = self._open_plane(work, operator, x, out)
        channels = x[_T_SHAPE + 3]
        height = out[_T_SHAPE + 1]
        band = operator.parameter or height
        multiplier = work.rows // channels
        strides = (0, 0, x[_T_SHAPE + 2] * channels, channels)
        for start in range(0, height, band):
            if start:
                work.rewind()
            p[_P_Y_START] = start
            p[_P_Y_STOP] = min(start + band, height)
            for channel in range(work.rows):
                if channel % multiplier == 0:
                    source = x[0] + channel // multiplier
                    self._walk(at, source, (1, 1, rows, columns), (0, 0, w, 1), strides, 1, out=self.scratch)
                p[_P_OUT] = out[0] + channel
                work.convolve(self.scratch, self.arena)

    def _fused_depthwise(self, work, tail, x, out):
        """Each channel's plane goes from the convolution into padded scratch and from there through the
        tail."""
        middle = self._tensor(tail.inputs[0])
        second = _Weighted(self, tail, *work.left)
        at, w, rows, columns = self._open_plane(second, tail, middle, out)
        work.geometry(x, middle)
        work.target(at, middle, 1, w)
        # Rows and columns that the tail's windows never reach are not made.
        work.p[_P_Y_STOP] = rows
        work.p[_P_OUT_W] = columns
        for second.p[_P_OUT] in range(out[0], out[0] + work.rows):
            work.convolve(self.arena, self.scratch)
            second.convolve(self.scratch, self.arena)

    def _fused_add(self, work, operator, tail, x, out):
        """Each channel's plane goes into scratch and is added to the other input's channel."""
        plane_first = tail.inputs[0] == operator.outputs[0]
        other = self._tensor(tail.inputs[1 if plane_first else 0])[0]
        work.geometry(x, out)
        count = out[_T_SHAPE + 1] * out[_T_SHAPE + 2]
        channels = out[_T_SHAPE + 3]
        at = work.left[1] - count
        work.target(at, out, 1, out[_T_SHAPE + 2])
        p = tail.attributes
        self._sum_parameters(tail.kind, p)
        p[_A_OUT_STRIDE] = channels
        p[_A_STRIDE1] = 1 if plane_first else channels
        p[_A_STRIDE2] = channels if plane_first else 1
        for channel in range(work.rows):
            work.convolve(self.arena, self.scratch)
            if plane_first:
                self._combine(p, out[0] + channel, at, other + channel, count, self.scratch)
            else:
                self._combine(p, out[0] + channel, other + channel, at, count, None, self.scratch)


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
