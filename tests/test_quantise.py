"""Quantisation of float models: folding, fusing, calibration, scales, biases, and the loss of accuracy."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, require_module
from onnx_models import build, imported_outputs, kinds, random_floats, sample_inputs
from test_import_onnx import CASES

from model_packager.errors import PackError, UsageError
from model_packager.format_table import DType, OperatorKind, PortFlag
from model_packager.importers.onnx import import_onnx
from model_packager.importers.tflite import import_tflite
from model_packager.model import Model
from model_packager.numerics import dequantise
from model_packager.passes.calibrate import calibrate
from model_packager.passes.correct_bias import correct_bias
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.fuse_activations import fuse_activations
from model_packager.passes.quantise import SHARE_SCALE, quantise, quantise_model, scale_and_zero_point
from model_packager.reference import accumulator_bounds, run, run_all
from model_packager.sample_arrays import batches_for_inputs, quantised_batch

IMAGE = {"x": (1, 4, 6, 7)}
NORM = {
    "s": np.array([1.5, -0.7, 0.0, 2.0], np.float32),
    "o": random_floats(4, seed=4),
    "m": random_floats(4, seed=5),
    "v": np.abs(random_floats(4, seed=6)) + 0.1,
}
CONV = {"w": random_floats(4, 4, 3, 3), "b": random_floats(4, seed=2)}


def network(
    nodes: str, constants: dict[str, Any] | None = None, inputs: Any = IMAGE, **options: Any
) -> Model:
    return import_onnx(build(nodes, inputs, constants, **options))


def samples_of(model: Model, count: int = 16, seed: int = 3) -> list[Any]:
    return [
        random_floats(count, *model.tensors[port.tensor].shape[1:], seed=seed + place)
        for place, port in enumerate(model.inputs)
    ]


# --- folding and fusing -------------------------------------------------------------------------------------

FOLDED = {
    "conv": ("c = Conv<pads=[1,1,1,1]>(x, w, b) out = BatchNormalization(c, s, o, m, v)", CONV),
    "depthwise": (
        "c = Conv<group=4>(x, d) out = BatchNormalization(c, s, o, m, v)", {"d": random_floats(4, 1, 3, 3)}),
    "fully_connected": (
        "f = Flatten(x) g = Gemm(f, g_w) out = BatchNormalization(g, s, o, m, v)",
        {"g_w": random_floats(168, 4)}),
    "scale_then_offset": ("c = Conv(x, w) a = Mul(c, k) out = Add(a, k)",
                          {**CONV, "k": random_floats(4, 1, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_fold_batch_norm_of_a_layer_leaves_one_operator_and_the_same_outputs(name: str) -> None:
    nodes, constants = FOLDED[name]
    model = network(nodes, {**NORM, **constants})
    folded = fold_batch_norm(model)
    assert len(folded.operators) == 1 and len(model.operators) > 1
    samples = samples_of(model)
    np.testing.assert_allclose(run(folded, samples)[0], run(model, samples)[0], rtol=1e-4, atol=1e-4)


UNFOLDED = {
    "read_twice": "c = Conv(x, w) n = BatchNormalization(c, s, o, m, v) out = Add(n, c)",
    "behind_relu": "c = Conv(x, w) r = Relu(c) out = BatchNormalization(r, s, o, m, v)",
    "before_conv": "n = BatchNormalization(x, s, o, m, v) out = Conv<pads=[1,1,1,1]>(n, w)",
    "behind_add": "a = Add(x, x) out = BatchNormalization(a, s, o, m, v)",
}


@pytest.mark.parametrize("name", UNFOLDED)
def test_fold_batch_norm_where_it_would_change_outputs_keeps_the_scaling(name: str) -> None:
    model = fuse_activations(network(UNFOLDED[name], {**NORM, **CONV}))
    assert kinds(fold_batch_norm(model)) == kinds(model)


def test_fold_batch_norm_of_a_model_output_keeps_it() -> None:
    model = network(
        "c = Conv(x, w) out = BatchNormalization(c, s, o, m, v)", {**NORM, **CONV}, outputs=("c", "out")
    )
    assert kinds(fold_batch_norm(model)) == ["CONV_2D", "DEPTHWISE_CONV_2D"]


@pytest.mark.parametrize(
    ("nodes", "activation"),
    [
        ("c = Conv(x, w) out = Relu(c)", "relu"),
        ("c = Add(x, x) out = Clip<min=0.0, max=6.0>(c)", "relu6"),
        ("c = MaxPool<kernel_shape=[2,2]>(x) out = Clip<min=-1.0, max=1.0>(c)", "relu_n1_to_1"),
    ],
)
def test_fuse_activations_behind_an_operator_with_clamps_becomes_its_option(
    nodes: str, activation: str
) -> None:
    model = network(nodes, CONV, opset=10)
    fused = fuse_activations(model)
    assert [operator.options.get("activation") for operator in fused.operators] == [activation]
    samples = samples_of(model)
    np.testing.assert_array_equal(run(fused, samples)[0], run(model, samples)[0])


@pytest.mark.parametrize(
    "nodes",
    [
        "c = Conv(x, w) a = Relu(c) out = Add(a, c)",
        "c = Softmax(x) out = Relu(c)",
        "c = Conv(x, w) out = Sigmoid(c)",
    ],
)
def test_fuse_activations_that_cannot_be_clamps_stay(nodes: str) -> None:
    model = network(nodes, CONV)
    assert kinds(fuse_activations(model)) == kinds(model)


# --- calibration --------------------------------------------------------------------------------------------


def test_calibrate_minmax_gives_the_extremes_of_every_tensor() -> None:
    model = network("c = Conv(x, w) out = Relu(c)", CONV)
    samples = samples_of(model, 40)
    expected = [(float(values.min()), float(values.max())) for values in run_all(model, samples)]
    np.testing.assert_allclose(calibrate(model, samples), expected)


def test_calibrate_percentile_leaves_outliers_out() -> None:
    model = network("out = Relu(x)")
    samples = samples_of(model, 100)
    samples[0][0, 0, 0, 0] = 1000.0
    low, high = calibrate(model, samples, "percentile", 99.9)[0]
    assert -5 < low < -2 and 2 < high < 5
    assert calibrate(model, samples)[0][1] == 1000.0
    np.testing.assert_allclose(calibrate(model, samples, "percentile", 100.0), calibrate(model, samples))


def test_calibrate_constant_tensor_keeps_its_one_value() -> None:
    model = network("out = Clip(x, a, a)", {"a": np.float32(0.5)})
    assert calibrate(model, samples_of(model), "percentile")[1] == (0.5, 0.5)


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (np.zeros((2, 6, 7, 4), np.float32), {"method": "entropy"}, "no calibration method 'entropy'"),
        (np.zeros((2, 6, 7, 4), np.float32), {"percentile": 20.0}, "the calibration percentile is 20"),
        (np.zeros((0, 6, 7, 4), np.float32), {}, "empty or have different numbers"),
        (np.full((2, 6, 7, 4), np.inf, np.float32), {}, "tensor 'x' is not finite"),
    ],
)
def test_calibrate_unusable_samples_are_refused(samples: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        calibrate(network("out = Relu(x)"), [samples], **options)


# --- scales -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 6.0), (-1.0, 1.0), (-3.0, -1.0), (2.0, 5.0), (-0.001, 7.0), (0.0, 0.0), (-8.0, 0.0)],
)
def test_scale_and_zero_point_cover_the_range_and_hold_zero_exactly(low: float, high: float) -> None:
    scale, zero_point = scale_and_zero_point(low, high)
    assert -128 <= zero_point <= 127
    assert dequantise(np.array([zero_point], np.int8), scale, zero_point)[0] == 0
    for end in (min(low, 0), max(high, 0)):
        assert -128.51 <= end / scale + zero_point <= 127.51


@pytest.mark.parametrize("name", CASES)
def test_quantise_model_of_every_node_kind_stays_close_to_the_float_model(name: str) -> None:
    """The mean error is below 3 % of the outputs' spread; an output of many small probabilities, whose step
    is 1/256 whatever their size, is off by less than one step. The sign of what is nearer to 0 than half a
    step is no longer known."""
    nodes, inputs, constants, opset = CASES[name]
    data = build(nodes, inputs, constants, opset)
    model = import_onnx(data)
    arrays = sample_inputs(data, seed=20, count=48)
    quantised = quantise_model(model, batches_for_inputs(arrays, model))
    assert {tensor.dtype for tensor in quantised.tensors} == {DType.INT8}
    assert len(accumulator_bounds(quantised)) == len(quantised.operators)
    for real, ours, port in zip(
        imported_outputs(model, arrays), imported_outputs(quantised, arrays), quantised.outputs, strict=True
    ):
        error = ours - real
        if name == "Sign":
            error[np.abs(arrays["x"]) <= quantised.inputs[0].scale / 2] = 0
        assert np.sqrt(np.mean(error**2)) < 0.03 * real.std() or np.abs(error).max() < port.scale


def test_quantise_value_moving_operators_share_one_scale() -> None:
    """A concatenation of two convolutions, pooled and padded: one scale from end to end."""
    nodes = (
        "a = Conv(x, w) b = Conv(x, u) c = Concat<axis=1>(a, b) p = MaxPool<kernel_shape=[2,2]>(c) "
        "out = Pad(p, q, v)"
    )
    constants = {"w": random_floats(2, 4, 1, 1), "u": 9 * random_floats(2, 4, 1, 1, seed=8),
                 "q": np.array([0, 0, 1, 0, 0, 0, 0, 1]), "v": np.float32(-2.5)}  # fmt: skip
    model = network(nodes, constants)
    quantised = quantise_model(model, samples_of(model))
    for operator in quantised.operators:
        if operator.kind in SHARE_SCALE:
            tensors = [quantised.tensors[index] for index in (*operator.inputs, *operator.outputs)]
            assert len({(tensor.scale, tensor.zero_point) for tensor in tensors}) == 1
    pad = quantised.operators[-1]
    output = quantised.tensors[pad.outputs[0]]
    assert pad.attributes["value"] == round(-2.5 / output.scale) + output.zero_point
    assert "LOOKUP" not in kinds(quantised)


def test_quantise_joined_probabilities_are_requantised() -> None:
    """Softmax and tanh have fixed scales, so one side of their concatenation needs a table."""
    model = network("a = Softmax(f) b = Tanh(f) out = Concat<axis=1>(a, b)", inputs={"f": (1, 6)})
    quantised = quantise_model(model, samples_of(model))
    softmax = next(operator for operator in quantised.operators if operator.kind is OperatorKind.SOFTMAX)
    output = quantised.tensors[softmax.outputs[0]]
    assert (output.scale, output.zero_point) == (1 / 256, -128)
    samples = samples_of(model)
    batches = [quantised_batch(samples[0], quantised, quantised.inputs[0])]
    step = quantised.outputs[0].scale
    ours = dequantise(run(quantised, batches)[0], step, quantised.outputs[0].zero_point)
    assert np.abs(ours - run(model, samples)[0]).max() < 2.5 * step


def test_quantise_weights_are_symmetric_per_channel_and_biases_in_their_units() -> None:
    model = network("out = Conv(x, w, b)", {"w": random_floats(4, 4, 3, 3) * np.array([1, 10, 0, 1e-3],
                    np.float32).reshape(4, 1, 1, 1), "b": np.array([1, -2, 3, 0.5], np.float32)})  # fmt: skip
    quantised = quantise_model(model, samples_of(model), bias_correction=False)
    operator, before = quantised.operators[0], model.operators[0]
    assert operator.weights is not None and operator.weights.scales is not None and before.weights is not None
    assert np.abs(operator.weights.values.astype(int)).max(axis=1).tolist() == [127, 127, 0, 127]
    real = operator.weights.values * operator.weights.scales[:, np.newaxis]
    limit = operator.weights.scales / 2 + 1e-9
    assert np.all(np.abs(real - before.weights.values).max(axis=1) <= limit)
    unit = quantised.tensors[0].scale * operator.weights.scales
    assert operator.bias is not None
    np.testing.assert_allclose(operator.bias * unit, [1, -2, 3, 0.5], atol=float(unit.max()))


def test_quantise_bias_of_an_almost_empty_channel_stays_in_32_bits() -> None:
    weights = random_floats(2, 4, 1, 1)
    weights[1] *= 1e-9
    model = network("out = Conv(x, w, b)", {"w": weights, "b": np.array([0.5, 900], np.float32)})
    quantised = quantise_model(model, samples_of(model))
    accumulator_bounds(quantised)
    samples = samples_of(model)
    batch = quantised_batch(samples[0], quantised, quantised.inputs[0])
    port = quantised.outputs[0]
    ours = dequantise(run(quantised, [batch])[0], port.scale, port.zero_point)
    assert np.abs(ours - run(model, samples)[0]).max() < 2 * port.scale


def test_quantise_fused_activation_becomes_a_clamp() -> None:
    model = network("c = Conv(x, w) out = Clip<min=-1.0, max=1.0>(c)", CONV, opset=10)
    quantised = quantise_model(model, samples_of(model))
    port, attributes = quantised.outputs[0], quantised.operators[0].attributes
    clamps = np.array([attributes["clamp_min"], attributes["clamp_max"]], np.int8)
    np.testing.assert_allclose(dequantise(clamps, port.scale, port.zero_point), [-1, 1], atol=port.scale)
    assert [port.flags for port in quantised.inputs + quantised.outputs] == [PortFlag.FLOAT] * 2


def test_quantise_unknown_function_is_refused() -> None:
    model = network("out = Relu(x)")
    model.operators[0].options["function"] = "gamma"
    with pytest.raises(PackError, match="operator 'out' has the unknown function gamma"):
        quantise(model, [(0.0, 1.0)] * 2)


def test_quantise_leaves_the_float_model_unchanged() -> None:
    model = network("c = Conv(x, w, b) r = Relu(c) out = Sigmoid(r)", CONV)
    samples = samples_of(model)
    before = run(model, samples)[0]
    quantise_model(model, samples)
    np.testing.assert_array_equal(run(model, samples)[0], before)
    assert kinds(model) == ["CONV_2D", "LOOKUP", "LOOKUP"]


def test_correct_bias_takes_the_mean_error_of_coarse_weights_out() -> None:
    """Inputs of mean 1 make the error of weights rounded to multiples of 32 a shift, which biases undo."""
    model = network("out = Conv(x, w, b)", CONV)
    samples = [values + 1 for values in samples_of(model, 64)]
    exact = quantise_model(model, samples, bias_correction=False)
    coarse = quantise_model(model, samples, bias_correction=False)
    weights = coarse.operators[0].weights
    assert weights is not None
    weights.values = (np.round(weights.values / 32.0) * 32).clip(-127, 127).astype(np.int8)
    corrected = correct_bias(coarse, model, samples)
    batch = quantised_batch(samples[0], exact, exact.inputs[0])
    shift = {}
    for name, candidate in (("coarse", coarse), ("corrected", corrected)):
        output = run(candidate, [batch])[0].astype(np.float64)
        truth = run(model, samples)[0] / exact.outputs[0].scale + exact.outputs[0].zero_point
        shift[name] = float(np.abs((output - truth).mean(axis=(0, 1, 2))).max())
    assert shift["coarse"] > 2 and shift["corrected"] < 0.5


def test_correct_bias_of_unchanged_weights_changes_no_bias() -> None:
    model = network("out = Conv(x, w, b)", CONV)
    samples = samples_of(model)
    quantised = quantise_model(model, samples, bias_correction=False)
    same = correct_bias(quantised, quantised, [quantised_batch(samples[0], quantised, quantised.inputs[0])])
    assert same.operators[0].bias is not None and quantised.operators[0].bias is not None
    np.testing.assert_array_equal(same.operators[0].bias, quantised.operators[0].bias)


# --- accuracy of whole networks -----------------------------------------------------------------------------

METHODS = [{"method": "minmax"}, {"method": "percentile"}, {"bias_correction": False}]


def accuracy(model: Model, batch: Any, labels: Any) -> float:
    """Per cent of right answers; the batch is float, (N, *shape[1:])."""
    if not model.is_float:
        batch = quantised_batch(batch, model, model.inputs[0])
    scores = run(model, [batch])[0].reshape(len(labels), -1)
    return 100 * float(np.mean(scores.argmax(axis=1) == labels))


def require_small_loss(model: Model, calibration: Any, batch: Any, labels: Any, least: float) -> None:
    """With every method the quantised model loses half a point at most; the float one has `least` or more."""
    before = accuracy(model, batch, labels)
    assert before >= least
    for options in METHODS:
        quantised = quantise_model(model, [calibration], **options)  # type: ignore[arg-type]
        assert accuracy(quantised, batch, labels) >= before - 0.5


def test_quantise_model_of_the_digit_network_loses_half_a_point_at_most() -> None:
    require_module("sklearn")
    from examples.digits.dataset import load_split

    train, _, images, labels = load_split()
    model = import_onnx(REPOSITORY / "examples" / "digits" / "digits.onnx")
    calibration, batch = (batches_for_inputs({"": part}, model)[0] for part in (train[:300], images))
    require_small_loss(model, calibration, batch, labels, least=98.8)


def test_quantise_model_of_lenet_300_100_loses_half_a_point_at_most(data_dir: Path) -> None:
    def mnist(part: str, kind: str, offset: int) -> Any:
        with gzip.open(data_dir / "mnist" / f"{part}-{kind}-ubyte.gz") as stream:
            return np.frombuffer(stream.read(), np.uint8, offset=offset)

    images = mnist("t10k", "images-idx3", 16).reshape(-1, 784).astype(np.float32) / 255
    train = mnist("train", "images-idx3", 16).reshape(-1, 784)[:500].astype(np.float32) / 255
    model = import_onnx(REPOSITORY / "examples" / "lenet300" / "lenet300.onnx")
    require_small_loss(model, train, images, mnist("t10k", "labels-idx1", 8), least=99.0)


@pytest.mark.slow
def test_quantise_model_of_the_keyword_network_loses_half_a_point_at_most(data_dir: Path) -> None:
    """Calibrated on 300 of the 1000 feature maps that are judged; the features come dequantised."""
    folder = data_dir / "mlperf_tiny"
    features = np.load(folder / "kws01" / "features_int8.npy").reshape(-1, 49, 10, 1)
    batch = dequantise(features, 0.5847029, 83)
    labels = np.load(folder / "kws01" / "labels.npy")
    model = import_tflite(folder / "models" / "kws_ref_model_fp32.tflite")
    require_small_loss(model, batch[::3][:300], batch, labels, least=90.0)


def test_quantise_model_of_the_anomaly_detector_keeps_its_scores(data_dir: Path) -> None:
    """The score is the mean squared error of the reconstruction: one file, calibrated on a quarter of it."""
    folder = data_dir / "mlperf_tiny"
    spectrogram = np.fromfile(folder / "ad" / "normal_id_01_00000000_hist_librosa.bin", np.float32)
    frames = spectrogram.reshape(-1, 128)
    windows = np.stack([frames[i : i + 5].reshape(-1) for i in range(len(frames) - 4)])
    model = import_tflite(folder / "models" / "ad01_fp32.tflite")
    quantised = quantise_model(model, [windows[::4]])
    port = quantised.outputs[0]
    batch = quantised_batch(windows, quantised, quantised.inputs[0])
    ours = dequantise(run(quantised, [batch])[0], port.scale, port.zero_point)
    score, ours_score = (
        float(np.mean((windows - output.reshape(windows.shape)) ** 2))
        for output in (run(model, [windows])[0], ours)
    )
    assert abs(ours_score - score) < 0.02 * score


def test_quantise_model_of_the_person_detector_gives_the_same_classes(data_dir: Path) -> None:
    """The data folder has no photographs: only agreement with the float model on random images is shown."""
    model = import_tflite(data_dir / "mlperf_tiny" / "models" / "vww_96_fp32.tflite")
    images = np.random.default_rng(11).random((12, 96, 96, 3), dtype=np.float32)
    quantised = quantise_model(model, [images[:6]])
    port = quantised.outputs[0]
    ours = run(quantised, [quantised_batch(images, quantised, quantised.inputs[0])])[0]
    difference = dequantise(ours, port.scale, port.zero_point) - run(model, [images])[0]
    assert np.abs(difference).max() < 0.02
