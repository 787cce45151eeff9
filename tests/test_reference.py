"""The reference executor against TensorFlow Lite Micro: operators alone, networks, floats and batches."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tflite_models
from numerics_cases import KINDS
from tflite_models import Operator, Tensor, build_model, single
from tflm_oracle import TFLM_DISTRIBUTION, TFLM_VERSION, run_tflm

from model_packager import numerics
from model_packager.errors import PackError, UsageError
from model_packager.format_table import DType, OperatorKind, PortFlag, TensorFlag
from model_packager.importers.tflite import import_tflite
from model_packager.model import Model, Port, Requant, Weights
from model_packager.model import Operator as ModelOperator
from model_packager.model import Tensor as ModelTensor
from model_packager.reference import executor, run, run_all
from model_packager.reference.float import FLOAT_KERNELS
from model_packager.reference.integer import INTEGER_KERNELS

Judge = Callable[..., list[np.ndarray]]
Q = (0.1, 3)
IMAGE = (1, 4, 6, 4)
RANDOM = np.random.default_rng(11)
INT8_KINDS = sorted(kind for kind in KINDS if not kind.endswith("int16"))
INT8_NETWORKS = (
    "ad01_int8",
    "ad01_int8_floatio_model_ToyCar_quant_fullint",
    "ic_pretrainedResnet_int8",
    "ic_pretrainedResnet_large_int8",
    "kws_ref_model_int8",
    "sww_str_ww_ref_model_int8",
    "vww_96_int8",
)


@pytest.fixture(scope="module")
def tflm(require_module: Callable[[str], ModuleType]) -> Judge:
    """TFLM's interpreter, of the pinned build."""
    require_module("tflite_micro")
    assert importlib.metadata.version(TFLM_DISTRIBUTION) == TFLM_VERSION
    return run_tflm


def int8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-128, 128, shape, dtype=np.int8)


def real(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 3, shape).astype(np.float32)


def execute(model: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs of the imported model in the reference executor, as a batch of one."""
    return run(import_tflite(model), inputs)


def assert_equals_tflm(model: bytes, inputs: list[np.ndarray], tflm: Judge) -> None:
    outputs = execute(model, inputs)
    expected = tflm(model, *inputs)
    assert len(outputs) == len(expected)
    for output, value in zip(outputs, expected, strict=True):
        assert output.dtype == value.dtype
        np.testing.assert_array_equal(output.reshape(value.shape), value)


# --- operators alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INT8_KINDS)
def test_run_random_operator_equals_tflm(kind: str, tflm: Judge) -> None:
    compared = 0
    for seed in range(30):
        case = KINDS[kind].draw(np.random.default_rng([seed, 5]))
        inputs = case.inputs()
        # The drawn batches of softmax and fully connected become one sample.
        if len(inputs) == 1 and inputs[0].ndim == 2 and len(inputs[0]) > 1:
            case.arrays["x"] = inputs[0][:1]
        assert_equals_tflm(KINDS[kind].model(case), case.inputs(), tflm)
        compared += 1
        if compared == 12:
            break
    assert compared == 12


def _transposed(shape: tuple[int, ...], permutation: list[int]) -> tuple[bytes, list[np.ndarray]]:
    return tflite_models.transpose(shape, permutation, Q), [int8(*shape)]


def _reshaping(
    name: str, shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> tuple[bytes, list[np.ndarray]]:
    sources = [Tensor(shape, np.int8, [Q[0]], [Q[1]])]
    if name == "EXPAND_DIMS":
        sources.append(Tensor(data=np.array([out_shape.index(1, 1)], np.int32)))
    options = {"SQUEEZE": "SqueezeOptions", "EXPAND_DIMS": "ExpandDimsOptions"}[name]
    return single(name, sources, Tensor(out_shape, np.int8, [Q[0]], [Q[1]]), options), [int8(*shape)]


def _strided(
    begin: list[int], end: list[int], stride: list[int], shape: tuple[int, ...], **masks: int
) -> bytes:
    limits = [Tensor(data=np.array(values, np.int32)) for values in (begin, end, stride)]
    sources = [Tensor(IMAGE, np.int8, [Q[0]], [Q[1]]), *limits]
    output = Tensor(shape, np.int8, [Q[0]], [Q[1]])
    return single("STRIDED_SLICE", sources, output, "StridedSliceOptions", **masks)


def _split_v() -> bytes:
    sources = [
        Tensor(IMAGE, np.int8, [Q[0]], [Q[1]]),
        Tensor(data=np.array([1, 3], np.int32)),
        Tensor(data=np.array(3, np.int32)),
    ]
    outputs = [Tensor((1, 4, 6, size), np.int8, [Q[0]], [Q[1]]) for size in (1, 3)]
    return single("SPLIT_V", sources, outputs, "SplitVOptions", NumSplits=2)


def _binary(name: str, shape1: tuple[int, ...], shape2: tuple[int, ...]) -> tuple[bytes, list[np.ndarray]]:
    second, output = ((0.2, -9), (0.3, 5)) if name in ("ADD", "SUB", "MUL") else (Q, Q)
    model = tflite_models.binary(name, shape1, shape2, Q, second, output)
    return model, [int8(*shape1), int8(*shape2)]


def _with_constant(name: str, constant: np.ndarray) -> tuple[bytes, list[np.ndarray]]:
    second, output = ((0.2, -9), (0.3, 5)) if name in ("ADD", "SUB", "MUL") else (Q, Q)
    model = tflite_models.binary(name, IMAGE, constant.shape, Q, second, output, constant=constant)
    return model, [int8(*IMAGE)]


def _constant_first() -> tuple[bytes, list[np.ndarray]]:
    """SUB whose first operand is the constant."""
    sources = [Tensor(scale=[0.2], zero_point=[4], data=int8(1)), Tensor(IMAGE, np.int8, [0.1], [3])]
    return single("SUB", sources, Tensor(IMAGE, np.int8, [0.3], [1]), "SubOptions"), [int8(*IMAGE)]


def _resize(size: tuple[int, int], align: bool, half: bool) -> tuple[bytes, list[np.ndarray]]:
    return tflite_models.resize_nearest_neighbor(IMAGE, size, Q, align, half), [int8(*IMAGE)]


def _rows_of_inputs() -> tuple[bytes, list[np.ndarray]]:
    """FULLY_CONNECTED applied to each of five rows, which imports as a 1x1 convolution."""
    weights = Tensor(scale=[0.03], data=RANDOM.integers(-127, 128, (3, 7), dtype=np.int8))
    bias = Tensor(scale=[0.1 * 0.03], data=np.array([90, -40, 3], np.int32))
    sources = [Tensor((1, 5, 7), np.int8, [0.1], [-20]), weights, bias]
    output = Tensor((1, 5, 3), np.int8, [0.4], [2])
    return single("FULLY_CONNECTED", sources, output, "FullyConnectedOptions", KeepNumDims=True), [
        int8(1, 5, 7)
    ]


def _channelwise_product() -> tuple[bytes, list[np.ndarray]]:
    """MUL by one constant for each channel, which imports as a 1x1 depthwise convolution."""
    constant = RANDOM.integers(-100, 100, (1, 1, 1, 4), dtype=np.int8)
    model = tflite_models.binary("MUL", IMAGE, (1, 1, 1, 4), Q, (0.02, 0), (0.1, -8), "RELU6", constant)
    return model, [int8(*IMAGE)]


PLAIN_CASES: dict[str, Callable[[], tuple[bytes, list[np.ndarray]]]] = {
    "concatenation_channels": lambda: (
        tflite_models.concatenation([(1, 2, 3, 4), (1, 2, 3, 1), (1, 2, 3, 2)], 3, Q),
        [int8(1, 2, 3, 4), int8(1, 2, 3, 1), int8(1, 2, 3, 2)],
    ),
    "concatenation_rows_of_rank_2": lambda: (
        tflite_models.concatenation([(1, 5), (1, 3)], 1, Q), [int8(1, 5), int8(1, 3)],
    ),
    "pad": lambda: (tflite_models.pad(IMAGE, [(0, 0), (1, 2), (0, 3), (2, 1)], Q), [int8(*IMAGE)]),
    "padv2": lambda: (tflite_models.pad(IMAGE, [(0, 0), (1, 2), (0, 3), (0, 0)], Q, -77), [int8(*IMAGE)]),
    "reshape": lambda: (tflite_models.reshape(IMAGE, (1, 96), Q), [int8(*IMAGE)]),
    "squeeze": lambda: _reshaping("SQUEEZE", (1, 1, 5, 4), (5, 4)),
    "expand_dims": lambda: _reshaping("EXPAND_DIMS", (1, 5, 4), (1, 1, 5, 4)),
    "transpose_rank_3": lambda: _transposed((1, 5, 4), [0, 2, 1]),
    "transpose_rank_4": lambda: _transposed(IMAGE, [0, 3, 1, 2]),
    "transpose_channel_shuffle": lambda: _transposed((1, 3, 2, 2, 5), [0, 1, 2, 4, 3]),
    "transpose_rank_5_four_runs": lambda: _transposed((1, 2, 3, 4, 5), [0, 4, 3, 2, 1]),
    "split": lambda: (tflite_models.split(IMAGE, 2, 3, Q), [int8(*IMAGE)]),
    "split_v": lambda: (_split_v(), [int8(*IMAGE)]),
    "slice": lambda: (tflite_models.slice_(IMAGE, (0, 1, 0, 2), (1, 2, -1, 1), Q), [int8(*IMAGE)]),
    "strided_slice": lambda: (
        tflite_models.strided_slice(IMAGE, (0, 0, 1, 0), (1, 4, 6, 4), (1, 2, 3, 1), Q), [int8(*IMAGE)],
    ),
    "strided_slice_masks": lambda: (
        _strided([0, 1, 2, -3], [0, 2, -1, 0], [1, 1, 2, 1], (1, 6 // 2 - 1, 3), BeginMask=1, EndMask=9,
                 ShrinkAxisMask=2),
        [int8(*IMAGE)],
    ),
    "resize_up": lambda: _resize((9, 11), False, False),
    "resize_aligned": lambda: _resize((7, 5), True, False),
    "resize_half_pixel": lambda: _resize((6, 13), False, True),
    "add_broadcast_channels": lambda: _binary("ADD", IMAGE, (1, 1, 1, 4)),
    "mul_broadcast_lower_rank": lambda: _binary("MUL", IMAGE, (1, 4)),
    "sub_broadcast_first": lambda: _binary("SUB", (1, 1, 6, 1), IMAGE),
    "maximum": lambda: _binary("MAXIMUM", IMAGE, IMAGE),
    "minimum_broadcast": lambda: _binary("MINIMUM", IMAGE, (1, 4, 1, 1)),
    "add_constant": lambda: _with_constant("ADD", int8(1)),
    "sub_constant": lambda: _with_constant("SUB", int8(1)),
    "mul_constant": lambda: _with_constant("MUL", int8(1)),
    "maximum_constant": lambda: _with_constant("MAXIMUM", int8(1)),
    "minimum_constant": lambda: _with_constant("MINIMUM", int8(1)),
    "sub_from_constant": _constant_first,
    "mul_constant_per_channel": _channelwise_product,
    "fully_connected_rows": _rows_of_inputs,
    "softmax_rank_3": lambda: (tflite_models.softmax((1, 5, 9), (0.2, 4)), [int8(1, 5, 9)]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PLAIN_CASES))
def test_run_plain_operator_equals_tflm(name: str, tflm: Judge) -> None:
    model, inputs = PLAIN_CASES[name]()
    assert_equals_tflm(model, inputs, tflm)


def test_kernels_cover_every_operator_of_the_format() -> None:
    assert set(INTEGER_KERNELS) == set(OperatorKind)
    assert set(FLOAT_KERNELS) == set(OperatorKind)


# --- networks -----------------------------------------------------------------------------------------------


def _stored(port: Port, values: np.ndarray) -> np.ndarray:
    """Golden inputs without their batch axis, quantised where the port took floats."""
    flat = values[:, 0]
    return numerics.quantise_float(flat, port.scale, port.zero_point) if port.flags & PortFlag.FLOAT else flat


@pytest.mark.parametrize("name", INT8_NETWORKS)
def test_run_published_network_equals_tflm_golden(name: str, data_dir: Path) -> None:
    model = import_tflite(data_dir / "mlperf_tiny" / "models" / f"{name}.tflite")
    golden = np.load(data_dir / "mlperf_tiny" / "golden" / f"{name}.npz")
    (output,) = run(model, [_stored(model.inputs[0], golden["in0"])])
    port = model.outputs[0]
    if port.flags & PortFlag.FLOAT:
        output = numerics.dequantise(output, port.scale, port.zero_point)
    np.testing.assert_array_equal(output, golden["out0_tflm"][:, 0])


@pytest.mark.parametrize(
    "name", ["ad01_int8", "ic_pretrainedResnet_int8", "kws_ref_model_int8", "vww_96_int8"]
)
def test_run_published_network_on_random_inputs_equals_tflm(name: str, data_dir: Path, tflm: Judge) -> None:
    path = data_dir / "mlperf_tiny" / "models" / f"{name}.tflite"
    model = import_tflite(path)
    inputs = int8(5, *model.tensors[model.inputs[0].tensor].shape[1:])
    (outputs,) = run(model, [inputs])
    for x, output in zip(inputs, outputs, strict=True):
        np.testing.assert_array_equal(output, tflm(path.read_bytes(), x[None])[0][0])


def test_run_keywords_equal_tflm_and_its_accuracy(data_dir: Path, tflm: Judge) -> None:
    """200 of the 1000 samples; benchmarks/tflm_equality.py runs them all."""
    path = data_dir / "mlperf_tiny" / "models" / "kws_ref_model_int8.tflite"
    features = np.load(data_dir / "mlperf_tiny" / "kws01" / "features_int8.npy")[:200, ..., None]
    (outputs,) = run(import_tflite(path), [features])
    model = path.read_bytes()
    expected = np.stack([tflm(model, sample[None])[0][0] for sample in features])
    np.testing.assert_array_equal(outputs, expected)
    labels = np.load(data_dir / "mlperf_tiny" / "kws01" / "labels.npy")[:200]
    assert np.mean(outputs.argmax(axis=1) == labels) > 0.85


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("ad01_fp32", 1e-3),
        ("ic_pretrainedResnet_fp32", 1e-5),
        ("ic_pretrainedResnet_large_fp32", 1e-5),
        ("vww_96_fp32", 1e-6),
        # Stored int8 weights, whose float kernels quantise the activations as well: close, not equal.
        ("kws_ref_model_fp32", 0.05),
        ("ad01_dynrange_model_ToyCar_quant", 3.0),
    ],
)
def test_run_published_float_network_is_near_its_golden(name: str, tolerance: float, data_dir: Path) -> None:
    model = import_tflite(data_dir / "mlperf_tiny" / "models" / f"{name}.tflite")
    golden = np.load(data_dir / "mlperf_tiny" / "golden" / f"{name}.npz")
    (output,) = run(model, [golden["in0"][:, 0]])
    expected = golden["out0_reference"][:, 0]
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, rtol=0, atol=tolerance)
    assert np.corrcoef(output.ravel(), expected.ravel())[0, 1] > 0.999


# --- float operators ----------------------------------------------------------------------------------------


def _float_conv(
    write: Callable[..., bytes], weights: np.ndarray, channels: int
) -> tuple[bytes, list[np.ndarray]]:
    bias = real(channels)
    x = real(1, 6, 7, 4)
    window = {"stride": (2, 2), "padding": "SAME", "activation": "RELU6", "dtype": np.float32}
    return write(x.shape, weights, bias, Q, [1.0], Q, **window), [x]


def _float_binary(name: str, activation: str = "NONE") -> tuple[bytes, list[np.ndarray]]:
    model = tflite_models.binary(name, IMAGE, IMAGE, Q, Q, Q, activation, dtype=np.float32)
    return model, [real(*IMAGE), real(*IMAGE)]


def _float_function(name: str, alpha: float | None = None) -> tuple[bytes, list[np.ndarray]]:
    return tflite_models.unary(name, (1, 40), Q, Q, alpha, np.float32), [real(1, 40)]


def _float_constant(name: str, shape: tuple[int, ...]) -> tuple[bytes, list[np.ndarray]]:
    constant = real(*shape)
    model = tflite_models.binary(name, IMAGE, shape, Q, Q, Q, constant=constant, dtype=np.float32)
    return model, [real(*IMAGE)]


def _float_mean() -> tuple[bytes, list[np.ndarray]]:
    sources = [Tensor(IMAGE, np.float32), Tensor(data=np.array([1, 2], np.int32))]
    output = Tensor((1, 4), np.float32)
    return single("MEAN", sources, output, "ReducerOptions", KeepDims=False), [real(*IMAGE)]


def _float_softmax() -> tuple[bytes, list[np.ndarray]]:
    source, output = Tensor((1, 12), np.float32), Tensor((1, 12), np.float32)
    return single("SOFTMAX", [source], output, "SoftmaxOptions", Beta=0.7), [real(1, 12)]


def _float_pad() -> tuple[bytes, list[np.ndarray]]:
    sources = [
        Tensor((1, 2, 3), np.float32),
        Tensor(data=np.array([(0, 0), (1, 0), (0, 2)], np.int32)),
        Tensor(data=np.array([2.5], np.float32)),
    ]
    return single("PADV2", sources, Tensor((1, 3, 5), np.float32), "PadV2Options"), [real(1, 2, 3)]


FLOAT_CASES: dict[str, Callable[[], tuple[bytes, list[np.ndarray]]]] = {
    "conv_2d": lambda: _float_conv(tflite_models.conv_2d, real(5, 3, 3, 4), 5),
    "conv_2d_grouped": lambda: _float_conv(tflite_models.conv_2d, real(6, 3, 2, 2), 6),
    "conv_2d_dilated": lambda: (
        tflite_models.conv_2d(
            (1, 8, 7, 2), real(3, 3, 2, 2), None, Q, [1.0], Q, dilation=(2, 3), padding="VALID",
            dtype=np.float32,
        ),
        [real(1, 8, 7, 2)],
    ),
    "depthwise_conv_2d": lambda: _float_conv(tflite_models.depthwise_conv_2d, real(1, 3, 3, 8), 8),
    "fully_connected": lambda: (
        tflite_models.fully_connected((1, 9), real(4, 9), real(4), Q, [1.0], Q, "RELU", np.float32),
        [real(1, 9)],
    ),
    "add": lambda: _float_binary("ADD", "RELU_N1_TO_1"),
    "sub": lambda: _float_binary("SUB"),
    "mul": lambda: _float_binary("MUL", "RELU"),
    "maximum": lambda: _float_binary("MAXIMUM"),
    "minimum": lambda: _float_binary("MINIMUM"),
    "add_constant": lambda: _float_constant("ADD", (4,)),
    "sub_constant": lambda: _float_constant("SUB", (1,)),
    "mul_constant": lambda: _float_constant("MUL", (1, 1, 1, 4)),
    "average_pool_2d": lambda: (
        tflite_models.pool_2d("AVERAGE_POOL_2D", IMAGE, (3, 2), Q, (2, 1), "SAME", dtype=np.float32),
        [real(*IMAGE)],
    ),
    "max_pool_2d": lambda: (
        tflite_models.pool_2d("MAX_POOL_2D", IMAGE, (3, 2), Q, (2, 1), "SAME", "RELU", np.float32),
        [real(*IMAGE)],
    ),
    "mean": _float_mean,
    "softmax": _float_softmax,
    "padv2": _float_pad,
    "relu": lambda: _float_function("RELU"),
    "relu6": lambda: _float_function("RELU6"),
    "leaky_relu": lambda: _float_function("LEAKY_RELU", 0.3),
    "hard_swish": lambda: _float_function("HARD_SWISH"),
    "logistic": lambda: _float_function("LOGISTIC"),
    "tanh": lambda: _float_function("TANH"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FLOAT_CASES))
def test_run_float_operator_is_near_tflm(name: str, tflm: Judge) -> None:
    model, inputs = FLOAT_CASES[name]()
    outputs, expected = execute(model, inputs), tflm(model, *inputs)
    assert outputs[0].dtype == np.float32
    np.testing.assert_allclose(outputs[0].reshape(expected[0].shape), expected[0], rtol=1e-5, atol=1e-5)


# --- the executor itself ------------------------------------------------------------------------------------


def _two_branches() -> Model:
    """conv -> relu6 table, added to the conv: a tensor with two readers."""
    conv = tflite_models.conv_2d(IMAGE, int8(4, 3, 3, 4), None, Q, [0.02], (0.9, 7))
    model = import_tflite(conv)
    q = (0.9, 7)
    tensors = [
        Tensor(IMAGE, np.int8, [q[0]], [q[1]]),
        Tensor(IMAGE, np.int8, [q[0]], [q[1]]),
        Tensor(IMAGE, np.int8, [1.1], [0]),
    ]
    operators = [
        Operator("RELU6", [0], [1]),
        Operator("ADD", [0, 1], [2], "AddOptions"),
    ]
    tail = import_tflite(build_model(tensors, operators, [0], [2]))
    offset = len(model.tensors) - 1
    model.tensors += tail.tensors[1:]
    for operator in tail.operators:
        operator.inputs = [index + offset for index in operator.inputs]
        operator.outputs = [index + offset for index in operator.outputs]
        model.operators.append(operator)
    model.outputs = [Port(len(model.tensors) - 1, "sum")]
    return model


def test_run_batch_equals_single_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = _two_branches(), int8(7, *IMAGE[1:])
    (whole,) = run(model, [x])
    singles = np.concatenate([run(model, [sample[None]])[0] for sample in x])
    np.testing.assert_array_equal(whole, singles)
    monkeypatch.setattr(executor, "_CHUNK_ELEMENTS", 3 * 96)  # chunks of 3, 3 and 1 samples
    np.testing.assert_array_equal(run(model, [x])[0], whole)


def test_run_empty_batch_gives_empty_outputs() -> None:
    (output,) = run(_two_branches(), [int8(0, *IMAGE[1:])])
    assert output.shape == (0, *IMAGE[1:])


def test_run_all_gives_every_tensor_and_the_same_outputs() -> None:
    model, x = _two_branches(), int8(2, *IMAGE[1:])
    values = run_all(model, [x])
    assert [value.shape for value in values] == [(2, *tensor.shape[1:]) for tensor in model.tensors]
    np.testing.assert_array_equal(values[0], x)
    np.testing.assert_array_equal(values[-1], run(model, [x])[0])


@pytest.mark.parametrize(
    ("inputs", "part"),
    [
        ([], "has 1 inputs, 0 arrays"),
        ([np.zeros((1, 4, 6, 4), np.float32)], "not float32"),
        ([np.zeros((4, 6, 4), np.int8)], "of shape (N, 4, 6, 4)"),
        ([np.zeros((1, 4, 6, 5), np.int8)], "of shape (N, 4, 6, 4)"),
    ],
)
def test_run_wrong_inputs_are_a_usage_error(inputs: list[np.ndarray], part: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(_two_branches(), inputs)
    assert part in str(caught.value)


def test_run_inputs_of_different_length_are_a_usage_error() -> None:
    model = import_tflite(tflite_models.concatenation([(1, 5), (1, 3)], 1, Q))
    with pytest.raises(UsageError, match="different numbers of samples"):
        run(model, [int8(2, 5), int8(3, 3)])


def test_run_persistent_tensor_is_a_usage_error() -> None:
    model = _two_branches()
    model.tensors[1].flags = TensorFlag.PERSISTENT
    with pytest.raises(UsageError, match="keeps its content"):
        run(model, [int8(*IMAGE)])


def test_run_16_bit_activations_are_a_usage_error() -> None:
    model = _two_branches()
    model.tensors[1].dtype = DType.INT16
    with pytest.raises(UsageError, match="is INT16"):
        run(model, [int8(*IMAGE)])


def test_run_power_of_two_requantisation_rounds_half_up() -> None:
    """acc = x; the first row is (acc + 2) >> 2, the second is not shifted."""
    requant = Requant(np.array([], np.int32), np.array([2, 0], np.int32), power_of_two=True)
    model = Model(
        tensors=[ModelTensor("x", (1, 1)), ModelTensor("y", (1, 2))],
        operators=[
            ModelOperator(
                OperatorKind.FULLY_CONNECTED,
                [0],
                [1],
                weights=Weights(np.ones((2, 1), np.int8)),
                requant=requant,
            )
        ],
        inputs=[Port(0, "x")],
        outputs=[Port(1, "y")],
    )
    x = np.array([[-7], [-6], [-5], [5], [6], [7]], np.int8)
    (output,) = run(model, [x])
    np.testing.assert_array_equal(output[:, 0], [-2, -1, -1, 1, 2, 2])
    np.testing.assert_array_equal(output[:, 1], x[:, 0])


def test_run_operator_without_weights_is_a_pack_error() -> None:
    model = Model(
        tensors=[ModelTensor("x", (1, 4), DType.FLOAT32), ModelTensor("y", (1, 4), DType.FLOAT32)],
        operators=[ModelOperator(OperatorKind.FULLY_CONNECTED, [0], [1], name="dense")],
        inputs=[Port(0, "x")],
        outputs=[Port(1, "y")],
    )
    with pytest.raises(PackError, match="'dense' has no weights"):
        run(model, [np.zeros((1, 4), np.float32)])
