"""How much scratch an operator needs beside the arena: a model and an operator's index go in, bytes come out.

The memory plan minimises the sum of arena and scratch, ``thimble inspect`` prints it and a test measures it
in the executor, so the formulas stand here once. *Stream scratch* is the decoder's tables and row buffer (it
depends on the encoding); *kernel scratch* is what the operator's loops copy aside (it depends on the
operator, its schedule and the executor).
"""

from __future__ import annotations

from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.encoders.scratch import (
    is_raw,
    row_buffer_bytes,
    stream_scratch_bytes,
    stream_table_bytes,
)
from model_packager.format_table import (
    HUFFMAN_MAX_LENGTH_BITS,
    Coder,
    DType,
    Layout,
    Limit,
    OperatorKind,
    ScheduleKind,
)
from model_packager.model import Model, Operator
from model_packager.passes.lifetimes import FUSED, living_ends

EXECUTORS = ("micropython", "c")
C_PART = 256  # weights of a dense row at a time, in fully connected layers: firmware/core/src/stream.h
C_INDEX_BITS = 7  # of the C core's tables of HUFFMAN and CLASS codes: firmware/core/src/stream_codes.h

# As in firmware/core/src/columns.h. Columns are made of 6 positions at a time where raw rows are short, of 3
# where they are not long; the latter also for rows that are decoded, so many of them in so many bytes.
C_SHORT_COLUMN = 144
C_SHORT_STEM = 32  # less than 4 weights to a cell
C_LONG_COLUMN = 576
C_HELD_ROWS = 8
C_DECODED_BYTES = 2304


def _item_bytes(model: Model, tensor: int) -> int:
    return model.tensors[tensor].size_bytes // max(1, model.tensors[tensor].element_count) or 1


def plane_bytes(model: Model, tensor: int) -> int:
    """One channel of an activation: H * W elements."""
    _, height, width, _ = model.tensors[tensor].shape4
    return height * width * _item_bytes(model, tensor)


def _reach(model: Model, operator: Operator) -> tuple[int, int]:
    """Rows and columns of the input and its border that a depthwise convolution's windows reach."""
    _, height, width, _ = model.tensors[operator.outputs[0]].shape4
    attributes = operator.attributes

    def reach(count: int, axis: str) -> int:
        window = (attributes.get(f"kernel_{axis}", 1) - 1) * attributes.get(f"dilation_{axis}", 1) + 1
        return (count - 1) * attributes.get(f"stride_{axis}", 1) + window

    return reach(height, "h"), reach(width, "w")


def padded_plane_bytes(model: Model, operator: Operator) -> int:
    """What a depthwise convolution's windows reach of one input channel, its border of zero points included:
    the border spares the kernel all bounds checks."""
    height, width = _reach(model, operator)
    return height * width * _item_bytes(model, operator.inputs[0])


def band_bytes(model: Model, operator: Operator, rows: int) -> int:
    """`rows` rows of a convolution's input, all channels."""
    _, height, width, channels = model.tensors[operator.inputs[0]].shape4
    return min(rows, height) * width * channels * _item_bytes(model, operator.inputs[0])


def is_fused_tail(model: Model, operator_index: int) -> bool:
    """Whether the operator is executed by the fused convolution before it."""
    return operator_index > 0 and model.operators[operator_index - 1].schedule in FUSED


def kernel_scratch_bytes(model: Model, operator_index: int, executor: str = "micropython") -> int:
    """Bytes that the operator's kernel copies aside under its schedule.

    The tail of a fused pair counts 0: its convolution answers for both.

    Raises:
        ValueError: an executor without formulas.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"no scratch formulas for executor {executor!r}; there are {', '.join(EXECUTORS)}")
    if is_fused_tail(model, operator_index):
        return 0
    operator = model.operators[operator_index]
    if operator.weights is not None and model.reads_bits(operator):
        return _gathered_bytes(operator) if executor == "c" else 0
    own = _planes_and_bands_bytes(model, operator_index)
    return own if executor == "micropython" else _c_kernel_scratch_bytes(model, operator_index, own)


def _gathered_bytes(operator: Operator) -> int:
    """The C core gathers the words of a window of bits; one of a single cell is read in place."""
    assert operator.weights is not None
    cells = operator.attributes.get("kernel_h", 1) * operator.attributes.get("kernel_w", 1)
    return operator.weights.values.shape[1] // 8 if cells > 1 else 0


def _planes_and_bands_bytes(model: Model, operator_index: int) -> int:
    operator = model.operators[operator_index]
    output = model.tensors[operator.outputs[0]]
    if operator.weights is not None and output.dtype is DType.BIT:
        # A channel is made as bytes before its bits are put into the words of the output.
        return output.shape4[1] * output.shape4[2]
    if operator.schedule is ScheduleKind.FUSED_DEPTHWISE:
        # Planes are made inside the padding that the depthwise operator needs.
        return padded_plane_bytes(model, model.operators[operator_index + 1])
    if operator.schedule is ScheduleKind.FUSED_ADD:
        return plane_bytes(model, operator.outputs[0])
    if operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
        return padded_plane_bytes(model, operator)
    if operator.kind is OperatorKind.CONV_2D and operator.schedule is ScheduleKind.IN_PLACE:
        return band_bytes(model, operator, operator.schedule_parameter)
    return 0


def _c_kernel_scratch_bytes(model: Model, operator_index: int, own: int) -> int:
    """The C core rounds each block up to words, expands rows of bits, and those sparse rows that a depthwise
    convolution reads, notes where the pairs of each kernel cell start, and keeps a plane for kernels of 3 x 3
    in pixels of 16 bits. Convolutions by columns have neither planes nor bands."""
    operators = [model.operators[operator_index]]
    columns = _c_column_bytes(model, operators[0])
    if columns:
        return columns + _c_stream_bytes(operators[0]) - _own_stream_scratch(operators[0])
    if operators[0].schedule is ScheduleKind.FUSED_DEPTHWISE:
        operators.append(model.operators[operator_index + 1])
    if _is_3x3_on_plane(operators[-1]):
        own = _wide_plane_bytes(model, operators[-1])
    extra = sum(_c_stream_bytes(operator) - _own_stream_scratch(operator) for operator in operators)
    return _words(own) + extra


def _c_column_bytes(model: Model, operator: Operator) -> int:
    """Columns of a few windows, 16 bits to a cell, where the sums of each channel start, one window as it is
    where cells are no words, a block's outputs before they are added or their signs are taken, and rows that
    were decoded. 0: the convolution goes row by row, as sparse ones do."""
    if operator.weights is None or not isinstance(operator.weights.encoding, StreamDescriptor):
        return 0
    descriptor, attributes, schedule = operator.weights.encoding, operator.attributes, operator.schedule
    cols, all_channels = descriptor.cols, descriptor.rows // attributes.get("groups", 1)
    if not _can_use_columns(operator, descriptor):
        return 0
    depth = cols // (attributes.get("kernel_h", 1) * attributes.get("kernel_w", 1))
    channels = all_channels
    if is_raw(descriptor):
        shortest = C_SHORT_STEM if depth < 4 else C_SHORT_COLUMN
        positions = 6 if cols <= shortest else 3 if cols <= C_LONG_COLUMN else 0
    else:
        positions, channels = 3, min(all_channels, C_HELD_ROWS)
        if schedule is ScheduleKind.IN_PLACE and channels < all_channels:
            return 0
    total = positions * 2 * _words(cols) + 4 * channels
    if depth % 4:
        total += _words(cols)
    if schedule is ScheduleKind.FUSED_ADD or (operator.requant and operator.requant.sign):
        total += _words(positions * channels)
    if not is_raw(descriptor):
        total += _words(channels * cols + 3)
        positions *= total <= C_DECODED_BYTES
    return total if positions else 0


def _can_use_columns(operator: Operator, descriptor: StreamDescriptor) -> bool:
    """Whether a convolution goes by columns where there is memory for them."""
    has_pairs = descriptor.layout is Layout.SPARSE and descriptor.cols < Limit.SPARSE_ROW_LENGTH
    is_fused = operator.schedule is ScheduleKind.FUSED_DEPTHWISE
    return operator.kind is OperatorKind.CONV_2D and not has_pairs and not is_fused


def c_paths(model: Model, operator_index: int) -> set[str]:
    """Which loops of the C core the operator's convolution takes: COLUMNS, ROWS, PLANES, by the names of
    firmware/core/src/build.h; both of the first two where it depends on the memory that is free at run time.
    Operators without weights, and fully connected ones, take none of them."""
    operator = model.operators[operator_index]
    if operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
        return {"PLANES" if _is_3x3_on_plane(operator) else "ROWS"}
    makes_bits = operator.requant is not None and operator.requant.sign
    if operator.kind is OperatorKind.FULLY_CONNECTED and makes_bits:
        return {"ROWS"}
    if operator.kind is not OperatorKind.CONV_2D or model.reads_bits(operator):
        return set()
    assert operator.weights is not None and isinstance(operator.weights.encoding, StreamDescriptor)
    paths = {"COLUMNS"} if _can_use_columns(operator, operator.weights.encoding) else {"ROWS"}
    return paths if _c_column_bytes(model, operator) else paths | {"ROWS"}


def _is_3x3_on_plane(operator: Operator) -> bool:
    """Whether plane_3x3.c of the C core runs a depthwise convolution."""
    attributes = operator.attributes
    one, stride = ("dilation_h", "dilation_w"), attributes.get("stride_h", 1)
    return (
        operator.kind is OperatorKind.DEPTHWISE_CONV_2D
        and attributes.get("kernel_h", 1) == attributes.get("kernel_w", 1) == 3
        and all(attributes.get(name, 1) == 1 for name in one)
        and stride == attributes.get("stride_w", 1)
        and stride <= 2
    )


def _wide_plane_bytes(model: Model, operator: Operator) -> int:
    """16-bit pixels in lines of even length, whether those are rows or columns, what is read around them, and
    the parameters of the loop."""
    height, width = _reach(model, operator)
    return _words(2 * (height + 1) * (width + 1)) + 24 + 120


def _c_table_bytes(descriptor: StreamDescriptor) -> int:
    """Decoding tables of the C core: two bytes for each index of a code, and what HUFFMAN has for codes that
    are longer, a count for each length and the symbols."""
    if descriptor.coder is Coder.RANGE or descriptor.layout is Layout.BITS or is_raw(descriptor):
        return stream_table_bytes(descriptor)
    sparse = descriptor.layout is Layout.SPARSE
    if descriptor.coder is Coder.FIXED:
        return (2 << descriptor.value_bits) + (2 << descriptor.gap_bits if sparse else 0)
    if descriptor.coder is Coder.CLASS:
        return (2 << C_INDEX_BITS) * (2 if sparse else 1)
    symbol_counts = [descriptor.value_count] + ([1 << descriptor.gap_bits] if sparse else [])
    each = (2 << C_INDEX_BITS) + 2 * (HUFFMAN_MAX_LENGTH_BITS - C_INDEX_BITS)
    return sum(each + count for count in symbol_counts)


def _c_stream_bytes(operator: Operator) -> int:
    """What the C core takes for an operator's open stream; 0 where no encoding is set yet."""
    if operator.weights is None or not isinstance(operator.weights.encoding, StreamDescriptor):
        return 0
    descriptor = operator.weights.encoding
    row, cells = row_buffer_bytes(descriptor), 1
    sparse = descriptor.layout is Layout.SPARSE
    # Positions and counts of pairs have 16 bits.
    pairs = operator.kind is not OperatorKind.DEPTHWISE_CONV_2D and descriptor.cols < Limit.SPARSE_ROW_LENGTH
    # A fully connected layer that makes bits runs as a convolution, which takes whole rows.
    makes_bits = operator.requant is not None and operator.requant.sign
    in_parts = operator.kind is OperatorKind.FULLY_CONNECTED and not makes_bits
    if in_parts and descriptor.coder is not Coder.RANGE and not sparse:
        row = min(row, C_PART)
    if descriptor.layout is Layout.BITS:
        row = descriptor.cols
    elif sparse and not pairs:
        row = max(row, descriptor.cols)
    elif sparse and operator.kind is OperatorKind.CONV_2D:
        cells = operator.attributes.get("kernel_h", 1) * operator.attributes.get("kernel_w", 1)
    own = _words(_c_table_bytes(descriptor) + row)
    return own + (_words(2 * (cells + 1)) if cells > 1 else 0)


def _words(size_bytes: int) -> int:
    return -(-size_bytes // 4) * 4


def _own_stream_scratch(operator: Operator) -> int:
    if operator.weights is None or not isinstance(operator.weights.encoding, StreamDescriptor):
        return 0
    return stream_scratch_bytes(operator.weights.encoding)


def operator_stream_scratch_bytes(model: Model, operator_index: int) -> int:
    """Bytes of decoder tables and row buffers that are open while the operator runs: its own stream's and, in
    a fused pair, its tail's. 0 where no encoding (a ``StreamDescriptor``) is set yet.
    """
    if is_fused_tail(model, operator_index):
        return 0
    operator = model.operators[operator_index]
    total = _own_stream_scratch(operator)
    if operator.schedule in FUSED:
        total += _own_stream_scratch(model.operators[operator_index + 1])
    return total


def scratch_bytes(model: Model, operator_index: int, executor: str = "micropython") -> int:
    """Scratch of both kinds that the operator needs."""
    return operator_stream_scratch_bytes(model, operator_index) + kernel_scratch_bytes(
        model, operator_index, executor
    )


def ram_peak_bytes(model: Model, executor: str = "micropython") -> int:
    """The one block of RAM that holds arena and scratch: an operator's scratch begins where the tensors that
    live while it runs end, so that it only adds to the arena where that is full."""
    ends = living_ends(model)
    needs = (end + scratch_bytes(model, index, executor) for index, end in enumerate(ends))
    return max(model.arena_bytes, *needs) if ends else model.arena_bytes
