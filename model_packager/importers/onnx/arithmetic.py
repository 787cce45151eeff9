"""Converters of nodes that compute without weights: sums, products, functions, pooling, mean and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import ImportRefused
from model_packager.format_table import OperatorKind
from model_packager.importers.onnx import layout
from model_packager.importers.onnx.graph import Graph
from model_packager.importers.onnx.layout import Value
from model_packager.importers.onnx.source import SourceNode
from model_packager.importers.onnx.weighted import pair, scale_elements, window

Array = npt.NDArray[Any]

_BINARY_KINDS = {
    "Add": OperatorKind.ADD,
    "Sub": OperatorKind.SUB,
    "Mul": OperatorKind.MUL,
    "Max": OperatorKind.MAXIMUM,
    "Min": OperatorKind.MINIMUM,
}


# --------------------------------------------------------------------------------------- two operands


def convert_binary(graph: Graph, node: SourceNode) -> None:
    """Add, Sub, Mul, Div, Max and Min of two activations (broadcasting), or with a constant operand."""
    if len(node.inputs) == 1 and node.kind in ("Max", "Min"):
        graph.set_value(node, graph.value(node))
        return
    if len(node.inputs) != 2:
        raise ImportRefused(f"it has {len(node.inputs)} inputs; two are supported")
    constants = [position for position in (0, 1) if graph.is_constant(node, position)]
    if constants:
        _with_constant(graph, node, constants[0])
        return
    if node.kind not in _BINARY_KINDS:
        raise ImportRefused("both its inputs are activations; only a constant divisor is supported")
    first, second = graph.value(node, 0), graph.value(node, 1)
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError as error:
        raise ImportRefused(f"its inputs have the shapes {first.shape} and {second.shape}") from error
    if first.shape == second.shape and first.factors == second.factors:
        stored = graph.tensor(first.tensor).shape
        inputs = [first.tensor, graph.reshaped(second.tensor, stored)]
        output = graph.add_tensor(node.outputs[0], stored)
        graph.add(_BINARY_KINDS[node.kind], inputs, output)
        graph.set_value(node, Value(output, first.shape, first.factors))
        return
    rank = len(shape)
    if rank > 4 and first.shape != second.shape:
        raise ImportRefused(
            f"its inputs {first.shape} and {second.shape} broadcast over more than four dimensions"
        )
    first, second = (_with_rank(value, rank) for value in (first, second))
    order = graph.natural_order(first if first.element_count >= second.element_count else second)
    inputs = [graph.arranged(value, order) for value in (first, second)]
    graph.add_result(node, _BINARY_KINDS[node.kind], inputs, shape, order)


def _with_rank(value: Value, rank: int) -> Value:
    """The same activation with axes of 1 in front."""
    return Value(value.tensor, (1,) * (rank - len(value.shape)) + value.shape, value.factors)


def _with_constant(graph: Graph, node: SourceNode, position: int) -> None:
    value = graph.value(node, 1 - position)
    constant = graph.floats(node, position, "constant")
    ones, zeros = np.ones_like(constant), np.zeros_like(constant)
    if node.kind in ("Max", "Min"):
        if constant.size != 1:
            raise ImportRefused(f"its constant has the shape {constant.shape}; a single value is needed")
        bound = float(constant.reshape(-1)[0])
        _clip(graph, node, *((bound, math.inf) if node.kind == "Max" else (-math.inf, bound)))
        return
    if node.kind == "Add":
        scale_elements(graph, node, value, ones, constant)
    elif node.kind == "Sub":
        scale_elements(graph, node, value, ones if position else -ones, -constant if position else constant)
    elif node.kind == "Mul":
        scale_elements(graph, node, value, constant, zeros)
    elif position == 0:
        raise ImportRefused("it divides a constant by an activation")
    elif np.any(constant == 0):
        raise ImportRefused("it divides by zero")
    else:
        scale_elements(graph, node, value, 1 / constant, zeros)


# --------------------------------------------------------------------------------------- functions


def _apply(graph: Graph, node: SourceNode, value: Value, function: str, **parameters: float) -> None:
    """A LOOKUP: element by element, whatever the order in memory."""
    output = graph.add_tensor(node.outputs[0], graph.tensor(value.tensor).shape)
    graph.add(OperatorKind.LOOKUP, [value.tensor], output, options={"function": function, **parameters})
    graph.set_value(node, Value(output, value.shape, value.factors))


def convert_function(graph: Graph, node: SourceNode) -> None:
    """Relu, Sigmoid, Sign (of 0: +1, as in binary networks), Tanh and HardSwish."""
    functions = {
        "Relu": "relu", "Sigmoid": "logistic", "Sign": "sign", "Tanh": "tanh", "HardSwish": "hard_swish",
    }  # fmt: skip
    _apply(graph, node, graph.value(node), functions[node.kind])


def convert_leaky_relu(graph: Graph, node: SourceNode) -> None:
    _apply(graph, node, graph.value(node), "leaky_relu", alpha=node.number("alpha", 0.01))


def convert_prelu(graph: Graph, node: SourceNode) -> None:
    """PRelu whose slope is one number: a leaky ReLU."""
    slope = np.unique(graph.floats(node, 1, "slope"))
    if slope.size != 1:
        raise ImportRefused("its slope differs from channel to channel; a single slope is supported")
    _apply(graph, node, graph.value(node), "leaky_relu", alpha=float(slope[0]))


def convert_hard_sigmoid(graph: Graph, node: SourceNode) -> None:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    _apply(graph, node, graph.value(node), "hard_sigmoid", alpha=alpha, beta=beta)


def convert_clip(graph: Graph, node: SourceNode) -> None:
    """Clip by attributes (operator sets before 11) or constant inputs."""
    bounds = []
    for position, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        bound = node.number(name, default)
        if graph.has_input(node, position):
            values = graph.constant(node, position, name).reshape(-1).astype(np.float32)
            if values.size != 1 or np.isnan(values[0]):
                raise ImportRefused(f"its {name} is not one number")
            bound = float(values[0])
        bounds.append(bound)
    _clip(graph, node, bounds[0], bounds[1])


_FLOAT32_MAX = float(np.finfo(np.float32).max)


def _clip(graph: Graph, node: SourceNode, low: float, high: float) -> None:
    value = graph.value(node, 1 if graph.is_constant(node, 0) else 0)
    low = -math.inf if low <= -_FLOAT32_MAX else low
    high = math.inf if high >= _FLOAT32_MAX else high
    names = {(0.0, math.inf): "relu", (0.0, 6.0): "relu6", (-1.0, 1.0): "relu_n1_to_1"}
    if (low, high) == (-math.inf, math.inf):
        graph.set_value(node, value)
    elif low > high:
        raise ImportRefused(f"its bounds are {low:g} and {high:g}")
    elif (low, high) in names:
        _apply(graph, node, value, names[low, high])
    else:
        _apply(graph, node, value, "clip", low=low, high=high)


# -------------------------------------------------------------------------------- pooling, mean, softmax


def convert_pool(graph: Graph, node: SourceNode) -> None:
    """MaxPool and AveragePool. Pads that an average counts in become a PAD of zeros before it."""
    if len([name for name in node.outputs if name]) > 1:
        raise ImportRefused("its second output, the indices, is used")
    value = graph.value(node)
    tensor, height, width, depth = graph.image(value)
    axes = len(value.shape) - 2
    if node.attributes.get("kernel_shape") is None:
        raise ImportRefused("its kernel_shape is missing")
    kernel = pair(graph, node, "kernel_shape", axes)
    attributes, (out_height, out_width), excess = window(graph, node, (height, width), kernel, axes)
    if any(name.startswith("dilation") for name in attributes):
        raise ImportRefused("it is dilated")
    average = node.kind == "AveragePool"
    if average and node.integer("count_include_pad", 0):
        if any(excess):
            raise ImportRefused("it has both count_include_pad and a window that runs past the end")
        tensor = _pad_with_zeros(graph, tensor, attributes)
    if any(attributes[f"pad_{side}"] >= kernel[axis] for side, axis in
           (("top", 0), ("bottom", 0), ("left", 1), ("right", 1))):  # fmt: skip
        raise ImportRefused(f"its pads are as large as its kernel {kernel}")
    graph.add_result(
        node,
        OperatorKind.AVERAGE_POOL_2D if average else OperatorKind.MAX_POOL_2D,
        [tensor],
        (1, depth, out_width) if axes == 1 else (1, depth, out_height, out_width),
        layout.channels_last(axes + 2),
        stored=(1, out_height, out_width, depth),
        attributes=attributes,
    )


def _pad_with_zeros(graph: Graph, tensor: int, attributes: dict[str, int]) -> int:
    """The image with the window's pads around it, which are taken out of `attributes`."""
    above, left = attributes.pop("pad_top"), attributes.pop("pad_left")
    below, right = attributes.pop("pad_bottom"), attributes.pop("pad_right")
    attributes |= {"pad_top": 0, "pad_left": 0, "pad_bottom": 0, "pad_right": 0}
    if not any((above, left, below, right)):
        return tensor
    _, height, width, depth = graph.tensor(tensor).shape4
    padded = graph.add_tensor(
        f"{graph.tensor(tensor).name}/padded{tensor}",
        (1, height + above + below, width + left + right, depth),
    )
    pads = {"before_1": above, "after_1": below, "before_2": left, "after_2": right}
    graph.add(OperatorKind.PAD, [tensor], padded, attributes=pads)
    return padded


def convert_global_pool(graph: Graph, node: SourceNode) -> None:
    """GlobalAveragePool as MEAN, GlobalMaxPool as MAX_POOL_2D over the whole image."""
    value = graph.value(node)
    tensor, height, width, depth = graph.image(value)
    kind, attributes = OperatorKind.MEAN, {"axes": 0b0110}
    if node.kind == "GlobalMaxPool":
        kind, attributes = OperatorKind.MAX_POOL_2D, {"kernel_h": height, "kernel_w": width}
    rank = len(value.shape)
    graph.add_result(
        node, kind, [tensor], (1, depth) + (1,) * (rank - 2), layout.channels_last(rank),
        stored=(1, 1, 1, depth), attributes=attributes,
    )  # fmt: skip


def convert_reduce_mean(graph: Graph, node: SourceNode) -> None:
    """ReduceMean over constant axes."""
    value = graph.value(node)
    rank = len(value.shape)
    axes = graph.integers(node, "axes", 1)
    if not axes:
        if node.integer("noop_with_empty_axes", 0):
            graph.set_value(node, value)
            return
        axes = list(range(rank))
    if rank > 4 or any(not -rank <= axis < rank for axis in axes):
        raise ImportRefused(f"it reduces the axes {axes} of the shape {value.shape}")
    reduced = {axis % rank for axis in axes}
    order = graph.natural_order(value)
    kept = tuple(1 if axis in reduced else size for axis, size in enumerate(value.shape))
    shape = kept
    if not node.integer("keepdims", 1):
        shape = tuple(size for axis, size in enumerate(value.shape) if axis not in reduced)
    mask = sum(1 << (place + 4 - rank) for place, axis in enumerate(order) if axis in reduced)
    output = graph.add_tensor(node.outputs[0], tuple(kept[axis] for axis in order))
    graph.add(OperatorKind.MEAN, [graph.arranged(value, order)], output, attributes={"axes": mask})
    graph.set_value(node, Value(output, shape, layout.stored_as(kept, order)))


def convert_softmax(graph: Graph, node: SourceNode) -> None:
    """Softmax over one axis; before operator set 13 over all axes from `axis` on."""
    value = graph.value(node)
    rank = len(value.shape)
    axis = node.integer("axis", -1 if graph.opset >= 13 else 1)
    if not -rank <= axis < rank:
        raise ImportRefused(f"its axis is {axis} for {rank} dimensions")
    axis %= rank
    flat = value
    if graph.opset < 13:
        flat = Value(
            value.tensor, (math.prod(value.shape[:axis]), math.prod(value.shape[axis:])), value.factors
        )
        axis = 1
    order = [other for other in graph.natural_order(flat) if other != axis] + [axis]
    if len(order) > 4:
        raise ImportRefused(f"its input has the shape {value.shape}; at most four dimensions are supported")
    tensor = graph.arranged(flat, order)
    output = graph.add_tensor(node.outputs[0], tuple(flat.shape[other] for other in order))
    graph.add(OperatorKind.SOFTMAX, [tensor], output, options={"beta": 1.0})
    graph.set_value(node, Value(output, value.shape, layout.stored_as(flat.shape, order)))
