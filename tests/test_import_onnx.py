"""The ONNX importer: every node kind against onnxruntime, layouts, refusals and damaged files."""

from __future__ import annotations

import builtins
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from onnx_models import build, compare, kinds, random_floats

from model_packager.errors import ImportRefused, UsageError
from model_packager.format_table import DType, PortFlag
from model_packager.importers.onnx import CONVERTERS, import_onnx
from model_packager.sample_arrays import has_channels_first

IMAGE = {"x": (1, 4, 6, 7)}
TWO_IMAGES = {"x": (1, 4, 6, 7), "y": (1, 4, 6, 7)}
ROW = {"x": (1, 12)}
SEQUENCE = {"x": (1, 4, 9)}
CONV = {"w": random_floats(8, 4, 3, 3), "b": random_floats(8, seed=2)}
POINT = {"w": random_floats(6, 4, 1, 1)}
NORM = {
    "s": random_floats(4, seed=3),
    "o": random_floats(4, seed=4),
    "m": random_floats(4, seed=5),
    "v": np.abs(random_floats(4, seed=6)) + 0.1,
}


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


# Name: (nodes, inputs, constants, operator set). What the importer makes must compute what onnxruntime does.
CASES: dict[str, tuple[str, dict[str, tuple[Any, ...]], dict[str, Any], int]] = {
    "Conv": ("out = Conv(x, w, b)", IMAGE, CONV, 17),
    "Conv_four_pads": ("out = Conv<pads=[1,2,0,1], strides=[2,1]>(x, w)", IMAGE, {"w": CONV["w"]}, 9),
    "Conv_same_upper": ('out = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w, b)', IMAGE, CONV, 21),
    "Conv_same_lower": ('out = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w, b)', IMAGE, CONV, 11),
    "Conv_valid": ('out = Conv<auto_pad="VALID">(x, w, b)', IMAGE, CONV, 13),
    "Conv_dilated": ("out = Conv<dilations=[2,1], pads=[2,1,2,1]>(x, w, b)", IMAGE, CONV, 17),
    "Conv_grouped": ("out = Conv<group=2>(x, w)", IMAGE, {"w": random_floats(6, 2, 3, 3)}, 17),
    "Conv_depthwise": ("out = Conv<group=4, pads=[1,1,1,1]>(x, w)", IMAGE,
                       {"w": random_floats(4, 1, 3, 3)}, 17),
    "Conv_depthwise_multiplier": ("out = Conv<group=4>(x, w)", IMAGE, {"w": random_floats(8, 1, 3, 2)}, 17),
    "Conv_1d": ("out = Conv<pads=[1,1]>(x, w)", SEQUENCE, {"w": random_floats(5, 4, 3)}, 17),
    "Conv_1d_pooled": (
        "c = Conv<strides=[2]>(x, w) p = MaxPool<kernel_shape=[2]>(c) f = Flatten(p) "
        "out = Gemm<transB=1>(f, g)",
        SEQUENCE, {"w": random_floats(5, 4, 3), "g": random_floats(3, 15)}, 17),
    "Gemm": ("out = Gemm<transB=1>(x, w, b)", ROW, {"w": random_floats(5, 12), "b": random_floats(5)}, 17),
    "Gemm_alpha_beta": (
        "out = Gemm<alpha=0.5, beta=2.0>(x, w, b)", ROW,
        {"w": random_floats(12, 5), "b": random_floats(1, 5)}, 9),
    "Gemm_after_flatten": (
        "f = Flatten(x) out = Gemm<transB=1>(f, w)", IMAGE, {"w": random_floats(3, 4 * 6 * 7)}, 17),
    "Gemm_after_reshape_relu": (
        "c = Conv(x, w, b) f = Reshape(c, n) r = Relu(f) out = Gemm(r, g)", IMAGE,
        {**CONV, "n": ints(1, -1), "g": random_floats(8 * 4 * 5, 3)}, 17),
    "MatMul_Add": (
        "m = MatMul(x, w) out = Add(m, b)", ROW, {"w": random_floats(12, 5), "b": random_floats(5)}, 17),
    "MatMul_rows": (
        "m = MatMul(x, w) out = Add(b, m)", {"x": (1, 6, 12)},
        {"w": random_floats(12, 5), "b": random_floats(5)}, 17),
    "BatchNormalization": ("out = BatchNormalization<epsilon=0.01>(x, s, o, m, v)", IMAGE, NORM, 15),
    "BatchNormalization_after_Conv": (
        "c = Conv(x, w) out = BatchNormalization(c, s, o, m, v)", IMAGE,
        {"w": random_floats(4, 4, 2, 2), **NORM}, 9),
    "BatchNormalization_row": ("out = BatchNormalization(x, s, o, m, v)", {"x": (1, 4)}, NORM, 17),
    "BatchNormalization_flattened": (
        "f = Flatten(x) out = BatchNormalization(f, s, o, m, v)", {"x": (1, 2, 1, 2)}, NORM, 17),
    "Relu": ("out = Relu(x)", IMAGE, {}, 17),
    "Clip_attributes": ("out = Clip<min=0.0, max=6.0>(x)", IMAGE, {}, 9),
    "Clip_inputs": ("out = Clip(x, a, b)", IMAGE, {"a": np.float32(-0.5), "b": np.float32(0.25)}, 13),
    "Clip_one_side": ("out = Clip(x, a)", IMAGE, {"a": np.float32(0.1)}, 13),
    "LeakyRelu": ("out = LeakyRelu<alpha=0.2>(x)", IMAGE, {}, 17),
    "PRelu": ("out = PRelu(x, a)", IMAGE, {"a": np.full((4, 1, 1), 0.3, np.float32)}, 17),
    "HardSwish": ("out = HardSwish(x)", IMAGE, {}, 17),
    "HardSigmoid": ("out = HardSigmoid<alpha=0.3, beta=0.4>(x)", IMAGE, {}, 17),
    "Sigmoid": ("out = Sigmoid(x)", IMAGE, {}, 17),
    "Sign": ("out = Sign(x)", ROW, {}, 17),
    "Tanh": ("out = Tanh(x)", ROW, {}, 17),
    "Softmax": ("out = Softmax(x)", ROW, {}, 13),
    "Softmax_channels": ("out = Softmax<axis=1>(x)", IMAGE, {}, 13),
    "Softmax_old_flattens": ("out = Softmax(x)", IMAGE, {}, 9),
    "MaxPool": ("out = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]>(x)", IMAGE, {}, 12),
    "MaxPool_ceil": ("out = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", IMAGE, {}, 12),
    "AveragePool": ("out = AveragePool<kernel_shape=[2,3], pads=[1,1,0,1]>(x)", IMAGE, {}, 17),
    "AveragePool_include_pad": (
        "out = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)", IMAGE, {}, 17),
    "AveragePool_same": ('out = AveragePool<kernel_shape=[3,3], auto_pad="SAME_UPPER">(x)', IMAGE, {}, 17),
    "AveragePool_1d": ("out = AveragePool<kernel_shape=[3], strides=[2]>(x)", SEQUENCE, {}, 17),
    "GlobalAveragePool": ("out = GlobalAveragePool(x)", IMAGE, {}, 17),
    "GlobalMaxPool": ("out = GlobalMaxPool(x)", IMAGE, {}, 17),
    "ReduceMean": ("out = ReduceMean<axes=[2,3], keepdims=0>(x)", IMAGE, {}, 13),
    "ReduceMean_input_axes": ("out = ReduceMean(x, a)", IMAGE, {"a": ints(-1, -2)}, 18),
    "ReduceMean_channels": ("out = ReduceMean<axes=[1]>(x)", IMAGE, {}, 13),
    "Add": ("out = Add(x, y)", TWO_IMAGES, {}, 17),
    "Sub": ("out = Sub(x, y)", TWO_IMAGES, {}, 17),
    "Mul": ("out = Mul(x, y)", TWO_IMAGES, {}, 17),
    "Max": ("out = Max(x, y)", TWO_IMAGES, {}, 17),
    "Min": ("out = Min(x, y)", TWO_IMAGES, {}, 17),
    "Mul_broadcast_gate": (
        "p = GlobalAveragePool(x) s = Sigmoid(p) out = Mul(x, s)", IMAGE, {}, 17),
    "Add_broadcast_ranks": ("r = Reshape(y, n) out = Add(x, r)", {"x": (1, 4, 6, 7), "y": (1, 4)},
                            {"n": ints(4, 1, 1)}, 17),
    "Add_channels": ("out = Add(x, c)", IMAGE, {"c": random_floats(1, 4, 1, 1)}, 17),
    "Add_rows": ("out = Add(x, c)", IMAGE, {"c": random_floats(6, 1)}, 17),
    "Add_every_element": ("out = Add(x, c)", IMAGE, {"c": random_floats(1, 4, 6, 7)}, 17),
    "Sub_constant_first": ("out = Sub(c, x)", IMAGE, {"c": random_floats(4, 1, 1)}, 17),
    "Sub_constant": ("out = Sub(x, c)", IMAGE, {"c": np.float32(0.3)}, 17),
    "Mul_scalar": ("out = Mul(c, x)", ROW, {"c": np.float32(-1.7)}, 17),
    "Div_constant": ("out = Div(x, c)", IMAGE, {"c": random_floats(4, 1, 1)}, 17),
    "Max_constant": ("out = Max(x, c)", IMAGE, {"c": np.float32(0.2)}, 17),
    "Min_constant": ("out = Min(x, c)", IMAGE, {"c": np.float32(0.2)}, 17),
    "Concat_channels": ("r = Relu(x) out = Concat<axis=1>(x, y, r)", TWO_IMAGES, {}, 17),
    "Concat_width": ("out = Concat<axis=-1>(x, y)", TWO_IMAGES, {}, 17),
    "Concat_flattened": (
        "a = Flatten(x) b = Flatten(y) c = Concat<axis=1>(a, b) out = Gemm(c, w)", TWO_IMAGES,
        {"w": random_floats(336, 3)}, 17),
    "Pad_attributes": ('out = Pad<mode="constant", pads=[0,0,1,2,0,0,3,0], value=0.5>(x)', IMAGE, {}, 9),
    "Pad_inputs": ("out = Pad(x, p, v)", IMAGE, {"p": ints(0, 1, 0, 2, 0, 0, 1, 0), "v": np.float32(-1)}, 13),
    "Pad_axes": ("out = Pad(x, p, v, a)", IMAGE,
                 {"p": ints(1, 2), "v": np.float32(0), "a": ints(-1)}, 18),
    "Identity_Dropout": ("i = Identity(x) d = Dropout(i) out = Relu(d)", IMAGE, {}, 17),
    "Flatten_output": ("c = Conv(x, w, b) out = Flatten(c)", IMAGE, CONV, 17),
    "Squeeze_Unsqueeze": (
        "p = GlobalAveragePool(x) s = Squeeze(p, a) r = Relu(s) out = Unsqueeze(r, u)", IMAGE,
        {"a": ints(2, 3), "u": ints(1)}, 17),
    "Squeeze_attributes": (
        "p = GlobalAveragePool(x) s = Squeeze<axes=[2,3]>(p) out = Unsqueeze<axes=[2]>(s)", IMAGE, {}, 11),
    "Transpose": ("r = Relu(x) out = Transpose<perm=[0,3,2,1]>(r)", IMAGE, {}, 17),
    "Transpose_undone": (
        "a = Transpose<perm=[0,2,3,1]>(x) r = Relu(a) b = Transpose<perm=[0,3,1,2]>(r) out = Conv(b, w)",
        IMAGE, POINT, 17),
    "Transpose_reshape": (
        "t = Transpose<perm=[0,2,3,1]>(x) f = Reshape(t, n) out = Gemm(f, w)", IMAGE,
        {"n": ints(1, 168), "w": random_floats(168, 3)}, 17),
    "channel_shuffle": (
        "r = Reshape(x, a) t = Transpose<perm=[0,2,1,3,4]>(r) s = Reshape(t, b) out = Conv(s, w)", IMAGE,
        {"a": ints(1, 2, 2, 6, 7), "b": ints(1, -1, 6, 7), **POINT}, 17),
    "reshape_across_axes": (
        "r = Reshape(x, a) out = Conv(r, w)", IMAGE, {"a": ints(1, 4, 14, 3), **POINT}, 17),
    "reshape_cuts_channels": (
        "c = Conv(x, w) r = Reshape(c, a) t = Relu(r) out = Transpose<perm=[0,2,1]>(t)", IMAGE,
        {**POINT, "a": ints(1, 9, 28)}, 17),
    "Split": ("a, b = Split<axis=1>(x) s = Sigmoid(b) out = Mul(a, s)", IMAGE, {}, 13),
    "Split_sizes": ("a, b = Split<axis=1>(x, n) out = Concat<axis=1>(b, a)", IMAGE, {"n": ints(1, 3)}, 13),
    "Split_attribute": ("a, b = Split<axis=3, split=[2,5]>(x) out = Relu(b)", IMAGE, {}, 11),
    "Slice": (
        "out = Slice(x, a, b, c, d)", IMAGE,
        {"a": ints(1, -5), "b": ints(4, 1000), "c": ints(1, 3), "d": ints(2, 2)}, 13),
    "Slice_attributes": ("out = Slice<starts=[1], ends=[-1], axes=[2]>(x)", IMAGE, {}, 9),
    "Gather_one": ("out = Gather<axis=2>(x, i)", IMAGE, {"i": np.array(3, np.int64)}, 17),
    "Resize_scales": (
        'out = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">'
        "(x, , s)", IMAGE, {"s": np.array([1, 1, 2, 3], np.float32)}, 13),
    "Resize_sizes": ('out = Resize<mode="nearest">(x, , , n)', IMAGE, {"n": ints(1, 4, 12, 14)}, 13),
    "Resize_half_pixel": (
        'out = Resize<coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil">'
        "(x, , s)", IMAGE,
        {"s": np.array([1, 1, 1.5, 2], np.float32)}, 19),
    "Resize_old": ('out = Resize<mode="nearest">(x, s)', IMAGE,
                   {"s": np.array([1, 1, 2, 2], np.float32)}, 10),
    "Upsample": ('out = Upsample<mode="nearest">(x, s)', IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}, 9),
    "shape_arithmetic": (
        "s = Shape(x) b = Gather(s, zero) u = Unsqueeze(b, axes) n = Concat<axis=0>(u, rest) "
        "out = Reshape(x, n)", {"x": ("batch", 4, 6, 7)},
        {"zero": np.array(0, np.int64), "axes": ints(0), "rest": ints(-1)}, 17),
    "Constant_node": ("c = Constant<value_float=0.5>() out = Add(x, c)", IMAGE, {}, 17),
    "folded_constants": (
        "t = Transpose<perm=[1,0]>(w) m = Mul(t, two) out = MatMul(x, m)", ROW,
        {"w": random_floats(5, 12), "two": np.float32(2)}, 17),
    "two_uses": ("a = Relu(x) b = Conv(a, w) c = Conv(a, w) d = Add(b, c) out = Flatten(d)", IMAGE,
                 POINT, 17),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_import_onnx_node_computes_as_onnxruntime(name: str) -> None:
    nodes, inputs, constants, opset = CASES[name]
    compare(build(nodes, inputs, constants, opset))


def test_import_onnx_cases_cover_every_converter() -> None:
    """QuantizeLinear and DequantizeLinear are in test_import_onnx_quantised.py."""
    text = " ".join(nodes for nodes, *_ in CASES.values())
    missing = [kind for kind in CONVERTERS if f" {kind}(" not in text and f" {kind}<" not in text]
    assert missing == ["DequantizeLinear", "QuantizeLinear"]


# --- layouts ------------------------------------------------------------------------------------------------


def test_import_onnx_channel_shuffle_is_one_transpose() -> None:
    nodes, inputs, constants, opset = CASES["channel_shuffle"]
    model = import_onnx(build(nodes, inputs, constants, opset))
    assert kinds(model) == ["RESHAPE", "TRANSPOSE", "RESHAPE", "CONV_2D"]
    assert [tensor.shape for tensor in model.tensors][1:3] == [(1, 42, 2, 2), (1, 42, 2, 2)]


def test_import_onnx_transposes_that_undo_each_other_vanish() -> None:
    nodes, inputs, constants, opset = CASES["Transpose_undone"]
    assert kinds(import_onnx(build(nodes, inputs, constants, opset))) == ["LOOKUP", "CONV_2D"]


def test_import_onnx_gemm_after_flatten_adds_no_operator() -> None:
    nodes, inputs, constants, opset = CASES["Gemm_after_flatten"]
    assert kinds(import_onnx(build(nodes, inputs, constants, opset))) == ["FULLY_CONNECTED"]


def test_import_onnx_channels_last_original_keeps_its_layout() -> None:
    data = build("t = Transpose<perm=[0,3,1,2]>(x) out = Conv(t, w)", {"x": (1, 6, 7, 4)}, POINT)
    model = compare(data)
    assert kinds(model) == ["CONV_2D"]
    assert model.tensors[model.inputs[0].tensor].shape == (1, 6, 7, 4)
    assert not has_channels_first(model, model.inputs[0]) and has_channels_first(model, model.outputs[0])


def test_import_onnx_image_ports_are_noted_as_channels_first() -> None:
    model = compare(build("out = Conv(x, w)", IMAGE, POINT))
    assert model.metadata == {"channels_first": {"inputs": [0], "outputs": [0]}}
    assert model.tensors[0].shape == (1, 6, 7, 4) and model.tensors[0].dtype is DType.FLOAT32
    assert model.inputs[0].name == "x" and model.inputs[0].flags == PortFlag(0)


HARD_SWISHES = {
    "hard_sigmoid": ("h = HardSigmoid<alpha=0.16666667, beta=0.5>(c) out = Mul(c, h)", {}),
    "divided_last": ("a = Add(c, k3) l = Clip(a, k0, k6) m = Mul(c, l) out = Div(m, k6)", {}),
    "divided_first": ("a = Add(k3, c) l = Clip(a, k0, k6) d = Div(l, k6) out = Mul(d, c)", {}),
    "times_a_sixth": (
        "a = Add(c, k3) l = Clip(a, k0, k6) d = Mul(l, s) out = Mul(c, d)", {"s": np.float32(1 / 6)}),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD_SWISHES)
def test_import_onnx_hard_swish_in_several_nodes_is_one_table(name: str) -> None:
    nodes, extra = HARD_SWISHES[name]
    numbers = {f"k{n}": np.float32(n) for n in (0, 3, 6)}
    model = compare(build(f"c = Conv(x, w) {nodes}", IMAGE, {**POINT, **numbers, **extra}))
    assert kinds(model) == ["CONV_2D", "LOOKUP"]
    assert model.operators[1].options == {"function": "hard_swish"}


def test_import_onnx_hard_swish_whose_parts_are_read_elsewhere_stays() -> None:
    nodes = "h = HardSigmoid<alpha=0.16666667, beta=0.5>(x) m = Mul(x, h) out = Add(m, h)"
    assert kinds(compare(build(nodes, IMAGE))) == ["LOOKUP", "MUL", "ADD"]


def test_import_onnx_several_ports_keep_names_and_order() -> None:
    data = build("a = Add(x, y) b = Relu(a)", TWO_IMAGES, outputs=("b", "a"))
    model = compare(data)
    assert [port.name for port in model.inputs] == ["x", "y"]
    assert [port.name for port in model.outputs] == ["b", "a"]


# --- refusals -----------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[str, dict[str, tuple[Any, ...]], dict[str, Any], int, str]] = {
    "unknown_operator": (
        "out = ConvTranspose(x, w)", IMAGE, {"w": random_floats(4, 2, 2, 2)}, 17,
        "node 0 ConvTranspose (output 'out') cannot be imported: this operator is not supported; supported"),
    "lrn": ("r = Relu(x) out = LRN<size=3>(r)", IMAGE, {}, 17, "node 1 LRN (output 'out')"),
    "bilinear": ('out = Resize<mode="linear">(x, , s)', IMAGE,
                 {"s": np.array([1, 1, 2, 2], np.float32)}, 13, "its mode is linear; only nearest"),
    "resize_cells": (
        'out = Resize<nearest_mode="floor">(x, , s)', IMAGE, {"s": np.array([1, 1, 1.5, 2], np.float32)}, 13,
        "its nearest_mode floor with half_pixel picks cells that RESIZE_NEAREST cannot"),
    "resize_to_nothing": ('out = Resize(x, , s)', IMAGE, {"s": np.array([1, 1, 0.1, 2], np.float32)}, 13,
                          "it resizes (1, 4, 6, 7) to (1, 4, 0, 14)"),
    "gemm_overflow": ("out = Gemm<alpha=1e30>(x, w)", {"x": (1, 2)}, {"w": np.full((2, 3), 1e20, np.float32)},
                      17, "its constants scale by numbers beyond float32"),
    "passed_through": ("out = Identity(x)", IMAGE, {}, 17, "the model output 'out' is a model input"),
    "other_domain": ("out = com.microsoft.Gelu(x)", IMAGE, {}, 17, "com.microsoft.Gelu"),
    "matmul_of_two": ("out = MatMul(x, y)", {"x": (1, 3, 4), "y": (1, 4, 3)}, {}, 17,
                      "only an activation times a constant matrix"),
    "conv_channels": ("out = Conv(x, w)", IMAGE, {"w": random_floats(8, 3, 3, 3)}, 17,
                      "for 4 input channels in 1 groups"),
    "window": ("out = Conv(x, w)", IMAGE, {"w": random_floats(8, 4, 7, 3)}, 17, "does not fit into 6 cells"),
    "not_finite": ("out = Conv(x, w)", IMAGE, {"w": np.full((2, 4, 1, 1), np.nan, np.float32)}, 17,
                   "not finite"),
    "reflect": ('out = Pad<mode="reflect">(x, p)', IMAGE, {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, 13,
                "its mode is reflect"),
    "reshape": ("out = Reshape(x, n)", IMAGE, {"n": ints(1, 5, -1)}, 17,
                "it turns (1, 4, 6, 7) into (1, 5, 33)"),
    "batch": ("out = Relu(x)", {"x": (8, 4)}, {}, 17, "the first dimension must be 1"),
    "open_height": ("out = Relu(x)", {"x": (1, 3, "h", 7)}, {}, 17, "only the first dimension may be open"),
    "old_opset": ("out = Relu(x)", IMAGE, {}, 8, "operator set 8; 9 to 21 are supported"),
    "pool_indices": ("out, i = MaxPool<kernel_shape=[2,2]>(x)", IMAGE, {}, 12, "second output, the indices"),
    "unknown_tensor": ("out = Relu(nothing)", IMAGE, {}, 17, "'nothing' is read before any node writes it"),
    "huge_constant": ("c = ConstantOfShape(n) out = Add(x, c)", IMAGE, {"n": ints(1 << 20, 1 << 20)}, 17,
                      "its result would have 1.09951e+12 elements"),
    "gather_list": ("out = Gather<axis=1>(x, i)", IMAGE, {"i": ints(0, 2)}, 17, "single constant index"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_import_onnx_unsupported_model_is_refused_by_name(name: str) -> None:
    nodes, inputs, constants, opset, expected = REFUSALS[name]
    with pytest.raises(ImportRefused) as caught, warnings.catch_warnings():
        warnings.simplefilter("error")
        import_onnx(build(nodes, inputs, constants, opset))
    assert expected in str(caught.value)
    assert str(caught.value).isprintable()
    is_unknown = "this operator is not supported" in str(caught.value)
    assert ("supported operators are" in str(caught.value)) == is_unknown


def test_import_onnx_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nothing.onnx: No such file"):
        import_onnx(tmp_path / "nothing.onnx")


def test_import_onnx_without_the_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_onnx(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] == "onnx":
            raise ImportError("No module named 'onnx'")
        return real_import(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(UsageError, match=r"pip install 'thimble-runtime\[onnx\]'"):
        import_onnx(b"")


def test_import_onnx_truncated_file_is_refused_or_sound() -> None:
    """Every prefix of a file; protobuf accepts some, which then lack parts."""
    data = (REPOSITORY / "examples" / "digits" / "digits.onnx").read_bytes()
    for length in range(0, len(data), max(1, len(data) // 150)):
        with pytest.raises(ImportRefused) as caught:
            import_onnx(data[:length])
        assert "\n" not in str(caught.value)


def test_import_onnx_damaged_bytes_never_raise_anything_else() -> None:
    """Twenty damaged copies of each case; weights take most damage, so many are still sound."""
    random = np.random.default_rng(9)
    refused = 0
    for nodes, inputs, constants, opset in CASES.values():
        data = build(nodes, inputs, constants, opset)
        for _ in range(20):
            damaged = bytearray(data)
            for _ in range(3):
                damaged[int(random.integers(len(data)))] = int(random.choice([0, 1, 2, 10, 127, 128, 255]))
            try:
                import_onnx(bytes(damaged))
            except ImportRefused as error:
                assert str(error).isprintable()
                refused += 1
    assert 0.3 < refused / (20 * len(CASES)) < 0.95


# Name: (nodes, sentence). Attributes of the wrong type, which only a damaged file has.
WRONG_TYPES = {
    "axis": ("out = Flatten<axis=1.5>(x)", "its attribute axis is not an integer"),
    "perm": ('out = Transpose<perm=["a","b"]>(x)', "its attribute perm does not hold integers"),
    "alpha": ('out = LeakyRelu<alpha="a">(x)', "its attribute alpha is not a number"),
    "mode": ("out = Pad<mode=3, pads=[0,0,0,0,0,0,0,0]>(x)", "its attribute mode is not text"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_import_onnx_attribute_of_the_wrong_type_is_refused(name: str) -> None:
    nodes, expected = WRONG_TYPES[name]
    with pytest.raises(ImportRefused, match=expected):
        import_onnx(build(nodes, IMAGE, {}, 10))
