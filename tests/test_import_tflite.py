"""The .tflite importer: what it makes of the published models, and how it refuses what it cannot import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tflite
import tflite_models
from tflite_models import Operator, Tensor, build_model, single

from model_packager.errors import ImportRefused, ThimbleError, UsageError
from model_packager.format_table import DType, OperatorKind, PortFlag
from model_packager.importers.tflite import CONVERTERS, import_tflite
from model_packager.model import Model
from model_packager.reference import run

Q = (0.1, 3)
IMAGE = (1, 4, 6, 4)
PUBLISHED = {
    "ad01_dynrange_model_ToyCar_quant": True,
    "ad01_fp32": True,
    "ad01_int8": False,
    "ad01_int8_floatio_model_ToyCar_quant_fullint": False,
    "ic_pretrainedResnet_fp32": True,
    "ic_pretrainedResnet_int8": False,
    "ic_pretrainedResnet_large_fp32": True,
    "ic_pretrainedResnet_large_int8": False,
    "kws_ref_model_fp32": True,
    "kws_ref_model_int8": False,
    "sww_str_ww_ref_model_int8": False,
    "vww_96_fp32": True,
    "vww_96_int8": False,
}


def random_int8(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-128, 128, shape, dtype=np.int8)


def conv_model(**changes: object) -> bytes:
    """A small 3x3 convolution, with arguments of tflite_models.conv_2d replaced."""
    arguments: dict = {
        "shape": IMAGE, "weights": random_int8(2, 3, 3, 4), "bias": np.array([5, -7], np.int32), "in_q": Q,
        "weight_scales": [0.02, 0.03], "out_q": (0.3, -5),
    }  # fmt: skip
    return tflite_models.conv_2d(**arguments | changes)  # type: ignore[arg-type]


def refused(model: bytes) -> str:
    with pytest.raises(ImportRefused) as caught:
        import_tflite(model)
    return str(caught.value)


# --- published models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_import_published_model_gives_the_expected_kind(name: str, data_dir: Path) -> None:
    model = import_tflite(data_dir / "mlperf_tiny" / "models" / f"{name}.tflite")
    assert model.name == name
    assert model.is_float is PUBLISHED[name]
    for operator in model.operators:
        if operator.weights is not None:
            assert operator.weights.values.dtype == (np.float32 if model.is_float else np.int8)
            assert (operator.requant is None) is model.is_float


def test_import_every_published_model_is_listed(data_dir: Path) -> None:
    files = {path.stem for path in (data_dir / "mlperf_tiny" / "models").glob("*.tflite")}
    assert files == set(PUBLISHED)


def test_import_float_edges_become_float_ports(data_dir: Path) -> None:
    name = "ad01_int8_floatio_model_ToyCar_quant_fullint"
    model = import_tflite(data_dir / "mlperf_tiny" / "models" / f"{name}.tflite")
    for port in (*model.inputs, *model.outputs):
        assert port.flags == PortFlag.FLOAT
        assert model.tensors[port.tensor].dtype is DType.INT8
        assert (port.scale, port.zero_point) != (1.0, 0)
    assert {operator.kind for operator in model.operators} == {OperatorKind.FULLY_CONNECTED}


# --- structure ----------------------------------------------------------------------------------------------


def test_import_depthwise_weights_are_one_row_per_channel() -> None:
    weights = random_int8(1, 3, 2, 8)
    model = import_tflite(
        tflite_models.depthwise_conv_2d(IMAGE, weights, None, Q, [0.01] * 8, (0.2, 0), padding="VALID")
    )
    (operator,) = model.operators
    assert operator.weights is not None and operator.weights.values.shape == (8, 6)
    np.testing.assert_array_equal(operator.weights.values[5], weights[0, :, :, 5].reshape(-1))
    assert operator.bias is None


def test_import_same_padding_puts_the_odd_row_below() -> None:
    model = import_tflite(conv_model(shape=(1, 5, 6, 4), stride=(2, 2), padding="SAME"))
    attributes = model.operators[0].attributes
    pads = [attributes[f"pad_{side}"] for side in ("top", "bottom", "left", "right")]
    assert pads == [1, 1, 0, 1]


def test_import_quantise_and_dequantise_at_the_edges_are_removed() -> None:
    tensors = [
        Tensor((1, 8), np.float32, name="in"),
        Tensor((1, 8), np.int8, [0.5], [7], name="q"),
        Tensor((1, 8), np.int8, [0.25], [-1], name="r"),
        Tensor((1, 8), np.float32, name="out"),
    ]
    operators = [
        Operator("QUANTIZE", [0], [1], "QuantizeOptions"),
        Operator("RELU", [1], [2]),
        Operator("DEQUANTIZE", [2], [3], "DequantizeOptions"),
    ]
    model = import_tflite(build_model(tensors, operators, [0], [3]))
    assert [operator.kind for operator in model.operators] == [OperatorKind.LOOKUP]
    ports = [(port.name, port.scale, port.zero_point, port.flags) for port in (*model.inputs, *model.outputs)]
    assert ports == [("in", 0.5, 7, PortFlag.FLOAT), ("out", 0.25, -1, PortFlag.FLOAT)]


def test_import_float16_weights_are_folded_to_float32() -> None:
    weights = np.array([[0.5, -1.25, 3.0]], np.float16)
    tensors = [
        Tensor((1, 3), np.float32),
        Tensor(data=weights),
        Tensor((1, 3), np.float32),
        Tensor((1, 1), np.float32),
    ]
    operators = [
        Operator("DEQUANTIZE", [1], [2], "DequantizeOptions"),
        Operator("FULLY_CONNECTED", [0, 2, -1], [3], "FullyConnectedOptions"),
    ]
    model = import_tflite(build_model(tensors, operators, [0], [3]))
    assert model.is_float and len(model.operators) == 1
    assert model.operators[0].weights is not None
    np.testing.assert_array_equal(model.operators[0].weights.values, weights.astype(np.float32))


def test_import_concatenation_of_other_scales_inserts_tables() -> None:
    tensors = [
        Tensor((1, 2, 2, 3), np.int8, [0.1], [0]),
        Tensor((1, 2, 2, 1), np.int8, [0.3], [4]),
        Tensor((1, 2, 2, 4), np.int8, [0.3], [4]),
    ]
    operators = [Operator("CONCATENATION", [0, 1], [2], "ConcatenationOptions", {"Axis": -1})]
    model = import_tflite(build_model(tensors, operators, [0, 1], [2]))
    assert [operator.kind for operator in model.operators] == [
        OperatorKind.LOOKUP,
        OperatorKind.CONCATENATION,
    ]
    x, y = np.full((1, 2, 2, 3), 30, np.int8), np.full((1, 2, 2, 1), -9, np.int8)
    (output,) = run(model, [x, y])
    assert np.all(output[..., :3] == 14) and np.all(output[..., 3] == -9)  # 30 * 0.1 / 0.3 + 4


def test_import_signature_names_the_ports(data_dir: Path) -> None:
    model = import_tflite(data_dir / "mlperf_tiny" / "models" / "sww_str_ww_ref_model_int8.tflite")
    assert [port.name for port in (*model.inputs, *model.outputs)] == ["input_1", "dense"]
    assert model.tensors[model.inputs[0].tensor].name != "input_1"


def test_import_without_signature_names_the_ports_after_tensors() -> None:
    model = import_tflite(conv_model())
    assert [port.name for port in (*model.inputs, *model.outputs)] == ["tensor0", "tensor3"]


# --- refusals -----------------------------------------------------------------------------------------------


def test_import_unsupported_operator_is_refused_with_the_whole_list() -> None:
    size = Tensor(data=np.array([8, 8], np.int32))
    sources = [Tensor(IMAGE, np.int8, [0.1], [0], name="in"), size]
    output = Tensor((1, 8, 8, 4), np.int8, [0.1], [0], name="big")
    message = refused(single("RESIZE_BILINEAR", sources, output, "ResizeBilinearOptions"))
    assert message.startswith("operator 0 RESIZE_BILINEAR (output 'big') cannot be imported")
    assert all(name in message for name in CONVERTERS)


@pytest.mark.parametrize(
    ("reason", "model"),
    [
        ("int16", lambda: conv_model(dtype=np.int16)),
        ("zero point other than 0", lambda: _with_weight_zero_point()),
        ("SIGN_BIT", lambda: conv_model(activation="SIGN_BIT")),
        ("int32", lambda: conv_model(bias=np.array([1, 2], np.int64))),
        ("3 values for 2 outputs", lambda: _with_three_biases()),
        ("pads with 5000 cells", lambda: conv_model(dilation=(5000, 1))),
        ("is not a constant", lambda: _with_dynamic_weights()),
        ("input channels", lambda: conv_model(weights=random_int8(2, 3, 3, 3))),
        ("first dimension must be 1", lambda: conv_model(shape=(2, 4, 6, 4))),
        ("a single value is needed", lambda: _binary_constant("ADD", random_int8(4))),
        ("not 1/256", lambda: _softmax_with_other_scale()),
        ("quantised otherwise", lambda: _pool_with_other_scale()),
        ("regroups", lambda: _fully_connected((1, 3, 4), random_int8(2, 6), (1, 2, 2))),
        ("outputs take 2 of 4", lambda: _short_split()),
    ],
)  # fmt: skip
def test_import_unsupported_detail_is_refused_by_name(reason: str, model: Callable[[], bytes]) -> None:
    message = refused(model())
    assert reason in message
    assert "\n" not in message


def _with_weight_zero_point() -> bytes:
    weights = Tensor(scale=[0.1], zero_point=[3], data=random_int8(2, 6))
    sources = [Tensor((1, 6), np.int8, [0.1], [0]), weights]
    return single("FULLY_CONNECTED", sources, Tensor((1, 2), np.int8, [1.0], [0]), "FullyConnectedOptions")


def _with_three_biases() -> bytes:
    return conv_model(bias=np.arange(3, dtype=np.int32), weight_scales=[0.1])


def _with_dynamic_weights() -> bytes:
    sources = [Tensor((1, 6), np.int8, [0.1], [0]), Tensor((1, 6), np.int8, [0.1], [0])]
    return single("FULLY_CONNECTED", sources, Tensor((1, 1), np.int8, [1.0], [0]), "FullyConnectedOptions")


def _fully_connected(shape: tuple[int, ...], weights: np.ndarray, out_shape: tuple[int, ...]) -> bytes:
    sources = [Tensor(shape, np.int8, [0.1], [0]), Tensor(scale=[0.1], data=weights)]
    return single("FULLY_CONNECTED", sources, Tensor(out_shape, np.int8, [1.0], [0]), "FullyConnectedOptions")


def _short_split() -> bytes:
    sources = [Tensor(data=np.array(3, np.int32)), Tensor(IMAGE, np.int8, [0.1], [0])]
    outputs = [Tensor((1, 4, 6, 1), np.int8, [0.1], [0]) for _ in range(2)]
    return single("SPLIT", sources, outputs, "SplitOptions", NumSplits=2)


def _binary_constant(name: str, constant: np.ndarray) -> bytes:
    return tflite_models.binary(name, IMAGE, constant.shape, Q, (0.2, -3), (0.4, 1), constant=constant)


def _softmax_with_other_scale() -> bytes:
    source, output = Tensor((1, 6), np.int8, [0.1], [0]), Tensor((1, 6), np.int8, [0.01], [-128])
    return single("SOFTMAX", [source], output, "SoftmaxOptions", Beta=1.0)


def _pool_with_other_scale() -> bytes:
    source, output = Tensor(IMAGE, np.int8, [0.1], [0]), Tensor((1, 3, 5, 4), np.int8, [0.2], [0])
    options = {
        "StrideH": 1,
        "StrideW": 1,
        "FilterHeight": 2,
        "FilterWidth": 2,
        "Padding": tflite.Padding.VALID,
    }
    return single("MAX_POOL_2D", [source], output, "Pool2DOptions", **options)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_import_other_activation_type_is_refused_with_its_operator(dtype: type) -> None:
    message = refused(conv_model(dtype=dtype))
    assert message.startswith("operator 0 CONV_2D (output 'tensor3') cannot be imported")
    assert f"type {np.dtype(dtype).name}" in message


def test_import_operator_before_its_input_is_refused() -> None:
    tensors = [Tensor((1, 8), np.int8, [0.5], [7], name=name) for name in "abc"]
    operators = [Operator("RELU", [1], [2]), Operator("RELU", [0], [1])]
    assert "'b' is read before any operator writes it" in refused(build_model(tensors, operators, [0], [2]))


def test_import_float_operator_in_an_int8_model_is_refused() -> None:
    tensors = [
        Tensor((1, 8), np.int8, [0.5], [7]),
        Tensor((1, 8), np.float32, name="middle"),
        Tensor((1, 8), np.float32),
    ]
    operators = [Operator("DEQUANTIZE", [0], [1], "DequantizeOptions"), Operator("RELU", [1], [2])]
    message = refused(build_model(tensors, operators, [0], [2]))
    assert message.startswith("operator 0 DEQUANTIZE (output 'middle')")


def test_import_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nothing\.tflite"):
        import_tflite(tmp_path / "nothing.tflite")


def test_import_refusal_lists_operators_only_where_one_is_unknown() -> None:
    assert "supported operators are" not in refused(conv_model(dtype=np.int16))
    unknown = build_model([Tensor((1, 8), np.int8, [0.5], [7])] * 2, [Operator("FLOOR", [0], [1])], [0], [1])
    assert "FLOOR" in refused(unknown) and "supported operators are ADD, " in refused(unknown)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 64, b"\x1c\0\0\0TFL3", b"PK\x03\x04" * 20])
def test_import_something_else_is_refused(data: bytes) -> None:
    assert ".tflite" in refused(data)


# --- damage -------------------------------------------------------------------------------------------------


def import_and_run(data: bytes) -> Model | None:
    """Import damaged bytes: None when refused; a model that was imported must run, unless it is huge."""
    try:
        model = import_tflite(data)
    except ImportRefused as refusal:
        # Our own words, and nothing of a damaged name that a terminal would take for a command.
        assert str(refusal).isprintable() and "unpack" not in str(refusal)
        return None
    if max(tensor.element_count for tensor in model.tensors) < 100_000:
        inputs = [
            np.zeros((1, *model.tensors[port.tensor].shape[1:]), np.float32 if model.is_float else np.int8)
            for port in model.inputs
        ]
        try:
            with np.errstate(all="ignore"):
                run(model, inputs)
        except ThimbleError:
            return None
    return model


def test_import_truncated_is_refused_or_lost_nothing() -> None:
    data = conv_model()
    whole = import_tflite(data).operators[0]
    assert whole.weights is not None
    accepted = 0
    for length in range(len(data)):
        model = import_and_run(data[:length])
        if model is None:
            continue
        # A flatbuffer does not state its length: what is missing can only be padding or a name nobody reads.
        accepted += 1
        operator = model.operators[0]
        assert operator.weights is not None
        np.testing.assert_array_equal(operator.weights.values, whole.weights.values)
        assert operator.attributes == whole.attributes
    assert accepted < 16


@pytest.mark.parametrize("value", [0x00, 0x7F, 0x80, 0xFF])
def test_import_overwritten_byte_never_gives_another_error(value: int) -> None:
    for model in (conv_model(), tflite_models.split(IMAGE, 3, 2, Q)):
        outcomes = set()
        for position in range(len(model)):
            damaged = bytearray(model)
            damaged[position] = value
            outcomes.add(import_and_run(bytes(damaged)) is None)
        assert outcomes == {True, False}
