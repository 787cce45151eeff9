"""QDQ models: what QuantizeLinear and DequantizeLinear say becomes the scales of an integer model.

While the graph is read, a QuantizeLinear of an activation is a LOOKUP "quantize" whose output tensor carries
scale and zero point (dtype INT8); a DequantizeLinear is nothing. `integer_model` then fuses activations, lets
the operator before each "quantize" write its output, and turns the float operators into integer ones. uint8
activations are int8 ones with a zero point lower by 128.
"""

from __future__ import annotations

import numpy as np

from model_packager.errors import ImportRefused
from model_packager.format_table import DType, OperatorKind
from model_packager.importers.onnx.fold import quantisation_of
from model_packager.importers.onnx.graph import Graph
from model_packager.importers.onnx.layout import Value
from model_packager.importers.onnx.source import SourceNode
from model_packager.model import Model, Operator, Tensor, Weights
from model_packager.passes.binarise_activations import binarise_activations, order_signs
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.fuse_activations import fuse_activations
from model_packager.passes.graph_edges import drop_unused_tensors
from model_packager.passes.quantise import SHARE_SCALE, fixed_quantisation, integer_operators

# Functions of which a saturated input gives the same output: their input may have the output's scale.
_SATURATING = ("relu", "relu6")


def _activation_quantisation(graph: Graph, node: SourceNode) -> tuple[float, int]:
    """(scale, int8 zero point) of an activation's QuantizeLinear or DequantizeLinear."""
    scales, zero_points, dtype = quantisation_of(graph, node)
    if scales.size != 1 or zero_points.size != 1:
        raise ImportRefused("activations with a scale per channel are not supported")
    if dtype not in ("int8", "uint8"):
        raise ImportRefused(f"its quantised type is {dtype}; int8 and uint8 are supported")
    return float(scales[0]), int(zero_points[0]) - (128 if dtype == "uint8" else 0)


def _mark(tensor: Tensor, scale: float, zero_point: int) -> None:
    tensor.dtype, tensor.scale, tensor.zero_point = DType.INT8, scale, zero_point


def _same(first: Tensor, second: Tensor) -> bool:
    return (first.scale, first.zero_point) == (second.scale, second.zero_point)


def convert_quantize(graph: Graph, node: SourceNode) -> None:
    value = graph.value(node)
    scale, zero_point = _activation_quantisation(graph, node)
    output = graph.add_tensor(node.outputs[0], graph.tensor(value.tensor).shape)
    _mark(graph.tensor(output), scale, zero_point)
    graph.add(OperatorKind.LOOKUP, [value.tensor], output, options={"function": "quantize"})
    graph.set_value(node, Value(output, value.shape, value.factors))


def convert_dequantize(graph: Graph, node: SourceNode) -> None:
    value = graph.value(node)
    scale, zero_point = _activation_quantisation(graph, node)
    tensor = graph.tensor(value.tensor)
    if tensor.dtype is DType.INT8 and (tensor.scale, tensor.zero_point) != (scale, zero_point):
        raise ImportRefused(
            f"its input was quantised with scale {tensor.scale:g} and zero point {tensor.zero_point}, "
            f"not {scale:g} and {zero_point}"
        )
    _mark(tensor, scale, zero_point)
    graph.set_value(node, value)


def integer_model(model: Model) -> Model:
    """The integer model of a float one with marked tensors. Raises ``ImportRefused`` naming a tensor that no
    QuantizeLinear covers."""
    result = fuse_activations(fold_batch_norm(order_signs(model)))
    _absorb_quantisation(result)
    result = binarise_activations(result)
    _spread_scales(result)
    for operator in result.operators:
        output = result.tensors[operator.outputs[0]]
        if output.dtype not in (DType.INT8, DType.BIT):
            raise ImportRefused(
                f"the output '{output.name}' of {operator.kind.name} '{operator.name}' is not quantised: no "
                f"QuantizeLinear follows it"
            )
    for port in result.inputs:
        if result.tensors[port.tensor].dtype is not DType.INT8:
            raise ImportRefused(f"the model input '{port.name}' is not quantised")
    _settle_output_scales(result)
    return integer_operators(result)


def _absorb_quantisation(model: Model) -> None:
    """Let the tensor before a "quantize" carry its scale, where it has none yet or the same."""
    kept = []
    for operator in model.operators:
        source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
        is_quantize = operator.options.get("function") == "quantize"
        if not is_quantize or (source.dtype is DType.INT8 and not _same(source, output)):
            kept.append(operator)
            continue
        _mark(source, output.scale, output.zero_point)
        for reader in model.operators:
            reader.inputs = [
                operator.inputs[0] if index == operator.outputs[0] else index for index in reader.inputs
            ]
        for port in model.outputs:
            port.tensor = operator.inputs[0] if port.tensor == operator.outputs[0] else port.tensor
    model.operators = kept
    drop_unused_tensors(model)


def _spread_scales(model: Model) -> None:
    """Give unmarked tensors around operators that only move or compare values the scale of the other side,
    and those behind softmax, logistic and tanh their fixed one, until nothing changes."""
    changed = True
    while changed:
        changed = False
        for operator in model.operators:
            output = model.tensors[operator.outputs[0]]
            inputs = [model.tensors[index] for index in operator.inputs]
            fixed = fixed_quantisation(operator)
            before = [tensor.dtype for tensor in (output, *inputs)]
            if fixed is not None and output.dtype is not DType.INT8:
                _mark(output, *fixed)
            elif operator.kind in SHARE_SCALE:
                _share(inputs, output)
            elif operator.options.get("function") in _SATURATING and output.dtype is DType.INT8:
                if inputs[0].dtype is not DType.INT8:
                    _mark(inputs[0], output.scale, output.zero_point)
            changed |= before != [tensor.dtype for tensor in (output, *inputs)]


def _share(inputs: list[Tensor], output: Tensor) -> None:
    if output.dtype is DType.INT8:
        for tensor in inputs:
            if tensor.dtype is not DType.INT8:
                _mark(tensor, output.scale, output.zero_point)
    elif all(tensor.dtype is DType.INT8 and _same(tensor, inputs[0]) for tensor in inputs):
        _mark(output, inputs[0].scale, inputs[0].zero_point)


def _settle_output_scales(model: Model) -> None:
    """Operators whose integer kernels cannot reach the output's scale get a LOOKUP behind them: softmax,
    which has one output scale, and padded average pools, which have the input's. Other average pools become
    depthwise convolutions, which round once.
    """
    operators: list[Operator] = []
    for operator in model.operators:
        operators.append(operator)
        source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
        kept: tuple[float, int] | None = None
        if operator.kind is OperatorKind.SOFTMAX:
            kept = fixed_quantisation(operator)
        elif operator.kind is OperatorKind.AVERAGE_POOL_2D:
            kept = (source.scale, source.zero_point)
        if kept is None or kept == (output.scale, output.zero_point):
            continue
        if operator.kind is OperatorKind.AVERAGE_POOL_2D and not _is_padded(operator):
            _average_by_convolution(operator, output.shape[-1])
            continue
        operators.append(_requantised_after(model, operator, kept))
    model.operators = operators


def _is_padded(operator: Operator) -> bool:
    return any(value for name, value in operator.attributes.items() if name.startswith("pad_"))


def _average_by_convolution(operator: Operator, channels: int) -> None:
    cells = operator.attributes["kernel_h"] * operator.attributes["kernel_w"]
    operator.kind = OperatorKind.DEPTHWISE_CONV_2D
    operator.weights = Weights(np.full((channels, cells), 1 / cells, np.float32))


def _requantised_after(model: Model, operator: Operator, inner_quantisation: tuple[float, int]) -> Operator:
    """Let the operator write a new tensor; the LOOKUP that brings that one to the scale of its old output."""
    output = model.tensors[operator.outputs[0]]
    inner = Tensor(f"{output.name}/before", output.shape, DType.INT8, *inner_quantisation)
    model.tensors.append(inner)
    lookup = Operator(OperatorKind.LOOKUP, [len(model.tensors) - 1], operator.outputs, name=output.name)
    lookup.options["function"] = "quantize"
    operator.name, operator.outputs = inner.name, [len(model.tensors) - 1]
    return lookup
