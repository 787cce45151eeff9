"""Imports .onnx files: `import_onnx` takes a path or the file's bytes and gives a ``Model``.

A float32 file becomes a float model, a QDQ file (QuantizeLinear and DequantizeLinear around int8 or uint8
activations) an integer model with the same scales. Activations that ONNX counts N, C, H, W are stored
N, H, W, C; ``metadata["channels_first"]`` lists the ports whose originals have channels first. Anything that
is not supported raises ``ImportRefused``, which names the node and its position, and of an unknown operator
those that are supported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model_packager.errors import ImportRefused
from model_packager.format_table import PortFlag
from model_packager.importers.onnx import arithmetic, layout, movement, quantised, weighted
from model_packager.importers.onnx.fold import fold
from model_packager.importers.onnx.graph import Graph
from model_packager.importers.onnx.layout import Shape, Value
from model_packager.importers.onnx.patterns import fuse_patterns
from model_packager.importers.onnx.source import SourceModel, SourceNode, SourcePort, read_model
from model_packager.model import Model, Port

CONVERTERS: dict[str, Callable[[Graph, SourceNode], None]] = {
    "Add": arithmetic.convert_binary,
    "AveragePool": arithmetic.convert_pool,
    "BatchNormalization": weighted.convert_batch_normalization,
    "Clip": arithmetic.convert_clip,
    "Concat": movement.convert_concat,
    "Conv": weighted.convert_conv,
    "DequantizeLinear": quantised.convert_dequantize,
    "Div": arithmetic.convert_binary,
    "Dropout": movement.convert_identity,
    "Flatten": movement.convert_flatten,
    "Gather": movement.convert_gather,
    "Gemm": weighted.convert_gemm,
    "GlobalAveragePool": arithmetic.convert_global_pool,
    "GlobalMaxPool": arithmetic.convert_global_pool,
    "HardSigmoid": arithmetic.convert_hard_sigmoid,
    "HardSwish": arithmetic.convert_function,
    "Identity": movement.convert_identity,
    "LeakyRelu": arithmetic.convert_leaky_relu,
    "MatMul": weighted.convert_matmul,
    "Max": arithmetic.convert_binary,
    "MaxPool": arithmetic.convert_pool,
    "Min": arithmetic.convert_binary,
    "Mul": arithmetic.convert_binary,
    "PRelu": arithmetic.convert_prelu,
    "Pad": movement.convert_pad,
    "QuantizeLinear": quantised.convert_quantize,
    "ReduceMean": arithmetic.convert_reduce_mean,
    "Relu": arithmetic.convert_function,
    "Reshape": movement.convert_reshape,
    "Resize": movement.convert_resize,
    "Sigmoid": arithmetic.convert_function,
    "Sign": arithmetic.convert_function,
    "Slice": movement.convert_slice,
    "Softmax": arithmetic.convert_softmax,
    "Split": movement.convert_split,
    "Squeeze": movement.convert_squeeze,
    "Sub": arithmetic.convert_binary,
    "Tanh": arithmetic.convert_function,
    "Transpose": movement.convert_transpose,
    "Unsqueeze": movement.convert_unsqueeze,
    "Upsample": movement.convert_resize,
}
SUPPORTED_OPERATORS = tuple(sorted({*CONVERTERS, "Constant"}))
# Nodes that take axis 1 of a sequence N, C, L for channels, and those through which it passes unchanged.
_CHANNEL_NODES = frozenset(
    ("AveragePool", "BatchNormalization", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
)
_TRANSPARENT_NODES = frozenset(("DequantizeLinear", "Dropout", "Identity", "Pad", "QuantizeLinear"))


def import_onnx(source: bytes | str | Path) -> Model:
    """Read an .onnx file into a ``Model``.

    source: the file's path, or its bytes. The model's name is the file's stem, empty for bytes. Raises
    ``UsageError`` when the file cannot be read or the package ``onnx`` is missing, ``ImportRefused`` when the
    file is damaged or not supported.
    """
    model = _build(read_model(source))
    model.name = Path(source).stem if isinstance(source, (str, Path)) else ""
    return model


def _build(source: SourceModel) -> Model:
    fuse_patterns(source)
    graph = Graph(source)
    for port in source.inputs:
        _add_input(graph, port)
    for node in source.nodes:
        _convert(graph, node)
    for port in source.outputs:
        _add_output(graph, port)
    return quantised.integer_model(graph.model) if graph.is_quantised else graph.model


def _convert(graph: Graph, node: SourceNode) -> None:
    try:
        if not node.outputs:
            raise ImportRefused("it has no outputs")
        if fold(graph, node):
            return
        if node.kind not in CONVERTERS:
            known = ", ".join(SUPPORTED_OPERATORS)
            raise ImportRefused(f"this operator is not supported; supported operators are {known}")
        CONVERTERS[node.kind](graph, node)
    except ImportRefused as error:
        name = f" '{node.name}'" if node.name else ""
        output = f" (output '{node.outputs[0]}')" if node.outputs else ""
        where = f"node {node.index} {node.kind}{name}{output}"
        raise ImportRefused(f"{where} cannot be imported: {error}") from error


# --------------------------------------------------------------------------------------------- ports


def _static_shape(port: SourcePort) -> Shape:
    """The input's shape with a batch dimension of 1; only that dimension may have no size in the file."""
    stated = port.shape
    if not stated or None in stated[1:]:
        raise ImportRefused(
            f"the model input '{port.name}' has the shape {_spelled(stated)}; only the first dimension may "
            f"be open"
        )
    shape = (1 if stated[0] is None else stated[0], *(size for size in stated[1:] if size is not None))
    if shape[0] != 1 and len(shape) > 1:
        raise ImportRefused(
            f"the model input '{port.name}' has the shape {_spelled(stated)}; the first dimension must be 1"
        )
    if min(shape) < 1 or len(shape) > 6:
        raise ImportRefused(f"the model input '{port.name}' has the shape {_spelled(stated)}")
    return shape


def _spelled(shape: tuple[int | None, ...] | None) -> str:
    return "of no rank" if shape is None else f"({', '.join('?' if n is None else str(n) for n in shape)})"


def _add_input(graph: Graph, port: SourcePort) -> None:
    shape = _static_shape(port)
    if port.dtype not in ("float32", "int8"):
        raise ImportRefused(
            f"the model input '{port.name}' has type {port.dtype}; float32 and int8 are supported"
        )
    order = tuple(range(len(shape)))
    if _has_channels_first(graph, port, shape):
        order = layout.channels_last(len(shape))
    stored = tuple(shape[axis] for axis in order)
    if len(shape) == 3 and order != (0, 1, 2):
        stored = (1, *stored)
    index = graph.add_tensor(port.name, stored)
    graph.set_named_value(port.name, Value(index, shape, layout.stored_as(shape, order)))
    flags = PortFlag.FLOAT if graph.is_quantised and port.dtype == "float32" else PortFlag(0)
    if stored != shape and not layout.is_contiguous(layout.stored_as(shape, order)):
        _note_channels_first(graph.model, "inputs", len(graph.model.inputs))
    graph.model.inputs.append(Port(index, port.name, flags=flags))


def _note_channels_first(model: Model, side: str, position: int) -> None:
    model.metadata.setdefault("channels_first", {}).setdefault(side, []).append(position)


def _has_channels_first(graph: Graph, port: SourcePort, shape: Shape) -> bool:
    """Whether axis 1 of an input is its channels: an image's unless all that is done with it is to transpose
    it, a sequence's if it goes into a node that says so."""
    if len(shape) not in (3, 4):
        return False
    names, readers = {port.name}, []
    for node in graph.source.nodes:
        if names.intersection(node.inputs):
            if node.kind in _TRANSPARENT_NODES:
                names.update(node.outputs)
            else:
                readers.append(node)
    if len(shape) == 3:
        return any(node.kind in _CHANNEL_NODES for node in readers)
    return not readers or any(node.attributes.get("perm") != [0, 3, 1, 2] for node in readers)


def _add_output(graph: Graph, port: SourcePort) -> None:
    if not graph.has_value(port.name):
        raise ImportRefused(f"no node computes the model output '{port.name}'")
    value = graph.named_value(port.name)
    if port.dtype not in ("float32", "int8"):
        raise ImportRefused(
            f"the model output '{port.name}' has type {port.dtype}; float32 and int8 are supported"
        )
    order = tuple(range(len(value.shape)))
    in_place = layout.is_contiguous(value.factors)
    if not in_place and len(order) == 4 and graph.natural_order(value) == layout.channels_last(4):
        order = layout.channels_last(4)
        _note_channels_first(graph.model, "outputs", len(graph.model.outputs))
    index = graph.arranged(value, order)
    if index in [other.tensor for other in graph.model.inputs]:
        raise ImportRefused(f"the model output '{port.name}' is a model input")
    flags = PortFlag.FLOAT if graph.is_quantised and port.dtype == "float32" else PortFlag(0)
    graph.model.outputs.append(Port(index, port.name, flags=flags))
