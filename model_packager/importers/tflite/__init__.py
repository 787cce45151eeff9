"""Imports .tflite files: `import_tflite` takes a path or the file's bytes and gives a ``Model``.

An int8 file becomes an integer model that computes bit for bit what TensorFlow Lite Micro's reference
kernels compute. A float32 file becomes a float model; weights stored as float16 or int8 in one (dynamic-range
quantisation) are turned into floats. QUANTIZE and DEQUANTIZE at the edges of an int8 model are removed, and
the port is marked ``PortFlag.FLOAT``. Anything else raises ``ImportRefused``, which names the operator and
its position, and of an unknown operator those that are supported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model_packager.errors import ImportRefused, UsageError
from model_packager.format_table import PortFlag
from model_packager.importers.tflite import arithmetic, movement, weighted
from model_packager.importers.tflite.flatbuffer import SourceModel, SourceOperator, read_model
from model_packager.importers.tflite.graph import Graph, real_values
from model_packager.model import Model, Port

CONVERTERS: dict[str, Callable[[Graph, SourceOperator], None]] = {
    "ADD": arithmetic.convert_binary,
    "AVERAGE_POOL_2D": arithmetic.convert_pool_2d,
    "CONCATENATION": movement.convert_concatenation,
    "CONV_2D": weighted.convert_conv_2d,
    "DEPTHWISE_CONV_2D": weighted.convert_depthwise_conv_2d,
    "EXPAND_DIMS": movement.convert_reshape,
    "FULLY_CONNECTED": weighted.convert_fully_connected,
    "HARD_SWISH": arithmetic.convert_function,
    "LEAKY_RELU": arithmetic.convert_function,
    "LOGISTIC": arithmetic.convert_function,
    "MAXIMUM": arithmetic.convert_binary,
    "MAX_POOL_2D": arithmetic.convert_pool_2d,
    "MEAN": arithmetic.convert_mean,
    "MINIMUM": arithmetic.convert_binary,
    "MUL": arithmetic.convert_binary,
    "PAD": movement.convert_pad,
    "PADV2": movement.convert_pad,
    "QUANTIZE": arithmetic.convert_quantize,
    "RELU": arithmetic.convert_function,
    "RELU6": arithmetic.convert_function,
    "RESHAPE": movement.convert_reshape,
    "RESIZE_NEAREST_NEIGHBOR": movement.convert_resize_nearest,
    "SLICE": movement.convert_slice,
    "SOFTMAX": arithmetic.convert_softmax,
    "SPLIT": movement.convert_split,
    "SPLIT_V": movement.convert_split,
    "SQUEEZE": movement.convert_reshape,
    "STRIDED_SLICE": movement.convert_strided_slice,
    "SUB": arithmetic.convert_binary,
    "TANH": arithmetic.convert_function,
    "TRANSPOSE": movement.convert_transpose,
}
SUPPORTED_OPERATORS = tuple(sorted({*CONVERTERS, "DEQUANTIZE"}))


def import_tflite(source: bytes | str | Path) -> Model:
    """Read a .tflite file into a ``Model``.

    source: the file's path, or its bytes. The model's name is the file's stem, empty for bytes. Raises
    ``UsageError`` when the file cannot be read and ``ImportRefused`` when it is damaged or not supported.
    """
    if isinstance(source, (str, Path)):
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror or error}") from error
        name = Path(source).stem
    else:
        data, name = bytes(source), ""
    model = _build(read_model(data))
    model.name = name
    return model


def _build(source: SourceModel) -> Model:
    _fold_constants(source)
    graph = Graph(source, is_float=not _has_integer_activations(source))
    edges = _import_inputs(graph)
    for operator in source.operators:
        if operator.index not in edges and operator.outputs:
            _convert(graph, operator)
    _import_outputs(graph)
    return graph.model


def _fold_constants(source: SourceModel) -> None:
    """Evaluate DEQUANTIZE of constants (float16 and int8 weights of float models) and drop the operator."""
    kept = []
    for operator in source.operators:
        tensor = source.tensors[operator.inputs[0]] if operator.inputs and operator.inputs[0] >= 0 else None
        if (
            operator.name == "DEQUANTIZE"
            and operator.outputs
            and tensor is not None
            and tensor.data is not None
        ):
            target = source.tensors[operator.outputs[0]]
            try:
                values = real_values(tensor)
            except ImportRefused as error:
                raise _refusal(source, operator, str(error)) from error
            if target.dtype != "float32" or target.shape != tensor.shape:
                raise _refusal(source, operator, "its output is not a float32 tensor of the input's shape")
            target.data = values
        else:
            kept.append(operator)
    source.operators[:] = kept


def _has_integer_activations(source: SourceModel) -> bool:
    """Whether any operator reads or writes an activation that is not float32."""
    used = {
        index
        for operator in source.operators
        for index in (*operator.inputs, *operator.outputs)
        if index >= 0
    }
    return any(
        source.tensors[index].dtype != "float32" for index in used if source.tensors[index].data is None
    )


def _refusal(source: SourceModel, operator: SourceOperator, reason: str) -> ImportRefused:
    """The one sentence of every refused operator: which, where and why."""
    output = f" (output '{source.tensors[operator.outputs[0]].name}')" if operator.outputs else ""
    return ImportRefused(f"operator {operator.index} {operator.name}{output} cannot be imported: {reason}")


def _convert(graph: Graph, operator: SourceOperator) -> None:
    converter = CONVERTERS.get(operator.name)
    if operator.name == "DEQUANTIZE" and not graph.is_float:
        converter = _convert_dequantize
    if converter is None:
        known = ", ".join(SUPPORTED_OPERATORS)
        reason = f"this operator is not supported; supported operators are {known}"
        raise _refusal(graph.source, operator, reason)
    try:
        converter(graph, operator)
    except ImportRefused as error:
        raise _refusal(graph.source, operator, str(error)) from error


def _import_inputs(graph: Graph) -> set[int]:
    """Make the input ports; returns the indices of the QUANTIZE operators that they replace.

    In an integer model a float input becomes the int8 output of the QUANTIZE that reads it.
    """
    edges: set[int] = set()
    for source_index in graph.source.inputs:
        tensor = graph.source.tensors[source_index]
        name = graph.source.port_names.get(source_index, tensor.name)
        if tensor.data is not None or (tensor.shape and len(tensor.shape) > 1 and tensor.shape[0] != 1):
            raise ImportRefused(
                f"the model input '{name}' has the shape {tensor.shape}; the first dimension must be 1"
            )
        flags = PortFlag(0)
        if tensor.dtype == "float32" and not graph.is_float:
            edges |= _import_quantised_input(graph, source_index, name)
            flags = PortFlag.FLOAT
        else:
            _import_input(graph, source_index, name)
        index = graph.activation(source_index)
        activation = graph.tensor(index)
        graph.model.inputs.append(Port(index, name, activation.scale, activation.zero_point, flags))
    return edges


def _import_input(graph: Graph, source_index: int, name: str) -> None:
    """Register an input tensor; what is wrong with it is laid at the first operator that reads it."""
    try:
        graph.add_activation(source_index)
    except ImportRefused as error:
        for operator in graph.source.operators:
            if source_index in operator.inputs:
                raise _refusal(graph.source, operator, str(error)) from error
        raise ImportRefused(f"the model input '{name}' cannot be imported: {error}") from error


def _import_quantised_input(graph: Graph, source_index: int, name: str) -> set[int]:
    """Stand the QUANTIZE operators that read a float input in for the input itself."""
    readers = [operator for operator in graph.source.operators if source_index in operator.inputs]
    if not readers:
        raise ImportRefused(f"the model input '{name}' is float32 and no operator reads it")
    first: int | None = None
    for operator in readers:
        if operator.name != "QUANTIZE" or len(operator.outputs) != 1:
            raise _refusal(graph.source, operator, f"it reads the float32 input '{name}' of an int8 model")
        output = graph.source.tensors[operator.outputs[0]]
        try:
            if first is None:
                first = graph.add_activation(operator.outputs[0])
                graph.alias(source_index, first)
            kept = graph.tensor(first)
            if (float(output.scales[0]), int(output.zero_points[0])) != (kept.scale, kept.zero_point):
                raise ImportRefused(f"the input '{name}' is quantised in two different ways")
        except ImportRefused as error:
            raise _refusal(graph.source, operator, str(error)) from error
        if output.shape != graph.source.tensors[source_index].shape:
            raise _refusal(graph.source, operator, "its output does not have its input's shape")
        graph.alias(operator.outputs[0], first)
    return {operator.index for operator in readers}


def _convert_dequantize(graph: Graph, operator: SourceOperator) -> None:
    """DEQUANTIZE at the edge: its output, a model output that nothing else reads, stands for its input."""
    index, source = graph.input(operator)
    output = operator.outputs[0]
    stated = graph.source.tensors[output]
    read_again = any(output in other.inputs for other in graph.source.operators)
    if (
        output not in graph.source.outputs
        or read_again
        or stated.dtype != "float32"
        or stated.shape != source.shape
    ):
        raise ImportRefused("it is not the last operator before a float32 output of the model")
    graph.alias(output, index)


def _import_outputs(graph: Graph) -> None:
    for source_index in graph.source.outputs:
        tensor = graph.source.tensors[source_index]
        name = graph.source.port_names.get(source_index, tensor.name)
        if not graph.has_activation(source_index):
            raise ImportRefused(f"no operator writes the model output '{name}'")
        index = graph.activation(source_index)
        activation = graph.tensor(index)
        is_float_port = tensor.dtype == "float32" and not graph.is_float
        flags = PortFlag.FLOAT if is_float_port else PortFlag(0)
        graph.model.outputs.append(Port(index, name, activation.scale, activation.zero_point, flags))
