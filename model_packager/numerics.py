"""The integer arithmetic of TensorFlow Lite Micro's reference kernels, as pure NumPy functions.

Integer arrays and quantisation parameters go in, integer arrays come out, bit for bit as the pinned
`tflite-micro` wheel computes them (docs/NUMERICS.md states every rule). The importer takes multipliers from
here, the reference executor its kernels. The wheel is built with double rounding: a product with a 31-bit
multiplier is rounded to nearest with halves upwards, then the shift rounds to nearest with halves away from
zero.

Scales are float32 in a .tflite and are taken as such; a parameter that TFLM refuses, or on which it aborts,
raises `ImportRefused`. The source named in a docstring is a file of tensorflow/lite/kernels or
tensorflow/lite/micro/kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model_packager.errors import ImportRefused
from model_packager.fixed_point import (
    IntArray,
    exp_on_negative_values,
    logistic,
    one_over_one_plus_x,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
    tanh,
    wrap_int32,
)

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Pads = tuple[int, int, int, int]  # rows above, rows below, columns left, columns right
Pair = tuple[int, int]  # height, width

# Elements requantised at a time: the int64 temporaries of one block stay in the second-level cache.
_BLOCK_ELEMENTS = 1 << 15
# Weights of a fully connected layer made floats at a time: VGG-16 has 103 million in one.
_BLOCK_WEIGHTS = 1 << 22
_BLOCK_SUM_ELEMENTS = 1 << 18

# TFLM's int8 softmax aborts when its sum of exponentials reaches 512; so many classes can never do that.
SOFTMAX_CLASS_LIMIT = 511


# --- multipliers --------------------------------------------------------------------------------------------


def _round_half_away(value: float) -> int:
    """C's round(): nearest integer, halves away from zero."""
    magnitude = math.floor(abs(value))
    magnitude += abs(value) - magnitude >= 0.5
    return -magnitude if value < 0 else magnitude


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Write a real factor as multiplier * 2^(shift - 31), multiplier int32 in [2^30, 2^31).

    Factors below about 2^-32 become (0, 0). A negative factor (leaky relu with negative alpha) gives a
    negative multiplier. Source: internal/quantization_util.cc, QuantizeMultiplier.
    """
    if not math.isfinite(real):
        raise ImportRefused(f"the requantisation factor {real} is not a finite number")
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = _round_half_away(fraction * (1 << 31))
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    if shift < -31:
        return 0, 0
    return multiplier, shift


def _quantize_multiplier_below_one(real: float, what: str) -> tuple[int, int]:
    """quantize_multiplier for factors that TFLM insists lie in (0, 1) and come out with shift <= 0."""
    multiplier, shift = quantize_multiplier(real)
    if not 0.0 < real < 1.0 or shift > 0:
        raise ImportRefused(f"{what} is {real}, which is not between 0 and 1")
    return multiplier, shift


def scale_ratio(in_scale: float, out_scale: float) -> tuple[int, int]:
    """Multiplier and shift of double(in_scale) / double(out_scale), the float32 scales of a tensor pair."""
    return quantize_multiplier(float(np.float32(in_scale)) / float(np.float32(out_scale)))


def conv_multipliers(
    in_scale: float,
    weight_scales: Sequence[float] | npt.NDArray[Any],
    out_scale: float,
    channels: int | None = None,
) -> tuple[Int32Array, Int32Array]:
    """Multipliers and shifts, int32 (channels,), of a convolution (or per-channel fully connected layer).

    Factor of channel c: double(in_scale) * double(weight_scales[c]) / double(out_scale), float32 scales
    widened before the product. One weight scale serves all `channels`. Source: kernel_util.cc,
    PopulateConvolutionQuantizationParams.
    """
    scales = np.asarray(weight_scales, np.float32).reshape(-1)
    if channels is not None and scales.size == 1:
        scales = np.repeat(scales, channels)
    factors = np.float64(np.float32(in_scale)) * scales.astype(np.float64) / np.float64(np.float32(out_scale))
    pairs = np.array([quantize_multiplier(float(factor)) for factor in factors], np.int32).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def fully_connected_multiplier(
    in_scale: float, weight_scale: float, out_scale: float, bias_scale: float | None = None
) -> tuple[int, int]:
    """Multiplier and shift of a fully connected layer with one weight scale: as a convolution's, in double.

    TFLM refuses a bias whose scale is not about the product of the other two. Source: kernel_util.cc,
    GetQuantizedConvolutionMultipler. (Sources of August 2026 still round that product to float32, the pinned
    wheel does not: tests/test_numerics.py tells them apart.)
    """
    product = float(np.float32(in_scale)) * float(np.float32(weight_scale))
    out = float(np.float32(out_scale))
    if bias_scale is not None and not abs(product - float(np.float32(bias_scale))) / out <= 0.02:
        raise ImportRefused("the bias scale is not the product of the input scale and the weight scale")
    return quantize_multiplier(product / out)


# --- requantisation -----------------------------------------------------------------------------------------


def multiply_by_quantized_multiplier(x: Any, multiplier: Any, shift: Any) -> IntArray:
    """x * multiplier * 2^(shift - 31) with double rounding; int32 values in an int64 array, broadcast.

    A positive shift is applied to x first (in int32: the packager proves that it fits), a negative one after
    the product. Source: internal/common.cc, MultiplyByQuantizedMultiplier(int32_t) without
    TFLITE_SINGLE_ROUNDING.
    """
    exponent = np.asarray(shift, np.int64)
    value = np.asarray(x, np.int64)
    if np.any(exponent > 0):
        value = wrap_int32(value << np.maximum(exponent, 0))
    product = saturating_rounding_doubling_high_mul(value, multiplier)
    return rounding_divide_by_pot(product, np.maximum(-exponent, 0))


def multiply_by_quantized_multiplier_int64(x: Any, multiplier: Any, shift: Any) -> IntArray:
    """The variant for the 64-bit accumulators of int16 activations: 16-bit multiplier, halves upwards.

    x within 48 bits. Source: internal/common.cc, MultiplyByQuantizedMultiplier(int64_t).
    """
    full = np.asarray(multiplier, np.int64)
    reduced = np.where(full < 0x7FFF0000, (full + (1 << 15)) >> 16, 0x7FFF)
    total_shift = 15 - np.asarray(shift, np.int64)
    return wrap_int32((np.asarray(x, np.int64) * reduced + (np.int64(1) << (total_shift - 1))) >> total_shift)


def _requantise_block(
    block: npt.NDArray[Any],
    multiplier: IntArray,
    left: IntArray | None,
    right: IntArray,
    offsets: tuple[IntArray, IntArray],
) -> IntArray:
    """multiply_by_quantized_multiplier on one block; `offsets` are half of 2^right and the sign mask."""
    y: IntArray = block.astype(np.int64)
    if left is not None:
        y = wrap_int32(y << left)
    y *= multiplier
    y += 1 << 30
    y >>= 31
    half, sign_mask = offsets
    # Halves away from zero: a negative value rounds as floor((y + half - 1) / 2^right), unless nothing is
    # shifted out.
    y += (y >> 63) & sign_mask
    y += half
    y >>= right
    return y


def requantise(
    accumulators: npt.NDArray[Any],
    multiplier: Any,
    shift: Any,
    zero_point: int,
    low: int = -128,
    high: int = 127,
    dtype: Any = np.int8,
) -> npt.NDArray[Any]:
    """Accumulators (..., channels) int32 to outputs of the same shape: scale, add zero point, clamp.

    multiplier and shift are scalars or (channels,). int64 accumulators (int16 activations) take the 16-bit
    multiplier of multiply_by_quantized_multiplier_int64, others equal multiply_by_quantized_multiplier.
    """
    if accumulators.dtype == np.int64:
        wide = multiply_by_quantized_multiplier_int64(accumulators, multiplier, shift)
        return np.clip(wide + zero_point, low, high).astype(dtype)
    scale = np.asarray(multiplier, np.int64).reshape(-1)
    exponent = np.asarray(shift, np.int64).reshape(-1)
    channels = accumulators.shape[-1] if max(scale.size, exponent.size) > 1 else 1
    flat = np.ascontiguousarray(accumulators).reshape(-1, channels)
    right = np.maximum(-exponent, 0)
    left = np.maximum(exponent, 0) if np.any(exponent > 0) else None
    offsets = ((np.int64(1) << right) >> 1, -(right > 0).astype(np.int64))
    out = np.empty(flat.shape, dtype)
    rows = max(1, _BLOCK_ELEMENTS // channels)
    for start in range(0, len(flat), rows):
        y = _requantise_block(flat[start : start + rows], scale, left, right, offsets)
        y += zero_point
        out[start : start + rows] = np.clip(y, low, high, out=y)
    return out.reshape(accumulators.shape)


def requantise_power_of_two(
    accumulators: npt.NDArray[Any],
    right_shift: Any,
    zero_point: int,
    low: int = -128,
    high: int = 127,
    dtype: Any = np.int8,
) -> npt.NDArray[Any]:
    """Dynamic fixed point: accumulators / 2^right_shift with halves upwards, plus zero point, clamped.

    right_shift 0 to 31, a scalar or (channels,). Thimble's own mode, never used for an imported .tflite.
    """
    exponent = np.asarray(right_shift, np.int64)
    scaled = (accumulators.astype(np.int64) + ((np.int64(1) << exponent) >> 1)) >> exponent
    return np.clip(scaled + zero_point, low, high).astype(dtype)


def activation_range(
    activation: str, scale: float, zero_point: int, qmin: int = -128, qmax: int = 127
) -> tuple[int, int]:
    """Clamp (low, high) of a fused activation: NONE, RELU, RELU6 or RELU_N1_TO_1.

    A real bound f becomes zero_point + round(float32(f) / float32(scale)), halves away from zero. Other names
    raise `ImportRefused`. Source: kernel_util.cc, CalculateActivationRangeQuantized.
    """
    bounds: dict[str, tuple[float | None, float | None]] = {
        "NONE": (None, None),
        "RELU": (0.0, None),
        "RELU6": (0.0, 6.0),
        "RELU_N1_TO_1": (-1.0, 1.0),
    }
    if activation not in bounds:
        raise ImportRefused(
            f"the fused activation {activation} is not supported; supported are {', '.join(bounds)}"
        )

    def quantised(bound: float) -> int:
        steps = _round_half_away(float(np.float32(bound) / np.float32(scale)))
        if not -(1 << 31) <= steps < 1 << 31:
            raise ImportRefused(f"the scale {scale} is too small for the fused activation {activation}")
        return zero_point + steps

    low, high = bounds[activation]
    return (
        qmin if low is None else max(qmin, quantised(low)),
        qmax if high is None else min(qmax, quantised(high)),
    )


def quantise_float(
    values: npt.NDArray[Any], scale: float, zero_point: int, dtype: Any = np.int8
) -> npt.NDArray[Any]:
    """Floats to integers: round(float32 value / float32 scale), halves away from zero, + zero point.

    Source: internal/reference/quantize.h, AffineQuantize.
    """
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore"):  # what is beyond float32 is beyond every range
        ratio = (np.asarray(values, np.float32) / np.float32(scale)).astype(np.float64)
    rounded = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio)
    return np.clip(rounded + zero_point, limits.min, limits.max).astype(dtype)


def dequantise(values: npt.NDArray[Any], scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """Integers to float32: double(scale) * (q - zero_point), rounded once.

    Source: internal/reference/dequantize.h.
    """
    real = np.float64(np.float32(scale)) * (np.asarray(values, np.int64) - zero_point)
    return real.astype(np.float32)


# --- sums of products ---------------------------------------------------------------------------------------


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Cells (before, after) that SAME padding adds on one axis; an odd cell goes after. Source: padding.h."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def _exact_float(weights: npt.NDArray[Any], in_zero_point: int, limits: Any) -> type[Any]:
    """The narrower float type in which every partial sum of a dot product is an exact integer."""
    per_channel = np.abs(weights, dtype=np.int16).reshape(weights.shape[0], -1).sum(axis=1, dtype=np.int64)
    reach = max(limits.max - in_zero_point, in_zero_point - limits.min)
    return np.float32 if int(per_channel.max(initial=0)) * reach <= 1 << 24 else np.float64


def _add_bias(sums: npt.NDArray[Any], bias: npt.NDArray[Any] | None, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole floats to accumulators with bias: int64 for int16 x without an int32 bias, else wrapped int32."""
    if sums.dtype == np.float32 and x.dtype == np.int8:  # within 2^24, so the short way is exact
        narrow = sums.astype(np.int32)
        if bias is not None:
            narrow += bias
        return narrow
    wide = sums.astype(np.int64)
    if bias is not None:
        wide += bias
    if x.dtype == np.int16 and (bias is None or bias.dtype == np.int64):
        return wide
    return wrap_int32(wide).astype(np.int32)


def _image_blocks(image_count: int, elements_per_image: int) -> list[slice]:
    """Slices of the batch whose temporaries of so many elements an image stay in the second-level cache."""
    step = max(1, _BLOCK_SUM_ELEMENTS // max(1, elements_per_image))
    return [slice(start, start + step) for start in range(0, image_count, step)]


def _padded(x: npt.NDArray[Any], zero_point: int, pads: Pads, dtype: Any) -> npt.NDArray[Any]:
    """x - zero_point as `dtype` with `pads` cells of real zero around height and width."""
    n, height, width, depth = x.shape
    top, bottom, left, right = pads
    out = np.zeros((n, height + top + bottom, width + left + right, depth), dtype)
    np.subtract(
        x, zero_point, out=out[:, top : top + height, left : left + width], dtype=dtype, casting="unsafe"
    )
    return out


def _windows(x: npt.NDArray[Any], kernel: Pair, stride: Pair, dilation: Pair) -> npt.NDArray[Any]:
    """View (n, out_height, out_width, kernel_height, kernel_width, depth) of a padded NHWC array."""
    reach = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, (1, *reach, 1))[..., 0, :, :, 0]
    view = view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return view.transpose(0, 1, 2, 4, 5, 3)


def conv_2d_accumulate(
    x: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    bias: npt.NDArray[Any] | None,
    in_zero_point: int,
    stride: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
) -> npt.NDArray[Any]:
    """Accumulators int32 (n, out_height, out_width, channels) of a convolution, bias included.

    x int8 or int16 (n, height, width, depth); weights int8 (channels, kh, kw, depth / groups); bias int32
    (channels,). Padding counts as real zero: (x - in_zero_point) is 0 there. Source:
    reference/integer_ops/conv.h, ConvPerChannel.
    """
    channels, kernel_height, kernel_width, depth = weights.shape
    dtype = _exact_float(weights, in_zero_point, np.iinfo(x.dtype))
    matrix = weights.reshape(channels, -1).astype(dtype)
    cells = x.shape[1] * x.shape[2] // (stride[0] * stride[1])
    results = []
    for block in _image_blocks(len(x), cells * matrix.shape[1]):
        padded = _padded(x[block], in_zero_point, pads, dtype)
        view = _windows(padded, (kernel_height, kernel_width), stride, dilation)
        results.append(_add_bias(_grouped_products(view, matrix, depth), bias, x))
    return np.concatenate(results)


def _grouped_products(view: npt.NDArray[Any], matrix: npt.NDArray[Any], depth: int) -> npt.NDArray[Any]:
    """Products (n, height, width, channels) of windows (n, height, width, kh, kw, depth) with weight rows.

    Each group of `depth` input channels meets its share of the rows of `matrix`.
    """
    groups = view.shape[5] // depth
    if groups == 1:
        return (view.reshape(-1, matrix.shape[1]) @ matrix.T).reshape(*view.shape[:3], -1)
    out = np.empty((*view.shape[:3], len(matrix)), matrix.dtype)
    per_group = len(matrix) // groups
    for group in range(groups):
        columns = view[..., group * depth : (group + 1) * depth].reshape(-1, matrix.shape[1])
        rows = slice(group * per_group, (group + 1) * per_group)
        out[..., rows] = (columns @ matrix[rows].T).reshape(*view.shape[:3], per_group)
    return out


def depthwise_conv_2d_accumulate(
    x: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    bias: npt.NDArray[Any] | None,
    in_zero_point: int,
    stride: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
) -> npt.NDArray[Any]:
    """Accumulators int32 (n, out_height, out_width, channels) of a depthwise convolution, bias included.

    weights int8 (1, kh, kw, depth * multiplier): output channel c reads input channel c // multiplier.
    Source: reference/integer_ops/depthwise_conv.h, DepthwiseConvPerChannel.
    """
    channels = weights.shape[3]
    dtype = _exact_float(weights[0].transpose(2, 0, 1), in_zero_point, np.iinfo(x.dtype))
    taps = weights[0].astype(dtype)
    results = []
    for block in _image_blocks(len(x), 4 * x.shape[1] * x.shape[2] * channels):
        padded = _padded(x[block], in_zero_point, pads, dtype)
        if channels != x.shape[3]:
            padded = np.repeat(padded, channels // x.shape[3], axis=3)
        results.append(_add_bias(_tap_sums(padded, taps, stride, dilation), bias, x))
    return np.concatenate(results)


def _tap_sums(
    padded: npt.NDArray[Any], taps: npt.NDArray[Any], stride: Pair, dilation: Pair
) -> npt.NDArray[Any]:
    """Sum over the kernel (kh, kw, channels) of padded (n, height, width, channels) cells times their tap."""
    kernel_height, kernel_width, channels = taps.shape
    height = (padded.shape[1] - (kernel_height - 1) * dilation[0] - 1) // stride[0] + 1
    width = (padded.shape[2] - (kernel_width - 1) * dilation[1] - 1) // stride[1] + 1
    out = np.zeros((len(padded), height, width, channels), padded.dtype)
    product = np.empty_like(out)
    for ky in range(kernel_height):
        rows = slice(ky * dilation[0], ky * dilation[0] + (height - 1) * stride[0] + 1, stride[0])
        for kx in range(kernel_width):
            columns = slice(kx * dilation[1], kx * dilation[1] + (width - 1) * stride[1] + 1, stride[1])
            np.multiply(padded[:, rows, columns], taps[ky, kx], out=product)
            out += product
    return out


def fully_connected_accumulate(
    x: npt.NDArray[Any], weights: npt.NDArray[Any], bias: npt.NDArray[Any] | None, in_zero_point: int
) -> npt.NDArray[Any]:
    """Accumulators int32 (batch, outputs) of a fully connected layer, bias int32 (outputs,) included.

    x int8 or int16 (batch, inputs), weights int8 (outputs, inputs).
    Source: reference/integer_ops/fully_connected.h.
    """
    dtype = _exact_float(weights, in_zero_point, np.iinfo(x.dtype))
    shifted = np.subtract(x, in_zero_point, dtype=dtype, casting="unsafe")
    sums = np.empty((len(x), len(weights)), dtype)
    rows = max(1, _BLOCK_WEIGHTS // weights.shape[1])
    for start in range(0, len(weights), rows):
        sums[:, start : start + rows] = shifted @ weights[start : start + rows].astype(dtype).T
    return _add_bias(sums, bias, x)


def accumulator_bound(
    weights: npt.NDArray[Any],
    bias: npt.NDArray[Any] | None,
    in_zero_point: int,
    qmin: int = -128,
    qmax: int = 127,
) -> npt.NDArray[np.int64]:
    """Largest magnitude that any partial sum of each output channel can reach, int64 (channels,).

    weights int8 (channels, weights of one channel), bias (channels,); inputs lie in [qmin, qmax].
    """
    reach = max(qmax - in_zero_point, in_zero_point - qmin)
    sums = np.abs(weights.astype(np.int64)).reshape(weights.shape[0], -1).sum(axis=1) * reach
    return sums if bias is None else sums + np.abs(bias.astype(np.int64))


def require_safe_accumulators(
    weights: npt.NDArray[Any], bias: npt.NDArray[Any] | None, in_zero_point: int, shift: Any
) -> None:
    """Raise `ImportRefused` unless every int8 accumulator, shifted left as `shift` asks, fits in int32.

    -2^31 itself is outside, so that no kernel overflows or saturates in any order of summation.
    """
    left = np.maximum(np.asarray(shift, np.int64), 0)
    bound = int((accumulator_bound(weights, bias, in_zero_point) << left).max(initial=0))
    if bound >= 1 << 31:
        raise ImportRefused(f"its accumulators can reach {bound}, which 32 bits cannot hold")


# --- element-wise operators ---------------------------------------------------------------------------------


class AddParameters(NamedTuple):
    """Constants of add and sub: shift inputs left, bring them to one scale, combine, scale to the output."""

    left_shift: int
    multiplier1: int
    shift1: int
    multiplier2: int
    shift2: int
    out_multiplier: int
    out_shift: int


def _add_parameters(scales: tuple[float, float, float], left_shift: int, operator: str) -> AddParameters:
    scale1, scale2, scale3 = (float(np.float32(scale)) for scale in scales)
    twice = 2 * max(scale1, scale2)
    first = _quantize_multiplier_below_one(scale1 / twice, f"the first operand's scale ratio in {operator}")
    second = _quantize_multiplier_below_one(scale2 / twice, f"the second operand's scale ratio in {operator}")
    out_ratio = twice / ((1 << left_shift) * scale3)
    out = _quantize_multiplier_below_one(out_ratio, f"the output's scale ratio in {operator}")
    return AddParameters(left_shift, *first, *second, *out)


def add_parameters(
    in1_scale: float, in2_scale: float, out_scale: float, left_shift: int = 20
) -> AddParameters:
    """Constants of ADD; ratios in double; left_shift 20 for int8, 15 for int16. Source: add_common.cc."""
    return _add_parameters((in1_scale, in2_scale, out_scale), left_shift, "add")


def sub_parameters(
    in1_scale: float, in2_scale: float, out_scale: float, left_shift: int = 20
) -> AddParameters:
    """Constants of SUB, the same numbers as ADD's. Source: sub_common.cc."""
    return _add_parameters((in1_scale, in2_scale, out_scale), left_shift, "sub")


def _scaled(x: npt.NDArray[Any], zero_point: int, left_shift: int, multiplier: int, shift: int) -> Int32Array:
    """An input of add or sub at the common scale; an int8 input looks its 256 possible values up."""
    if x.dtype == np.int8:
        every = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int16)
        return _scaled(every, zero_point, left_shift, multiplier, shift)[x.view(np.uint8)]
    shifted = (x.astype(np.int64) - zero_point) << left_shift
    return multiply_by_quantized_multiplier(shifted, multiplier, shift).astype(np.int32)


def _combine(
    x1: npt.NDArray[Any],
    x2: npt.NDArray[Any],
    sign: int,
    p: AddParameters,
    zero_points: tuple[int, int, int],
    low: int,
    high: int,
) -> npt.NDArray[Any]:
    first = _scaled(x1, zero_points[0], p.left_shift, p.multiplier1, p.shift1)
    second = _scaled(x2, zero_points[1], p.left_shift, p.multiplier2, p.shift2)
    total = first + second if sign > 0 else first - second
    return requantise(total, p.out_multiplier, p.out_shift, zero_points[2], low, high, x1.dtype)


def add(
    x1: npt.NDArray[Any],
    x2: npt.NDArray[Any],
    parameters: AddParameters,
    zero_points: tuple[int, int, int],
    low: int = -128,
    high: int = 127,
) -> npt.NDArray[Any]:
    """x1 + x2 with broadcasting; zero points of x1, x2, output. Source: reference/integer_ops/add.h."""
    return _combine(x1, x2, 1, parameters, zero_points, low, high)


def sub(
    x1: npt.NDArray[Any],
    x2: npt.NDArray[Any],
    parameters: AddParameters,
    zero_points: tuple[int, int, int],
    low: int = -128,
    high: int = 127,
) -> npt.NDArray[Any]:
    """x1 - x2 with broadcasting; zero points of x1, x2, output. Source: reference/sub.h."""
    return _combine(x1, x2, -1, parameters, zero_points, low, high)


def mul_multiplier(in1_scale: float, in2_scale: float, out_scale: float) -> tuple[int, int]:
    """Multiplier and shift of MUL: double(in1) * double(in2) / double(out). Source: mul_common.cc."""
    return quantize_multiplier(
        float(np.float32(in1_scale)) * float(np.float32(in2_scale)) / float(np.float32(out_scale))
    )


def mul(
    x1: npt.NDArray[Any],
    x2: npt.NDArray[Any],
    multiplier: int,
    shift: int,
    zero_points: tuple[int, int, int],
    low: int = -128,
    high: int = 127,
) -> npt.NDArray[Any]:
    """x1 * x2 with broadcasting; zero points of x1, x2, output. Source: reference/integer_ops/mul.h."""
    product = (np.asarray(x1, np.int64) - zero_points[0]) * (np.asarray(x2, np.int64) - zero_points[1])
    scaled = multiply_by_quantized_multiplier(product, multiplier, shift)
    return np.clip(scaled + zero_points[2], low, high).astype(x1.dtype)


# --- pooling and mean ---------------------------------------------------------------------------------------


def average_pool_2d(
    x: npt.NDArray[Any],
    kernel: Pair,
    stride: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    low: int = -128,
    high: int = 127,
) -> npt.NDArray[Any]:
    """Average of the cells inside the image, halves away from zero in quantised units; NHWC in and out.

    No zero point enters: input and output must share scale and zero point. Source:
    reference/integer_ops/pooling.h.
    """
    inside = np.ones((1, *x.shape[1:3], 1), np.int32)
    count = _windows(_padded(inside, 0, pads, np.int32), kernel, stride, (1, 1)).sum(
        axis=(3, 4), dtype=np.int32
    )
    total = _windows(_padded(x, 0, pads, np.int32), kernel, stride, (1, 1)).sum(axis=(3, 4), dtype=np.int32)
    magnitude = (np.abs(total) + count // 2) // count
    return np.clip(np.where(total > 0, magnitude, -magnitude), low, high).astype(x.dtype)


def max_pool_2d(
    x: npt.NDArray[Any],
    kernel: Pair,
    stride: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    low: int = -128,
    high: int = 127,
) -> npt.NDArray[Any]:
    """Largest cell inside the image, NHWC in and out. Source: reference/integer_ops/pooling.h."""
    top, bottom, left, right = pads
    lowest = np.iinfo(x.dtype).min
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=lowest)
    largest = _windows(padded, kernel, stride, (1, 1)).max(axis=(3, 4))
    return np.clip(largest, low, high).astype(x.dtype)


def mean_multiplier(in_scale: float, out_scale: float, count: int) -> tuple[int, int]:
    """Multiplier and shift that turn the sum of `count` cells into their mean at the output's scale.

    The factor in_scale / out_scale is quantised first, then divided by count with truncation, so that the
    multiplier can lie below 2^30. Source: reference/reduce.h, QuantizedMeanOrSum.
    """
    multiplier, shift = scale_ratio(in_scale, out_scale)
    bits = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // count, shift - bits


def mean(
    x: npt.NDArray[Any],
    axes: Sequence[int],
    multiplier: int,
    shift: int,
    in_zero_point: int,
    out_zero_point: int,
    keep_dims: bool = True,
) -> npt.NDArray[Any]:
    """Mean over `axes` with the multiplier of `mean_multiplier`; any rank. Source: reference/reduce.h."""
    normalised = tuple(sorted({axis % x.ndim for axis in axes}))
    count = math.prod(x.shape[axis] for axis in normalised)
    total = x.sum(axis=normalised, dtype=np.int64, keepdims=keep_dims)
    scaled = multiply_by_quantized_multiplier(total - in_zero_point * count, multiplier, shift)
    limits = np.iinfo(x.dtype)
    return np.clip(scaled + out_zero_point, limits.min, limits.max).astype(x.dtype)


def nearest_indices(
    in_size: int, out_size: int, align_corners: bool = False, half_pixel_centers: bool = False
) -> npt.NDArray[np.int64]:
    """Input cell of each output cell of a nearest-neighbour resize along one axis, int64 (out_size,).

    TFLM computes these in float32, so a device gets them from the packager. Source:
    reference/resize_nearest_neighbor.h, GetNearestNeighbor.
    """
    aligned = align_corners and out_size > 1
    scale = np.float32(in_size - aligned) / np.float32(out_size - aligned)
    position = (np.arange(out_size, dtype=np.float32) + np.float32(0.5 * half_pixel_centers)) * scale
    cell = np.floor(position.astype(np.float64) + 0.5) if align_corners else np.floor(position)
    return np.clip(cell.astype(np.int64), 0, in_size - 1)


# --- softmax ------------------------------------------------------------------------------------------------


class SoftmaxParameters(NamedTuple):
    """Constants of int8 softmax: differences are scaled to Q5.26; those below diff_min give exactly zero."""

    multiplier: int
    left_shift: int
    diff_min: int


def _input_radius(integer_bits: int, left_shift: int) -> int:
    """Largest input magnitude that fits Q(integer_bits) after scaling. Source: quantization_util.cc."""
    return math.floor(((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / (1 << left_shift))


def softmax_parameters(in_scale: float, beta: float = 1.0, classes: int = 1) -> SoftmaxParameters:
    """Constants for an input scale; beta is float32; more `classes` than SOFTMAX_CLASS_LIMIT are refused.

    Source: micro/kernels/softmax_common.cc.
    """
    if classes > SOFTMAX_CLASS_LIMIT:
        raise ImportRefused(f"softmax over {classes} classes; at most {SOFTMAX_CLASS_LIMIT} are supported")
    real = min(float(np.float32(beta)) * float(np.float32(in_scale)) * (1 << 26), float((1 << 31) - 1))
    multiplier, left_shift = quantize_multiplier(real)
    if not real > 1.0:
        raise ImportRefused(
            f"softmax with input scale {in_scale} and beta {beta}: the product must exceed 2^-26"
        )
    # From an input scale of 16 on the shift is 31, which a file cannot hold, and the radius 0: nothing but a
    # difference of 0 is ever shifted.
    return SoftmaxParameters(multiplier, min(left_shift, 30), -_input_radius(5, left_shift))


def softmax_exponentials(parameters: SoftmaxParameters) -> Int32Array:
    """exp(-d * beta * in_scale) in Q0.31 for d = 0 .. 255, int32 (256,); 0 where d exceeds the radius."""
    differences = -np.arange(256, dtype=np.int64)
    shifted = wrap_int32(
        np.where(differences >= parameters.diff_min, differences, 0) << parameters.left_shift
    )
    scaled = saturating_rounding_doubling_high_mul(shifted, parameters.multiplier)
    exponentials = exp_on_negative_values(scaled, 5)
    return np.where(differences >= parameters.diff_min, exponentials, 0).astype(np.int32)


def _reciprocal(total: IntArray) -> tuple[IntArray, IntArray]:
    """1 / total in Q0.31 after normalising total (Q12.19, at least 1) to [1, 2), and the bits above one."""
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    return one_over_one_plus_x((total << headroom) - (1 << 31)), 12 - headroom


def softmax(x: Int8Array, parameters: SoftmaxParameters, dtype: Any = np.int8) -> npt.NDArray[Any]:
    """Softmax over the last axis of int8 x, as int8 (scale 1/256, zero point -128) or int16 (2^-16, -32768).

    Integer throughout: no table, no float. A sum of exponentials of 512 or more, on which TFLM's int8 kernel
    aborts, raises `ImportRefused`. Source: reference/softmax.h.
    """
    exponentials = softmax_exponentials(parameters).astype(np.int64)
    wide = x.astype(np.int64)
    e = exponentials[wide.max(axis=-1, keepdims=True) - wide]
    total = rounding_divide_by_pot(e, 12).sum(axis=-1, keepdims=True)
    scale, bits_over_one = _reciprocal(total)
    limits = np.iinfo(dtype)
    exponent = bits_over_one + 31 - limits.bits
    if np.any(exponent > 31) or np.any(total >> 31):
        raise ImportRefused(
            f"softmax over {x.shape[-1]} classes left TFLM's range; {SOFTMAX_CLASS_LIMIT} are always safe"
        )
    unclamped = rounding_divide_by_pot(saturating_rounding_doubling_high_mul(scale, e), exponent) + limits.min
    return np.clip(unclamped, limits.min, limits.max).astype(dtype)


# --- tables -------------------------------------------------------------------------------------------------


def _curve(q: IntArray, in_scale: float, in_zero_point: int) -> tuple[IntArray, int, IntArray]:
    """For logistic and tanh: q - zero point, the radius beyond which they saturate, the value in Q4.27."""
    multiplier, left_shift = quantize_multiplier(float(np.float32(in_scale)) * (1 << 27))
    if multiplier == 0 or left_shift < 0:
        raise ImportRefused(f"the input scale {in_scale} of a logistic or tanh is below 2^-28")
    radius = _input_radius(4, left_shift)
    centred = q - in_zero_point
    clamped = np.clip(centred, -radius, radius)
    return centred, radius, multiply_by_quantized_multiplier(clamped, multiplier, left_shift)


def _saturate(values: IntArray, centred: IntArray, radius: int) -> IntArray:
    return np.where(centred <= -radius, -128, np.where(centred >= radius, 127, np.clip(values, -128, 127)))


def _logistic_table(q: IntArray, in_scale: float, in_zp: int, out_scale: float, out_zp: int) -> IntArray:
    """The output scale is taken to be 1/256. Source: reference/integer_ops/logistic.h."""
    if out_zp != -128:
        raise ImportRefused(f"logistic asks for the output zero point -128, not {out_zp}")
    centred, radius, value = _curve(q, in_scale, in_zp)
    return _saturate(rounding_divide_by_pot(logistic(value, 4), 23) - 128, centred, radius)


def _tanh_table(q: IntArray, in_scale: float, in_zp: int, out_scale: float, out_zp: int) -> IntArray:
    """The output is taken to have scale 1/128 and zero point 0. Source: reference/integer_ops/tanh.h."""
    centred, radius, value = _curve(q, in_scale, in_zp)
    return _saturate(rounding_divide_by_pot(tanh(value, 4), 24), centred, radius)


def _relu_table(q: IntArray, in_scale: float, in_zp: int, out_scale: float, out_zp: int) -> IntArray:
    """As quantize, then never below the zero point. Source: micro/kernels/activations_common.cc."""
    multiplier, shift = scale_ratio(in_scale, out_scale)
    return np.maximum(multiply_by_quantized_multiplier(q - in_zp, multiplier, shift) + out_zp, out_zp)


def _relu6_table(q: IntArray, in_scale: float, in_zp: int, out_scale: float, out_zp: int) -> IntArray:
    """TFLM clamps the input and ignores the output's quantisation.

    Source: micro/kernels/activations_common.cc.
    """
    six = _round_half_away(float(np.float32(6.0) / np.float32(in_scale))) + in_zp
    upper = min(six, 127)
    return np.where(q > upper, upper, np.maximum(q, in_zp))


def _leaky_relu_table(
    q: IntArray, in_scale: float, in_zp: int, out_scale: float, out_zp: int, alpha: float = 0.0
) -> IntArray:
    """Source: reference/leaky_relu.h, micro/kernels/leaky_relu_common.cc; float32 alpha, double products."""
    identity = scale_ratio(in_scale, out_scale)
    scaled_alpha = float(np.float32(in_scale)) * float(np.float32(alpha))
    slope, slope_shift = quantize_multiplier(scaled_alpha / float(np.float32(out_scale)))
    centred = q - in_zp
    negative = multiply_by_quantized_multiplier(centred, abs(slope), slope_shift)
    positive = multiply_by_quantized_multiplier(centred, *identity)
    return np.where(centred >= 0, positive, -negative if slope < 0 else negative) + out_zp


def _high_mul_int16(a: Any, b: int) -> IntArray:
    """gemmlowp's SaturatingRoundingDoublingHighMul of int16; b is a positive multiplier: no saturation."""
    return (np.asarray(a, np.int64) * b + (1 << 14)) >> 15


def _multiplier_int16(real: float) -> tuple[int, int]:
    """A quantised multiplier cut to 16 bits. Source: internal/common.h, DownScaleInt32ToInt16Multiplier."""
    multiplier, exponent = quantize_multiplier(real)
    reduced = (multiplier + (1 << 15)) >> 16 if multiplier < (1 << 31) - 1 - (1 << 15) else 32767
    return reduced, exponent


def _hard_swish_table(q: IntArray, in_scale: float, in_zp: int, out_scale: float, out_zp: int) -> IntArray:
    """Source: reference/hard_swish.h, micro/kernels/hard_swish_common.cc. int16 throughout."""
    hires_scale = float(np.float32(in_scale)) / 128
    out_multiplier, out_exponent = _multiplier_int16(hires_scale / float(np.float32(out_scale)))
    relu_multiplier, relu_exponent = _multiplier_int16(hires_scale / (3 / 32768))
    if not -15 <= out_exponent <= 0 or relu_exponent < -15:
        raise ImportRefused(f"hard swish cannot go from scale {in_scale} to scale {out_scale}")
    hires = (q - in_zp) * 128
    preshift = _high_mul_int16(hires, out_multiplier)
    gate = hires
    if relu_exponent > 0:
        gate = np.clip(gate << (relu_exponent - 1), -32768, 32767)
    gate = _high_mul_int16(gate, relu_multiplier)
    if relu_exponent > 0:
        gate = np.clip(gate << 1, -32768, 32767)
    elif relu_exponent < 0:
        gate = rounding_divide_by_pot(gate, -relu_exponent)
    product = ((gate + 32768) >> 1) * preshift
    truncated = np.where(product < 0, -(-product >> 15), product >> 15)
    return rounding_divide_by_pot(truncated, -out_exponent) + out_zp


def _quantize_table(q: IntArray, in_scale: float, in_zp: int, out_scale: float, out_zp: int) -> IntArray:
    """Source: reference/requantize.h, micro/kernels/quantize_common.cc."""
    multiplier, shift = scale_ratio(in_scale, out_scale)
    return multiply_by_quantized_multiplier(q - in_zp, multiplier, shift) + out_zp


_TABLES: dict[str, Callable[..., IntArray]] = {
    "logistic": _logistic_table,
    "tanh": _tanh_table,
    "relu": _relu_table,
    "relu6": _relu6_table,
    "leaky_relu": _leaky_relu_table,
    "hard_swish": _hard_swish_table,
    "quantize": _quantize_table,
}


def lookup_table(
    kind: str, in_scale: float, in_zp: int, out_scale: float, out_zp: int, **attributes: float
) -> Int8Array:
    """The output of a one-input int8 operator for every input: int8 (256,), indexed by q + 128.

    kind: logistic, tanh, relu, relu6, leaky_relu (attribute alpha), hard_swish or quantize. Other kinds, and
    parameters that TFLM refuses, raise `ImportRefused`.
    """
    if kind not in _TABLES:
        raise ImportRefused(f"no table for the operator {kind}; there are tables for {', '.join(_TABLES)}")
    q = np.arange(-128, 128, dtype=np.int64)
    return np.clip(_TABLES[kind](q, in_scale, in_zp, out_scale, out_zp, **attributes), -128, 127).astype(
        np.int8
    )
