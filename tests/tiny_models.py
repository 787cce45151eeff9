"""Tiny integer models, one for each thing that a file can hold: the sources of tests/vectors/files.

`TINY_MODELS` maps a name to a function that builds the model: same name, same model, on every machine.
Tensors are placed one behind the other, except where a schedule asks for something else, so that no planner
is involved."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np

from model_packager import container, numerics
from model_packager.container import ParsedFile
from model_packager.container_write import assemble
from model_packager.encoders import Encoding
from model_packager.encoders.bit_planes import BINARY
from model_packager.format_table import (
    HEADER,
    Coder,
    DType,
    FloatFormat,
    Layout,
    OperatorKind,
    PortFlag,
    ScheduleKind,
    SectionFlag,
    ValueMap,
)
from model_packager.model import SIGN, Array, Model, Operator, Port, Requant, Tensor, Weights, bit_channels

Shape = tuple[int, ...]

RAW = Encoding(Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY)


class TinyModel:
    """Appends tensors and operators; methods that make a tensor return its index."""

    def __init__(self, name: str) -> None:
        self.model = Model(name=name)
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.arena_end = 0

    def tensor(self, shape: Shape, at: int | None = None, dtype: DType = DType.INT8) -> int:
        """A new tensor at the next free word of the arena, or at the offset `at`."""
        offset = self.arena_end if at is None else at
        tensor = Tensor(f"tensor{len(self.model.tensors)}", shape, dtype, arena_offset=offset)
        if at is None:
            self.arena_end += (tensor.size_bytes + 3) // 4 * 4
        self.model.tensors.append(tensor)
        return len(self.model.tensors) - 1

    def input(self, *shape: int, zero_point: int = 0) -> int:
        tensor = self.tensor(shape)
        self.model.inputs.append(Port(tensor, f"input{len(self.model.inputs)}", 0.5, zero_point))
        return tensor

    def append(
        self,
        kind: OperatorKind,
        inputs: list[int],
        shape: Shape,
        at: int | None = None,
        dtype: DType = DType.INT8,
        **attributes: int,
    ) -> Operator:
        """A new operator and its output tensor."""
        output = self.tensor(shape, at, dtype)
        self.model.operators.append(Operator(kind, inputs, [output], attributes))
        return self.model.operators[-1]

    def weigh(self, rows: int, cols: int, weights: Array | None = None, encoding: Encoding = RAW) -> Operator:
        """Weights, bias and requantisation for the last operator; outputs spread over the int8 range."""
        operator = self.model.operators[-1]
        values = self.random.integers(-90, 91, (rows, cols)) if weights is None else weights
        operator.weights = Weights(values.astype(np.int8), encoding=encoding)
        operator.bias = self.random.integers(-500, 500, rows).astype(np.int32)
        spread = int(np.log2(max(1.0, float(np.abs(values.astype(np.int64)).sum(axis=1).max())) / 2))
        multipliers = self.random.integers(1 << 30, (1 << 31) - 1, rows).astype(np.int32)
        shifts = (-spread - self.random.integers(0, 2, rows)).astype(np.int32)
        operator.requant = Requant(multipliers, shifts)
        return operator

    def weigh_bits(self, encoding: Encoding = RAW) -> Operator:
        """Weights for the last operator, which reads or makes bits: binary ones where it reads bits; where
        it makes them thresholds, else a requantisation. Odd rows of binary weights have some +1 beyond the
        channels."""
        operator = self.model.operators[-1]
        source, out = self.model.tensors[operator.inputs[0]], self.model.tensors[operator.outputs[0]]
        rows = out.shape4[3] if operator.kind is OperatorKind.CONV_2D else out.element_count
        cells = operator.attributes.get("kernel_h", 1) * operator.attributes.get("kernel_w", 1)
        if operator.kind is OperatorKind.FULLY_CONNECTED:
            cells = source.shape4[1] * source.shape4[2]
        channels = source.shape4[3] // operator.attributes.get("groups", 1)
        weights = None
        if source.dtype is DType.BIT:
            weights = self.random.choice([-1, 1], (rows, cells, bit_channels(channels)))
            weights[:, :, channels:] = -1
            weights[1::2, 0, channels : channels + 2] = 1
            weights, encoding = weights.reshape(rows, -1), BINARY
        self.weigh(rows, cells * channels, weights, encoding)
        if source.dtype is DType.BIT:
            operator.bias = self.random.integers(-9, 9, rows).astype(np.int32)
            assert operator.requant is not None
            operator.requant.shifts = self.random.integers(0, 2, rows).astype(np.int32)
        if out.dtype is DType.BIT:
            operator.requant = SIGN
        return operator

    def output(self, *tensors: int, zero_point: int = 0) -> Model:
        for tensor in tensors:
            self.model.outputs.append(Port(tensor, f"output{len(self.model.outputs)}", 0.25, zero_point))
        return self.model

    def finish(self) -> Model:
        """The model whose output is the last operator's."""
        return self.output(self.model.operators[-1].outputs[0])


# -------------------------------------------------------------------------------------------- operators


def _conv(name: str, shape: Shape, channels: int, after: Shape, **attributes: int) -> Model:
    tiny = TinyModel(name)
    source = tiny.input(1, *shape, zero_point=-3)
    tiny.append(
        OperatorKind.CONV_2D,
        [source],
        (1, *after, channels),
        input_zero_point=-3,
        output_zero_point=5,
        **attributes,
    )
    taps = attributes.get("kernel_h", 1) * attributes.get("kernel_w", 1)
    tiny.weigh(channels, taps * shape[2] // attributes.get("groups", 1))
    return tiny.finish()


def _depthwise(name: str, shape: Shape, multiplier: int, after: Shape, **attributes: int) -> Model:
    tiny = TinyModel(name)
    source, rows = tiny.input(1, *shape, zero_point=7), shape[2] * multiplier
    tiny.append(OperatorKind.DEPTHWISE_CONV_2D, [source], (1, *after, rows), input_zero_point=7, **attributes)
    tiny.weigh(rows, attributes["kernel_h"] * attributes["kernel_w"])
    return tiny.finish()


def _fully_connected(name: str) -> Model:
    tiny = TinyModel(name)
    source = tiny.input(1, 2, 3, 2, zero_point=11)
    tiny.append(
        OperatorKind.FULLY_CONNECTED, [source], (1, 5),
        input_zero_point=11, output_zero_point=-2, clamp_min=-100, clamp_max=90,
    )  # fmt: skip
    tiny.weigh(5, 12)
    return tiny.finish()


def _added(kind: OperatorKind, name: str, second: Shape = (1, 3, 2, 4)) -> Model:
    tiny = TinyModel(name)
    sources = [tiny.input(1, 3, 2, 4, zero_point=4), tiny.input(*second, zero_point=-9)]
    make = numerics.add_parameters if kind is OperatorKind.ADD else numerics.sub_parameters
    constants = make(0.05, 0.03, 0.07)
    tiny.append(
        kind, sources, (1, 3, 2, 4),
        input1_zero_point=4, input2_zero_point=-9, output_zero_point=1, left_shift=constants.left_shift,
        input1_multiplier=constants.multiplier1, input1_shift=constants.shift1,
        input2_multiplier=constants.multiplier2, input2_shift=constants.shift2,
        output_multiplier=constants.out_multiplier, output_shift=constants.out_shift, clamp_min=-120,
    )  # fmt: skip
    return tiny.finish()


def _mul(name: str) -> Model:
    tiny = TinyModel(name)
    sources = [tiny.input(1, 3, 2, 4, zero_point=4), tiny.input(1, 1, 1, 4, zero_point=-9)]
    multiplier, shift = numerics.mul_multiplier(0.05, 0.03, 0.1)
    tiny.append(
        OperatorKind.MUL, sources, (1, 3, 2, 4),
        input1_zero_point=4, input2_zero_point=-9, output_zero_point=1, multiplier=multiplier, shift=shift,
    )  # fmt: skip
    return tiny.finish()


def _two(kind: OperatorKind, name: str) -> Model:
    tiny = TinyModel(name)
    tiny.append(kind, [tiny.input(1, 3, 2, 4), tiny.input(1, 1, 2, 1)], (1, 3, 2, 4))
    return tiny.finish()


def _one(kind: OperatorKind, name: str, before: Shape, after: Shape, **attributes: int) -> Model:
    """An operator with one input and no constants."""
    tiny = TinyModel(name)
    tiny.append(kind, [tiny.input(*before)], after, **attributes)
    return tiny.finish()


def _mean(name: str) -> Model:
    multiplier, shift = numerics.mean_multiplier(0.5, 0.4, 12)
    return _one(
        OperatorKind.MEAN, name, (1, 3, 4, 2), (1, 2),
        input_zero_point=3, output_zero_point=-5, multiplier=multiplier, shift=shift,
    )  # fmt: skip


def _softmax(name: str) -> Model:
    constants = numerics.softmax_parameters(0.02)
    return _one(
        OperatorKind.SOFTMAX, name, (1, 6), (1, 6),
        multiplier=constants.multiplier, shift=constants.left_shift, diff_min=constants.diff_min,
    )  # fmt: skip


def _lookup(name: str) -> Model:
    tiny = TinyModel(name)
    operator = tiny.append(OperatorKind.LOOKUP, [tiny.input(1, 9)], (1, 9))
    operator.table = tiny.random.integers(-128, 128, 256).astype(np.int8)
    return tiny.finish()


def _concatenation(name: str) -> Model:
    tiny = TinyModel(name)
    sources = [tiny.input(1, 2, 2, 3), tiny.input(1, 2, 1, 3), tiny.input(1, 2, 2, 3)]
    tiny.append(OperatorKind.CONCATENATION, sources, (1, 2, 5, 3), axis=2)
    return tiny.finish()


_K = OperatorKind
_KERNEL3 = {"kernel_h": 3, "kernel_w": 3}
_SAME3 = _KERNEL3 | {"pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1}

OPERATOR_MODELS: dict[str, Callable[[str], Model]] = {
    "conv_2d": lambda name: _conv(name, (4, 5, 2), 3, (4, 5), **_SAME3),
    "conv_2d_strided": lambda name: _conv(
        name, (6, 5, 2), 3, (3, 2), **_KERNEL3, stride_h=2, stride_w=2, pad_bottom=1
    ),
    "conv_2d_grouped": lambda name: _conv(name, (3, 3, 4), 6, (2, 2), kernel_h=2, kernel_w=2, groups=2),
    "conv_2d_dilated": lambda name: _conv(
        name, (5, 6, 1), 2, (1, 6), **_KERNEL3, dilation_h=2, dilation_w=2, pad_left=2, pad_right=2
    ),
    "conv_2d_pointwise": lambda name: _conv(name, (3, 2, 5), 4, (3, 2)),
    "depthwise_conv_2d": lambda name: _depthwise(name, (4, 4, 3), 1, (4, 4), **_SAME3),
    "depthwise_conv_2d_strided": lambda name: _depthwise(
        name, (5, 4, 2), 1, (2, 2), **_KERNEL3, stride_h=2, stride_w=2, pad_right=1
    ),
    "depthwise_conv_2d_multiplied": lambda name: _depthwise(
        name, (4, 3, 2), 3, (3, 2), kernel_h=2, kernel_w=2
    ),
    "fully_connected": _fully_connected,
    "add": partial(_added, _K.ADD),
    "add_broadcast": partial(_added, _K.ADD, second=(1, 1, 2, 1)),
    "sub": partial(_added, _K.SUB),
    "mul": _mul,
    "average_pool_2d": lambda name: _one(
        _K.AVERAGE_POOL_2D, name, (1, 4, 5, 2), (1, 2, 3, 2),
        kernel_h=2, kernel_w=3, stride_h=2, stride_w=2, pad_left=1, pad_right=1, clamp_min=-100,
    ),
    "max_pool_2d": lambda name: _one(
        _K.MAX_POOL_2D, name, (1, 5, 4, 2), (1, 3, 3, 2),
        kernel_h=3, kernel_w=2, stride_h=2, pad_top=1, pad_bottom=1, clamp_max=100,
    ),
    "mean": _mean,
    "softmax": _softmax,
    "lookup": _lookup,
    "concatenation": _concatenation,
    "pad": lambda name: _one(
        _K.PAD, name, (1, 2, 3, 2), (1, 4, 4, 2), value=-7, before_1=1, after_1=1, before_2=1
    ),
    "reshape": lambda name: _one(_K.RESHAPE, name, (1, 2, 3, 2), (1, 12)),
    "transpose": lambda name: _one(
        _K.TRANSPOSE, name, (1, 2, 3, 4), (1, 4, 2, 3), axis_1=3, axis_2=1, axis_3=2
    ),
    "slice": lambda name: _one(_K.SLICE, name, (1, 4, 5, 2), (1, 2, 3, 1), begin_1=1, stride_2=2, begin_3=1),
    "resize_nearest": lambda name: _one(_K.RESIZE_NEAREST, name, (1, 2, 3, 2), (1, 4, 6, 2)),
    "resize_nearest_half_pixel": lambda name: _one(
        _K.RESIZE_NEAREST, name, (1, 3, 3, 1), (1, 5, 4, 1), half_pixel_centers=1
    ),
    "resize_nearest_align_corners": lambda name: _one(
        _K.RESIZE_NEAREST, name, (1, 3, 3, 1), (1, 5, 4, 1), align_corners=1
    ),
    "maximum": partial(_two, _K.MAXIMUM),
    "minimum": partial(_two, _K.MINIMUM),
}  # fmt: skip


# --------------------------------------------------------------------------------------------- encodings


def weights_for(random: np.random.Generator, encoding: Encoding, rows: int, cols: int) -> Array:
    """Weights that the encoding can hold: sparse ones for sparse layouts, of the value map's values."""
    values: Array
    if encoding.value_map is ValueMap.BINARY:
        return np.where(random.integers(0, 2, (rows, cols)) == 1, 1, -1)
    if encoding.value_map is ValueMap.TERNARY:
        values = random.choice([0, 57, -83], (rows, cols))
    elif encoding.value_map is ValueMap.LOG2:
        values = random.choice([0, 1, -2, 4, 16, -32, 64, -128], (rows, cols))
    elif encoding.value_map is ValueMap.CODEBOOK:
        values = random.choice([0, 3, -11, 27, -64, 101], (rows, cols))
    else:
        values = np.clip(random.normal(0, 12, (rows, cols)).round(), -127, 127)
    if encoding.layout in (Layout.SPARSE, Layout.BITMAP):
        values = np.where(random.random((rows, cols)) < 0.3, values, 0)
        values[rows // 2] = 0  # an empty row
    return values


def _encoded(encoding: Encoding, name: str) -> Model:
    """A fully connected layer of 7 x 41 weights: no row ends at a byte or a word."""
    tiny = TinyModel(name)
    tiny.append(OperatorKind.FULLY_CONNECTED, [tiny.input(1, 41)], (1, 7))
    tiny.weigh(7, 41, weights_for(tiny.random, encoding, 7, 41), encoding)
    return tiny.finish()


def encodings() -> list[Encoding]:
    """Every combination of layout, coder and value map that the format has."""
    maps = (ValueMap.IDENTITY, ValueMap.CODEBOOK, ValueMap.TERNARY, ValueMap.LOG2)
    found = [
        Encoding(layout, coder, value_map)
        for layout in (Layout.DENSE, Layout.SPARSE, Layout.BITMAP)
        for coder in Coder
        for value_map in maps
    ]
    return [*found, *(Encoding(Layout.BITS, Coder.FIXED, m) for m in (ValueMap.BINARY, ValueMap.TERNARY))]


ENCODING_MODELS = {encoding.name.replace("-", "_"): partial(_encoded, encoding) for encoding in encodings()}


def _raw_bits(bits: int, name: str) -> Model:
    """Raw weights whose range needs exactly `bits` bits."""
    tiny = TinyModel(name)
    tiny.append(OperatorKind.FULLY_CONNECTED, [tiny.input(1, 13)], (1, 3))
    half = 1 << (bits - 1)
    weights = tiny.random.integers(-half, half, (3, 13))
    weights[0, :2] = -half, half - 1
    tiny.weigh(3, 13, weights, RAW)
    return tiny.finish()


# --------------------------------------------------------------------------------------------- schedules


def _pointwise(tiny: TinyModel, source: int, shape: Shape, channels: int, at: int | None = None) -> Operator:
    tiny.append(OperatorKind.CONV_2D, [source], (1, *shape[:2], channels), at)
    return tiny.weigh(channels, shape[2])


def _add(tiny: TinyModel, inputs: list[int], shape: Shape, at: int | None = None) -> Operator:
    constants = numerics.add_parameters(0.05, 0.03, 0.07)
    return tiny.append(
        OperatorKind.ADD, inputs, (1, *shape), at,
        input1_multiplier=constants.multiplier1, input1_shift=constants.shift1,
        input2_multiplier=constants.multiplier2, input2_shift=constants.shift2,
        output_multiplier=constants.out_multiplier, output_shift=constants.out_shift,
    )  # fmt: skip


def _in_place_lookup(name: str) -> Model:
    tiny = TinyModel(name)
    source = tiny.input(1, 7)
    operator = tiny.append(OperatorKind.LOOKUP, [source], (1, 7), at=0)
    operator.table = tiny.random.integers(-128, 128, 256).astype(np.int8)
    operator.schedule = ScheduleKind.IN_PLACE
    return tiny.finish()


def _in_place_add(name: str) -> Model:
    tiny = TinyModel(name)
    sources = [tiny.input(1, 2, 2, 3), tiny.input(1, 2, 2, 3)]
    _add(
        tiny, sources, (2, 2, 3), at=tiny.model.tensors[sources[1]].arena_offset
    ).schedule = ScheduleKind.IN_PLACE
    return tiny.finish()


def _in_place_pointwise(rows: int, name: str) -> Model:
    tiny = TinyModel(name)
    operator = _pointwise(tiny, tiny.input(1, 5, 3, 4), (5, 3, 4), 3, at=0)
    operator.schedule, operator.schedule_parameter = ScheduleKind.IN_PLACE, rows
    return tiny.finish()


def _in_place_depthwise(name: str) -> Model:
    tiny = TinyModel(name)
    tiny.append(OperatorKind.DEPTHWISE_CONV_2D, [tiny.input(1, 4, 3, 2)], (1, 4, 3, 2), at=0, **_SAME3)
    tiny.weigh(2, 9).schedule = ScheduleKind.IN_PLACE
    return tiny.finish()


def _in_place_reshape(name: str) -> Model:
    tiny = TinyModel(name)
    tiny.append(OperatorKind.RESHAPE, [tiny.input(1, 2, 2, 2)], (1, 8), at=0)
    return tiny.finish()


def _bands(kind: OperatorKind, name: str) -> Model:
    tiny = TinyModel(name)
    tiny.append(kind, [tiny.input(1, 5, 3, 2)], (1, 5, 3, 2), **_SAME3)
    operator = tiny.weigh(2, 18 if kind is OperatorKind.CONV_2D else 9)
    operator.schedule, operator.schedule_parameter = ScheduleKind.BANDS, 2
    return tiny.finish()


def _fused_depthwise(name: str) -> Model:
    tiny = TinyModel(name)
    head = _pointwise(tiny, tiny.input(1, 4, 4, 2), (4, 4, 2), 5, at=0)
    head.schedule = ScheduleKind.FUSED_DEPTHWISE
    tiny.append(
        OperatorKind.DEPTHWISE_CONV_2D, head.outputs, (1, 2, 2, 5),
        **_KERNEL3, stride_h=2, stride_w=2, pad_bottom=1, pad_right=1,
    )  # fmt: skip
    tiny.weigh(5, 9)
    return tiny.finish()


def _fused_add(in_place: bool, name: str) -> Model:
    tiny = TinyModel(name)
    source, other = tiny.input(1, 3, 3, 2), tiny.input(1, 3, 3, 4)
    head = _pointwise(tiny, source, (3, 3, 2), 4, at=0)
    head.schedule = ScheduleKind.FUSED_ADD
    at = tiny.model.tensors[other].arena_offset if in_place else None
    tail = _add(tiny, [other, head.outputs[0]], (3, 3, 4), at)
    tail.schedule = ScheduleKind.IN_PLACE if in_place else ScheduleKind.WHOLE
    return tiny.finish()


SCHEDULE_MODELS: dict[str, Callable[[str], Model]] = {
    "in_place_lookup": _in_place_lookup,
    "in_place_add": _in_place_add,
    "in_place_pointwise_1": partial(_in_place_pointwise, 1),
    "in_place_pointwise_2": partial(_in_place_pointwise, 2),
    "in_place_depthwise": _in_place_depthwise,
    "in_place_reshape": _in_place_reshape,
    "bands_conv_2d": partial(_bands, OperatorKind.CONV_2D),
    "bands_depthwise_conv_2d": partial(_bands, OperatorKind.DEPTHWISE_CONV_2D),
    "fused_depthwise": _fused_depthwise,
    "fused_add": partial(_fused_add, False),
    "fused_add_in_place": partial(_fused_add, True),
}


# ------------------------------------------------------------------------------------ everything else


def _requantised(name: str, make: Callable[[TinyModel], Requant]) -> Model:
    tiny = TinyModel(name)
    tiny.append(OperatorKind.FULLY_CONNECTED, [tiny.input(1, 6)], (1, 4))
    tiny.weigh(4, 6).requant = make(tiny)
    return tiny.finish()


def _wide(tiny: TinyModel) -> Requant:
    """One multiplier below 2^30, one of 0, and shifts that span more than 4 values."""
    multipliers = np.array([1 << 29, 0, (1 << 31) - 1, 1 << 30], np.int32)
    return Requant(multipliers, np.array([-3, -31, -9, 1], np.int32))


def _power_of_two(tiny: TinyModel) -> Requant:
    return Requant(np.zeros(4, np.int32), np.array([8, 9, 7, 10], np.int32), power_of_two=True)


def _left_shifts(name: str) -> Model:
    """Positive shifts, on weights so small that nothing overflows."""
    left = Requant(
        np.array([1 << 30, 0x5A000000, 1 << 30, 0x70000000], np.int32), np.array([1, 0, 2, 1], np.int32)
    )
    model = _requantised(name, lambda tiny: left)
    model.operators[0].weights = Weights(np.eye(4, 6, dtype=np.int8), encoding=RAW)
    model.operators[0].bias = np.array([3, -4, 0, 1], np.int32)
    return model


def _no_bias(name: str) -> Model:
    model = _fully_connected(name)
    model.operators[0].bias = None
    return model


def _one_bit_bias(name: str) -> Model:
    model = _fully_connected(name)
    model.operators[0].bias = np.array([0, -1, 0, -1, -1], np.int32)
    return model


def _wide_bias(name: str) -> Model:
    model = _fully_connected(name)
    model.operators[0].bias = np.array([0, 1 << 20, -(1 << 30), 3, -(1 << 24)], np.int32)
    return model


def _two_outputs(name: str) -> Model:
    """Two inputs, two outputs, one of them a tensor that is read again; metadata, float ports."""
    tiny = TinyModel(name)
    first, second = tiny.input(1, 6), tiny.input(1, 6)
    table = tiny.append(OperatorKind.LOOKUP, [first], (1, 6))
    table.table = tiny.random.integers(-128, 128, 256).astype(np.int8)
    largest = tiny.append(OperatorKind.MAXIMUM, [table.outputs[0], second], (1, 6))
    model = tiny.output(table.outputs[0], largest.outputs[0], zero_point=-4)
    model.inputs[0].flags = PortFlag.FLOAT
    model.inputs[1].name, model.outputs[0].name = "schlüssel", "scores"
    model.metadata = {"labels": ["ja", "nein"], "preprocessing": {"scale": 0.5}}
    model.model_id, model.model_version = 0xC0FFEE, 7
    return model


def _shared_constants(name: str) -> Model:
    """Two layers with the same weights, requantisation and bias: each constant is in the file once."""
    tiny = TinyModel(name)
    tiny.append(OperatorKind.FULLY_CONNECTED, [tiny.input(1, 5)], (1, 5))
    first = tiny.weigh(5, 5)
    second = tiny.append(OperatorKind.FULLY_CONNECTED, first.outputs, (1, 5))
    second.weights, second.bias, second.requant = first.weights, first.bias, first.requant
    return tiny.finish()


def _constants_padded(name: str) -> Model:
    """Two layers of 3 rows with WIDE requantisations of 15 bytes, so that the second one needs padding."""
    tiny = TinyModel(name)
    tensor = tiny.input(1, 4)
    for first in (1 << 28, 1 << 29):
        operator = tiny.append(OperatorKind.FULLY_CONNECTED, [tensor], (1, 3))
        tiny.weigh(3, tiny.model.tensors[tensor].element_count)
        multipliers = np.array([first, 1 << 30, 3 << 29], np.int32)
        operator.requant = Requant(multipliers, np.array([-3, -5, -6], np.int32))
        tensor = operator.outputs[0]
    return tiny.finish()


def _unnamed(make: Callable[[str], Model], name: str) -> Model:
    """A model whose file has no metadata, so that every one of its bytes matters to a device."""
    model = make(name)
    model.name = ""
    return model


def _scalar_ranks(name: str) -> Model:
    """Tensors of rank 1 and 5."""
    tiny = TinyModel(name)
    flat = tiny.append(OperatorKind.RESHAPE, [tiny.input(1, 2, 1, 2, 2)], (8,))
    tiny.append(OperatorKind.MAXIMUM, [flat.outputs[0], flat.outputs[0]], (8,))
    return tiny.finish()


def _bit_conv_2d(name: str) -> Model:
    """int8 to bits, bits to bits with pads, bits to int8 with a stride; channels that fill no words."""
    tiny = TinyModel(name)
    source = tiny.input(1, 5, 6, 3, zero_point=-3)
    first = tiny.append(
        OperatorKind.CONV_2D, [source], (1, 5, 5, 35), dtype=DType.BIT,
        input_zero_point=-3, kernel_h=3, kernel_w=2, pad_top=1, pad_bottom=1,
    )  # fmt: skip
    tiny.weigh_bits()
    second = tiny.append(
        OperatorKind.CONV_2D, first.outputs, (1, 5, 6, 33), dtype=DType.BIT,
        kernel_h=3, kernel_w=3, pad_top=1, pad_bottom=1, pad_left=1, pad_right=2,
    )  # fmt: skip
    tiny.weigh_bits()
    tiny.append(
        OperatorKind.CONV_2D, second.outputs, (1, 2, 3, 5),
        kernel_h=3, kernel_w=2, stride_h=2, stride_w=2, output_zero_point=4, clamp_min=-99,
    )  # fmt: skip
    tiny.weigh_bits()
    return tiny.finish()


def _bit_pointwise(name: str) -> Model:
    """Windows of one cell; sparse, grouped and dilated weights from int8 to bits; no bias."""
    tiny = TinyModel(name)
    source = tiny.input(1, 4, 4, 4, zero_point=9)
    first = tiny.append(
        OperatorKind.CONV_2D, [source], (1, 4, 4, 6), dtype=DType.BIT,
        input_zero_point=9, groups=2, kernel_h=3, kernel_w=3, dilation_h=2,
        pad_top=2, pad_bottom=2, pad_left=1, pad_right=1,
    )  # fmt: skip
    tiny.weigh_bits(Encoding(Layout.SPARSE, Coder.CLASS, ValueMap.IDENTITY))
    assert first.weights is not None
    first.weights.values[:, ::3] = 0
    second = tiny.append(OperatorKind.CONV_2D, first.outputs, (1, 4, 4, 1), dtype=DType.BIT)
    tiny.weigh_bits().bias = None
    third = tiny.append(
        OperatorKind.CONV_2D, second.outputs, (1, 2, 2, 64), dtype=DType.BIT, stride_h=2, stride_w=2
    )
    tiny.weigh_bits()
    tiny.append(
        OperatorKind.CONV_2D, third.outputs, (1, 2, 2, 3),
        kernel_h=3, kernel_w=3, pad_top=1, pad_bottom=1, pad_left=1, pad_right=1,
    )  # fmt: skip
    tiny.weigh_bits().requant = Requant(np.zeros(1, np.int32), np.array([1], np.int32), power_of_two=True)
    return tiny.finish()


def _bit_fully_connected(name: str) -> Model:
    """int8 to bits (sparse weights), bits to bits, bits to int8."""
    tiny = TinyModel(name)
    source = tiny.input(1, 2, 5, 3, zero_point=11)
    first = tiny.append(OperatorKind.FULLY_CONNECTED, [source], (1, 70), dtype=DType.BIT, input_zero_point=11)
    tiny.weigh_bits(Encoding(Layout.SPARSE, Coder.FIXED, ValueMap.IDENTITY))
    assert first.weights is not None
    first.weights.values[:, ::2] = 0
    second = tiny.append(OperatorKind.FULLY_CONNECTED, first.outputs, (1, 40), dtype=DType.BIT)
    tiny.weigh_bits()
    tiny.append(OperatorKind.FULLY_CONNECTED, second.outputs, (1, 7), output_zero_point=-5)
    tiny.weigh_bits()
    return tiny.finish()


def _bit_max_pool_2d(name: str) -> Model:
    """A pool with pads over bits, whose cells a fully connected layer reads."""
    tiny = TinyModel(name)
    first = tiny.append(OperatorKind.CONV_2D, [tiny.input(1, 5, 4, 2)], (1, 5, 4, 37), dtype=DType.BIT)
    tiny.weigh_bits()
    pool = tiny.append(
        OperatorKind.MAX_POOL_2D, first.outputs, (1, 3, 2, 37), dtype=DType.BIT,
        kernel_h=2, kernel_w=2, stride_h=2, stride_w=2, pad_bottom=1,
    )  # fmt: skip
    tiny.append(OperatorKind.FULLY_CONNECTED, pool.outputs, (1, 4))
    tiny.weigh_bits()
    return tiny.finish()


def _bit_moves(name: str) -> Model:
    """PAD and RESHAPE of bits, the second one in the place of its input."""
    tiny = TinyModel(name)
    first = tiny.append(OperatorKind.CONV_2D, [tiny.input(1, 2, 3, 2)], (1, 2, 3, 64), dtype=DType.BIT)
    tiny.weigh_bits()
    pad = tiny.append(OperatorKind.PAD, first.outputs, (1, 3, 4, 64), dtype=DType.BIT, before_1=1, after_2=1)
    flat = tiny.append(OperatorKind.RESHAPE, pad.outputs, (1, 768), dtype=DType.BIT)
    narrow = tiny.append(OperatorKind.FULLY_CONNECTED, flat.outputs, (1, 20), dtype=DType.BIT)
    tiny.weigh_bits()
    at = tiny.model.tensors[narrow.outputs[0]].arena_offset
    same = tiny.append(OperatorKind.RESHAPE, narrow.outputs, (20,), at, DType.BIT)
    tiny.append(OperatorKind.FULLY_CONNECTED, same.outputs, (1, 3))
    tiny.weigh_bits()
    return tiny.finish()


BIT_MODELS: dict[str, Callable[[str], Model]] = {
    "bit_conv_2d": _bit_conv_2d,
    "bit_pointwise": _bit_pointwise,
    "bit_fully_connected": _bit_fully_connected,
    "bit_max_pool_2d": _bit_max_pool_2d,
    "bit_moves": _bit_moves,
}


def _floats(stored_as: FloatFormat, name: str) -> Model:
    """A convolution, a function and a fully connected layer on floats that are few binary places long, so
    that every order of summation gives the same float32."""
    tiny = TinyModel(name)
    tiny.model.inputs.append(Port(tiny.tensor((1, 3, 4, 2), dtype=DType.FLOAT32), "input0"))
    functions = {
        FloatFormat.FP32: {"function": "relu6"},
        FloatFormat.FP16: {"function": "leaky_relu", "alpha": 0.25},
        FloatFormat.BFLOAT16: {"function": "clip", "low": -1.5, "high": 2.0},
    }

    def weigh(operator: Operator, rows: int, cols: int) -> list[int]:
        # One value in each that the next smaller format would round.
        values = tiny.random.integers(-16, 17, (rows, cols)) / 8
        values[0, 0] = {FloatFormat.FP32: 1 + 2**-12, FloatFormat.FP16: 1 + 2**-10}.get(stored_as, 1.0)
        operator.weights = Weights(values.astype(np.float32), encoding=stored_as)
        operator.bias = (tiny.random.integers(-16, 17, rows) / 4).astype(np.float32)
        return operator.outputs

    float32, window = DType.FLOAT32, {"kernel_h": 2, "kernel_w": 2, "pad_bottom": 1, "pad_right": 1}
    first = tiny.append(OperatorKind.CONV_2D, [0], (1, 3, 4, 3), dtype=float32, **window)
    inner = tiny.append(OperatorKind.LOOKUP, weigh(first, 3, 8), (1, 3, 4, 3), dtype=float32)
    inner.options = functions[stored_as]
    weigh(tiny.append(OperatorKind.FULLY_CONNECTED, inner.outputs, (1, 4), dtype=float32), 4, 36)
    tiny.model.outputs.append(Port(tiny.model.operators[-1].outputs[0], "output0"))
    return tiny.model


FLOAT_MODELS: dict[str, Callable[[str], Model]] = {
    f"float_{kind.name.lower()}": partial(_floats, kind) for kind in FloatFormat
}

OTHER_MODELS: dict[str, Callable[[str], Model]] = {
    **{f"raw_{bits}_bits": partial(_raw_bits, bits) for bits in (2, 3, 4, 5, 7, 8)},
    "requant_wide": partial(_requantised, make=_wide),
    "requant_power_of_two": partial(_requantised, make=_power_of_two),
    "requant_left_shifts": _left_shifts,
    "bias_none": _no_bias,
    "bias_1_bit": _one_bit_bias,
    "bias_32_bits": _wide_bias,
    "two_inputs_two_outputs": _two_outputs,
    "shared_constants": _shared_constants,
    "constants_padded": _constants_padded,
    "ranks_1_and_5": _scalar_ranks,
    "unnamed_raw": partial(_unnamed, partial(_raw_bits, 2)),
    "unnamed_sparse": partial(
        _unnamed, partial(_encoded, Encoding(Layout.SPARSE, Coder.CLASS, ValueMap.TERNARY))
    ),
}

# Models by name; below, with what turns a model into a file where that is not plainly ``container.dump``.
TINY_MODELS: dict[str, Callable[[], Model]] = {
    name: partial(make, name)
    for group in (OPERATOR_MODELS, ENCODING_MODELS, SCHEDULE_MODELS, OTHER_MODELS, BIT_MODELS, FLOAT_MODELS)
    for name, make in group.items()
}


def _sign(before_trailer: bytes) -> bytes:
    """Not a signature, only its 64 bytes: a loader without a key does not look at them."""
    return hashlib.sha512(before_trailer).digest()


def _with_unknown_section(model: Model) -> bytes:
    """A file with a section that no reader of version 1 knows, and may skip, between DATA and GOLDEN."""
    parsed = container.parse(container.dump(model))
    sections = [(s.kind, s.flags, parsed.data[s.offset : s.offset + s.length]) for s in parsed.sections]
    sections.insert(2, (200, SectionFlag(0), b"from the future"))
    return assemble(header_numbers(parsed), sections, None)


def header_numbers(parsed: ParsedFile) -> dict[str, int]:
    """The fields of a header from required_features on, as ``assemble`` takes them."""
    names = [item.name for item in HEADER[5:-1]]
    return {name: getattr(parsed.header, name) for name in names}


Finish = Callable[[Model], bytes]


def _dumped(make: Callable[[], Model]) -> tuple[Model, Finish]:
    return make(), container.dump


LATER_MODELS = {**BIT_MODELS, **FLOAT_MODELS}
# In the order in which they were released.
TINY_FILES: dict[str, Callable[[], tuple[Model, Finish]]] = {
    **{name: partial(_dumped, make) for name, make in TINY_MODELS.items() if name not in LATER_MODELS},
    "signed": lambda: (_fully_connected("signed"), partial(container.dump, signer=_sign)),
    "unknown_section": lambda: (_fully_connected("unknown_section"), _with_unknown_section),
    **{name: partial(_dumped, TINY_MODELS[name]) for name in LATER_MODELS},
}
