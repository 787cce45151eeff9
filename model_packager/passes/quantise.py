"""Turns a float model into an int8 one: per-channel weights, asymmetric activations, int32 biases.

The result follows the conventions of int8 .tflite files (Jacob et al. 2018; Krishnamoorthi 2018; TensorFlow's
"8-bit quantization specification"), so that the same integer kernels run it: weights symmetric with one scale
for each output channel, activations with one scale and zero point, the bias in units of input scale times
weight scale. Tensors that only move values share one scale.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager import numerics
from model_packager.errors import PackError
from model_packager.format_table import DType, OperatorKind, PortFlag
from model_packager.model import SIGN, Model, Operator, Requant, Tensor, Weights
from model_packager.passes.binarise_activations import (
    binarise_activations,
    binary_rows,
    order_signs,
    sign_bias,
)
from model_packager.passes.calibrate import Range, calibrate
from model_packager.passes.correct_bias import correct_bias
from model_packager.passes.fixed_point_scales import power_of_two_scale, set_weight_scales, use_shifts
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.fuse_activations import fuse_activations
from model_packager.reference.executor import attributes_of
from model_packager.reference.float import apply_function

Array = npt.NDArray[Any]

# Outputs whose quantisation is fixed, because their range is known: (scale, zero point).
_FIXED_FUNCTIONS = {"logistic": (1 / 256, -128), "tanh": (1 / 128, 0), "sign": (1.0, 0)}
_FIXED_SOFTMAX = (1 / 256, -128)
# Operators whose integer kernels copy or compare values: all their tensors share scale and zero point.
SHARE_SCALE = (
    OperatorKind.RESHAPE,
    OperatorKind.TRANSPOSE,
    OperatorKind.SLICE,
    OperatorKind.PAD,
    OperatorKind.AVERAGE_POOL_2D,
    OperatorKind.MAX_POOL_2D,
    OperatorKind.RESIZE_NEAREST,
    OperatorKind.MAXIMUM,
    OperatorKind.MINIMUM,
    OperatorKind.CONCATENATION,
)
_BIAS_LIMIT = 1 << 30  # leaves room for the products in the int32 accumulator
_SMALLEST_SCALE = 2.0**-24


def quantise_model(
    model: Model,
    samples: Sequence[Array],
    method: str = "minmax",
    percentile: float = 99.99,
    bias_correction: bool = True,
    power_of_two: bool = False,
) -> Model:
    """The int8 version of a float model, calibrated on `samples` (float32, (N, *shape[1:]) for each input).

    Folds batch norm, fuses activations and makes signs between binary layers bits first; `method` and
    `percentile` as in ``calibrate``, `power_of_two` as in `quantise`; with `bias_correction` the mean error
    that weight rounding causes is taken out of the biases.
    """
    prepared = binarise_activations(fuse_activations(fold_batch_norm(order_signs(model))))
    quantised = quantise(prepared, calibrate(prepared, samples, method, percentile), power_of_two)
    return correct_bias(quantised, prepared, samples) if bias_correction else quantised


def quantise(model: Model, ranges: Sequence[Range], power_of_two: bool = False) -> Model:
    """The int8 version of a float model whose activations have these (low, high) ranges, one for each tensor.
    With `power_of_two`, all scales are powers of two (``fixed_point_scales``).

    Raises ``PackError`` for an operator that has no integer kernel.
    """
    result = copy.deepcopy(model)
    _assign_scales(result, ranges, power_of_two_scale if power_of_two else scale_and_zero_point)
    for port in result.inputs + result.outputs:
        port.flags |= PortFlag.FLOAT
    if not power_of_two:
        return integer_operators(result)
    set_weight_scales(result)
    integer_operators(result)
    use_shifts(result)
    return result


def integer_operators(model: Model) -> Model:
    """Turn the float operators of a model whose tensors all carry dtype, scale and zero point into integer
    ones. Changes `model`. Weights that come with scales keep them. Raises ``PackError`` as `quantise`."""
    for position in range(len(model.operators) - 1, -1, -1):
        _match_input_scales(model, position)
    for operator in model.operators:
        converter = _CONVERTERS.get(operator.kind)
        if converter is None:
            raise PackError(f"operator '{operator.name}' ({operator.kind.name}) cannot be quantised")
        converter(model, operator)
    for port in model.inputs + model.outputs:
        tensor = model.tensors[port.tensor]
        port.scale, port.zero_point = tensor.scale, tensor.zero_point
    return model


# ------------------------------------------------------------------------------------ scales of activations


def fixed_quantisation(operator: Operator) -> tuple[float, int] | None:
    if operator.kind is OperatorKind.SOFTMAX:
        return _FIXED_SOFTMAX
    return _FIXED_FUNCTIONS.get(operator.options.get("function", ""))


def _assign_scales(
    model: Model, ranges: Sequence[Range], scale_of: Callable[[float, float], tuple[float, int]]
) -> None:
    """Set dtype, scale and zero point of every tensor; tensors that must share them form a group."""
    fixed = {
        operator.outputs[0]: quantisation
        for operator in model.operators
        if (quantisation := fixed_quantisation(operator)) is not None
    }
    group = _scale_groups(model, fixed)
    for root in set(group):
        members = [index for index, member in enumerate(group) if member == root]
        stated = [fixed[index] for index in members if index in fixed]
        if stated:
            scale, zero_point = stated[0]
        else:
            low = min(ranges[index][0] for index in members)
            high = max(ranges[index][1] for index in members)
            scale, zero_point = scale_of(low, high)
        for index in members:
            tensor = model.tensors[index]
            if tensor.dtype is DType.BIT:
                continue
            tensor.dtype, tensor.scale, tensor.zero_point = DType.INT8, scale, zero_point


def _scale_groups(model: Model, fixed: dict[int, tuple[float, int]]) -> list[int]:
    """A group number for each tensor (union-find). Of two tensors with a fixed scale each, the reader's side
    stays apart; ``_match_input_scales`` then puts a requantisation between."""
    parent = list(range(len(model.tensors)))
    holds_fixed = [index in fixed for index in parent]

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for operator in model.operators:
        if operator.kind not in SHARE_SCALE:
            continue
        joins_several = len(operator.inputs) > 1
        for tensor in operator.inputs:
            a, b = root(tensor), root(operator.outputs[0])
            if a == b or (holds_fixed[a] and (joins_several or holds_fixed[b])):
                continue
            parent[b] = a
            holds_fixed[a] = holds_fixed[a] or holds_fixed[b]
    return [root(index) for index in range(len(parent))]


def scale_and_zero_point(low: float, high: float) -> tuple[float, int]:
    """int8 quantisation of the range that covers `low`, `high` and 0; the scale is a float32 value."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / 255, _SMALLEST_SCALE)))
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def _match_input_scales(model: Model, position: int) -> None:
    """Requantise inputs of a value-moving operator that could not share its output's scale."""
    operator = model.operators[position]
    if operator.kind not in SHARE_SCALE:
        return
    output = model.tensors[operator.outputs[0]]
    for place, index in enumerate(operator.inputs):
        source = model.tensors[index]
        if (source.scale, source.zero_point) == (output.scale, output.zero_point):
            continue
        inner = copy.copy(source)
        inner.name = f"{source.name}/requantised"
        inner.scale, inner.zero_point = output.scale, output.zero_point
        model.tensors.append(inner)
        operator.inputs[place] = len(model.tensors) - 1
        lookup = Operator(
            OperatorKind.LOOKUP, [index], [operator.inputs[place]], options={"function": "quantize"}
        )
        lookup.name = inner.name
        model.operators.insert(position, lookup)


# ------------------------------------------------------------------------------------ operators


def quantise_rows(matrix: Array) -> tuple[Array, Array]:
    """int8 values and float64 scales (rows,) of a float (rows, cols) matrix, symmetric, -127 to 127."""
    peaks = np.abs(matrix).max(axis=1).astype(np.float64)
    typical = float(peaks[peaks > 0].mean()) if np.any(peaks > 0) else 1.0
    scales = np.where(peaks > 0, peaks, typical).astype(np.float64) / 127
    scales = np.maximum(scales, _SMALLEST_SCALE * typical).astype(np.float32).astype(np.float64)
    values = np.clip(np.round(matrix / scales[:, np.newaxis]), -127, 127)
    return values.astype(np.int8), scales


def _clamps(model: Model, operator: Operator) -> dict[str, int]:
    output = model.tensors[operator.outputs[0]]
    activation = operator.options.get("activation", "none").upper()
    low, high = numerics.activation_range(activation, output.scale, output.zero_point)
    return {"clamp_min": low, "clamp_max": high}


def _integer_rows(source: Tensor, weights: Weights) -> tuple[Array, Array]:
    """(int8 values, float64 scales (rows,)) of real weights: signs behind bits, else by the scales that they
    came with, or by their own."""
    if source.dtype is DType.BIT:
        return binary_rows(weights.values, source.shape4[3])
    if weights.scales is None:
        return quantise_rows(weights.values)
    steps = np.round(weights.values / weights.scales[:, np.newaxis])
    return np.clip(steps, -128, 127).astype(np.int8), weights.scales


def _quantise_weighted(model: Model, operator: Operator) -> None:
    """Convolutions and fully connected layers: rows, bias and requantisation multipliers."""
    assert operator.weights is not None
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    if output.dtype is DType.BIT:
        _quantise_to_bits(model, operator)
        return
    values, scales = _integer_rows(source, operator.weights)
    bias = np.zeros(len(values)) if operator.bias is None else operator.bias.astype(np.float64)
    # A channel with almost no weights but a bias would overflow the bias: give it a coarser scale.
    needed = np.abs(bias) / (source.scale * _BIAS_LIMIT)
    if source.dtype is DType.BIT:
        scales = np.where(scales > 0, scales, np.maximum(needed, _SMALLEST_SCALE))  # rows of zeros
    elif operator.weights.scales is None and np.any(needed > scales):
        scales = np.maximum(scales, needed).astype(np.float32).astype(np.float64)
        values = np.clip(np.round(operator.weights.values / scales[:, np.newaxis]), -127, 127).astype(np.int8)
    operator.weights = Weights(values, scales, operator.weights.encoding)
    steps = np.clip(np.round(bias / (source.scale * scales)), -_BIAS_LIMIT, _BIAS_LIMIT)
    operator.bias = steps.astype(np.int32) if np.any(steps) else None
    operator.requant = Requant(*numerics.conv_multipliers(source.scale, scales, output.scale))
    operator.attributes |= _clamps(model, operator)
    operator.attributes |= {"input_zero_point": source.zero_point, "output_zero_point": output.zero_point}


def _quantise_to_bits(model: Model, operator: Operator) -> None:
    """A layer with a fused sign: rows, and thresholds in place of bias and requantisation."""
    assert operator.weights is not None
    source = model.tensors[operator.inputs[0]]
    values, scales = _integer_rows(source, operator.weights)
    # No input leaves these bounds: inputs are at most 255 from their zero point.
    reach = np.abs(values.astype(np.int64)).sum(axis=1) * (1 if source.dtype is DType.BIT else 255)
    offsets = np.zeros(len(values)) if operator.bias is None else operator.bias.astype(np.float64)
    bias = sign_bias(source.scale * scales, offsets, -reach, reach)
    operator.weights = Weights(values, np.where(scales > 0, scales, 1.0), operator.weights.encoding)
    operator.bias = bias if np.any(bias) else None
    operator.requant = SIGN
    operator.attributes["input_zero_point"] = source.zero_point


def _quantise_sum(model: Model, operator: Operator) -> None:
    first, second = (model.tensors[index] for index in operator.inputs)
    output = model.tensors[operator.outputs[0]]
    parameters_of = numerics.add_parameters if operator.kind is OperatorKind.ADD else numerics.sub_parameters
    parameters = parameters_of(first.scale, second.scale, output.scale)
    operator.attributes |= {
        "input1_zero_point": first.zero_point,
        "input2_zero_point": second.zero_point,
        "output_zero_point": output.zero_point,
        "input1_multiplier": parameters.multiplier1,
        "input1_shift": parameters.shift1,
        "input2_multiplier": parameters.multiplier2,
        "input2_shift": parameters.shift2,
        "output_multiplier": parameters.out_multiplier,
        "output_shift": parameters.out_shift,
        "left_shift": parameters.left_shift,
        **_clamps(model, operator),
    }


def _quantise_product(model: Model, operator: Operator) -> None:
    first, second = (model.tensors[index] for index in operator.inputs)
    output = model.tensors[operator.outputs[0]]
    multiplier, shift = numerics.mul_multiplier(first.scale, second.scale, output.scale)
    operator.attributes |= {
        "input1_zero_point": first.zero_point,
        "input2_zero_point": second.zero_point,
        "output_zero_point": output.zero_point,
        "multiplier": multiplier,
        "shift": shift,
        **_clamps(model, operator),
    }


def _quantise_pool(model: Model, operator: Operator) -> None:
    if model.tensors[operator.outputs[0]].dtype is not DType.BIT:
        operator.attributes |= _clamps(model, operator)


def _quantise_mean(model: Model, operator: Operator) -> None:
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    axes = attributes_of(operator)["axes"]
    count = int(np.prod([source.shape4[axis] for axis in range(4) if axes >> axis & 1]))
    multiplier, shift = numerics.mean_multiplier(source.scale, output.scale, count)
    operator.attributes |= {
        "input_zero_point": source.zero_point,
        "output_zero_point": output.zero_point,
        "multiplier": multiplier,
        "shift": shift,
    }


def _quantise_softmax(model: Model, operator: Operator) -> None:
    source = model.tensors[operator.inputs[0]]
    parameters = numerics.softmax_parameters(source.scale, operator.options.get("beta", 1.0))
    operator.attributes |= {
        "multiplier": parameters.multiplier,
        "shift": parameters.left_shift,
        "diff_min": parameters.diff_min,
    }


def _quantise_lookup(model: Model, operator: Operator) -> None:
    """The table of a function: each of the 256 inputs through the float function, rounded once."""
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    real = numerics.dequantise(np.arange(-128, 128, dtype=np.int8), source.scale, source.zero_point)
    if operator.options["function"] != "quantize":
        real = apply_function(operator, real)
    operator.table = numerics.quantise_float(real, output.scale, output.zero_point)


def _quantise_pad(model: Model, operator: Operator) -> None:
    """Pads hold the real number ``options["value"]``, 0 if there is none."""
    tensor = model.tensors[operator.inputs[0]]
    if tensor.dtype is DType.BIT:
        return  # value 0 stands for -1
    real = np.array([operator.options.get("value", 0.0)], np.float32)
    operator.attributes["value"] = int(numerics.quantise_float(real, tensor.scale, tensor.zero_point)[0])


def _keep(model: Model, operator: Operator) -> None:
    """Operators that move values need nothing but equal scales."""


_CONVERTERS: dict[OperatorKind, Callable[[Model, Operator], None]] = {
    OperatorKind.CONV_2D: _quantise_weighted,
    OperatorKind.DEPTHWISE_CONV_2D: _quantise_weighted,
    OperatorKind.FULLY_CONNECTED: _quantise_weighted,
    OperatorKind.ADD: _quantise_sum,
    OperatorKind.SUB: _quantise_sum,
    OperatorKind.MUL: _quantise_product,
    OperatorKind.AVERAGE_POOL_2D: _quantise_pool,
    OperatorKind.MAX_POOL_2D: _quantise_pool,
    OperatorKind.MEAN: _quantise_mean,
    OperatorKind.SOFTMAX: _quantise_softmax,
    OperatorKind.LOOKUP: _quantise_lookup,
    OperatorKind.PAD: _quantise_pad,
    OperatorKind.CONCATENATION: _keep,
    OperatorKind.RESHAPE: _keep,
    OperatorKind.TRANSPOSE: _keep,
    OperatorKind.SLICE: _keep,
    OperatorKind.RESIZE_NEAREST: _keep,
    OperatorKind.MAXIMUM: _keep,
    OperatorKind.MINIMUM: _keep,
}
