"""numerics.py against TensorFlow Lite Micro itself, against vectors it made, and against plain integers."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numerics_cases
import numpy as np
import pytest
import tflite_models
from numerics_cases import EVERY_INPUT, KINDS, Case, array_from_json
from tflite_models import Tensor
from tflm_oracle import TFLM_DISTRIBUTION, TFLM_VERSION, run_tflm

from model_packager import fixed_point, numerics, reference
from model_packager.errors import ImportRefused
from model_packager.pack import pack

VECTORS = Path(__file__).resolve().parent / "vectors" / "numerics"
RANDOM_CASES_PER_KIND = 25


@pytest.fixture(scope="module")
def tflm(require_module: Callable[[str], ModuleType]) -> Callable[..., list[np.ndarray]]:
    """TFLM's interpreter, of the pinned build: another build may round otherwise."""
    require_module("tflite_micro")
    assert importlib.metadata.version(TFLM_DISTRIBUTION) == TFLM_VERSION
    return run_tflm


# --- every operator -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_numerics_committed_vectors_equal_tflm(kind: str) -> None:
    document = json.loads((VECTORS / f"{kind}.json").read_text())
    assert document["vectors"]
    for vector in document["vectors"]:
        case = Case.from_json(vector["case"])
        np.testing.assert_array_equal(KINDS[kind].predict(case), array_from_json(vector["expected"]))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_numerics_random_cases_equal_tflm(kind: str, tflm: Callable[..., list[np.ndarray]]) -> None:
    for seed in range(RANDOM_CASES_PER_KIND):
        case = KINDS[kind].draw(np.random.default_rng([seed, 77]))
        (expected,) = tflm(KINDS[kind].model(case), *case.inputs())
        predicted = KINDS[kind].predict(case)
        assert predicted.dtype == expected.dtype
        np.testing.assert_array_equal(predicted, expected, err_msg=f"seed {seed}: {case.parameters}")


def test_vectors_regenerated_are_unchanged(tflm: Callable[..., list[np.ndarray]]) -> None:
    sys.path.insert(0, str(VECTORS.parent))
    try:
        import make_numerics
    finally:
        sys.path.remove(str(VECTORS.parent))
    for kind in KINDS:
        assert (VECTORS / f"{kind}.json").read_text() == make_numerics.vectors(kind), kind


# --- single or double rounding ------------------------------------------------------------------------------


def _single_rounding(x: Any, multiplier: Any, shift: Any) -> np.ndarray:
    """What TFLM computes when it is built with TFLITE_SINGLE_ROUNDING: one rounding, halves upwards."""
    total_shift = 31 - np.asarray(shift, np.int64)
    product = np.asarray(x, np.int64) * np.asarray(multiplier, np.int64)
    return (product + (np.int64(1) << (total_shift - 1))) >> total_shift


def _single_rounding_block(block: Any, multiplier: Any, left: Any, right: Any, offsets: Any) -> np.ndarray:
    return _single_rounding(block, multiplier, (0 if left is None else left) - right)


def _tie_cases() -> list[Case]:
    """Cases with factors 1/4 or 1/2, where negative halves tell the two roundings apart."""
    quarter = {
        "in_scale": 0.25, "in_zero_point": 0, "out_scale": 1.0, "out_zero_point": 0, "activation": "NONE",
        "weight_scales": [1.0], "stride": [1, 1], "dilation": [1, 1], "padding": "VALID",
        "axes": [1], "keep_dims": True,
    }  # fmt: skip
    half = {
        "in1_scale": 0.5, "in1_zero_point": 0, "in2_scale": 0.5, "in2_zero_point": 0,
        "out_scale": 1.0, "out_zero_point": 0, "activation": "NONE",
    }  # fmt: skip
    one, none = np.ones(1, np.int8), np.zeros(1, np.int32)
    image = EVERY_INPUT.reshape(1, 16, 16, 1)
    pair = {"x": EVERY_INPUT, "x2": np.ones((1, 256), np.int8)}
    return [
        Case("conv_2d", quarter, {"x": image, "weights": one.reshape(1, 1, 1, 1), "bias": none}),
        Case("depthwise_conv_2d", quarter, {"x": image, "weights": one.reshape(1, 1, 1, 1), "bias": none}),
        Case("fully_connected", quarter, {"x": EVERY_INPUT.T, "weights": one.reshape(1, 1), "bias": none}),
        Case("mean", quarter, {"x": EVERY_INPUT.reshape(1, 1, 256)}),
        Case("add", half, pair),
        Case("sub", half, pair),
        Case("mul", half, pair),
        Case("quantize", quarter, {"x": EVERY_INPUT}),
        Case("leaky_relu", quarter | {"alpha": 1.0}, {"x": EVERY_INPUT}),
    ]


@pytest.mark.parametrize("case", _tie_cases(), ids=lambda case: case.kind)
def test_rounding_of_ties_is_double_in_tflm(
    case: Case, tflm: Callable[..., list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (truth,) = tflm(KINDS[case.kind].model(case), *case.inputs())
    np.testing.assert_array_equal(KINDS[case.kind].predict(case), truth)
    monkeypatch.setattr(numerics, "multiply_by_quantized_multiplier", _single_rounding)
    monkeypatch.setattr(numerics, "_requantise_block", _single_rounding_block)
    assert np.any(KINDS[case.kind].predict(case) != truth)


# --- ratios of scales ---------------------------------------------------------------------------------------
#
# TFLM's sources of August 2026 round some ratios of scales to float32 first (fully connected, sub, relu,
# leaky relu, hard swish); the pinned wheel computes all of them in double. The multipliers then differ in
# about the 25th bit, so each test below looks for inputs on whose side of a half the two disagree, and asks
# TFLM.


def _disputed(double: tuple[int, int], single: tuple[int, int], real: float, bound: int) -> np.ndarray:
    """Up to six accumulators below `bound` that the two multipliers requantise to different int8 values."""
    centres = np.round((np.arange(-120, 120) + 0.5) / real).astype(np.int64)
    near = (centres[:, None] + np.arange(-3, 4)).ravel()
    near = near[np.abs(near) < bound]
    multiply = numerics.multiply_by_quantized_multiplier
    return near[multiply(near, *double) != multiply(near, *single)][:6]


def _float32_scales(seed: int) -> tuple[float, float, float]:
    """Scales of input, weights and output; accumulators of about 2^29 reach the ends of int8."""
    rng = np.random.default_rng(seed)
    in_scale, weight_scale = np.float32(rng.uniform(0.01, 1)), np.float32(rng.uniform(1e-4, 1e-2))
    out_scale = np.float32(float(in_scale) * float(weight_scale) * rng.uniform(3e6, 4e6))
    return float(in_scale), float(weight_scale), float(out_scale)


@pytest.mark.parametrize("operator", ["fully_connected", "conv_2d", "depthwise_conv_2d"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_weight_ratio_is_double_in_tflm(
    operator: str, per_channel: bool, tflm: Callable[..., list[np.ndarray]]
) -> None:
    disputed_count = 0
    for seed in range(8):
        in_scale, weight_scale, out_scale = _float32_scales(seed)
        product = np.float32(in_scale) * np.float32(weight_scale)
        single = numerics.quantize_multiplier(float(product) / out_scale)
        double = numerics.fully_connected_multiplier(in_scale, weight_scale, out_scale)
        biases = _disputed(double, single, in_scale * weight_scale / out_scale, 1 << 30).astype(np.int32)
        channels = len(biases)
        if channels < 2:
            continue
        disputed_count += channels
        scales = [weight_scale] * (channels if per_channel else 1)
        multipliers, shifts = numerics.conv_multipliers(in_scale, scales, out_scale, channels)
        assert set(zip(multipliers, shifts, strict=True)) == {double}
        ends = (biases, (in_scale, 0), scales, (out_scale, 0))
        if operator == "fully_connected":
            x = np.zeros((1, 1), np.int8)
            model = tflite_models.fully_connected(x.shape, np.zeros((channels, 1), np.int8), *ends)
        else:
            x = np.zeros((1, 1, 1, channels), np.int8)
            depth = channels if operator == "conv_2d" else 1
            weights = np.zeros((channels if depth > 1 else 1, 1, 1, channels), np.int8)
            model = getattr(tflite_models, operator)(x.shape, weights, *ends)
        expected = numerics.requantise(biases, multipliers, shifts, 0)
        np.testing.assert_array_equal(tflm(model, x)[0].ravel(), expected)
    assert disputed_count > 10


def test_mean_ratio_is_double_in_tflm(tflm: Callable[..., list[np.ndarray]]) -> None:
    count = 1 << 16
    in_scale, out_scale = float(np.float32(0.3)), float(np.float32(0.28))
    ratio, shift = numerics.quantize_multiplier(float(np.float32(in_scale) / np.float32(out_scale)))
    double = numerics.mean_multiplier(in_scale, out_scale, count)
    bits = min(16, 31 + shift)
    single = ((ratio << bits) // count, shift - bits)
    sums = _disputed(double, single, in_scale / out_scale / count, 120 * count)
    assert len(sums) > 2
    x = np.repeat((sums // count)[None, None], count, axis=1).astype(np.int8)
    for channel, rest in enumerate(sums % count):
        x[0, :rest, channel] += 1
    np.testing.assert_array_equal(x.sum(axis=1, dtype=np.int64)[0], sums)
    (output,) = tflm(tflite_models.mean(x.shape, [1], (in_scale, 0), (out_scale, 0)), x, arena_bytes=1 << 21)
    np.testing.assert_array_equal(output, numerics.mean(x, [1], *double, 0, 0))


@pytest.mark.parametrize("name", ["RELU", "LEAKY_RELU", "QUANTIZE"])
def test_unary_ratio_is_double_in_tflm(name: str, tflm: Callable[..., list[np.ndarray]]) -> None:
    """int16 tensors, since their outputs have the bits to show it; parameters do not depend on the type."""
    rng = np.random.default_rng(4)
    disputed_count = 0
    multiply = numerics.multiply_by_quantized_multiplier
    for _ in range(30):
        drawn = rng.uniform((0.1, 0.9, 0.2), (2.0, 2.0, 0.9)).astype(np.float32)
        in_scale, ratio, alpha = (float(value) for value in drawn)
        out_scale = float(np.float32(in_scale * ratio))
        q = rng.integers(-32768, 32768, (1, 4000)).astype(np.int16)
        double = np.asarray(multiply(q, *numerics.scale_ratio(in_scale, out_scale)))
        single = multiply(
            q, *numerics.quantize_multiplier(float(np.float32(in_scale) / np.float32(out_scale)))
        )
        disputed_count += np.count_nonzero((double != single) & (q > 0))
        if name == "RELU":
            double = np.maximum(double, 0)
        elif name == "LEAKY_RELU":
            slope = multiply(q, *numerics.quantize_multiplier(in_scale * alpha / out_scale))
            double = np.where(q < 0, slope, double)
        model = tflite_models.unary(name, q.shape, (in_scale, 0), (out_scale, 0), alpha, np.int16)
        np.testing.assert_array_equal(tflm(model, q)[0], np.clip(double, -32768, 32767))
    assert disputed_count > 0


@pytest.mark.parametrize(("in_scale", "out_scale"), [(0.1811, 0.21), (0.2236, 0.37), (0.3958, 0.0931)])
def test_hard_swish_ratio_is_double_in_tflm(
    in_scale: float, out_scale: float, tflm: Callable[..., list[np.ndarray]]
) -> None:
    """Scales for which a float32 ratio would change one entry of the table."""
    (output,) = tflm(tflite_models.unary("HARD_SWISH", (1, 256), (in_scale, 0), (out_scale, 0)), EVERY_INPUT)
    np.testing.assert_array_equal(
        numerics.lookup_table("hard_swish", in_scale, 0, out_scale, 0)[None], output
    )


def test_float_edges_quantise_and_dequantise_equal_tflm(tflm: Callable[..., list[np.ndarray]]) -> None:
    rng = np.random.default_rng(6)
    every = Tensor(EVERY_INPUT.shape, np.int8, [0.1], [3])
    for scale, zero_point in zip(rng.uniform(1e-3, 2, 20), rng.integers(-128, 128, 20).tolist(), strict=True):
        every.scale, every.zero_point = [scale], [zero_point]
        floats = Tensor(EVERY_INPUT.shape, np.float32)
        real = tflm(tflite_models.single("DEQUANTIZE", [every], floats, "DequantizeOptions"), EVERY_INPUT)[0]
        np.testing.assert_array_equal(numerics.dequantise(EVERY_INPUT, scale, zero_point), real)
        halves = ((np.arange(-128, 128)[None] + 0.5) * scale).astype(np.float32)
        got = tflm(tflite_models.single("QUANTIZE", [floats], every, "QuantizeOptions"), halves)[0]
        np.testing.assert_array_equal(numerics.quantise_float(halves, scale, zero_point), got)


@pytest.mark.parametrize(("activation", "bound"), [("RELU6", 6.0), ("RELU_N1_TO_1", 1.0), ("relu6", 6.0)])
def test_activation_bound_is_rounded_in_float32_in_tflm(
    activation: str, bound: float, tflm: Callable[..., list[np.ndarray]]
) -> None:
    disputed_count = 0
    for steps in range(1, 120):
        scale = float(np.float32(bound / (steps + 0.5)))
        if math.floor(bound / scale + 0.5) == math.floor(float(np.float32(bound) / np.float32(scale)) + 0.5):
            continue
        disputed_count += 1
        q = (scale, 0)
        if activation == "relu6":
            model = tflite_models.unary("RELU6", (1, 1), q, q)
            expected = int(numerics.lookup_table("relu6", *q, *q)[255])
        else:
            weights, bias = np.zeros((1, 1), np.int8), np.array([1 << 24], np.int32)
            model = tflite_models.fully_connected((1, 1), weights, bias, q, [1.0], q, activation)
            expected = numerics.activation_range(activation, *q)[1]
        assert tflm(model, np.full((1, 1), 127, np.int8))[0].item() == expected
    assert disputed_count > 3


# --- multipliers and requantisation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (1 << 30, 1)),
        (0.25, (1 << 30, -1)),
        (0.1, (1717986918, -3)),
        (1 - 2.0**-40, (1 << 30, 1)),  # the mantissa rounds up to 2^31 and carries into the shift
        (2.0**-32, (1 << 30, -31)),
        (2.0**-32 * (1 - 2.0**-20), (0, 0)),
        (-0.75, (-1610612736, 0)),
        (2.0**40, (1 << 30, 41)),
    ],
)
def test_quantize_multiplier_known_factor_gives_pair(real: float, expected: tuple[int, int]) -> None:
    assert numerics.quantize_multiplier(real) == expected


@pytest.mark.parametrize("real", [math.nan, math.inf])
def test_quantize_multiplier_not_finite_is_refused(real: float) -> None:
    with pytest.raises(ImportRefused, match="finite"):
        numerics.quantize_multiplier(real)


def test_quantize_multiplier_random_factors_are_nearest() -> None:
    for real in np.exp(np.random.default_rng(3).uniform(-20, 20, 500)):
        multiplier, shift = numerics.quantize_multiplier(float(real))
        assert 1 << 30 <= multiplier < 1 << 31
        assert abs(multiplier - real * 2.0 ** (31 - shift)) <= 0.5


def _gemmlowp_high_mul(a: int, b: int) -> int:
    """The definition with a truncating division, in plain integers."""
    if a == b == -(1 << 31):
        return (1 << 31) - 1
    nudged = a * b + (1 << 30 if a * b >= 0 else 1 - (1 << 30))
    return nudged // (1 << 31) if nudged >= 0 else -(-nudged // (1 << 31))


def _int32_samples(count: int = 4000) -> np.ndarray:
    edges = [0, 1, -1, 2, -2, 1 << 30, -(1 << 30), (1 << 31) - 1, -(1 << 31), (1 << 15) - 1, 1 << 15, 1 << 16]
    rng = np.random.default_rng(11)
    wide = rng.integers(-(1 << 31), 1 << 31, count)
    return np.concatenate([edges, wide, wide >> rng.integers(0, 31, count)])


def test_high_mul_random_and_edges_equal_truncating_definition() -> None:
    a = _int32_samples()
    b = np.roll(a, 5)
    expected = [_gemmlowp_high_mul(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(fixed_point.saturating_rounding_doubling_high_mul(a, b), expected)
    assert fixed_point.saturating_rounding_doubling_high_mul(-(1 << 31), -(1 << 31)) == (1 << 31) - 1


@pytest.mark.parametrize("exponent", [0, 1, 2, 15, 30, 31])
def test_divide_by_pot_random_and_edges_round_half_away(exponent: int) -> None:
    x = _int32_samples(500)
    expected = [
        (-1 if value < 0 else 1) * ((abs(value) + ((1 << exponent) >> 1)) >> exponent) for value in x.tolist()
    ]
    np.testing.assert_array_equal(fixed_point.rounding_divide_by_pot(x, exponent), expected)


def test_requantise_per_channel_equals_multiply_then_clamp() -> None:
    rng = np.random.default_rng(5)
    accumulators = rng.integers(-(1 << 20), 1 << 20, (3, 40, 41, 17)).astype(np.int32)
    factors = np.exp(rng.uniform(-12, 0, 17))
    factors[:2] = 3.0, 0.75
    multiplier, shift = numerics.conv_multipliers(1.0, factors, 1.0)
    assert shift.max() > 0 > shift.min()
    scaled = numerics.multiply_by_quantized_multiplier(accumulators, multiplier, shift)
    expected = np.clip(scaled - 7, -100, 90)
    np.testing.assert_array_equal(
        numerics.requantise(accumulators, multiplier, shift, -7, -100, 90), expected.astype(np.int8)
    )


def test_fully_connected_multiplier_foreign_bias_scale_is_refused() -> None:
    numerics.fully_connected_multiplier(0.5, 0.5, 0.1, bias_scale=0.25)
    with pytest.raises(ImportRefused, match="bias scale"):
        numerics.fully_connected_multiplier(0.5, 0.5, 0.1, bias_scale=0.5)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("NONE", (-128, 127)), ("RELU", (-5, 127)), ("RELU6", (-5, 55)), ("RELU_N1_TO_1", (-15, 5))],
)
def test_activation_range_fused_activation_gives_clamp(activation: str, expected: tuple[int, int]) -> None:
    assert numerics.activation_range(activation, 0.1, -5) == expected


def test_activation_range_unknown_activation_is_refused() -> None:
    with pytest.raises(ImportRefused, match="TANH"):
        numerics.activation_range("TANH", 0.1, 0)


# --- sums ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 700])  # float32 and float64 inside
def test_conv_accumulate_extreme_values_are_exact(depth: int) -> None:
    rng = np.random.default_rng(9)
    x = rng.choice(np.array([-128, -127, 127], np.int8), (2, 3, 3, depth))
    weights = rng.choice(np.array([-128, 127, 126], np.int8), (2, 3, 3, depth))
    bias = np.array([123456789, -5], np.int32)
    expected = np.einsum("nyxd,cyxd->nc", x.astype(np.int64) - 127, weights.astype(np.int64)) + bias
    got = numerics.conv_2d_accumulate(x, weights, bias, in_zero_point=127)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got[:, 0, 0], expected)


def test_accumulator_bound_extreme_inputs_is_reached() -> None:
    weights, bias = np.array([[127, -5], [0, 3]], np.int8), np.array([1000, -7], np.int32)
    bound = numerics.accumulator_bound(weights, bias, in_zero_point=-20)
    assert bound.tolist() == [132 * 147 + 1000, 3 * 147 + 7]
    x = np.array([[127, -128]], np.int8)
    got = numerics.fully_connected_accumulate(x, weights, bias, -20)
    assert abs(int(got[0, 0]) - 1000) == 127 * 147 + 5 * 108 <= bound[0]


def test_require_safe_accumulators_left_shift_beyond_31_bits_is_refused() -> None:
    weights, bias = np.full((1, 8), 127, np.int8), np.array([1 << 20], np.int32)
    numerics.require_safe_accumulators(weights, bias, 0, 10)
    with pytest.raises(ImportRefused, match="accumulators"):
        numerics.require_safe_accumulators(weights, bias, 0, 11)


def test_add_parameters_ratio_of_one_or_more_is_refused() -> None:
    with pytest.raises(ImportRefused, match="output's scale ratio in add"):
        numerics.add_parameters(1.0, 1.0, 2.0**-20)


# --- softmax and tables -------------------------------------------------------------------------------------


def test_softmax_most_classes_that_are_safe_equal_tflm(tflm: Callable[..., list[np.ndarray]]) -> None:
    x = np.full((1, numerics.SOFTMAX_CLASS_LIMIT), 5, np.int8)
    (expected,) = tflm(tflite_models.softmax(x.shape, (0.1, 0)), x)
    np.testing.assert_array_equal(numerics.softmax(x, numerics.softmax_parameters(0.1)), expected)


def test_softmax_sum_of_exponentials_too_large_is_refused() -> None:
    x = np.full((1, numerics.SOFTMAX_CLASS_LIMIT + 1), 5, np.int8)
    with pytest.raises(ImportRefused, match="512 classes"):
        numerics.softmax(x, numerics.softmax_parameters(0.1))
    with pytest.raises(ImportRefused, match="512 classes"):
        numerics.softmax_parameters(0.1, classes=512)


@pytest.mark.parametrize("scale", [15.9, 16.0, 40.0, 1e6])
def test_softmax_of_a_coarse_input_packs_and_equals_tflm(
    tflm: Callable[..., list[np.ndarray]], tmp_path: Path, scale: float
) -> None:
    x = np.array([[[-128, 126, 125, -1], [127, 127, 127, 0], [5, 4, 5, 3]]], np.int8)
    original = tflite_models.softmax(x.shape, (scale, 0))
    (tmp_path / "softmax.tflite").write_bytes(original)
    (expected,) = tflm(original, x)
    (outputs,) = reference.run(pack(tmp_path / "softmax.tflite").model, [x])
    np.testing.assert_array_equal(outputs, expected)


def test_softmax_parameters_tiny_scale_is_refused() -> None:
    with pytest.raises(ImportRefused, match="softmax"):
        numerics.softmax_parameters(1e-9)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("swish", (0.1, 0, 0.1, 0)),
        ("logistic", (0.1, 0, 1 / 256, 0)),
        ("tanh", (1e-12, 0, 1 / 128, 0)),
        ("hard_swish", (1.0, 0, 1e-4, 0)),
    ],
)
def test_lookup_table_parameters_that_tflm_refuses_are_refused(kind: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ImportRefused):
        numerics.lookup_table(kind, *arguments)


@pytest.mark.parametrize("scale", [1e-4, 0.02, 15.9, 16.5, 40.0])
@pytest.mark.parametrize("kind", ["logistic", "tanh"])
def test_lookup_table_extreme_input_scale_equals_tflm(
    kind: str, scale: float, tflm: Callable[..., list[np.ndarray]]
) -> None:
    out = (1 / 256, -128) if kind == "logistic" else (1 / 128, 0)
    parameters = dict(zip(("out_scale", "out_zero_point"), out, strict=True))
    case = Case(kind, {"in_scale": scale, "in_zero_point": 3, **parameters}, {"x": EVERY_INPUT})
    (expected,) = tflm(numerics_cases.KINDS[kind].model(case), EVERY_INPUT)
    np.testing.assert_array_equal(KINDS[kind].predict(case), expected)


def test_quantise_float_halves_round_away_and_clamp() -> None:
    values = np.array([0.25, -0.25, 0.75, 1e9, -1e9, 0.1], np.float32)
    np.testing.assert_array_equal(numerics.quantise_float(values, 0.5, 3), [4, 2, 5, 127, -128, 3])
    np.testing.assert_array_equal(numerics.dequantise(np.array([4, 2], np.int8), 0.5, 3), [0.5, -0.5])


# --- docs/NUMERICS.md ---------------------------------------------------------------------------------------


class Int32(int):
    """An integer that fails where a 32-bit machine would overflow."""

    def __new__(cls, value: int) -> Int32:
        assert -(1 << 31) <= value < 1 << 31, f"{value} does not fit in int32"
        return super().__new__(cls, value)


def _checked(name: str) -> Callable[..., Int32]:
    return lambda self, other: Int32(getattr(int, name)(int(self), int(other)))


for _name in ("add", "sub", "mul", "and", "or", "lshift", "rshift"):
    setattr(Int32, f"__{_name}__", _checked(f"__{_name}__"))
    setattr(Int32, f"__r{_name}__", _checked(f"__r{_name}__"))


@pytest.fixture(scope="module")
def document(repository: Path) -> dict[str, Any]:
    """The names that the Python blocks of docs/NUMERICS.md define, after running them all in order."""
    text = (repository / "docs" / "NUMERICS.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/NUMERICS.md", "exec"), names)
    return names


def test_document_high_mul_in_limbs_equals_product_within_int32(document: dict[str, Any]) -> None:
    a = _int32_samples(1500)
    b = np.roll(a, 7)
    expected = fixed_point.saturating_rounding_doubling_high_mul(a, b)
    for x, y, product in zip(a.tolist(), b.tolist(), expected.tolist(), strict=True):
        if x == y == -(1 << 31):
            continue
        assert document["high_mul"](Int32(x), Int32(y)) == product
        if abs(x) < 1 << 30 and y > 0:
            assert document["high_mul_small"](Int32(x), Int32(y)) == product


@pytest.mark.parametrize("exponent", [0, 1, 7, 30, 31])
def test_document_divide_by_pot_within_int32(document: dict[str, Any], exponent: int) -> None:
    x = _int32_samples(300)
    expected = fixed_point.rounding_divide_by_pot(x, exponent)
    got = [int(document["divide_by_pot"](Int32(value), exponent)) for value in x.tolist()]
    np.testing.assert_array_equal(got, expected)


def test_document_mul64_in_limbs_equals_product_within_int32(document: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    for _ in range(3000):
        n = int(rng.integers(-31, 8))
        m = int(rng.integers(1 << 30, 1 << 31))
        bits = min(45, 30 - n)  # the result must fit in int32
        x = int(rng.integers(-(1 << bits) + 1, 1 << bits))
        limbs = (Int32(x >> 30), Int32(x >> 15 & 0x7FFF), Int32(x & 0x7FFF))
        got = document["mul64"](*limbs, Int32(m), n)
        assert got == numerics.multiply_by_quantized_multiplier_int64(x, m, n)
