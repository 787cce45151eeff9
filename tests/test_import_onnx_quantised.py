"""QDQ ONNX models: integer models within one step of onnxruntime, and refusals of what is not quantised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, require_module
from onnx import TensorProto
from onnx_models import (
    build,
    imported_outputs,
    kinds,
    original_outputs,
    random_floats,
    sample_inputs,
)  # fmt: skip

from model_packager.errors import ImportRefused
from model_packager.format_table import DType, PortFlag
from model_packager.importers.onnx import import_onnx
from model_packager.model import Model
from model_packager.pack import pack
from model_packager.passes.quantise import quantise_rows, scale_and_zero_point

SAMPLES = 8
GRAPHS = sorted((REPOSITORY / "tests" / "data").glob("*.onnx"))
IMAGE = (1, 4, 6, 7)
INPUTS = {"x": (1.5, 0.4), "y": (0.8, -0.1)}  # half width and middle of the calibrated range
PREFIX = {
    np.int8: "q{0} = QuantizeLinear({0}, s{0}, z{0}) d{0} = DequantizeLinear(q{0}, s{0}, z{0}) ",
    np.uint8: "q{0} = QuantizeLinear({0}, s{0}, z{0}) d{0} = DequantizeLinear(q{0}, s{0}, z{0}) ",
}


def int8_weights(name: str, matrix: Any, axis: int | None = 0) -> dict[str, Any]:
    """Constants `name`_q, `name`_s and `name`_z of weights: a scale for each slice of `axis`, or one."""
    if axis is None:
        values, scales = quantise_rows(matrix.reshape(1, -1))
        return {f"{name}_q": values.reshape(matrix.shape), f"{name}_s": np.float32(scales[0]),
                f"{name}_z": np.int8(0)}  # fmt: skip
    rows = np.moveaxis(matrix, axis, 0)
    values, scales = quantise_rows(rows.reshape(len(rows), -1))
    restored = np.ascontiguousarray(np.moveaxis(values.reshape(rows.shape), 0, axis))
    zeros = np.zeros(len(scales), np.int8)
    return {f"{name}_q": restored, f"{name}_s": scales.astype(np.float32), f"{name}_z": zeros}


WEIGHTS = "w = DequantizeLinear<axis={}>(w_q, w_s, w_z) "
# Name: (nodes between `dx` (and `dy`) and `o`, constants).
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Conv_per_channel": (WEIGHTS.format(0) + "o = Conv<pads=[1,1,0,0]>(dx, w)",
                         int8_weights("w", random_floats(8, 4, 3, 3))),
    "Conv_per_tensor_relu": (WEIGHTS.format(0) + "c = Conv(dx, w) o = Relu(c)",
                             int8_weights("w", random_floats(8, 4, 3, 3), None)),
    "Conv_depthwise": (WEIGHTS.format(0) + "o = Conv<group=4, strides=[2,2]>(dx, w)",
                       int8_weights("w", random_floats(4, 1, 3, 3))),
    "Conv_int32_bias": (
        WEIGHTS.format(0) + "b = DequantizeLinear<axis=0>(b_q, b_s, b_z) o = Conv(dx, w, b)",
        {**int8_weights("w", random_floats(3, 4, 1, 1)), "b_q": np.array([20000, -500, 7], np.int32),
         "b_s": np.full(3, 1e-4, np.float32), "b_z": np.zeros(3, np.int32)}),
    "Conv_float_bias": (WEIGHTS.format(0) + "o = Conv(dx, w, b)",
                        {**int8_weights("w", random_floats(3, 4, 1, 1)), "b": random_floats(3)}),
    "Gemm": (WEIGHTS.format(0) + "f = Flatten(dx) o = Gemm<transB=1>(f, w)",
             int8_weights("w", random_floats(5, 168))),
    "MatMul_Add": (WEIGHTS.format(1) + "f = Flatten(dx) m = MatMul(f, w) o = Add(m, b)",
                   {**int8_weights("w", random_floats(168, 5), 1), "b": random_floats(5)}),
    "MatMul_transposed_weights": (
        WEIGHTS.format(0) + "t = Transpose<perm=[1,0]>(w) f = Flatten(dx) o = MatMul(f, t)",
        int8_weights("w", random_floats(5, 168))),
    "Conv_weights_quantised_in_the_graph": (
        "q = QuantizeLinear<axis=0>(w_f, w_s, w_z) w = DequantizeLinear<axis=0>(q, w_s, w_z) o = Conv(dx, w)",
        {"w_f": random_floats(8, 4, 1, 1), **int8_weights("w", random_floats(8, 4, 1, 1))}),
    "Add": ("o = Add(dx, dy)", {}),
    "Add_relu": ("a = Add(dx, dy) o = Relu(a)", {}),
    "Sub": ("o = Sub(dx, dy)", {}),
    "Mul": ("o = Mul(dx, dy)", {}),
    "Mul_constant": ("o = Mul(dx, c)", {"c": random_floats(4, 1, 1)}),
    "Add_constant": ("o = Add(dx, c)", {"c": np.float32(0.7)}),
    "MaxPool": ("o = MaxPool<kernel_shape=[2,2], strides=[2,2]>(dx)", {}),
    "AveragePool": ("o = AveragePool<kernel_shape=[2,3]>(dx)", {}),
    "AveragePool_padded": ("o = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(dx)", {}),
    "GlobalAveragePool": ("o = GlobalAveragePool(dx)", {}),
    "Concat_two_scales": ("o = Concat<axis=1>(dx, dy)", {}),
    "Sigmoid": ("o = Sigmoid(dx)", {}),
    "Tanh": ("o = Tanh(dx)", {}),
    "HardSwish": ("o = HardSwish(dx)", {}),
    "LeakyRelu": ("o = LeakyRelu<alpha=0.1>(dx)", {}),
    "Clip": ("o = Clip(dx, a, b)", {"a": np.float32(-0.3), "b": np.float32(0.9)}),
    "Softmax": ("o = Softmax<axis=1>(dx)", {}),
    "Pad": ("o = Pad(dx, p, v)", {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "v": np.float32(0.5)}),
    "Resize": ('o = Resize<mode="nearest">(dx, , s)', {"s": np.array([1, 1, 2, 2], np.float32)}),
    "Transpose": ("o = Transpose<perm=[0,3,1,2]>(dx)", {}),
    "Slice_Reshape": ("s = Slice(dx, a, b, c) o = Reshape(s, n)",
                      {"a": np.array([1]), "b": np.array([3]), "c": np.array([1]), "n": np.array([1, -1])}),
}  # fmt: skip


def quantised_model(nodes: str, constants: dict[str, Any], dtype: Any = np.int8) -> tuple[bytes, float]:
    """A QDQ model around `nodes`, and the scale of its output, calibrated on the samples of the tests."""
    names = ["x"] + (["y"] if "dy" in nodes else [])
    shift = 128 if dtype is np.uint8 else 0
    constants = dict(constants)
    inputs = dict.fromkeys(names, IMAGE)
    plain = build(" ".join(f"d{name} = Identity({name})" for name in names) + " " + nodes, inputs, constants,
                  outputs=("o",))  # fmt: skip
    values = original_outputs(plain, sample_inputs(plain, count=SAMPLES))[0]
    ranges = {name: (INPUTS[name][1] - INPUTS[name][0], sum(INPUTS[name])) for name in names}
    ranges["o"] = (float(values.min()) * 0.9, float(values.max()) * 0.9)
    body = ""
    for name, (low, high) in ranges.items():
        scale, zero_point = scale_and_zero_point(low, high)
        constants |= {f"s{name}": np.float32(scale), f"z{name}": dtype(zero_point + shift)}
    for name in names:
        body += PREFIX[dtype].format(name)
    body += nodes + " qo = QuantizeLinear(o, so, zo) out = DequantizeLinear(qo, so, zo)"
    return build(body, inputs, constants), float(constants["so"])


def steps_between(data: bytes, scale: float) -> tuple[Model, float]:
    """The imported model, and the largest difference from onnxruntime in steps of the output."""
    model = import_onnx(data)
    inputs = sample_inputs(data, count=SAMPLES)
    ours, theirs = imported_outputs(model, inputs)[0], original_outputs(data, inputs)[0]
    return model, float(np.abs(ours.reshape(theirs.shape) - theirs).max() / scale)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("name", CASES)
def test_import_onnx_quantised_node_is_within_one_step_of_onnxruntime(name: str, dtype: Any) -> None:
    model, steps = steps_between(*quantised_model(*CASES[name], dtype))
    assert not model.is_float
    assert steps < 1.01


def test_import_onnx_quantised_convolution_keeps_weights_and_scales() -> None:
    nodes, constants = CASES["Conv_per_channel"]
    model = import_onnx(quantised_model(nodes, constants)[0])
    assert kinds(model) == ["CONV_2D"]
    weights = model.operators[0].weights
    assert weights is not None and weights.scales is not None
    expected = np.moveaxis(constants["w_q"], 1, -1).reshape(8, -1)
    np.testing.assert_array_equal(weights.values, expected)
    np.testing.assert_array_equal(weights.scales, constants["w_s"].astype(np.float64))


def test_import_onnx_quantised_bias_keeps_every_bit() -> None:
    """An int32 bias beyond float32's 24 bits, in units of input scale times weight scale."""
    constants = {
        "w_q": np.ones((1, 4, 1, 1), np.int8), "w_s": np.float32(0.5), "w_z": np.int8(0),
        "sx": np.float32(0.25), "zx": np.int8(3), "b_q": np.array([123_456_789], np.int32),
        "b_s": np.float32(0.125), "b_z": np.int32(0), "so": np.float32(1e6), "zo": np.int8(0),
    }  # fmt: skip
    nodes = (
        PREFIX[np.int8].format("x") + WEIGHTS.format(0) + "b = DequantizeLinear(b_q, b_s, b_z) "
        "o = Conv(dx, w, b) qo = QuantizeLinear(o, so, zo) out = DequantizeLinear(qo, so, zo)"
    )
    model = import_onnx(build(nodes, {"x": IMAGE}, constants))
    assert model.operators[0].bias is not None
    assert model.operators[0].bias.tolist() == [123_456_789]


def test_import_onnx_quantised_relu_between_is_a_clamp() -> None:
    model, _ = steps_between(*quantised_model(*CASES["Conv_per_tensor_relu"]))
    assert kinds(model) == ["CONV_2D"]
    assert model.operators[0].attributes["clamp_min"] == model.outputs[0].zero_point


def test_import_onnx_quantised_ports_are_float_or_integers_as_in_the_original() -> None:
    data, _ = quantised_model(*CASES["Add"])
    model = import_onnx(data)
    assert [port.flags for port in model.inputs + model.outputs] == [PortFlag.FLOAT] * 3
    assert {tensor.dtype for tensor in model.tensors} == {DType.INT8}
    nodes = PREFIX[np.int8].format("x") + "r = Relu(dx) out = QuantizeLinear(r, sx, zx)"
    scales = {"sx": np.float32(0.1), "zx": np.int8(-5)}
    integer = import_onnx(build(nodes, {"x": IMAGE}, scales, output_type=TensorProto.INT8))
    assert [port.flags for port in integer.outputs] == [PortFlag(0)]


REFUSALS = {
    "float_between": ("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) m = Mul(d, d) a = Add(m, d) "
                      "p = QuantizeLinear(a, s, z) out = DequantizeLinear(p, s, z)",
                      "the output 'm' of MUL 'm' is not quantised: no QuantizeLinear follows it"),
    "per_channel_activation": (
        "q = QuantizeLinear<axis=1>(x, c, k) out = DequantizeLinear<axis=1>(q, c, k)", "a scale per channel"),
    "other_scale": ("q = QuantizeLinear(x, s, z) out = DequantizeLinear(q, t, z)",
                    "was quantised with scale"),
    "negative_scale": ("q = QuantizeLinear(x, n, z) out = DequantizeLinear(q, n, z)",
                       "scale is not positive"),
    "weights_along_columns": (
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
        "w = DequantizeLinear<axis=1>(w_q, w_s, w_z) o = Conv(d, w) p = QuantizeLinear(o, s, z) "
        "out = DequantizeLinear(p, s, z)",
        "scales along axis 1, not 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_import_onnx_quantised_unsupported_model_is_refused(name: str) -> None:
    nodes, expected = REFUSALS[name]
    constants = {
        "s": np.float32(0.1), "t": np.float32(0.2), "n": np.float32(-1), "z": np.int8(0),
        "c": np.full(4, 0.1, np.float32), "k": np.zeros(4, np.int8),
        **int8_weights("w", random_floats(8, 4, 1, 1), 1),
    }  # fmt: skip
    with pytest.raises(ImportRefused) as caught:
        import_onnx(build(nodes, {"x": IMAGE}, constants))
    assert expected in str(caught.value)


# --- what onnxruntime's own quantiser writes ----------------------------------------------------------------


class _Reader:
    """Calibration samples as onnxruntime.quantization asks for them."""

    def __init__(self, name: str, samples: Any) -> None:
        self._rows = iter([{name: samples[i : i + 1]} for i in range(len(samples))])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._rows, None)


def quantise_with_onnxruntime(source: Path, target: Path, name: str, samples: Any, **options: Any) -> None:
    quantization = require_module("onnxruntime.quantization")
    quantization.quantize_static(
        str(source), str(target), _Reader(name, samples), weight_type=quantization.QuantType.QInt8,
        quant_format=quantization.QuantFormat.QDQ, **options,
    )  # fmt: skip


@pytest.mark.parametrize("source", GRAPHS, ids=lambda path: path.stem)
def test_import_onnx_structure_quantised_by_onnxruntime_is_within_one_step(
    tmp_path: Path, source: Path
) -> None:
    """Whole networks, packed: every layer rounds as the QDQ nodes say, but for values on a rounding edge."""
    target = tmp_path / source.name
    samples = sample_inputs(source.read_bytes(), seed=50, count=32)["x"]
    quantise_with_onnxruntime(source, target, "x", samples, per_channel=True)
    model = pack(target).model
    inputs = sample_inputs(source.read_bytes(), seed=80, count=16)
    ours = imported_outputs(model, inputs)[0]
    theirs = original_outputs(target.read_bytes(), inputs)[0].reshape(ours.shape)
    assert np.abs(ours - theirs).max() < 2.01 * model.outputs[0].scale
    assert np.abs(ours - theirs).mean() < 0.3 * model.outputs[0].scale


@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_import_onnx_digits_quantised_by_onnxruntime_keep_their_accuracy(
    tmp_path: Path, activations: str, per_channel: bool
) -> None:
    """The two round differently layer by layer, so a digit on the edge may change its class: one of 360."""
    require_module("sklearn")
    quantization = require_module("onnxruntime.quantization")
    from examples.digits.dataset import load_split

    train_images, _, images, labels = load_split()
    target = tmp_path / "digits_qdq.onnx"
    quantise_with_onnxruntime(
        REPOSITORY / "examples" / "digits" / "digits.onnx", target, "pixels", train_images[:100],
        per_channel=per_channel, activation_type=getattr(quantization.QuantType, activations),
    )  # fmt: skip
    model = pack(target).model
    ours = imported_outputs(model, {"pixels": images})[0].reshape(len(images), -1)
    theirs = original_outputs(target.read_bytes(), {"pixels": images})[0].reshape(len(images), -1)
    assert np.abs(ours - theirs).mean() < 0.3 * model.outputs[0].scale
    assert np.mean(ours.argmax(1) == labels) > np.mean(theirs.argmax(1) == labels) - 0.003
