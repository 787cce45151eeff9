"""Converters of operators that compute without weights: sums, products, pooling, mean, softmax and functions.

One-input int8 functions, and two-input operators whose other operand is a single constant, become LOOKUP: 256
output values computed with TFLM's own arithmetic, so the table is exact by construction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager import numerics
from model_packager.errors import ImportRefused
from model_packager.format_table import OperatorKind
from model_packager.importers.tflite.flatbuffer import SourceOperator, SourceTensor
from model_packager.importers.tflite.graph import Graph, real_values
from model_packager.importers.tflite.weighted import activation_parts, require_image, window_attributes
from model_packager.model import Requant, Tensor, Weights

Array = npt.NDArray[Any]

_BINARY_KINDS = {
    "ADD": OperatorKind.ADD,
    "SUB": OperatorKind.SUB,
    "MUL": OperatorKind.MUL,
    "MAXIMUM": OperatorKind.MAXIMUM,
    "MINIMUM": OperatorKind.MINIMUM,
}
_POOL_KINDS = {
    "AVERAGE_POOL_2D": OperatorKind.AVERAGE_POOL_2D,
    "MAX_POOL_2D": OperatorKind.MAX_POOL_2D,
}
_FUNCTIONS = {
    "RELU": "relu",
    "RELU6": "relu6",
    "LEAKY_RELU": "leaky_relu",
    "HARD_SWISH": "hard_swish",
    "LOGISTIC": "logistic",
    "TANH": "tanh",
}
_ALL_INT8 = np.arange(-128, 128, dtype=np.int8)


# --------------------------------------------------------------------------------------- two operands


def convert_binary(graph: Graph, operator: SourceOperator) -> None:
    """ADD, SUB, MUL, MAXIMUM and MINIMUM of two activations (broadcasting), or with a constant operand."""
    if len(operator.inputs) != 2 or min(operator.inputs) < 0:
        raise ImportRefused("it does not have two inputs")
    operands = [graph.source.tensors[index] for index in operator.inputs]
    constants = [position for position in (0, 1) if operands[position].data is not None]
    if constants:
        _convert_with_constant(graph, operator, constants[0])
        return
    (index1, first), (index2, second) = graph.input(operator, 0), graph.input(operator, 1)
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError as error:
        raise ImportRefused(f"its inputs have the shapes {first.shape} and {second.shape}") from error
    if len(shape) > 4 and first.shape != second.shape:
        raise ImportRefused(
            f"its inputs {first.shape} and {second.shape} broadcast over more than four dimensions"
        )
    output_index, output = graph.output(operator, shape)
    kind = _BINARY_KINDS[operator.name]
    parts = _binary_parts(graph, operator, first, second, output)
    graph.add(kind, [index1, index2], [output_index], **parts)


def _binary_parts(
    graph: Graph, operator: SourceOperator, first: Tensor, second: Tensor, output: Tensor
) -> dict[str, Any]:
    """Attributes and options of an element-wise operator of two tensors."""
    if operator.name in ("MAXIMUM", "MINIMUM"):
        graph.require_same_quantisation(first, output)
        graph.require_same_quantisation(second, output)
        return {}
    parts = activation_parts(graph, operator, output)
    if graph.is_float:
        return parts
    attributes = parts["attributes"]
    attributes |= {
        "input1_zero_point": first.zero_point,
        "input2_zero_point": second.zero_point,
        "output_zero_point": output.zero_point,
    }
    if operator.name == "MUL":
        multiplier, shift = numerics.mul_multiplier(first.scale, second.scale, output.scale)
        attributes |= {"multiplier": multiplier, "shift": shift}
        return parts
    make = numerics.add_parameters if operator.name == "ADD" else numerics.sub_parameters
    constants = make(first.scale, second.scale, output.scale)
    attributes |= {
        "input1_multiplier": constants.multiplier1,
        "input1_shift": constants.shift1,
        "input2_multiplier": constants.multiplier2,
        "input2_shift": constants.shift2,
        "output_multiplier": constants.out_multiplier,
        "output_shift": constants.out_shift,
        "left_shift": constants.left_shift,
    }
    return parts


def _convert_with_constant(graph: Graph, operator: SourceOperator, position: int) -> None:
    """One operand is a constant: a single int8 value makes a table, a float one a scaling per channel."""
    constant = graph.source.tensors[operator.inputs[position]]
    index, source = graph.input(operator, 1 - position)
    output_index, output = graph.output(operator, source.shape)
    if graph.is_float:
        _scale_channels(graph, operator, position, (index, source), (output_index, output))
        return
    assert constant.data is not None
    if constant.dtype != "int8" or constant.scales.size != 1:
        raise ImportRefused(f"its constant '{constant.name}' is not int8 with one scale")
    if constant.data.size == 1:
        table = _table_with_constant(operator, position, constant, source, output)
        graph.add(OperatorKind.LOOKUP, [index], [output_index], table=table)
        return
    if operator.name != "MUL":
        raise ImportRefused(
            f"its constant '{constant.name}' has the shape {constant.data.shape}; a single value is needed"
        )
    _multiply_channels(graph, operator, constant, (index, source), (output_index, output))


def _table_with_constant(
    operator: SourceOperator, position: int, constant: SourceTensor, source: Tensor, output: Tensor
) -> Array:
    """int8 (256,): the operator applied to every input and the one constant, by TFLM's arithmetic."""
    assert constant.data is not None
    value = constant.data.reshape(-1).astype(np.int8)
    pair = (value, _ALL_INT8) if position == 0 else (_ALL_INT8, value)
    if operator.name in ("MAXIMUM", "MINIMUM"):
        return (np.maximum if operator.name == "MAXIMUM" else np.minimum)(*pair).astype(np.int8)
    scales = [source.scale, source.scale]
    zero_points = [source.zero_point, source.zero_point, output.zero_point]
    scales[position], zero_points[position] = float(constant.scales[0]), int(constant.zero_points[0])
    points = (zero_points[0], zero_points[1], zero_points[2])
    low, high = numerics.activation_range(
        operator.options["FusedActivationFunction"], output.scale, output.zero_point
    )
    if operator.name == "MUL":
        multiplier, shift = numerics.mul_multiplier(scales[0], scales[1], output.scale)
        return numerics.mul(*pair, multiplier, shift, points, low, high)
    if operator.name == "ADD":
        return numerics.add(
            *pair, numerics.add_parameters(scales[0], scales[1], output.scale), points, low, high
        )
    return numerics.sub(*pair, numerics.sub_parameters(scales[0], scales[1], output.scale), points, low, high)


def _channel_vector(values: Array, name: str, source: Tensor) -> Array:
    """A constant operand as (channels,) where it is one value, or one per channel of the other operand."""
    channels = source.shape[-1]
    if values.size not in (1, channels) or (values.size > 1 and values.shape[-1] != channels):
        raise ImportRefused(
            f"its constant '{name}' has the shape {values.shape}; one value, or one for each of {channels} "
            f"channels, is needed"
        )
    if source.shape4[0] != 1:
        raise ImportRefused(
            f"its input '{source.name}' has the shape {source.shape}, whose first dimension is not 1"
        )
    return np.broadcast_to(values.reshape(-1), (channels,))


def _multiply_channels(
    graph: Graph,
    operator: SourceOperator,
    constant: SourceTensor,
    source: tuple[int, Tensor],
    output: tuple[int, Tensor],
) -> None:
    """MUL by one constant per channel: the very product and requantisation of a 1x1 depthwise convolution."""
    assert constant.data is not None
    values = _channel_vector(constant.data, constant.name, source[1]).astype(np.int64) - int(
        constant.zero_points[0]
    )
    if values.min() < -128 or values.max() > 127:
        raise ImportRefused(f"its constant '{constant.name}' less its zero point does not fit in int8")
    multiplier, shift = numerics.mul_multiplier(source[1].scale, float(constant.scales[0]), output[1].scale)
    parts = activation_parts(graph, operator, output[1])
    parts["attributes"] |= {
        "input_zero_point": source[1].zero_point,
        "output_zero_point": output[1].zero_point,
    }
    graph.add(
        OperatorKind.DEPTHWISE_CONV_2D, [source[0]], [output[0]],
        weights=Weights(values.astype(np.int8).reshape(-1, 1), constant.scales.astype(np.float64)),
        requant=Requant(np.array([multiplier], np.int32), np.array([shift], np.int32)), **parts,
    )  # fmt: skip


def _scale_channels(
    graph: Graph,
    operator: SourceOperator,
    position: int,
    source: tuple[int, Tensor],
    output: tuple[int, Tensor],
) -> None:
    """ADD, SUB or MUL with a float constant: a 1x1 depthwise convolution with weight and bias per channel."""
    if operator.name in ("MAXIMUM", "MINIMUM"):
        raise ImportRefused("one of its operands is a constant")
    constant = graph.source.tensors[operator.inputs[position]]
    values = _channel_vector(real_values(constant), constant.name, source[1]).astype(np.float32)
    weights, bias = np.ones_like(values), values
    if operator.name == "MUL":
        weights, bias = values, np.zeros_like(values)
    elif operator.name == "SUB":
        weights, bias = (-weights, values) if position == 0 else (weights, -values)
    graph.add(
        OperatorKind.DEPTHWISE_CONV_2D, [source[0]], [output[0]], weights=Weights(weights.reshape(-1, 1)),
        bias=bias, **activation_parts(graph, operator, output[1]),
    )  # fmt: skip


# -------------------------------------------------------------------------------- pooling, mean, softmax


def convert_pool_2d(graph: Graph, operator: SourceOperator) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D; TFLM asks for one scale and zero point on both sides."""
    input_index, source = graph.input(operator)
    height, width, depth = require_image(source)
    kernel = (operator.options["FilterHeight"], operator.options["FilterWidth"])
    attributes, size = window_attributes(operator, (height, width), kernel)
    output_index, output = graph.output(operator, (1, *size, depth))
    if abs(source.scale - output.scale) > 1e-6 or source.zero_point != output.zero_point:
        raise ImportRefused("its output is quantised otherwise than its input")
    parts = activation_parts(graph, operator, output)
    parts["attributes"] |= attributes
    graph.add(_POOL_KINDS[operator.name], [input_index], [output_index], **parts)


def convert_mean(graph: Graph, operator: SourceOperator) -> None:
    """MEAN; `axes` counts in the shape padded to four dimensions."""
    input_index, source = graph.input(operator)
    rank = len(source.shape)
    axes = graph.integers(operator, 1, "axes")
    if rank > 4 or not axes or any(not -rank <= axis < rank for axis in axes):
        raise ImportRefused(f"it reduces the axes {axes} of the shape {source.shape}")
    reduced = {axis % rank for axis in axes}
    count = int(np.prod([source.shape[axis] for axis in reduced]))
    output_index, output = graph.output(operator)
    kept = [size for axis, size in enumerate(source.shape) if axis not in reduced]
    if [size for size in output.shape if size != 1] != [size for size in kept if size != 1]:
        raise ImportRefused(f"its output '{output.name}' has the shape {output.shape}")
    attributes = {"axes": sum(1 << (axis + 4 - rank) for axis in reduced)}
    if not graph.is_float:
        multiplier, shift = numerics.mean_multiplier(source.scale, output.scale, count)
        attributes |= {"input_zero_point": source.zero_point, "output_zero_point": output.zero_point}
        attributes |= {"multiplier": multiplier, "shift": shift}
    graph.add(OperatorKind.MEAN, [input_index], [output_index], attributes=attributes)


def convert_softmax(graph: Graph, operator: SourceOperator) -> None:
    """SOFTMAX over the last axis; int8 output has scale 1/256 and zero point -128, as TFLM insists."""
    input_index, source = graph.input(operator)
    output_index, output = graph.output(operator, source.shape)
    beta = operator.options["Beta"]
    if not np.isfinite(beta) or beta <= 0:
        raise ImportRefused(f"its beta is {beta}")
    if graph.is_float:
        graph.add(OperatorKind.SOFTMAX, [input_index], [output_index], options={"beta": float(beta)})
        return
    if (output.scale, output.zero_point) != (1 / 256, -128):
        raise ImportRefused(
            f"its output has scale {output.scale:g} and zero point {output.zero_point}, not 1/256 and -128"
        )
    constants = numerics.softmax_parameters(source.scale, beta, classes=source.shape[-1])
    attributes = {
        "multiplier": constants.multiplier,
        "shift": constants.left_shift,
        "diff_min": constants.diff_min,
    }
    graph.add(OperatorKind.SOFTMAX, [input_index], [output_index], attributes=attributes)


# --------------------------------------------------------------------------------------- functions


def convert_function(graph: Graph, operator: SourceOperator) -> None:
    """RELU, RELU6, LEAKY_RELU, HARD_SWISH, LOGISTIC and TANH as a table; float models keep the name."""
    input_index, source = graph.input(operator)
    output_index, output = graph.output(operator, source.shape)
    function = _FUNCTIONS[operator.name]
    extra = {"alpha": float(operator.options["Alpha"])} if operator.name == "LEAKY_RELU" else {}
    if graph.is_float:
        graph.add(OperatorKind.LOOKUP, [input_index], [output_index], options={"function": function, **extra})
        return
    table = numerics.lookup_table(
        function, source.scale, source.zero_point, output.scale, output.zero_point, **extra
    )
    graph.add(OperatorKind.LOOKUP, [input_index], [output_index], table=table)


def requantise(graph: Graph, input_index: int, output_index: int) -> None:
    """Add a LOOKUP that brings an int8 activation to another one's scale and zero point, as QUANTIZE does."""
    source, output = graph.tensor(input_index), graph.tensor(output_index)
    table = numerics.lookup_table(
        "quantize", source.scale, source.zero_point, output.scale, output.zero_point
    )
    graph.add(OperatorKind.LOOKUP, [input_index], [output_index], table=table)


def convert_quantize(graph: Graph, operator: SourceOperator) -> None:
    """QUANTIZE between two int8 tensors; the ones at the model's edges never come here."""
    input_index, source = graph.input(operator)
    output_index, _ = graph.output(operator, source.shape)
    requantise(graph, input_index, output_index)
