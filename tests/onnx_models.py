"""Small ONNX graphs for tests, and the comparison of what the importer makes of one with onnxruntime.

A graph is written as text in ONNX's own syntax (onnx/docs/Syntax.md): the list of nodes, with the inputs `x`
(and `y`), the output `out`, and constants by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from host_tools.ports import real_outputs
from model_packager.importers.onnx import import_onnx
from model_packager.model import Model
from model_packager.reference import run
from model_packager.sample_arrays import batches_for_inputs, quantised_batch

SAMPLES = 3
Array = Any


def random_floats(*shape: int, seed: int = 1, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).normal(0, scale, shape)).astype(np.float32)


def build(
    nodes: str,
    inputs: dict[str, tuple[Any, ...]],
    constants: dict[str, Array] | None = None,
    opset: int = 17,
    outputs: tuple[str, ...] = ("out",),
    output_type: int = TensorProto.FLOAT,
) -> bytes:
    """The bytes of a model; `nodes` is the body of a graph in ONNX's text syntax."""
    parsed = onnx.parser.parse_graph(f"g () => () {{ {nodes} }}")
    graph = helper.make_graph(
        list(parsed.node),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, output_type, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def original_outputs(data: bytes, inputs: dict[str, Array]) -> list[Array]:
    """onnxruntime's outputs, (N, ...) each, one sample at a time. Its optimisations are off: they replace QDQ
    nodes by integer kernels of their own rounding.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    count = len(next(iter(inputs.values())))
    rows = [
        session.run(None, {name: values[i : i + 1] for name, values in inputs.items()}) for i in range(count)
    ]
    return [np.stack(parts) for parts in zip(*rows, strict=True)]


def imported_outputs(model: Model, inputs: dict[str, Array]) -> list[Array]:
    """The reference executor's outputs for arrays in the original's layout, real numbers."""
    batches = batches_for_inputs(inputs, model)
    if not model.is_float:
        batches = [
            quantised_batch(batch, model, port) for batch, port in zip(batches, model.inputs, strict=True)
        ]
    return real_outputs(run(model, [np.ascontiguousarray(batch) for batch in batches]), model)


def sample_inputs(data: bytes, seed: int = 0, count: int = SAMPLES) -> dict[str, Array]:
    """Random normal inputs (count, ...) by name; an open dimension is 1."""
    graph = onnx.ModelProto.FromString(data).graph
    constants = {item.name for item in graph.initializer}
    shapes = {
        item.name: [dimension.dim_value or 1 for dimension in item.type.tensor_type.shape.dim]
        for item in graph.input
        if item.name not in constants
    }
    return {
        name: random_floats(count, *shape[1:], seed=seed + place)
        for place, (name, shape) in enumerate(shapes.items())
    }


def compare(data: bytes, tolerance: float = 1e-5, seed: int = 0) -> Model:
    """Import a float model and hold its outputs to onnxruntime's; returns it."""
    model = import_onnx(data)
    inputs = sample_inputs(data, seed)
    for ours, theirs in zip(imported_outputs(model, inputs), original_outputs(data, inputs), strict=True):
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=tolerance, atol=tolerance)
    return model


def kinds(model: Model) -> list[str]:
    return [operator.kind.name for operator in model.operators]
