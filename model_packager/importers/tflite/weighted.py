"""Converters of the operators with weights: CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED.

Weights become a matrix with one row per output channel; SAME and VALID become explicit pads as TFLM computes
them (kernels/padding.h), fused activations become clamps (integer) or a name in ``options`` (float).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from model_packager import numerics
from model_packager.errors import ImportRefused
from model_packager.format_table import OperatorKind
from model_packager.importers.tflite.flatbuffer import SourceOperator, SourceTensor
from model_packager.importers.tflite.graph import Graph, real_values
from model_packager.model import Requant, Tensor, Weights

Array = npt.NDArray[Any]

# A wider pad than any network's comes from a damaged file; it would cost every executor's memory and time.
_MAX_PAD = 1024


def activation_parts(graph: Graph, operator: SourceOperator, output: Tensor) -> dict[str, Any]:
    """Keyword parts of a fused activation: clamps, or ``options["activation"]`` in a float model."""
    activation = operator.options["FusedActivationFunction"]
    low, high = numerics.activation_range(activation, output.scale, output.zero_point)
    if graph.is_float:
        return {"attributes": {}, "options": {"activation": activation.lower()}}
    if low > high:
        raise ImportRefused(f"its fused activation {activation} leaves no value of '{output.name}'")
    return {"attributes": {"clamp_min": low, "clamp_max": high}, "options": {}}


def window_attributes(
    operator: SourceOperator,
    size: tuple[int, int],
    kernel: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[dict[str, int], tuple[int, int]]:
    """Attributes of a window over an image of `size` (height, width), and the output's height and width."""
    stride = (operator.options["StrideH"], operator.options["StrideW"])
    if min(*stride, *kernel, *dilation) < 1:
        raise ImportRefused(f"it has kernel {kernel}, stride {stride} and dilation {dilation}")
    same = operator.options["Padding"] == tflite.Padding.SAME
    attributes: dict[str, int] = {}
    output = []
    for axis, before, after, length in (("h", "pad_top", "pad_bottom", 0), ("w", "pad_left", "pad_right", 1)):
        pads = (0, 0)
        if same:
            pads = numerics.same_padding(size[length], kernel[length], stride[length], dilation[length])
        if max(pads) > _MAX_PAD:
            raise ImportRefused(
                f"it pads with {max(pads)} cells on one side; at most {_MAX_PAD} are supported"
            )
        reach = (kernel[length] - 1) * dilation[length] + 1
        steps = (size[length] + sum(pads) - reach) // stride[length] + 1
        if size[length] + sum(pads) < reach:
            raise ImportRefused(f"its window of {reach} does not fit into {size[length]} cells")
        attributes |= {f"kernel_{axis}": kernel[length], f"stride_{axis}": stride[length]}
        attributes |= {before: pads[0], after: pads[1]}
        output.append(steps)
    return attributes, (output[0], output[1])


def require_image(tensor: Tensor) -> tuple[int, int, int]:
    """(height, width, channels) of a four-dimensional tensor with batch 1."""
    if len(tensor.shape) != 4 or tensor.shape[0] != 1:
        raise ImportRefused(
            f"its input '{tensor.name}' has the shape {tensor.shape}; (1, height, width, channels) is needed"
        )
    return tensor.shape[1], tensor.shape[2], tensor.shape[3]


def _weights(graph: Graph, tensor: SourceTensor, matrix: Array, axis: int) -> Weights:
    """Weights of a (rows, cols) matrix view of `tensor`; `axis` is the output channels' in the file."""
    if graph.is_float:
        return Weights(np.ascontiguousarray(matrix, np.float32))
    if tensor.dtype != "int8" or tensor.scales.size == 0:
        raise ImportRefused(
            f"its weights '{tensor.name}' have type {tensor.dtype}; only quantised int8 is supported"
        )
    if np.any(tensor.zero_points != 0):
        raise ImportRefused(f"its weights '{tensor.name}' have a zero point other than 0")
    if tensor.scales.size > 1 and tensor.axis != axis:
        raise ImportRefused(f"its weights '{tensor.name}' have scales along axis {tensor.axis}, not {axis}")
    return Weights(np.ascontiguousarray(matrix, np.int8), tensor.scales.astype(np.float64))


def _values(graph: Graph, tensor: SourceTensor) -> Array:
    assert tensor.data is not None
    return real_values(tensor) if graph.is_float else tensor.data


def _bias(graph: Graph, operator: SourceOperator, rows: int) -> Array | None:
    if graph.source_input(operator, 2) is None:
        return None
    tensor = graph.constant(operator, 2, "bias")
    assert tensor.data is not None
    if tensor.data.size != rows:
        raise ImportRefused(f"its bias '{tensor.name}' has {tensor.data.size} values for {rows} outputs")
    if graph.is_float:
        return real_values(tensor).reshape(-1)
    if tensor.dtype != "int32":
        raise ImportRefused(f"its bias '{tensor.name}' has type {tensor.dtype}, not int32")
    return tensor.data.reshape(-1).astype(np.int32)


def _zero_points(graph: Graph, source: Tensor, output: Tensor) -> dict[str, int]:
    if graph.is_float:
        return {}
    return {"input_zero_point": source.zero_point, "output_zero_point": output.zero_point}


def _require_range(source: Tensor, weights: Weights, bias: Array | None, requant: Requant | None) -> None:
    if requant is not None:
        numerics.require_safe_accumulators(weights.values, bias, source.zero_point, requant.shifts)


def _requant(graph: Graph, source: Tensor, weights: Weights, output: Tensor) -> Requant | None:
    if graph.is_float:
        return None
    assert weights.scales is not None
    return Requant(*numerics.conv_multipliers(source.scale, weights.scales, output.scale))


def _convolve(
    graph: Graph,
    operator: SourceOperator,
    kind: OperatorKind,
    kernel: tuple[int, int],
    weights: Weights,
    extra: dict[str, int],
) -> None:
    """Add a convolution of either kind once its weights are a matrix."""
    input_index, source = graph.input(operator)
    dilation = (operator.options["DilationHFactor"], operator.options["DilationWFactor"])
    attributes, (height, width) = window_attributes(operator, source.shape[1:3], kernel, dilation)  # type: ignore[arg-type]
    rows = weights.values.shape[0]
    bias = _bias(graph, operator, rows)
    output_index, output = graph.output(operator, (1, height, width, rows))
    parts = activation_parts(graph, operator, output)
    parts["attributes"] |= attributes | extra | _zero_points(graph, source, output)
    parts["attributes"] |= {"dilation_h": dilation[0], "dilation_w": dilation[1]}
    requant = _requant(graph, source, weights, output)
    _require_range(source, weights, bias, requant)
    graph.add(kind, [input_index], [output_index], weights=weights, bias=bias, requant=requant, **parts)


def convert_conv_2d(graph: Graph, operator: SourceOperator) -> None:
    """CONV_2D: OHWI weights flatten to rows as they lie. Fewer weight channels than inputs mean groups."""
    depth = require_image(graph.input(operator)[1])[2]
    tensor = graph.constant(operator, 1, "weights")
    values = _values(graph, tensor)
    if values.ndim != 4 or values.size == 0 or depth % values.shape[3]:
        raise ImportRefused(
            f"its weights '{tensor.name}' have the shape {values.shape} for {depth} input channels"
        )
    groups = depth // values.shape[3]
    if values.shape[0] % groups:
        raise ImportRefused(f"its {values.shape[0]} output channels do not divide into {groups} groups")
    weights = _weights(graph, tensor, values.reshape(values.shape[0], -1), axis=0)
    kernel = (values.shape[1], values.shape[2])
    _convolve(graph, operator, OperatorKind.CONV_2D, kernel, weights, {"groups": groups})


def convert_depthwise_conv_2d(graph: Graph, operator: SourceOperator) -> None:
    """DEPTHWISE_CONV_2D: (1, kernel_h, kernel_w, channels) weights are transposed to one row per channel."""
    depth = require_image(graph.input(operator)[1])[2]
    tensor = graph.constant(operator, 1, "weights")
    values = _values(graph, tensor)
    if values.ndim != 4 or values.shape[0] != 1 or values.size == 0 or values.shape[3] % depth:
        raise ImportRefused(
            f"its weights '{tensor.name}' have the shape {values.shape} for {depth} input channels"
        )
    matrix = values[0].transpose(2, 0, 1).reshape(values.shape[3], -1)
    weights = _weights(graph, tensor, matrix, axis=3)
    kernel = (values.shape[1], values.shape[2])
    _convolve(graph, operator, OperatorKind.DEPTHWISE_CONV_2D, kernel, weights, {})


def _fully_connected_requant(
    graph: Graph, operator: SourceOperator, source: Tensor, weights: Weights, output: Tensor
) -> Requant | None:
    """Per-channel weights requantise like a convolution; with one scale TFLM checks the bias's."""
    if graph.is_float:
        return None
    assert weights.scales is not None
    if weights.scales.size > 1:
        return _requant(graph, source, weights, output)
    bias = graph.source_input(operator, 2)
    bias_scale = float(bias.scales[0]) if bias is not None and bias.scales.size == 1 else None
    pair = numerics.fully_connected_multiplier(
        source.scale, float(weights.scales[0]), output.scale, bias_scale
    )
    return Requant(np.array([pair[0]], np.int32), np.array([pair[1]], np.int32))


def convert_fully_connected(graph: Graph, operator: SourceOperator) -> None:
    """FULLY_CONNECTED over the flattened input; with several rows of inputs, the same as a 1x1 CONV_2D."""
    if operator.options["WeightsFormat"] != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise ImportRefused("its weights are stored in a shuffled order")
    input_index, source = graph.input(operator)
    tensor = graph.constant(operator, 1, "weights")
    values = _values(graph, tensor)
    if values.ndim != 2 or values.size == 0 or source.element_count % values.shape[1]:
        raise ImportRefused(
            f"its weights '{tensor.name}' have the shape {values.shape} for the input {source.shape}"
        )
    weights = _weights(graph, tensor, values, axis=0)
    outputs, cols = values.shape
    batch = source.element_count // cols
    bias = _bias(graph, operator, outputs)
    output_index, output = graph.output(operator)
    if output.element_count != batch * outputs or output.shape[-1] != outputs:
        raise ImportRefused(
            f"its output '{output.name}' has the shape {output.shape} for {batch} rows of {outputs}"
        )
    kind = OperatorKind.FULLY_CONNECTED
    if batch > 1:
        if source.shape[-1] != cols or source.shape4[:3] != output.shape4[:3] or source.shape4[0] != 1:
            raise ImportRefused(f"it maps {source.shape} to {output.shape}, which regroups the input's rows")
        kind = OperatorKind.CONV_2D
    parts = activation_parts(graph, operator, output)
    parts["attributes"] |= _zero_points(graph, source, output)
    requant = _fully_connected_requant(graph, operator, source, weights, output)
    _require_range(source, weights, bias, requant)
    graph.add(kind, [input_index], [output_index], weights=weights, bias=bias, requant=requant, **parts)
