"""Reads a .tflite flatbuffer into plain dataclasses, checking every count and length on the way.

Bytes go in, a ``SourceModel`` comes out whose indices all point somewhere and whose constants have as many
elements as their shapes say; the importer needs no further care. The Python flatbuffer classes trust offsets
and vector lengths, so a damaged file shows as one of a few exceptions, which `read_model` turns into
``ImportRefused``. Schema: tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from model_packager.errors import ImportRefused
from model_packager.format_table import Limit

Array = npt.NDArray[Any]

# Counts beyond these are damage, not networks; they bound the time spent on a hostile file.
_MAX_TENSORS = 8192
_MAX_OPERATORS = 4096
_MAX_OPERATOR_TENSORS = 1024
_MAX_RANK = 8
_MAX_NAME_BYTES = 1 << 12

_TYPE_NAMES: dict[int, str] = {
    value: name.lower() for name, value in vars(tflite.TensorType).items() if name.isupper()
}
_OPERATOR_NAMES: dict[int, str] = {
    value: name
    for name, value in vars(tflite.BuiltinOperator).items()
    if name.isupper() and isinstance(value, int)
}
_ACTIVATION_NAMES: dict[int, str] = {
    value: name for name, value in vars(tflite.ActivationFunctionType).items() if name.isupper()
}
# Constant tensors of these types can be read; a constant of another type is refused where it is used.
_CONSTANT_DTYPES: dict[str, Any] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
}

# The option fields that the importer reads, by operator: the schema's table and its getters.
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "CONV_2D": (
        "Conv2DOptions",
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat")),
    "AVERAGE_POOL_2D": (
        "Pool2DOptions",
        ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    ),
    "MAX_POOL_2D": (
        "Pool2DOptions",
        ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    ),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("AlignCorners", "HalfPixelCenters")),
}


@dataclass
class SourceTensor:
    """One tensor of the file. ``dtype`` is the schema's name in lower case; ``scales`` float32 and
    ``zero_points`` int64 are empty where it is not quantised; ``data`` is None unless it is a constant."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: Array
    zero_points: Array
    axis: int = 0
    data: Array | None = None
    is_variable: bool = False


@dataclass
class SourceOperator:
    """One operator. ``inputs`` may hold -1 (absent); ``options`` has the schema's field names."""

    index: int
    name: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class SourceModel:
    """The one subgraph of a file, with port names from its signature where it has one."""

    tensors: list[SourceTensor]
    operators: list[SourceOperator]
    inputs: list[int]
    outputs: list[int]
    port_names: dict[int, str] = field(default_factory=dict)


def read_model(data: bytes) -> SourceModel:
    """Parse a .tflite. Raises ``ImportRefused`` when it is damaged or its structure is not supported."""
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise ImportRefused("not a .tflite file: the identifier TFL3 is missing at byte 4")
    try:
        return _read(data)
    except (
        struct.error,
        IndexError,
        ValueError,
        TypeError,
        OverflowError,
        KeyError,
        AttributeError,
    ) as error:
        raise ImportRefused(
            f"the .tflite file is damaged or cut off: one of its offsets leads out of its {len(data):,} bytes"
        ) from error


def _count(length: int, limit: int, what: str) -> int:
    if not 0 <= length <= limit:
        raise ImportRefused(f"the .tflite file is damaged: it claims {length} {what}, more than {limit}")
    return length


def _read(data: bytes) -> SourceModel:
    root = tflite.Model.GetRootAs(data)
    if root.Version() != 3:
        raise ImportRefused(f".tflite schema version {root.Version()} is not supported, only 3")
    if root.SubgraphsLength() != 1:
        raise ImportRefused(f"the .tflite file has {root.SubgraphsLength()} subgraphs; only one is supported")
    graph = root.Subgraphs(0)
    tensor_count = _count(graph.TensorsLength(), _MAX_TENSORS, "tensors")
    tensors = [_read_tensor(root, graph.Tensors(index), index) for index in range(tensor_count)]
    operator_count = _count(graph.OperatorsLength(), _MAX_OPERATORS, "operators")
    operators = [
        _read_operator(root, graph.Operators(index), index, tensor_count) for index in range(operator_count)
    ]
    inputs = [
        graph.Inputs(index)
        for index in range(_count(graph.InputsLength(), Limit.MODEL_INPUTS, "model inputs"))
    ]
    outputs = [
        graph.Outputs(index)
        for index in range(_count(graph.OutputsLength(), Limit.MODEL_OUTPUTS, "model outputs"))
    ]
    _check_indices(inputs + outputs, tensor_count, "a model input or output")
    if not inputs or not outputs or not operators:
        raise ImportRefused("the .tflite file has no inputs, no outputs or no operators")
    return SourceModel(tensors, operators, inputs, outputs, _read_port_names(root))


def _check_indices(indices: list[int], tensor_count: int, what: str, lowest: int = 0) -> None:
    for index in indices:
        if not lowest <= index < tensor_count:
            raise ImportRefused(f"the .tflite file is damaged: {what} is tensor {index} of {tensor_count}")


def _read_text(raw: bytes | None) -> str:
    """A name; what of it no terminal should be sent becomes U+FFFD, since names end up in sentences."""
    text = (raw or b"")[:_MAX_NAME_BYTES].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _read_vector(value: Any, dtype: Any) -> Array:
    """A flatbuffer vector that numpy read, or the 0 that stands for an absent one."""
    return np.zeros(0, dtype) if isinstance(value, int) else np.asarray(value, dtype)


def _read_tensor(root: Any, table: Any, index: int) -> SourceTensor:
    _count(table.ShapeLength(), _MAX_RANK, f"dimensions of tensor {index}")
    shape = tuple(int(size) for size in _read_vector(table.ShapeAsNumpy(), np.int64))
    name = _read_text(table.Name()) or f"tensor_{index}"
    if any(size < 0 for size in shape) or math.prod(shape) > Limit.TENSOR_BYTES:
        raise ImportRefused(f"tensor {index} '{name}' has the shape {shape}, which cannot be held")
    dtype = _TYPE_NAMES[table.Type()]
    tensor = SourceTensor(index, name, shape, dtype, np.zeros(0, np.float32), np.zeros(0, np.int64))
    tensor.is_variable = bool(table.IsVariable())
    if table.Sparsity() is not None:
        raise ImportRefused(
            f"tensor {index} '{name}' is stored in TensorFlow's sparse form, which is not supported"
        )
    _read_quantisation(table.Quantization(), tensor)
    _read_constant(root, table.Buffer(), tensor)
    return tensor


def _read_quantisation(table: Any, tensor: SourceTensor) -> None:
    """Scales and zero points, one each or one per slice of `axis`; a missing zero point is 0."""
    if table is None or table.ScaleLength() == 0:
        return
    tensor.scales = _read_vector(table.ScaleAsNumpy(), np.float32)
    zero_points = _read_vector(table.ZeroPointAsNumpy(), np.int64)
    tensor.zero_points = zero_points if zero_points.size else np.zeros(tensor.scales.size, np.int64)
    tensor.axis = table.QuantizedDimension()
    scales_fit = np.all(np.isfinite(tensor.scales)) and np.all(tensor.scales > 0)
    if not scales_fit or tensor.zero_points.size != tensor.scales.size:
        raise ImportRefused(f"tensor {tensor.index} '{tensor.name}' has impossible scales or zero points")
    if tensor.scales.size > 1:
        sizes = tensor.shape[tensor.axis] if 0 <= tensor.axis < len(tensor.shape) else None
        if tensor.scales.size != sizes:
            raise ImportRefused(
                f"tensor {tensor.index} '{tensor.name}' of shape {tensor.shape} has {tensor.scales.size} "
                f"scales along axis {tensor.axis}"
            )


def _read_constant(root: Any, buffer_index: int, tensor: SourceTensor) -> None:
    """The data of a constant tensor; buffer 0 and empty buffers mean an activation."""
    if not 0 <= buffer_index < root.BuffersLength():
        raise ImportRefused(f"the .tflite file is damaged: tensor {tensor.index} names buffer {buffer_index}")
    buffer = root.Buffers(buffer_index)
    if buffer.Offset() > 1 or buffer.Size() > 1:
        raise ImportRefused(
            "the .tflite file keeps its weights outside the flatbuffer, which is not supported"
        )
    if buffer.DataLength() == 0:
        return
    raw = _read_vector(buffer.DataAsNumpy(), np.uint8).tobytes()
    dtype = _CONSTANT_DTYPES.get(tensor.dtype)
    if dtype is None:
        raise ImportRefused(f"the constant tensor {tensor.index} '{tensor.name}' has type {tensor.dtype}")
    if len(raw) != math.prod(tensor.shape) * dtype.itemsize:
        raise ImportRefused(
            f"the .tflite file is damaged: tensor {tensor.index} '{tensor.name}' of shape {tensor.shape} and "
            f"type {tensor.dtype} has {len(raw)} bytes"
        )
    tensor.data = np.frombuffer(raw, dtype).reshape(tensor.shape)


def _read_operator(root: Any, table: Any, index: int, tensor_count: int) -> SourceOperator:
    if not 0 <= table.OpcodeIndex() < root.OperatorCodesLength():
        raise ImportRefused(f"the .tflite file is damaged: operator {index} has no operator code")
    code_table = root.OperatorCodes(table.OpcodeIndex())
    # Files older than schema 3a have only the 8-bit field; newer ones put 127 there for codes beyond it.
    code = max(code_table.BuiltinCode(), code_table.DeprecatedBuiltinCode())
    name = _OPERATOR_NAMES.get(code, f"BUILTIN_{code}")
    if name == "CUSTOM":
        name = f"CUSTOM '{_read_text(code_table.CustomCode())}'"
    limit = min(_MAX_OPERATOR_TENSORS, tensor_count)
    inputs = [
        table.Inputs(i) for i in range(_count(table.InputsLength(), limit, f"inputs of operator {index}"))
    ]
    outputs = [
        table.Outputs(i) for i in range(_count(table.OutputsLength(), limit, f"outputs of operator {index}"))
    ]
    _check_indices(inputs, tensor_count, f"an input of operator {index} {name}", lowest=-1)
    _check_indices(outputs, tensor_count, f"an output of operator {index} {name}")
    return SourceOperator(index, name, inputs, outputs, _read_options(table, name))


def _read_options(table: Any, name: str) -> dict[str, Any]:
    """The option fields listed in _OPTIONS; the schema's defaults where the file has no option table."""
    if name not in _OPTIONS:
        return {}
    table_name, fields = _OPTIONS[name]
    options = getattr(tflite, table_name)()
    raw = table.BuiltinOptions()
    if raw is None or table.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, table_name):
        raise ImportRefused(f"the .tflite file is damaged: an operator {name} has no {table_name}")
    options.Init(raw.Bytes, raw.Pos)
    values = {field_name: getattr(options, field_name)() for field_name in fields}
    if "FusedActivationFunction" in values:
        values["FusedActivationFunction"] = _ACTIVATION_NAMES[values["FusedActivationFunction"]]
    return values


def _read_port_names(root: Any) -> dict[int, str]:
    """Names of inputs and outputs by tensor index, from the file's first signature."""
    if root.SignatureDefsLength() == 0:
        return {}
    signature = root.SignatureDefs(0)
    names: dict[int, str] = {}
    for length, getter in (
        (signature.InputsLength(), signature.Inputs),
        (signature.OutputsLength(), signature.Outputs),
    ):
        for index in range(_count(length, Limit.MODEL_INPUTS, "names in a signature")):
            entry = getter(index)
            names[entry.TensorIndex()] = _read_text(entry.Name())
    return names
