"""Cross checks of a parsed file: do shapes, attributes, constants, schedules and the arena agree with each
other?

``container.parse`` calls ``cross_check`` once the PROGRAM section is read. The order is that of
docs/FORMAT.md, section 7.4: for each operator its operands, then the order of execution, the data types, the
shapes and attributes of its kind, its schedule, its stream scratch; then the arena, then the outputs. Kernels
trust what passed here."""

from __future__ import annotations

from collections.abc import Callable

from model_packager.container_read import (
    DTYPE_RANGES,
    SHIFT_MAX,
    SHIFT_MIN,
    ParsedConstant,
    ParsedFile,
    ParsedOperator,
    ParsedTensor,
    aligned,
    fail,
    stream_descriptor,
)
from model_packager.encoders.scratch import stream_scratch_bytes
from model_packager.errors import FormatError
from model_packager.format_table import (
    OPERATOR_ATTRIBUTES,
    OPERATOR_CONSTANTS,
    ConstantKind,
    DType,
    ErrorCode,
    Feature,
    Layout,
    OperatorKind,
    RequantForm,
    ScheduleKind,
    TensorFlag,
    ValueMap,
)
from model_packager.model import bit_channels

WEIGHTED = (OperatorKind.CONV_2D, OperatorKind.DEPTHWISE_CONV_2D, OperatorKind.FULLY_CONNECTED)
POOLS = (OperatorKind.AVERAGE_POOL_2D, OperatorKind.MAX_POOL_2D)
TWO_INPUTS = (
    OperatorKind.ADD,
    OperatorKind.SUB,
    OperatorKind.MUL,
    OperatorKind.MAXIMUM,
    OperatorKind.MINIMUM,
)
ELEMENT_WISE = (*TWO_INPUTS, OperatorKind.LOOKUP)
# What takes tensors of bits; those with weights may take or make bits at one end only.
BIT_WEIGHTED = (OperatorKind.CONV_2D, OperatorKind.FULLY_CONNECTED)
BIT_MOVING = (OperatorKind.MAX_POOL_2D, OperatorKind.PAD, OperatorKind.RESHAPE)
FUSED_TAILS = {
    ScheduleKind.FUSED_DEPTHWISE: (OperatorKind.DEPTHWISE_CONV_2D,),
    ScheduleKind.FUSED_ADD: (OperatorKind.ADD, OperatorKind.SUB),
}
CONSTANT_KINDS = {
    "weights": ConstantKind.WEIGHTS,
    "requant": ConstantKind.REQUANT,
    "bias": ConstantKind.INTEGERS,
    "table": ConstantKind.INTEGERS,
}
# Of operators that make floats; nothing is requantised.
FLOAT_CONSTANT_KINDS = {
    "weights": ConstantKind.FLOATS,
    "bias": ConstantKind.FLOATS,
    "table": ConstantKind.FUNCTION,
}
INTEGER_ATTRIBUTES = ("zero_point", "multiplier", "shift", "clamp_min", "clamp_max", "diff_min", "value")
WINDOW_LIMIT = 65535  # largest kernel, stride, dilation and pad, so that products of two fit 32 bits


class _Check:
    """The checks of one operator; ``head`` is the fused convolution before it, if there is one."""

    def __init__(self, parsed: ParsedFile, index: int, head: ParsedOperator | None) -> None:
        self.parsed = parsed
        self.index = index
        self.operator: ParsedOperator = parsed.operators[index]
        self.head = head
        self.inputs: list[ParsedTensor] = [parsed.tensors[tensor] for tensor in self.operator.inputs]
        self.outputs: list[ParsedTensor] = [parsed.tensors[tensor] for tensor in self.operator.outputs]

    def bad(self, detail: str) -> FormatError:
        return fail(ErrorCode.BAD_OPERATOR, f"operator {self.index} ({self.operator.kind.name}): {detail}")

    def require(self, condition: bool, detail: str) -> None:
        if not condition:
            raise self.bad(detail)

    def attribute(self, name: str, low: int, high: int) -> int:
        """The attribute's value, which must lie in low .. high."""
        value = self.operator.attributes[name]
        if not low <= value <= high:
            raise self.bad(f"{name} is {value}, outside {low} to {high}")
        return value

    def constant(self, position: int) -> ParsedConstant | None:
        constants = self.operator.constants
        index = constants[position] if position < len(constants) else None
        return None if index is None else self.parsed.constants[index]

    @property
    def is_float(self) -> bool:
        return bool(self.outputs) and self.outputs[0].dtype is DType.FLOAT32

    # -- operands

    def operands(self) -> None:
        count = len(self.inputs)
        if self.operator.kind is OperatorKind.CONCATENATION:
            self.require(count >= 1, "it has no inputs")
        else:
            needed = 2 if self.operator.kind in TWO_INPUTS else 1
            self.require(count == needed, f"it has {count} inputs, not {needed}")
        self.require(len(self.outputs) == 1, f"it has {len(self.outputs)} outputs, not 1")
        names = OPERATOR_CONSTANTS.get(self.operator.kind, ())
        self.require(len(self.operator.constants) <= len(names), "it has too many constants")
        kinds = FLOAT_CONSTANT_KINDS if self.is_float else CONSTANT_KINDS
        for position, name in enumerate(names):
            constant, what = self.constant(position), name.strip("[]")
            if constant is None:
                self.require(name.startswith("[") or what not in kinds, f"its {what} are missing")
            else:
                self.require(constant.kind is kinds.get(what), f"its {what} are of the wrong kind")
        if self.is_float:
            self.float_attributes()

    def float_attributes(self) -> None:
        """What only integers need has its default."""
        self.require(self.operator.schedule is ScheduleKind.WHOLE, "an operator on floats has a schedule")
        for item in OPERATOR_ATTRIBUTES[self.operator.kind]:
            if item.name.endswith(INTEGER_ATTRIBUTES):
                value = self.operator.attributes[item.name]
                self.require(value == item.default, f"its {item.name} is {value}, and its tensors are floats")

    def dtypes(self) -> None:
        first = self.outputs[0].dtype
        every = {tensor.dtype for tensor in (*self.inputs, *self.outputs)}
        if DType.BIT in every and self.operator.kind in BIT_WEIGHTED:
            self.require(every <= {DType.BIT, DType.INT8}, "bits go with int8 only")
            self.require(self.operator.schedule is ScheduleKind.WHOLE, "an operator on bits has a schedule")
            return
        self.require(all(tensor.dtype is first for tensor in self.inputs), "its tensors differ in dtype")
        if self.operator.kind is OperatorKind.LOOKUP:
            self.require(first in (DType.INT8, DType.FLOAT32), "a table takes int8 only")
        self.require(first is not DType.BIT or self.operator.kind in BIT_MOVING, "it takes no bits")

    # -- shapes and attributes

    def zero_point(self, name: str, dtype: DType | None = None) -> None:
        self.attribute(name, *DTYPE_RANGES[self.outputs[0].dtype if dtype is None else dtype])

    def clamp(self) -> None:
        if self.outputs[0].dtype in (DType.BIT, DType.FLOAT32):
            self.attribute("clamp_min", -128, -128)
            self.attribute("clamp_max", 127, 127)
            return
        low, high = DTYPE_RANGES[self.outputs[0].dtype]
        least = self.attribute("clamp_min", low, high)
        self.attribute("clamp_max", least, high)

    def scaling(self, prefix: str) -> None:
        self.attribute(f"{prefix}multiplier", 0, (1 << 31) - 1)
        self.attribute(f"{prefix}shift", SHIFT_MIN, SHIFT_MAX)

    def window(self) -> None:
        """Kernel, stride, dilation and pads give the output's height and width from the input's."""
        before, after = self.inputs[0].shape4, self.outputs[0].shape4
        self.require(before[0] == 1 and after[0] == 1, "the batch is not 1")
        for axis, letter, low, high in ((1, "h", "top", "bottom"), (2, "w", "left", "right")):
            kernel = self.attribute(f"kernel_{letter}", 1, WINDOW_LIMIT)
            stride = self.attribute(f"stride_{letter}", 1, WINDOW_LIMIT)
            dilation = 1
            if f"dilation_{letter}" in self.operator.attributes:
                dilation = self.attribute(f"dilation_{letter}", 1, WINDOW_LIMIT)
            extent = (kernel - 1) * dilation + 1
            # A pad as large as the window would give a pool a window that sees no input at all.
            widest = extent - 1 if self.operator.kind in POOLS else WINDOW_LIMIT
            pads = self.attribute(f"pad_{low}", 0, widest) + self.attribute(f"pad_{high}", 0, widest)
            reach = before[axis] + pads - extent
            self.require(reach >= 0, f"the window of {extent} is larger than the padded input")
            size = reach // stride + 1
            self.require(after[axis] == size, f"its output has {after[axis]} on axis {axis}, not {size}")

    def weighted(self) -> None:
        rows, cols = self.weights_shape()
        self.zero_point("input_zero_point", self.inputs[0].dtype)
        self.zero_point("output_zero_point")
        self.clamp()
        bias, to_bits = self.constant(2), self.outputs[0].dtype is DType.BIT
        if not self.is_float:
            self.requantised(rows, to_bits)
        if bias is not None:
            count = bias.fields["rows" if self.is_float else "count"]
            self.require(count == rows, f"{count} biases for {rows} rows")
            self.require(bias.fields.get("cols", 1) == 1, "its biases are no column")
        channels = self.inputs[0].shape4[3]
        if self.inputs[0].dtype is DType.BIT:
            channels = self.bit_input()
        if self.operator.kind is OperatorKind.FULLY_CONNECTED:
            size = self.inputs[0].element_count // self.inputs[0].shape4[3] * channels
            outputs = self.outputs[0].element_count
            self.require(cols == size, f"{cols} columns for {size} inputs")
            self.require(rows == outputs, f"{rows} rows for {outputs} outputs")
            self.require(not to_bits or self.outputs[0].shape4[3] == rows, "its bits are not in one row")
            return
        self.window()
        taps = self.operator.attributes["kernel_h"] * self.operator.attributes["kernel_w"]
        self.require(
            rows == self.outputs[0].shape4[3], f"{rows} rows for {self.outputs[0].shape4[3]} channels"
        )
        if self.operator.kind is OperatorKind.CONV_2D:
            groups = self.attribute("groups", 1, channels)
            self.require(
                channels % groups == 0 and rows % groups == 0, f"{groups} groups do not divide channels"
            )
            taps *= channels // groups
        else:
            self.attribute("groups", 1, 1)
            self.require(rows % channels == 0, f"{rows} rows are no multiple of {channels} channels")
        self.require(cols == taps, f"{cols} columns, not {taps}")

    def requantised(self, rows: int, to_bits: bool) -> None:
        requant = self.constant(1)
        assert requant is not None
        count = requant.fields["count"]
        self.require(count in (1, rows), f"{count} requantisations for {rows} rows")
        is_sign = requant.fields["form"] == RequantForm.SIGN
        self.require(is_sign == to_bits, "its output and its requantisation disagree about bits")

    def bit_input(self) -> int:
        """Weights of an operator that reads bits; returns the channels that its rows have for each cell."""
        weights = self.constant(0)
        assert weights is not None
        kind = weights.fields["layout"], weights.fields["value_map"]
        self.require(kind == (Layout.BITS, ValueMap.BINARY), "it reads bits with weights that are not binary")
        if self.operator.kind is OperatorKind.CONV_2D:
            for name in ("groups", "dilation_h", "dilation_w"):
                self.attribute(name, 1, 1)
        return bit_channels(self.inputs[0].shape4[3])

    def weights_shape(self) -> tuple[int, int]:
        constant = self.constant(0)
        assert constant is not None
        return constant.fields["rows"], constant.fields["cols"]

    def broadcast(self) -> None:
        after = self.outputs[0].shape4
        pairs = zip(*(tensor.shape4 for tensor in self.inputs), strict=True)
        for axis, (first, second) in enumerate(pairs):
            fits = first == second or first == 1 or second == 1
            size = max(first, second)
            self.require(fits and after[axis] == size, f"its shapes do not match on axis {axis}")

    def added(self) -> None:
        self.broadcast()
        for name in ("input1", "input2", "output"):
            self.zero_point(f"{name}_zero_point")
            self.scaling(f"{name}_")
        self.attribute("left_shift", 0, SHIFT_MAX)
        self.clamp()

    def multiplied(self) -> None:
        self.broadcast()
        for name in ("input1", "input2", "output"):
            self.zero_point(f"{name}_zero_point")
        self.scaling("")
        self.clamp()

    def pooled(self) -> None:
        self.window()
        self.require(self.inputs[0].shape4[3] == self.outputs[0].shape4[3], "its channel counts differ")
        self.clamp()

    def averaged(self) -> None:
        axes = self.attribute("axes", 1, 15)
        kept = 1
        for axis, size in enumerate(self.inputs[0].shape4):
            kept *= 1 if axes >> axis & 1 else size
        count = self.outputs[0].element_count
        self.require(count == kept, f"its output has {count} elements, not {kept}")
        self.zero_point("input_zero_point")
        self.zero_point("output_zero_point")
        self.scaling("")

    def softmax(self) -> None:
        self.same_shape()
        self.attribute("multiplier", 0, (1 << 31) - 1)
        self.attribute("shift", 0, SHIFT_MAX)
        self.attribute("diff_min", -(1 << 31), 0)

    def same_shape(self) -> None:
        self.require(self.inputs[0].shape4 == self.outputs[0].shape4, "its shapes differ")

    def same_count(self) -> None:
        counts = self.inputs[0].element_count, self.outputs[0].element_count
        self.require(counts[0] == counts[1], f"it makes {counts[1]} elements out of {counts[0]}")
        if self.outputs[0].dtype is DType.BIT:
            channels = self.inputs[0].shape4[3], self.outputs[0].shape4[3]
            whole = channels[0] % 32 == channels[1] % 32 == 0
            self.require(whole or channels[0] == channels[1], "its channels are no whole words")

    def lookup(self) -> None:
        self.same_count()
        if self.is_float:
            return
        table = self.constant(0)
        assert table is not None
        self.require(
            table.fields["count"] == 256 and table.fields["bits"] == 8,
            "its table is not 256 integers of 8 bits",
        )

    def concatenated(self) -> None:
        joined = self.attribute("axis", 0, 3)
        after = self.outputs[0].shape4
        for axis in range(4):
            sizes = [tensor.shape4[axis] for tensor in self.inputs]
            fits = sum(sizes) == after[axis] if axis == joined else set(sizes) == {after[axis]}
            self.require(fits, f"its shapes do not match on axis {axis}")

    def padded(self) -> None:
        self.zero_point("value")
        for axis in range(4):
            before, after = self.inputs[0].shape4[axis], self.outputs[0].shape4[axis]
            low = self.attribute(f"before_{axis}", 0, after)
            high = self.attribute(f"after_{axis}", 0, after)
            self.require(low + before + high == after, f"its shapes do not match on axis {axis}")
        if self.outputs[0].dtype is DType.BIT:
            channels = self.inputs[0].shape4[3], self.outputs[0].shape4[3]
            self.require(channels[0] == channels[1], "it pads the channels of bits")

    def transposed(self) -> None:
        sources = [self.attribute(f"axis_{axis}", 0, 3) for axis in range(4)]
        self.require(sorted(sources) == [0, 1, 2, 3], f"its axes {sources} are no permutation")
        for axis, source in enumerate(sources):
            same = self.outputs[0].shape4[axis] == self.inputs[0].shape4[source]
            self.require(same, f"its shapes do not match on axis {axis}")

    def sliced(self) -> None:
        for axis in range(4):
            before, after = self.inputs[0].shape4[axis], self.outputs[0].shape4[axis]
            begin = self.attribute(f"begin_{axis}", 0, before - 1)
            stride = self.attribute(f"stride_{axis}", 1, before)
            self.require(begin + (after - 1) * stride < before, f"it reads behind the end of axis {axis}")

    def resized(self) -> None:
        before, after = self.inputs[0].shape4, self.outputs[0].shape4
        self.require(before[0] == after[0] and before[3] == after[3], "its batches or channel counts differ")
        self.attribute("align_corners", 0, 1)
        self.attribute("half_pixel_centers", 0, 1)

    # -- schedule

    def schedule(self) -> None:
        schedule, parameter = self.operator.schedule, self.operator.schedule_parameter
        if self.head is not None:
            self.fused_tail(self.head)
        elif schedule in FUSED_TAILS:
            self.fused_head()
        elif schedule is ScheduleKind.IN_PLACE:
            self.in_place()
        elif schedule is ScheduleKind.BANDS:
            self.bands()
        else:
            for tensor in self.inputs:
                same = tensor.arena_offset == self.outputs[0].arena_offset
                if not (same and self.operator.kind is OperatorKind.RESHAPE):
                    self.apart(tensor)
        if schedule in FUSED_TAILS:
            self.require(parameter == 0, f"schedule parameter {parameter}, not 0")

    def apart(self, tensor: ParsedTensor) -> None:
        self.require(not overlap(tensor, self.outputs[0]), "its output overlaps an input")

    def in_place(self) -> None:
        output, parameter = self.outputs[0], self.operator.schedule_parameter
        if self.operator.kind is OperatorKind.CONV_2D:
            self.require(self.is_pointwise(), "only 1 x 1 without pads that does not widen runs in place")
            self.require(1 <= parameter <= output.shape4[1], f"bands of {parameter} rows")
        else:
            self.require(parameter == 0, f"schedule parameter {parameter}, not 0")
            if self.operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
                self.require(self.is_plane_wise(), "only a shape-keeping depthwise one runs in place")
            else:
                self.require(self.operator.kind in ELEMENT_WISE, "it cannot run in place")
        self.replaces_an_input(self.inputs)

    def replaces_an_input(self, inputs: list[ParsedTensor]) -> None:
        """The output takes the place of one input, of the size of one that is read element by element."""
        output = self.outputs[0]
        same = [tensor.arena_offset == output.arena_offset for tensor in inputs]
        self.require(any(same), "its output is not in the place of an input")
        for tensor, in_place in zip(inputs, same, strict=True):
            if not in_place:
                self.apart(tensor)
            elif self.operator.kind in ELEMENT_WISE:
                sizes = tensor.element_count, output.element_count
                self.require(sizes[0] == sizes[1], "its output is larger than the input in its place")

    def is_pointwise(self) -> bool:
        attributes = self.operator.attributes
        ones = ("kernel_h", "kernel_w", "stride_h", "stride_w", "groups")
        before, after = self.inputs[0].shape4, self.outputs[0].shape4
        # With pads the output has more rows, and would be written over input that is still to be read.
        kept = before[1:3] == after[1:3] and after[3] <= before[3]
        return kept and all(attributes[name] == 1 for name in ones)

    def is_plane_wise(self) -> bool:
        strides = self.operator.attributes["stride_h"], self.operator.attributes["stride_w"]
        return strides == (1, 1) and self.inputs[0].shape4 == self.outputs[0].shape4

    def bands(self) -> None:
        kinds = (OperatorKind.CONV_2D, OperatorKind.DEPTHWISE_CONV_2D)
        parameter, height = self.operator.schedule_parameter, self.outputs[0].shape4[1]
        self.require(self.operator.kind in kinds, "only convolutions run in bands")
        self.require(1 <= parameter <= height, f"bands of {parameter} rows")
        self.apart(self.inputs[0])

    def fused_head(self) -> None:
        operators = self.parsed.operators
        self.require(self.operator.kind is OperatorKind.CONV_2D, "only CONV_2D is fused with what follows")
        self.require(self.index + 1 < len(operators), "nothing follows it")
        tail = operators[self.index + 1]
        allowed = FUSED_TAILS[self.operator.schedule]
        self.require(tail.kind in allowed, f"it is fused with {tail.kind.name}")
        between = self.operator.outputs[0]
        self.require(tail.inputs.count(between) == 1, "the next operator does not read its output once")
        persistent = self.outputs[0].flags & TensorFlag.PERSISTENT
        is_output = any(port.tensor == between for port in self.parsed.outputs)
        self.require(not persistent and not is_output, "a fused tensor is persistent or a model output")

    def fused_tail(self, head: ParsedOperator) -> None:
        source, between = self.parsed.tensors[head.inputs[0]], head.outputs[0]
        self.apart(source)
        if self.operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
            same = self.inputs[0].shape4[3] == self.outputs[0].shape4[3]
            self.require(same, "a fused depthwise convolution has multiplier 1")
            self.require(self.operator.schedule is ScheduleKind.WHOLE, "a fused tail has a schedule")
            return
        others = [self.parsed.tensors[tensor] for tensor in self.operator.inputs if tensor != between]
        shapes = {tensor.shape4 for tensor in (*self.inputs, *self.outputs)}
        self.require(len(shapes) == 1, "a fused sum has different shapes")
        self.require(self.operator.schedule_parameter == 0, "a fused tail has a schedule parameter")
        if self.operator.schedule is ScheduleKind.IN_PLACE:
            self.replaces_an_input(others)
        else:
            self.require(self.operator.schedule is ScheduleKind.WHOLE, "a fused tail has a schedule")
            self.apart(others[0])

    def scratch_bytes(self) -> int:
        if self.operator.kind not in WEIGHTED or self.is_float:
            return 0
        constant = self.constant(0)
        assert constant is not None
        return stream_scratch_bytes(stream_descriptor(constant.fields))


_SHAPES: dict[OperatorKind, Callable[[_Check], None]] = {
    OperatorKind.CONV_2D: _Check.weighted,
    OperatorKind.DEPTHWISE_CONV_2D: _Check.weighted,
    OperatorKind.FULLY_CONNECTED: _Check.weighted,
    OperatorKind.ADD: _Check.added,
    OperatorKind.SUB: _Check.added,
    OperatorKind.MUL: _Check.multiplied,
    OperatorKind.AVERAGE_POOL_2D: _Check.pooled,
    OperatorKind.MAX_POOL_2D: _Check.pooled,
    OperatorKind.MEAN: _Check.averaged,
    OperatorKind.SOFTMAX: _Check.softmax,
    OperatorKind.LOOKUP: _Check.lookup,
    OperatorKind.CONCATENATION: _Check.concatenated,
    OperatorKind.PAD: _Check.padded,
    OperatorKind.RESHAPE: _Check.same_count,
    OperatorKind.TRANSPOSE: _Check.transposed,
    OperatorKind.SLICE: _Check.sliced,
    OperatorKind.RESIZE_NEAREST: _Check.resized,
    OperatorKind.MAXIMUM: _Check.broadcast,
    OperatorKind.MINIMUM: _Check.broadcast,
}


def overlap(first: ParsedTensor, second: ParsedTensor) -> bool:
    """Whether two tensors share bytes of the arena."""
    starts_before_end = first.arena_offset < second.arena_offset + second.size_bytes
    return starts_before_end and second.arena_offset < first.arena_offset + first.size_bytes


def cross_check(parsed: ParsedFile) -> None:
    """Check operators, arena and outputs against each other.

    Raises:
        FormatError: ``unsupported_feature``, ``bad_operator``, ``scratch_too_small``, ``bad_constant``,
            ``arena_too_small``, ``bad_tensor`` or ``bad_port``.
    """
    _check_floats(parsed)
    inputs = {port.tensor for port in parsed.inputs}
    ready = inputs | {i for i, t in enumerate(parsed.tensors) if t.flags & TensorFlag.PERSISTENT}
    written = set(inputs)
    between: set[int] = set()  # tensors of fused pairs: no place in the arena
    head: ParsedOperator | None = None
    head_scratch_bytes = largest_scratch_bytes = 0
    for index, operator in enumerate(parsed.operators):
        check = _Check(parsed, index, head)
        check.operands()
        for tensor in operator.inputs:
            check.require(tensor in ready, f"it reads tensor {tensor}, which nothing has written")
        output = operator.outputs[0]
        check.require(output not in written, f"it writes tensor {output}, which is written already")
        check.dtypes()
        _SHAPES[operator.kind](check)
        check.schedule()
        ready.add(output)
        written.add(output)
        scratch_bytes = check.scratch_bytes()
        if head is not None:
            # Both streams of a fused pair are open at once, and the tensor between them is gone.
            scratch_bytes += head_scratch_bytes
            ready.discard(head.outputs[0])
        if scratch_bytes > parsed.header.scratch_bytes:
            raise fail(
                ErrorCode.SCRATCH_TOO_SMALL,
                f"operator {index} needs {scratch_bytes} bytes of stream scratch,"
                f" the header says {parsed.header.scratch_bytes}",
            )
        largest_scratch_bytes = max(largest_scratch_bytes, scratch_bytes)
        is_head = head is None and operator.schedule in FUSED_TAILS
        head, head_scratch_bytes = (operator, scratch_bytes) if is_head else (None, 0)
        if is_head:
            between.add(output)
    if largest_scratch_bytes < parsed.header.scratch_bytes:
        raise fail(
            ErrorCode.BAD_CONSTANT,
            f"the header says {parsed.header.scratch_bytes} bytes of stream scratch,"
            f" the streams need {largest_scratch_bytes}",
        )
    _check_arena(parsed, between)
    for number, port in enumerate(parsed.outputs):
        if port.tensor not in ready:
            raise fail(ErrorCode.BAD_PORT, f"output {number} is tensor {port.tensor}, which nothing writes")


def _check_floats(parsed: ParsedFile) -> None:
    """A file of floats holds nothing else."""
    with_floats = parsed.header.required_features & Feature.FLOAT_TENSORS
    others = [i for i, tensor in enumerate(parsed.tensors) if tensor.dtype is not DType.FLOAT32]
    if with_floats and others:
        raise fail(ErrorCode.UNSUPPORTED_FEATURE, f"floats are required, and tensor {others[0]} has none")


def _check_arena(parsed: ParsedFile, between: set[int]) -> None:
    """The header's arena holds all tensors and nothing more, so that a bad file cannot ask for more RAM."""
    arena_bytes, largest_end = parsed.header.arena_bytes, 0
    for index, tensor in enumerate(parsed.tensors):
        if index in between:
            continue
        end = tensor.arena_offset + tensor.size_bytes
        if end > arena_bytes:
            raise fail(
                ErrorCode.ARENA_TOO_SMALL,
                f"tensor {index} ends at byte {end} of the arena, which has {arena_bytes}",
            )
        largest_end = max(largest_end, end)
    if arena_bytes != aligned(largest_end):
        raise fail(
            ErrorCode.BAD_TENSOR, f"the arena has {arena_bytes} bytes, the tensors end at {largest_end}"
        )
