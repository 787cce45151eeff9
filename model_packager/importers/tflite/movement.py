"""Converters of operators that move values without computing: reshape, transpose, slice, join, pad, resize.

Positions and axes count in the shape padded to four dimensions on the left, as the format does.
"""

from __future__ import annotations

import numpy as np

from model_packager.errors import ImportRefused
from model_packager.format_table import OperatorKind
from model_packager.importers.tflite.arithmetic import requantise
from model_packager.importers.tflite.flatbuffer import SourceOperator
from model_packager.importers.tflite.graph import Graph, real_values
from model_packager.importers.tflite.weighted import require_image
from model_packager.model import Tensor

Shape = tuple[int, ...]


def _require_rank_4(tensor: Tensor) -> int:
    """The rank of a tensor of at most four dimensions."""
    if len(tensor.shape) > 4:
        raise ImportRefused(f"'{tensor.name}' has {len(tensor.shape)} dimensions; at most four are supported")
    return len(tensor.shape)


def _axis(axis: int, rank: int) -> int:
    """A possibly negative axis as a position in the shape."""
    if not -rank <= axis < rank:
        raise ImportRefused(f"its axis {axis} is outside {rank} dimensions")
    return axis % rank


def convert_reshape(graph: Graph, operator: SourceOperator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the output's stated shape says it all."""
    input_index, source = graph.input(operator)
    output_index, output = graph.output(operator)
    if output.element_count != source.element_count:
        raise ImportRefused(f"it turns {source.shape} into {output.shape}")
    graph.require_same_quantisation(source, output)
    graph.add(OperatorKind.RESHAPE, [input_index], [output_index])


def _merge_axes(shape: Shape, permutation: list[int]) -> tuple[Shape, list[int]]:
    """The same transposition with axes of size 1 dropped and axes that stay together merged.

    (1, 8, 8, 2, 4) by (0, 1, 2, 4, 3) becomes (64, 2, 4) by (0, 2, 1).
    """
    runs: list[list[int]] = []
    for axis in permutation:
        if shape[axis] == 1:
            continue
        previous = runs[-1][-1] if runs else -1
        together = (
            runs and previous < axis and all(shape[skipped] == 1 for skipped in range(previous + 1, axis))
        )
        if together:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    order = sorted(range(len(runs)), key=lambda run: runs[run][0])
    merged = tuple(int(np.prod([shape[axis] for axis in runs[run]])) for run in order)
    return merged, [order.index(run) for run in range(len(runs))]


def convert_transpose(graph: Graph, operator: SourceOperator) -> None:
    """TRANSPOSE. More than four dimensions (channel shuffle) are merged into four, between two RESHAPEs."""
    input_index, source = graph.input(operator)
    permutation = graph.integers(operator, 1, "permutation")
    if sorted(permutation) != list(range(len(source.shape))):
        raise ImportRefused(f"its permutation is {permutation} for {len(source.shape)} dimensions")
    output_index, output = graph.output(operator, tuple(source.shape[axis] for axis in permutation))
    graph.require_same_quantisation(source, output)
    if len(source.shape) <= 4:
        _transpose(graph, input_index, output_index, permutation)
        return
    shape, merged = _merge_axes(source.shape, permutation)
    if len(shape) > 4:
        raise ImportRefused(
            f"its permutation {permutation} of the shape {source.shape} needs more than four dimensions"
        )
    before = graph.add_inner(f"{source.name}/merged", shape or (1,), source)
    after = graph.add_inner(f"{output.name}/merged", tuple(shape[axis] for axis in merged) or (1,), output)
    graph.add(OperatorKind.RESHAPE, [input_index], [before])
    _transpose(graph, before, after, merged)
    graph.add(OperatorKind.RESHAPE, [after], [output_index])


def _transpose(graph: Graph, input_index: int, output_index: int, permutation: list[int]) -> None:
    padding = 4 - len(permutation)
    axes = list(range(padding)) + [axis + padding for axis in permutation]
    attributes = {f"axis_{position}": axis for position, axis in enumerate(axes)}
    graph.add(OperatorKind.TRANSPOSE, [input_index], [output_index], attributes=attributes)


def convert_concatenation(graph: Graph, operator: SourceOperator) -> None:
    """CONCATENATION. TFLM refuses inputs quantised otherwise than the output; here they get a LOOKUP."""
    if operator.options["FusedActivationFunction"] != "NONE":
        raise ImportRefused("it has a fused activation")
    if not operator.inputs or len(operator.inputs) > 16:
        raise ImportRefused(f"it has {len(operator.inputs)} inputs; 1 to 16 are supported")
    parts = [graph.input(operator, position) for position in range(len(operator.inputs))]
    rank = _require_rank_4(parts[0][1])
    axis = _axis(operator.options["Axis"], rank)
    shapes = [list(tensor.shape) for _, tensor in parts]
    joined = list(shapes[0])
    if any(
        len(shape) != rank or shape[:axis] + shape[axis + 1 :] != joined[:axis] + joined[axis + 1 :]
        for shape in shapes
    ):
        raise ImportRefused(f"its inputs have the shapes {[tensor.shape for _, tensor in parts]}")
    joined[axis] = sum(shape[axis] for shape in shapes)
    output_index, output = graph.output(operator, tuple(joined))
    inputs = []
    for index, tensor in parts:
        if (tensor.scale, tensor.zero_point) != (output.scale, output.zero_point):
            scaled = graph.add_inner(f"{tensor.name}/rescaled", tensor.shape, output)
            requantise(graph, index, scaled)
            index = scaled
        inputs.append(index)
    graph.add(OperatorKind.CONCATENATION, inputs, [output_index], attributes={"axis": axis + 4 - rank})


def convert_pad(graph: Graph, operator: SourceOperator) -> None:
    """PAD (fills with the zero point) and PADV2 (fills with its constant)."""
    input_index, source = graph.input(operator)
    rank = _require_rank_4(source)
    pads = graph.integers(operator, 1, "paddings")
    if len(pads) != 2 * rank or min(pads) < 0:
        raise ImportRefused(f"its paddings are {pads} for the shape {source.shape}")
    shape = tuple(size + pads[2 * axis] + pads[2 * axis + 1] for axis, size in enumerate(source.shape))
    output_index, output = graph.output(operator, shape)
    graph.require_same_quantisation(source, output)
    value, options = output.zero_point, {}
    if graph.source_input(operator, 2) is not None:
        constant = graph.constant(operator, 2, "fill value")
        assert constant.data is not None
        if constant.data.size != 1:
            raise ImportRefused(f"its fill value has {constant.data.size} elements")
        if graph.is_float:
            options = {"value": float(real_values(constant).reshape(-1)[0])}
        elif constant.dtype != "int8":
            raise ImportRefused(f"its fill value has type {constant.dtype}, not int8")
        else:
            value = int(constant.data.reshape(-1)[0])
    attributes = {} if graph.is_float else {"value": value}
    for axis in range(rank):
        attributes |= {
            f"before_{axis + 4 - rank}": pads[2 * axis],
            f"after_{axis + 4 - rank}": pads[2 * axis + 1],
        }
    graph.add(OperatorKind.PAD, [input_index], [output_index], attributes=attributes, options=options)


def _add_slice(
    graph: Graph, input_index: int, output_index: int, begins: list[int], strides: list[int] | None = None
) -> None:
    """One SLICE: the output's shape says how many cells are taken from each beginning."""
    padding = 4 - len(begins)
    attributes = {f"begin_{axis + padding}": begin for axis, begin in enumerate(begins)}
    for axis, stride in enumerate(strides or []):
        attributes[f"stride_{axis + padding}"] = stride
    graph.require_same_quantisation(graph.tensor(input_index), graph.tensor(output_index))
    graph.add(OperatorKind.SLICE, [input_index], [output_index], attributes=attributes)


def convert_split(graph: Graph, operator: SourceOperator) -> None:
    """SPLIT (axis, value) and SPLIT_V (value, sizes, axis): one SLICE for each output."""
    data, axis_input = (1, 0) if operator.name == "SPLIT" else (0, 2)
    input_index, source = graph.input(operator, data)
    rank = _require_rank_4(source)
    axes = graph.integers(operator, axis_input, "axis")
    if len(axes) != 1:
        raise ImportRefused(f"it splits along {len(axes)} axes")
    axis = _axis(axes[0], rank)
    begin = 0
    for position, source_index in enumerate(operator.outputs):
        stated = graph.source.tensors[source_index].shape
        size = stated[axis] if len(stated) == rank else 0
        output_index, _ = graph.output(
            operator, (*source.shape[:axis], size, *source.shape[axis + 1 :]), position
        )
        _add_slice(graph, input_index, output_index, [begin if i == axis else 0 for i in range(rank)])
        begin += size
    if begin != source.shape[axis]:
        raise ImportRefused(f"its outputs take {begin} of {source.shape[axis]} cells along axis {axis}")


def convert_slice(graph: Graph, operator: SourceOperator) -> None:
    """SLICE: beginnings and sizes; a size of -1 means up to the end."""
    input_index, source = graph.input(operator)
    rank = _require_rank_4(source)
    begins, sizes = graph.integers(operator, 1, "beginnings"), graph.integers(operator, 2, "sizes")
    if len(begins) != rank or len(sizes) != rank:
        raise ImportRefused(f"it takes {begins} and {sizes} of the shape {source.shape}")
    taken = [
        n - begin if size == -1 else size for n, begin, size in zip(source.shape, begins, sizes, strict=True)
    ]
    inside = zip(source.shape, begins, taken, strict=True)
    if any(begin < 0 or size < 1 or begin + size > n for n, begin, size in inside):
        raise ImportRefused(f"it takes {taken} from {begins} of the shape {source.shape}")
    output_index, _ = graph.output(operator, tuple(taken))
    _add_slice(graph, input_index, output_index, begins)


def convert_strided_slice(graph: Graph, operator: SourceOperator) -> None:
    """STRIDED_SLICE with positive strides; begin, end and shrink masks as in strided_slice_logic.h."""
    input_index, source = graph.input(operator)
    rank = _require_rank_4(source)
    limits = [graph.integers(operator, position, "limits") for position in (1, 2, 3)]
    options = operator.options
    if options["EllipsisMask"] or options["NewAxisMask"] or options["Offset"]:
        raise ImportRefused("it uses an ellipsis mask, a new-axis mask or offsets")
    if any(len(limit) != rank for limit in limits) or min(limits[2]) < 1:
        raise ImportRefused(f"its beginnings, ends and strides are {limits} for the shape {source.shape}")
    begins, shape = [], []
    for axis, (size, begin, end, stride) in enumerate(zip(source.shape, *limits, strict=True)):
        start, stop, _ = slice(
            None if options["BeginMask"] >> axis & 1 else begin,
            None if options["EndMask"] >> axis & 1 else end,
        ).indices(size)
        shrink = options["ShrinkAxisMask"] >> axis & 1
        count = 1 if shrink and start < size else len(range(start, stop, stride))
        if count < 1:
            raise ImportRefused(f"it takes nothing along axis {axis}")
        begins.append(start)
        if not shrink:
            shape.append(count)
    output_index, output = graph.output(operator)
    if tuple(shape) != output.shape:
        raise ImportRefused(
            f"its output '{output.name}' is said to be {output.shape} but comes out as {tuple(shape)}"
        )
    kept = [
        count if not options["ShrinkAxisMask"] >> axis & 1 else 1
        for axis, count in enumerate(_full(shape, options, rank))
    ]
    if output.shape4 == (1,) * (4 - rank) + tuple(kept):
        _add_slice(graph, input_index, output_index, begins, limits[2])
        return
    # A dimension was dropped: slice with it, then reshape.
    whole = graph.add_inner(f"{output.name}/kept", tuple(kept), output)
    _add_slice(graph, input_index, whole, begins, limits[2])
    graph.add(OperatorKind.RESHAPE, [whole], [output_index])


def _full(shape: list[int], options: dict[str, int], rank: int) -> list[int]:
    """The sliced shape with the dimensions that the shrink mask drops back in, as 1."""
    remaining = iter(shape)
    return [1 if options["ShrinkAxisMask"] >> axis & 1 else next(remaining) for axis in range(rank)]


def convert_resize_nearest(graph: Graph, operator: SourceOperator) -> None:
    """RESIZE_NEAREST_NEIGHBOR of an image to a constant height and width."""
    input_index, source = graph.input(operator)
    depth = require_image(source)[2]
    size = graph.integers(operator, 1, "size")
    if len(size) != 2 or min(size) < 1:
        raise ImportRefused(f"its size is {size}")
    output_index, output = graph.output(operator, (1, size[0], size[1], depth))
    graph.require_same_quantisation(source, output)
    attributes = {
        "align_corners": int(operator.options["AlignCorners"]),
        "half_pixel_centers": int(operator.options["HalfPixelCenters"]),
    }
    graph.add(OperatorKind.RESIZE_NEAREST, [input_index], [output_index], attributes=attributes)
