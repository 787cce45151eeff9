"""Small .tflite files: arrays, scales and zero points go in, the bytes of a model come out.

`build_model` writes any graph; the functions below it write one operator each, int8 unless said otherwise, in
the layout that TensorFlow's converter uses (NHWC activations, OHWI convolution weights, 1HWC depthwise
weights). Schema: tensorflow/compiler/mlir/lite/schema/schema.fbs, written through the `tflite` package's
builders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

_TYPES = {
    np.dtype(np.float16): tflite.TensorType.FLOAT16,
    np.dtype(np.float32): tflite.TensorType.FLOAT32,
    np.dtype(np.float16): tflite.TensorType.FLOAT16,
    np.dtype(np.int8): tflite.TensorType.INT8,
    np.dtype(np.uint8): tflite.TensorType.UINT8,
    np.dtype(np.int16): tflite.TensorType.INT16,
    np.dtype(np.int32): tflite.TensorType.INT32,
    np.dtype(np.int64): tflite.TensorType.INT64,
}


@dataclass
class Tensor:
    """One tensor: a shape and dtype, or constant `data`; `scale` empty means not quantised."""

    shape: tuple[int, ...] = ()
    dtype: Any = np.int8
    scale: Sequence[float] = ()
    zero_point: Sequence[int] = ()
    axis: int = 0
    data: np.ndarray | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.data is not None:
            self.shape, self.dtype = self.data.shape, self.data.dtype
        if len(self.scale) and not len(self.zero_point):
            self.zero_point = [0] * len(self.scale)


@dataclass
class Operator:
    """One operator: builtin name (`CONV_2D`), tensor indices (-1: absent), option scalars by field name."""

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def _table(builder: flatbuffers.Builder, table: str, fields: dict[str, Any]) -> int:
    getattr(tflite, f"{table}Start")(builder)
    for name, value in fields.items():
        getattr(tflite, f"{table}Add{name}")(builder, value)
    return getattr(tflite, f"{table}End")(builder)


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _buffer(builder: flatbuffers.Builder, data: np.ndarray | None) -> int:
    if data is None:
        return _table(builder, "Buffer", {})
    raw = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
    builder.StartVector(1, raw.size, 16)
    builder.head = builder.head - raw.size
    builder.Bytes[builder.head : builder.head + raw.size] = raw.tobytes()
    return _table(builder, "Buffer", {"Data": builder.EndVector()})


def _tensor(builder: flatbuffers.Builder, tensor: Tensor, buffer_index: int, index: int) -> int:
    fields: dict[str, Any] = {
        "Shape": builder.CreateNumpyVector(np.array(tensor.shape, np.int32)),
        "Type": _TYPES[np.dtype(tensor.dtype)],
        "Buffer": buffer_index,
        "Name": builder.CreateString(tensor.name or f"tensor{index}"),
    }
    if len(tensor.scale):
        fields["Quantization"] = _table(
            builder,
            "QuantizationParameters",
            {
                "Scale": builder.CreateNumpyVector(np.array(tensor.scale, np.float32)),
                "ZeroPoint": builder.CreateNumpyVector(np.array(tensor.zero_point, np.int64)),
                "QuantizedDimension": tensor.axis,
            },
        )
    return _table(builder, "Tensor", fields)


def _operator(builder: flatbuffers.Builder, operator: Operator, code_index: int) -> int:
    fields: dict[str, Any] = {
        "OpcodeIndex": code_index,
        "Inputs": builder.CreateNumpyVector(np.array(operator.inputs, np.int32)),
        "Outputs": builder.CreateNumpyVector(np.array(operator.outputs, np.int32)),
    }
    if operator.options:
        fields["BuiltinOptions"] = _table(builder, operator.options, operator.fields)
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, operator.options)
    return _table(builder, "Operator", fields)


def build_model(
    tensors: Sequence[Tensor], operators: Sequence[Operator], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """Write a .tflite (schema version 3) with one subgraph.

    Buffer 0 is the empty buffer that the schema asks for; each tensor has its own buffer.
    """
    builder = flatbuffers.Builder(1024)
    buffers = [_buffer(builder, None)] + [_buffer(builder, tensor.data) for tensor in tensors]
    names = sorted({operator.name for operator in operators})
    codes = []
    for name in names:
        code = getattr(tflite.BuiltinOperator, name)
        fields = {"DeprecatedBuiltinCode": min(code, 127), "BuiltinCode": code, "Version": 1}
        codes.append(_table(builder, "OperatorCode", fields))
    tensor_offsets = [_tensor(builder, tensor, i + 1, i) for i, tensor in enumerate(tensors)]
    operator_offsets = [_operator(builder, op, names.index(op.name)) for op in operators]
    subgraph = _table(
        builder,
        "SubGraph",
        {
            "Tensors": _offsets(builder, tensor_offsets),
            "Operators": _offsets(builder, operator_offsets),
            "Inputs": builder.CreateNumpyVector(np.array(inputs, np.int32)),
            "Outputs": builder.CreateNumpyVector(np.array(outputs, np.int32)),
            "Name": builder.CreateString("main"),
        },
    )
    model = _table(
        builder,
        "Model",
        {
            "Version": 3,
            "OperatorCodes": _offsets(builder, codes),
            "Subgraphs": _offsets(builder, [subgraph]),
            "Buffers": _offsets(builder, buffers),
            "Description": builder.CreateString("one-operator test model"),
        },
    )
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


# One operator each. Quantisation of an activation is a pair (scale, zero point).

Quantisation = tuple[float, int]
Shape = tuple[int, ...]


def _activation(shape: Shape, quantisation: Quantisation, dtype: Any = np.int8) -> Tensor:
    return Tensor(tuple(shape), dtype, [quantisation[0]], [quantisation[1]])


def _fused(name: str) -> int:
    return getattr(tflite.ActivationFunctionType, name)


def _padding(name: str) -> int:
    return getattr(tflite.Padding, name)


def window_shape(
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: str,
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """Height and width of a windowed operator's output for an NHWC `shape`."""
    sizes = []
    for size, k, s, d in zip(shape[1:3], kernel, stride, dilation, strict=True):
        reach = (k - 1) * d + 1
        sizes.append(-(-size // s) if padding == "SAME" else -(-(size - reach + 1) // s))
    return sizes[0], sizes[1]


def single(
    name: str, inputs: Sequence[Tensor], output: Tensor | Sequence[Tensor], options: str = "", **fields: Any
) -> bytes:
    """One operator: constant tensors in `inputs` are weights, the others are the model's inputs, in order."""
    outputs = [output] if isinstance(output, Tensor) else list(output)
    tensors = [*inputs, *outputs]
    count = len(inputs)
    out = list(range(count, len(tensors)))
    operator = Operator(name, list(range(count)), out, options, fields)
    free = [i for i, tensor in enumerate(inputs) if tensor.data is None]
    return build_model(tensors, [operator], free, out)


def conv_2d(
    shape: Shape,
    weights: np.ndarray,
    bias: np.ndarray | None,
    in_q: Quantisation,
    weight_scales: Sequence[float],
    out_q: Quantisation,
    stride: tuple[int, int] = (1, 1),
    padding: str = "SAME",
    dilation: tuple[int, int] = (1, 1),
    activation: str = "NONE",
    dtype: Any = np.int8,
) -> bytes:
    """CONV_2D. weights int8 (out, kh, kw, in/groups), bias int32 (out,) or None; one or `out` scales."""
    height, width = window_shape(shape, weights.shape[1:3], stride, padding, dilation)
    inputs = [_activation(shape, in_q, dtype), Tensor(scale=weight_scales, axis=0, data=weights)]
    if bias is not None:
        inputs.append(Tensor(scale=np.float32(in_q[0]) * np.float32(weight_scales), data=bias))
    output = _activation((shape[0], height, width, weights.shape[0]), out_q, dtype)
    return single(
        "CONV_2D", inputs, output, "Conv2DOptions",
        Padding=_padding(padding), StrideH=stride[0], StrideW=stride[1],
        DilationHFactor=dilation[0], DilationWFactor=dilation[1], FusedActivationFunction=_fused(activation),
    )  # fmt: skip


def depthwise_conv_2d(
    shape: Shape,
    weights: np.ndarray,
    bias: np.ndarray | None,
    in_q: Quantisation,
    weight_scales: Sequence[float],
    out_q: Quantisation,
    stride: tuple[int, int] = (1, 1),
    padding: str = "SAME",
    dilation: tuple[int, int] = (1, 1),
    activation: str = "NONE",
    dtype: Any = np.int8,
) -> bytes:
    """DEPTHWISE_CONV_2D. weights int8 (1, kh, kw, in*multiplier), bias int32 (in*multiplier,) or None."""
    height, width = window_shape(shape, weights.shape[1:3], stride, padding, dilation)
    inputs = [_activation(shape, in_q, dtype), Tensor(scale=weight_scales, axis=3, data=weights)]
    if bias is not None:
        inputs.append(Tensor(scale=np.float32(in_q[0]) * np.float32(weight_scales), data=bias))
    output = _activation((shape[0], height, width, weights.shape[3]), out_q, dtype)
    return single(
        "DEPTHWISE_CONV_2D", inputs, output, "DepthwiseConv2DOptions", Padding=_padding(padding),
        StrideH=stride[0], StrideW=stride[1], DepthMultiplier=weights.shape[3] // shape[3],
        DilationHFactor=dilation[0], DilationWFactor=dilation[1], FusedActivationFunction=_fused(activation),
        )  # fmt: skip


def fully_connected(
    shape: Shape,
    weights: np.ndarray,
    bias: np.ndarray | None,
    in_q: Quantisation,
    weight_scales: Sequence[float],
    out_q: Quantisation,
    activation: str = "NONE",
    dtype: Any = np.int8,
) -> bytes:
    """FULLY_CONNECTED. weights int8 (out, in), bias int32 (out,) or None; shape (batch, in)."""
    inputs = [_activation(shape, in_q, dtype), Tensor(scale=weight_scales, axis=0, data=weights)]
    if bias is not None:
        inputs.append(Tensor(scale=np.float32(in_q[0]) * np.float32(weight_scales), data=bias))
    output = _activation((shape[0], weights.shape[0]), out_q, dtype)
    return single(
        "FULLY_CONNECTED", inputs, output, "FullyConnectedOptions", FusedActivationFunction=_fused(activation)
    )


def binary(
    name: str,
    shape1: Shape,
    shape2: Shape,
    in1_q: Quantisation,
    in2_q: Quantisation,
    out_q: Quantisation,
    activation: str = "NONE",
    constant: np.ndarray | None = None,
    dtype: Any = np.int8,
) -> bytes:
    """ADD, SUB, MUL, MAXIMUM or MINIMUM with broadcasting; `constant` is the second operand where given."""
    second = _activation(shape2, in2_q, dtype)
    if constant is not None:
        second = Tensor(scale=[in2_q[0]], zero_point=[in2_q[1]], data=constant)
    output = _activation(np.broadcast_shapes(shape1, shape2), out_q, dtype)
    options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}.get(
        name, "MaximumMinimumOptions"
    )
    fields = {} if options == "MaximumMinimumOptions" else {"FusedActivationFunction": _fused(activation)}
    return single(name, [_activation(shape1, in1_q, dtype), second], output, options, **fields)


def pool_2d(
    name: str,
    shape: Shape,
    kernel: tuple[int, int],
    quantisation: Quantisation,
    stride: tuple[int, int] = (1, 1),
    padding: str = "VALID",
    activation: str = "NONE",
    dtype: Any = np.int8,
) -> bytes:
    """AVERAGE_POOL_2D or MAX_POOL_2D; input and output share one scale and zero point."""
    height, width = window_shape(shape, kernel, stride, padding)
    output = _activation((shape[0], height, width, shape[3]), quantisation, dtype)
    return single(
        name, [_activation(shape, quantisation, dtype)], output, "Pool2DOptions",
        Padding=_padding(padding), StrideH=stride[0], StrideW=stride[1], FilterHeight=kernel[0],
        FilterWidth=kernel[1], FusedActivationFunction=_fused(activation),
    )  # fmt: skip


def mean(
    shape: Shape, axes: Sequence[int], in_q: Quantisation, out_q: Quantisation, keep_dims: bool = True
) -> bytes:
    """MEAN over `axes`."""
    if keep_dims:
        out_shape = tuple(1 if i in axes else n for i, n in enumerate(shape))
    else:
        out_shape = tuple(n for i, n in enumerate(shape) if i not in axes)
    inputs = [_activation(shape, in_q), Tensor(data=np.array(axes, np.int32))]
    return single("MEAN", inputs, _activation(out_shape, out_q), "ReducerOptions", KeepDims=keep_dims)


def softmax(shape: Shape, in_q: Quantisation, beta: float = 1.0, out_dtype: Any = np.int8) -> bytes:
    """SOFTMAX over the last axis; the output quantisation is the fixed one that TFLM asks for."""
    out_q = (1 / 256, -128) if np.dtype(out_dtype) == np.int8 else (1 / 65536, -32768)
    output = _activation(shape, out_q, out_dtype)
    return single("SOFTMAX", [_activation(shape, in_q)], output, "SoftmaxOptions", Beta=beta)


def unary(
    name: str,
    shape: Shape,
    in_q: Quantisation,
    out_q: Quantisation,
    alpha: float | None = None,
    dtype: Any = np.int8,
    out_dtype: Any = None,
) -> bytes:
    """LOGISTIC, TANH, RELU, RELU6, LEAKY_RELU (with `alpha`), HARD_SWISH or QUANTIZE."""
    output = _activation(shape, out_q, out_dtype or dtype)
    options, fields = "", {}
    if name == "LEAKY_RELU":
        options, fields = "LeakyReluOptions", {"Alpha": alpha}
    elif name == "HARD_SWISH":
        options = "HardSwishOptions"
    elif name == "QUANTIZE":
        options = "QuantizeOptions"
    return single(name, [_activation(shape, in_q, dtype)], output, options, **fields)


def concatenation(shapes: Sequence[Shape], axis: int, quantisation: Quantisation) -> bytes:
    """CONCATENATION; TFLM asks for one scale and zero point throughout."""
    out_shape = list(shapes[0])
    out_shape[axis] = sum(shape[axis] for shape in shapes)
    inputs = [_activation(shape, quantisation) for shape in shapes]
    output = _activation(tuple(out_shape), quantisation)
    return single("CONCATENATION", inputs, output, "ConcatenationOptions", Axis=axis)


def pad(
    shape: Shape, paddings: Sequence[tuple[int, int]], quantisation: Quantisation, value: int | None = None
) -> bytes:
    """PAD (fills with the zero point) or, with `value`, PADV2 (fills with that int8)."""
    out_shape = tuple(n + before + after for n, (before, after) in zip(shape, paddings, strict=True))
    inputs = [_activation(shape, quantisation), Tensor(data=np.array(paddings, np.int32))]
    output = _activation(out_shape, quantisation)
    if value is None:
        return single("PAD", inputs, output, "PadOptions")
    fill = Tensor(scale=[quantisation[0]], zero_point=[quantisation[1]], data=np.array([value], np.int8))
    return single("PADV2", [*inputs, fill], output, "PadV2Options")


def reshape(shape: Shape, new_shape: Shape, quantisation: Quantisation) -> bytes:
    """RESHAPE to a constant shape."""
    inputs = [_activation(shape, quantisation), Tensor(data=np.array(new_shape, np.int32))]
    return single("RESHAPE", inputs, _activation(new_shape, quantisation), "ReshapeOptions")


def transpose(shape: Shape, permutation: Sequence[int], quantisation: Quantisation) -> bytes:
    """TRANSPOSE by a constant permutation."""
    inputs = [_activation(shape, quantisation), Tensor(data=np.array(permutation, np.int32))]
    output = _activation(tuple(shape[i] for i in permutation), quantisation)
    return single("TRANSPOSE", inputs, output, "TransposeOptions")


def resize_nearest_neighbor(
    shape: Shape,
    size: tuple[int, int],
    quantisation: Quantisation,
    align_corners: bool = False,
    half_pixel_centers: bool = False,
) -> bytes:
    """RESIZE_NEAREST_NEIGHBOR of an NHWC tensor to `size` (height, width)."""
    inputs = [_activation(shape, quantisation), Tensor(data=np.array(size, np.int32))]
    output = _activation((shape[0], *size, shape[3]), quantisation)
    return single(
        "RESIZE_NEAREST_NEIGHBOR", inputs, output, "ResizeNearestNeighborOptions",
        AlignCorners=align_corners, HalfPixelCenters=half_pixel_centers,
    )  # fmt: skip


def split(shape: Shape, axis: int, count: int, quantisation: Quantisation) -> bytes:
    """SPLIT into `count` equal parts."""
    part = tuple(n // count if i == axis else n for i, n in enumerate(shape))
    inputs = [Tensor(data=np.array(axis, np.int32)), _activation(shape, quantisation)]
    outputs = [_activation(part, quantisation) for _ in range(count)]
    return single("SPLIT", inputs, outputs, "SplitOptions", NumSplits=count)


def slice_(shape: Shape, begin: Sequence[int], size: Sequence[int], quantisation: Quantisation) -> bytes:
    """SLICE; a size of -1 means to the end."""
    extents = tuple(n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True))
    inputs = [
        _activation(shape, quantisation),
        Tensor(data=np.array(begin, np.int32)),
        Tensor(data=np.array(size, np.int32)),
    ]
    return single("SLICE", inputs, _activation(extents, quantisation), "SliceOptions")


def strided_slice(
    shape: Shape, begin: Sequence[int], end: Sequence[int], strides: Sequence[int], quantisation: Quantisation
) -> bytes:
    """STRIDED_SLICE without masks."""
    extents = tuple(
        len(range(*slice(b, e, s).indices(n))) for n, b, e, s in zip(shape, begin, end, strides, strict=True)
    )
    constants = [Tensor(data=np.array(values, np.int32)) for values in (begin, end, strides)]
    inputs = [_activation(shape, quantisation), *constants]
    return single("STRIDED_SLICE", inputs, _activation(extents, quantisation), "StridedSliceOptions")
