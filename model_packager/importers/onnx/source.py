"""Reads an .onnx file into plain nodes and NumPy constants, checked as far as the importer relies on them.

A path or bytes go in, a ``SourceModel`` comes out: nodes in execution order with attributes as Python values,
initialisers as arrays, graph inputs with static shapes (a batch dimension without a size is 1). Source: the
ONNX IR specification (onnx/docs/IR.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import ImportRefused, UsageError
from model_packager.format_table import Limit

Array = npt.NDArray[Any]

OPSET_MIN, OPSET_MAX = 9, 21
# Counts beyond this are damage, not networks; it bounds the time spent on a hostile file.
_MAX_NODES = 8192


@dataclass
class SourceNode:
    """One node; ``index`` is its position in the file. An absent input has the name ""."""

    index: int
    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute; a damaged file may hold anything under its name."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise ImportRefused(f"its attribute {name} is not an integer")
        return value

    def number(self, name: str, default: float) -> float:
        """A float attribute; NaN is refused."""
        value = self.attributes.get(name, default)
        if not isinstance(value, (int, float)) or value != value:
            raise ImportRefused(f"its attribute {name} is not a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        if not isinstance(value, str) or not value.isprintable():
            raise ImportRefused(f"its attribute {name} is not text")
        return value


@dataclass
class SourcePort:
    """A graph input or output. ``dtype`` is NumPy's name; ``shape`` is None where the file is silent."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass
class SourceModel:
    opset: int
    nodes: list[SourceNode]
    constants: dict[str, Array]
    inputs: list[SourcePort]
    outputs: list[SourcePort]


def require_onnx() -> ModuleType:
    """The package ``onnx``; raises ``UsageError`` that says how to get it."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise UsageError(
            "reading .onnx files needs the package onnx: install thimble-runtime with the extra 'onnx', "
            "pip install 'thimble-runtime[onnx]'"
        ) from error
    return onnx


def read_model(source: bytes | str | Path) -> SourceModel:
    """Parse a file. Raises ``UsageError`` if it cannot be read, ``ImportRefused`` if it is no sound model."""
    onnx = require_onnx()
    proto = _parse(onnx, source)
    graph = proto.graph
    opsets = [int(item.version) for item in proto.opset_import if item.domain in ("", "ai.onnx")]
    if not graph.node or len(opsets) != 1:
        raise ImportRefused("this is not an ONNX model: it has no nodes, or no single operator set version")
    if not OPSET_MIN <= opsets[0] <= OPSET_MAX:
        raise ImportRefused(
            f"the model uses ONNX operator set {opsets[0]}; {OPSET_MIN} to {OPSET_MAX} are supported"
        )
    if len(graph.node) > _MAX_NODES:
        raise ImportRefused(f"the model has {len(graph.node)} nodes; {_MAX_NODES} are supported")
    if graph.sparse_initializer:
        raise ImportRefused("the model has sparse initialisers, which are not supported")
    base = str(Path(source).parent) if isinstance(source, (str, Path)) else ""
    constants = {item.name: read_tensor(onnx, item, base) for item in graph.initializer}
    return SourceModel(
        opsets[0],
        [_node(onnx, index, item) for index, item in enumerate(graph.node)],
        constants,
        [_port(onnx, item) for item in graph.input if item.name not in constants],
        [_port(onnx, item) for item in graph.output],
    )


def _parse(onnx: ModuleType, source: bytes | str | Path) -> Any:
    data = source
    if isinstance(source, (str, Path)):
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror or error}") from error
    try:
        proto = onnx.ModelProto.FromString(data)
    except Exception as error:  # the protobuf runtimes raise classes of their own
        raise ImportRefused("this is not an ONNX file, or it is damaged") from error
    return proto


def read_tensor(onnx: ModuleType, tensor: Any, base: str = "") -> Array:
    """A TensorProto as an array; floats of 16 and 64 bits become float32.

    The element count is checked against the stored bytes first, so that a damaged shape allocates nothing.
    """
    _require_text(tensor.name)
    count = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or count > Limit.TENSOR_BYTES:
        raise ImportRefused(f"constant '{tensor.name}' has the shape {tuple(tensor.dims)}")
    try:
        values = onnx.numpy_helper.to_array(tensor, base)
    except Exception as error:  # wrong lengths, unknown types and missing external files, all differently
        raise ImportRefused(f"constant '{tensor.name}' cannot be read: {_sentence(error)}") from error
    if values.dtype in (np.float16, np.float64):
        return values.astype(np.float32)
    return np.asarray(values)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _require_text(*names: Any) -> None:
    """Names end up in sentences; protobuf gives bytes for what is not UTF-8."""
    for name in names:
        if not isinstance(name, str) or not name.isprintable():
            raise ImportRefused(f"the file is damaged: it has the name {name!r}")


def _node(onnx: ModuleType, index: int, node: Any) -> SourceNode:
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    result = SourceNode(index, kind, node.name, list(node.input), list(node.output))
    _require_text(kind, node.name, *node.input, *node.output, *(item.name for item in node.attribute))
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            result.attributes[attribute.name] = read_tensor(onnx, attribute.t)
        elif attribute.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            value = onnx.helper.get_attribute_value(attribute)
            result.attributes[attribute.name] = (
                value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            )
    return result


def _port(onnx: ModuleType, item: Any) -> SourcePort:
    _require_text(item.name)
    if not item.type.HasField("tensor_type"):
        raise ImportRefused(f"the model's '{item.name}' is not a tensor")
    tensor = item.type.tensor_type
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError as error:
        raise ImportRefused(f"the model's '{item.name}' has an unknown type") from error
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            int(dimension.dim_value) if dimension.WhichOneof("value") == "dim_value" else None
            for dimension in tensor.shape.dim
        )
    return SourcePort(item.name, dtype, shape)
