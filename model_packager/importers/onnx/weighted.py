"""Converters of nodes with weights: Conv, Gemm, MatMul and BatchNormalization, and of scalings per channel.

Weights become a matrix with one row per output channel and columns in the order (kernel row, kernel column,
channel). A fully connected layer behind a flattened image has its columns permuted instead of its input.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import ImportRefused
from model_packager.format_table import OperatorKind
from model_packager.importers.onnx import layout
from model_packager.importers.onnx.graph import Graph
from model_packager.importers.onnx.layout import Shape, Value
from model_packager.importers.onnx.source import SourceNode
from model_packager.model import Weights

Array = npt.NDArray[Any]
Pair = tuple[int, int]


# --------------------------------------------------------------------------------------------- windows


def pair(graph: Graph, node: SourceNode, name: str, axes: int, default: int = 1) -> Pair:
    """An attribute with a number for each spatial axis, as (rows, columns); one axis is columns."""
    given = graph.integers(node, name)
    values = [default] * axes if given is None else given
    if len(values) != axes or min(values) < 1:
        raise ImportRefused(f"its {name} are {values} for {axes} spatial dimensions")
    return (default, values[0]) if axes == 1 else (values[0], values[1])


def _stated_pads(graph: Graph, node: SourceNode, axes: int) -> tuple[Pair, Pair]:
    """((above, left), (below, right)) of the attribute ``pads``."""
    given = graph.integers(node, "pads")
    pads = [0] * (2 * axes) if given is None else given
    if len(pads) != 2 * axes or min(pads) < 0:
        raise ImportRefused(f"its pads are {pads} for {axes} spatial dimensions")
    return ((0, pads[0]), (0, pads[1])) if axes == 1 else ((pads[0], pads[1]), (pads[2], pads[3]))


def _axis_window(
    size: int, extent: int, stride: int, pads: Pair, auto_pad: str, ceil: bool
) -> tuple[int, Pair, int]:
    """(output cells, pads, cells by which the last window of ceil_mode runs past the end) along one axis."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        steps = -(-size // stride)
        total = max((steps - 1) * stride + extent - size, 0)
        less, more = total // 2, total - total // 2
        return steps, (less, more) if auto_pad == "SAME_UPPER" else (more, less), 0
    before, after = (0, 0) if auto_pad == "VALID" else pads
    room = size + before + after - extent
    if room < 0:
        raise ImportRefused(f"its window of {extent} does not fit into {size} cells")
    steps = room // stride + 1
    if ceil and room % stride and steps * stride < size + before:
        return steps + 1, (before, after), stride - room % stride
    return steps, (before, after), 0


def window(
    graph: Graph, node: SourceNode, size: Pair, kernel: Pair, axes: int
) -> tuple[dict[str, int], Pair, Pair]:
    """(attributes of a window over an image of `size`, the output's size, excess of ceil_mode).

    The excess is counted in the pads below and to the right. Source: ONNX operators Conv and MaxPool.
    """
    strides, dilations = pair(graph, node, "strides", axes), pair(graph, node, "dilations", axes)
    begins, ends = _stated_pads(graph, node, axes)
    auto_pad = node.text("auto_pad", "NOTSET")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ImportRefused(f"its auto_pad is {auto_pad}")
    ceil = bool(node.integer("ceil_mode", 0))
    attributes: dict[str, int] = {}
    output, excess = [], []
    for axis, before, after, i in (("h", "pad_top", "pad_bottom", 0), ("w", "pad_left", "pad_right", 1)):
        extent = (kernel[i] - 1) * dilations[i] + 1
        steps, pads, beyond = _axis_window(size[i], extent, strides[i], (begins[i], ends[i]), auto_pad, ceil)
        attributes |= {f"kernel_{axis}": kernel[i], f"stride_{axis}": strides[i]}
        attributes |= {before: pads[0], after: pads[1] + beyond}
        if dilations[i] != 1:
            attributes[f"dilation_{axis}"] = dilations[i]
        output.append(steps)
        excess.append(beyond)
    return attributes, (output[0], output[1]), (excess[0], excess[1])


# --------------------------------------------------------------------------------------------- weights


def _row_scales(graph: Graph, node: SourceNode, position: int, row_axis: int, factor: float) -> Array | None:
    """Scales (1,) or (rows,) of weights that the file holds as int8; None for float weights."""
    constant = graph.quantised.get(node.inputs[position])
    if constant is None:
        return None
    if constant.scales.size > 1 and constant.axis != row_axis:
        raise ImportRefused(
            f"its weights '{node.inputs[position]}' have scales along axis {constant.axis}, not {row_axis}"
        )
    return constant.scales.astype(np.float64) * abs(factor)


def _bias(graph: Graph, node: SourceNode, rows: int, factor: float = 1.0) -> Array | None:
    """(rows,) float64: int32 biases of quantised models have more digits than float32 holds."""
    if not graph.has_input(node, 2):
        return None
    name = node.inputs[2]
    values = graph.floats(node, 2, "bias").astype(np.float64)
    if name in graph.quantised:
        constant = graph.quantised[name]
        values = constant.values.astype(np.float64) * constant.scales.astype(np.float64)
    if values.size not in (1, rows):
        raise ImportRefused(f"its bias '{name}' has {values.size} values for {rows} outputs")
    return np.broadcast_to(values.reshape(-1) * factor, (rows,)).copy()


def convert_conv(graph: Graph, node: SourceNode) -> None:
    """Conv over one or two spatial dimensions; one input channel per group makes it a depthwise one."""
    tensor, height, width, depth = graph.image(graph.value(node))
    axes = len(graph.value(node).shape) - 2
    kernels = graph.floats(node, 1, "weights")
    groups = node.integer("group", 1)
    if kernels.ndim != axes + 2 or kernels.size == 0 or groups < 1:
        raise ImportRefused(f"its weights '{node.inputs[1]}' have the shape {kernels.shape}")
    rows, per_group = kernels.shape[:2]
    if per_group * groups != depth or rows % groups:
        raise ImportRefused(
            f"its weights '{node.inputs[1]}' have the shape {kernels.shape} for {depth} input channels "
            f"in {groups} groups"
        )
    kernel = (1, kernels.shape[2]) if axes == 1 else (kernels.shape[2], kernels.shape[3])
    stated = graph.integers(node, "kernel_shape")
    if stated is not None and tuple(stated) != kernels.shape[2:]:
        raise ImportRefused(f"its kernel_shape is {stated} but its weights have the shape {kernels.shape}")
    attributes, (out_height, out_width), _ = window(graph, node, (height, width), kernel, axes)
    matrix = np.moveaxis(kernels, 1, -1).reshape(rows, -1)
    depthwise = groups == depth > 1
    if not depthwise:
        attributes["groups"] = groups
    graph.add_result(
        node,
        OperatorKind.DEPTHWISE_CONV_2D if depthwise else OperatorKind.CONV_2D,
        [tensor],
        (1, rows, out_width) if axes == 1 else (1, rows, out_height, out_width),
        layout.channels_last(axes + 2),
        stored=(1, out_height, out_width, rows),
        attributes=attributes,
        weights=Weights(np.ascontiguousarray(matrix), _row_scales(graph, node, 1, 0, 1.0)),
        bias=_bias(graph, node, rows),
    )


def _linear(graph: Graph, node: SourceNode, weights: Weights, bias: Array | None) -> None:
    """One row of inputs: FULLY_CONNECTED, its columns in the order of the input's memory. Several: a 1x1
    CONV_2D over them."""
    value = graph.value(node)
    rows, cols = weights.values.shape
    if not value.shape or value.shape[-1] != cols:
        raise ImportRefused(f"its weights take {cols} inputs, but it gets the shape {value.shape}")
    batch = math.prod(value.shape[:-1])
    shape = (*value.shape[:-1], rows)
    stored: Shape
    if batch == 1:
        matrix = np.empty_like(weights.values)
        matrix[:, layout.memory_positions(value.factors)] = weights.values
        tensor, stored, kind = value.tensor, (1, rows), OperatorKind.FULLY_CONNECTED
        weights = Weights(matrix, weights.scales)
    else:
        tensor = graph.arranged(value, range(len(shape)), (1, 1, batch, cols))
        stored, kind = (1, 1, batch, rows), OperatorKind.CONV_2D
    graph.add_result(
        node, kind, [tensor], shape, range(len(shape)), stored=stored, weights=weights, bias=bias
    )


def convert_gemm(graph: Graph, node: SourceNode) -> None:
    """Gemm with constant B and C: alpha * A B + beta * C."""
    if node.integer("transA", 0):
        raise ImportRefused("its transA is 1")
    matrix = graph.floats(node, 1, "weights")
    if matrix.ndim != 2 or matrix.size == 0:
        raise ImportRefused(f"its weights '{node.inputs[1]}' have the shape {matrix.shape}")
    transposed = bool(node.integer("transB", 0))
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise ImportRefused(f"its alpha is {alpha:g} and its beta {beta:g}")
    rows_first = matrix if transposed else matrix.T
    scales = _row_scales(graph, node, 1, 0 if transposed else 1, alpha)
    weights = Weights(np.ascontiguousarray(_float32(rows_first.astype(np.float64) * alpha)), scales)
    _linear(graph, node, weights, _bias(graph, node, len(rows_first), beta))


def convert_matmul(graph: Graph, node: SourceNode) -> None:
    """MatMul of an activation by a constant matrix."""
    if graph.is_constant(node, 0) or not graph.is_constant(node, 1):
        raise ImportRefused("only an activation times a constant matrix is supported")
    matrix = graph.floats(node, 1, "weights")
    if matrix.ndim != 2 or matrix.size == 0:
        raise ImportRefused(f"its weights '{node.inputs[1]}' have the shape {matrix.shape}")
    _linear(graph, node, Weights(np.ascontiguousarray(matrix.T), _row_scales(graph, node, 1, 1, 1.0)), None)


# ------------------------------------------------------------------------------------- scaling per channel


def convert_batch_normalization(graph: Graph, node: SourceNode) -> None:
    """BatchNormalization with constant statistics, as scale and offset per channel (axis 1)."""
    value = graph.value(node)
    if node.integer("training_mode", 0) or len([name for name in node.outputs if name]) > 1:
        raise ImportRefused("it is in training mode")
    names = ("scale", "B", "input_mean", "input_var")
    scale, offset, mean, variance = (
        graph.floats(node, position, name).astype(np.float64).reshape(-1)
        for position, name in enumerate(names, 1)
    )
    channels = value.shape[1] if len(value.shape) > 1 else 0
    if {len(scale), len(offset), len(mean), len(variance)} != {channels} or channels == 0:
        raise ImportRefused(f"its constants do not have one value for each of {channels} channels")
    if variance.min() + node.number("epsilon", 1e-5) <= 0:
        raise ImportRefused("it has a variance that is not positive")
    factor = scale / np.sqrt(variance + node.number("epsilon", 1e-5))
    along_axis = (channels,) + (1,) * (len(value.shape) - 2)
    scale_elements(
        graph, node, value, factor.reshape(along_axis), (offset - mean * factor).reshape(along_axis)
    )


def scale_elements(graph: Graph, node: SourceNode, value: Value, factor: Array, offset: Array) -> None:
    """factor * x + offset, both constants that broadcast to the activation: a 1x1 depthwise convolution with
    one weight and one bias for each channel, or for each element where channels do not suffice."""
    try:
        pair_shape = np.broadcast_shapes(factor.shape, offset.shape)
        if np.broadcast_shapes(pair_shape, value.shape) != value.shape:
            raise ValueError
    except ValueError as error:
        raise ImportRefused(f"its constant does not broadcast to its input's shape {value.shape}") from error
    factor, offset = np.broadcast_to(factor, pair_shape), np.broadcast_to(offset, pair_shape)
    tensor, stored, factors = _scalable(graph, value, factor, offset)
    arranged = Value(tensor, value.shape, factors)
    weights, bias = (
        _float32(graph.in_memory_order(arranged, part).reshape(-1, stored[-1])[0])
        for part in (factor, offset)
    )
    index = graph.add_tensor(node.outputs[0], stored)
    graph.add(
        OperatorKind.DEPTHWISE_CONV_2D, [tensor], index, weights=Weights(weights.reshape(-1, 1)), bias=bias
    )
    graph.set_value(node, Value(index, value.shape, factors))


def _float32(values: Array) -> Array:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if not np.all(np.isfinite(narrow)):
        raise ImportRefused("its constants scale by numbers beyond float32")
    return narrow


def _scalable(graph: Graph, value: Value, factor: Array, offset: Array) -> tuple[int, Shape, layout.Factors]:
    """(tensor, its shape, its factors) with the activation arranged such that the constants differ along the
    last axis only."""
    stored = _with_batch_one(graph.tensor(value.tensor).shape)
    if all(_repeats(graph.in_memory_order(value, part), stored[-1]) for part in (factor, offset)):
        return graph.reshaped(value.tensor, stored), stored, value.factors
    varying = [axis for axis in range(-factor.ndim, 0) if factor.shape[axis] > 1]
    if len(varying) == 1:
        axis = len(value.shape) + varying[0]
        order = [other for other in graph.natural_order(value) if other != axis] + [axis]
        stored = _with_batch_one(tuple(value.shape[other] for other in order))
        return graph.arranged(value, order, stored), stored, layout.stored_as(value.shape, order)
    flat = (1, 1, 1, value.element_count)
    return graph.reshaped(value.tensor, flat), flat, value.factors


def _with_batch_one(shape: Shape) -> Shape:
    """The shape, or one of the same size and last axis whose first of four dimensions is 1."""
    if len(shape) < 4 or (len(shape) == 4 and shape[0] == 1):
        return shape
    return (1, 1, math.prod(shape[:-1]), shape[-1])


def _repeats(values: Array, length: int) -> bool:
    """Whether the values are one row of `length` again and again."""
    rows = values.reshape(-1, length)
    return bool(np.all(rows == rows[0]))
