"""Evaluates nodes whose inputs are all known: constants, shapes, and the DequantizeLinear of weights.

Nodes that compute shapes (Shape, Gather, Concat ... before a Reshape) disappear here, since every
activation's shape is known by the time they are reached. ``onnx.reference`` computes them.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import ImportRefused
from model_packager.importers.onnx.graph import ELEMENTS_LIMIT, Graph, QuantisedConstant
from model_packager.importers.onnx.source import SourceNode, require_onnx

Array = npt.NDArray[Any]

# Nodes that onnx.reference evaluates. Only the growing ones give more elements than they take.
_FOLDED = frozenset(
    "Abs Add Cast Ceil Concat Div Equal Exp Flatten Floor Gather Identity Max Min Mul Neg Pow "
    "QuantizeLinear Reciprocal ReduceProd Reshape Slice Split Sqrt Squeeze Sub Transpose Unsqueeze "
    "Where".split()
)
_GROWING = ("ConstantOfShape", "Expand", "Range", "Tile")


def fold(graph: Graph, node: SourceNode) -> bool:
    """Evaluate a node into constants if all its inputs are known; False if it must be converted."""
    if node.kind == "Constant":
        _set(graph, node, _constant_of(node))
        return True
    if node.kind == "Shape" and node.inputs and graph.has_value(node.inputs[0]):
        _set(graph, node, np.array(_shape_of(graph, node), np.int64))
        return True
    known = bool(node.inputs) and all(name == "" or name in graph.constants for name in node.inputs)
    if not known:
        return False
    if node.kind == "DequantizeLinear":
        _dequantise(graph, node)
        return True
    if node.kind not in _FOLDED and node.kind not in _GROWING:
        return False
    if node.kind == "Transpose" and node.inputs[0] in graph.quantised:
        _transpose_quantised(graph, node)
    elif node.kind == "Identity" and node.inputs[0] in graph.quantised:
        graph.quantised[node.outputs[0]] = graph.quantised[node.inputs[0]]
    for name, value in zip(node.outputs, _evaluate(graph, node), strict=True):
        graph.constants[name] = np.asarray(value)
    return True


def _set(graph: Graph, node: SourceNode, value: Array) -> None:
    graph.constants[node.outputs[0]] = value


def _constant_of(node: SourceNode) -> Array:
    types: dict[str, Any] = {
        "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64,
    }  # fmt: skip
    for name, value in node.attributes.items():
        if name == "value":
            return np.asarray(value)
        if name in types and isinstance(value, (int, float, list)):
            return np.array(value, types[name])
    raise ImportRefused("its value is of a kind that is not supported")


def _shape_of(graph: Graph, node: SourceNode) -> tuple[int, ...]:
    shape = graph.value(node).shape
    return shape[node.integer("start", 0) : node.integer("end", len(shape))]


def _evaluate(graph: Graph, node: SourceNode) -> list[Any]:
    onnx = require_onnx()
    from onnx.reference import ReferenceEvaluator

    inputs = {name: graph.constants[name] for name in node.inputs if name}
    if node.kind in _GROWING:
        _require_small(node, [graph.constants[name] for name in node.inputs if name])
    try:
        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(_single_node_model(onnx, node, graph.opset)).run(None, inputs))
    except Exception as error:  # shapes that do not fit raise whatever NumPy raises
        detail = " ".join(str(error).split())[:200]
        raise ImportRefused(f"its constants cannot be evaluated: {detail}") from error


def _single_node_model(onnx: ModuleType, node: SourceNode, opset: int) -> Any:
    """A ModelProto of one node; the evaluator asks for no types."""
    attributes = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    proto = onnx.helper.make_node(node.kind, node.inputs, node.outputs, **attributes)
    untyped = onnx.TypeProto()
    inputs, outputs = (
        [onnx.helper.make_value_info(name, untyped) for name in dict.fromkeys(names) if name]
        for names in (node.inputs, node.outputs)
    )
    body = onnx.helper.make_graph([proto], "constant", inputs, outputs)
    return onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", opset)])


def _require_small(node: SourceNode, inputs: list[Array]) -> None:
    """Refuse results that would not fit in memory, before they are made."""
    try:
        if node.kind == "Range":
            start, limit, step = (float(value) for value in inputs)
            elements = abs((limit - start) / step)
        else:
            elements = float(math.prod(int(size) for size in inputs[-1].reshape(-1)))
            if node.kind == "Tile":
                elements *= inputs[0].size
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise ImportRefused("its constants do not fit together") from error
    if not elements <= ELEMENTS_LIMIT:
        raise ImportRefused(f"its result would have {elements:g} elements")


# ---------------------------------------------------------------------------------- quantised constants


def signed(values: Array, zero_points: Array) -> tuple[Array, Array]:
    """int8 or int32 values and zero points; uint8 ones are shifted by 128, which changes no real value."""
    if values.dtype == np.uint8:
        return (values.astype(np.int16) - 128).astype(np.int8), zero_points.astype(np.int64) - 128
    return values, zero_points.astype(np.int64)


def quantisation_of(graph: Graph, node: SourceNode) -> tuple[Array, Array, str]:
    """(scales, zero points, the quantised type) of a QuantizeLinear or DequantizeLinear, not shifted."""
    scales = graph.floats(node, 1, "scale").reshape(-1)
    if scales.size == 0 or np.any(scales <= 0):
        raise ImportRefused("its scale is not positive")
    if node.integer("block_size", 0):
        raise ImportRefused("it is quantised in blocks")
    if not graph.has_input(node, 2):
        return scales, np.zeros(scales.size, np.int64), "int8" if node.kind == "DequantizeLinear" else "uint8"
    zero_points = graph.constant(node, 2, "zero point")
    if zero_points.size != scales.size or zero_points.dtype.kind not in "iu":
        raise ImportRefused(f"it has {scales.size} scales and {zero_points.size} zero points")
    return scales, zero_points.reshape(-1), str(zero_points.dtype)


def _dequantise(graph: Graph, node: SourceNode) -> None:
    """Weights and biases: kept as real numbers, and as integers where their zero point is 0."""
    stored = graph.constant(node, 0, "input")
    scales, zero_points, _ = quantisation_of(graph, node)
    if stored.dtype not in (np.int8, np.uint8, np.int32):
        raise ImportRefused(f"its constant '{node.inputs[0]}' has type {stored.dtype}; int8 is supported")
    values, zero_points = signed(
        stored, zero_points if graph.has_input(node, 2) else zero_points.astype(stored.dtype)
    )
    axis = node.integer("axis", 1)
    if scales.size > 1:
        if not -values.ndim <= axis < values.ndim or values.shape[axis] != scales.size:
            raise ImportRefused(f"it has {scales.size} scales along axis {axis} of the shape {values.shape}")
        axis %= values.ndim
    along = (
        (1,) * values.ndim
        if scales.size == 1
        else tuple(-1 if place == axis else 1 for place in range(values.ndim))
    )
    centred = values.astype(np.int64) - zero_points.reshape(
        along if zero_points.size > 1 else (1,) * values.ndim
    )
    real = centred * scales.astype(np.float64).reshape(along)
    _set(graph, node, real.astype(np.float32))
    if not np.any(zero_points):
        graph.quantised[node.outputs[0]] = QuantisedConstant(values, scales, axis)


def _transpose_quantised(graph: Graph, node: SourceNode) -> None:
    source = graph.quantised[node.inputs[0]]
    rank = source.values.ndim
    permutation = graph.integers(node, "perm") or list(reversed(range(rank)))
    if sorted(permutation) == list(range(rank)):
        axis = permutation.index(source.axis) if source.scales.size > 1 else source.axis
        graph.quantised[node.outputs[0]] = QuantisedConstant(
            source.values.transpose(permutation), source.scales, axis
        )
