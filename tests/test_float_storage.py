"""Networks that are stored as fp32, fp16 and bfloat16, without quantisation: the reference runs them, every
other executor refuses them by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from examples.architectures.networks import BLOCKS
from host_tools import cli
from host_tools.c_array import export
from host_tools.targets import open_target
from model_packager import container, reference
from model_packager.encoders.floats import pack_floats, unpack_floats
from model_packager.errors import FormatError, PackError, UsageError
from model_packager.format_table import DType, FloatFormat, OperatorKind
from model_packager.importers.onnx import import_onnx
from model_packager.model import Model, Operator, Port, Tensor, Weights
from model_packager.pack import pack
from model_packager.recipe import Recipe

GRAPH = BLOCKS["shuffle_block"].build("shuffle_block").SerializeToString()
# Half a unit in the last place of a number near 1.
ROUNDING = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bfloat16": 2.0**-8}


def images(model: Model, count: int = 3) -> list[np.ndarray]:
    shape = model.tensors[model.inputs[0].tensor].shape[1:]
    return [np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32)]


def test_pack_floats_rounds_to_nearest_even() -> None:
    # bfloat16 has 7 bits behind the binary point: 1 + 2^-8 lies half way between 1 and 1 + 2^-7.
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8 + 2**-20), 0.0], np.float32)
    stored = pack_floats(values, FloatFormat.BFLOAT16)
    assert stored.hex() == "803f803f823f81bf0000"
    expected = [1.0, 1.0, 1 + 2**-6, -(1 + 2**-7), 0.0]
    np.testing.assert_array_equal(unpack_floats(stored, FloatFormat.BFLOAT16), np.float32(expected))
    assert pack_floats(np.float32([1 + 2**-11, -2]), FloatFormat.FP16).hex() == "003c00c0"
    assert pack_floats(np.float32([1.0]), FloatFormat.FP32).hex() == "0000803f"


@pytest.mark.parametrize(
    ("value", "kind"),
    [(70_000.0, FloatFormat.FP16), (3.4e38, FloatFormat.BFLOAT16), (np.inf, FloatFormat.FP32)],
)
def test_pack_floats_beyond_the_range_is_refused(value: float, kind: FloatFormat) -> None:
    with pytest.raises(PackError, match=f"cannot be stored as {kind.name.lower()}"):
        pack_floats(np.float32([value]), kind)


@pytest.mark.parametrize("storage", ["fp32", "fp16", "bfloat16"])
def test_pack_stores_floats_that_the_reference_runs(storage: str) -> None:
    model = import_onnx(GRAPH)
    inputs = images(model)
    result = pack(import_onnx(GRAPH), storage=storage)
    loaded = container.load(result.data)
    assert loaded.golden is None and all(tensor.dtype is DType.FLOAT32 for tensor in loaded.tensors)
    (expected,), (actual,) = reference.run(model, inputs), reference.run(loaded, inputs)
    gap = np.abs(actual - expected).max() / np.abs(expected).max()
    assert 0 < gap < 16 * ROUNDING[storage]  # four layers, each with rounded weights and biases
    item_bytes = 4 if storage == "fp32" else 2
    assert result.report.weights_after * item_bytes < len(result.data)
    assert len(result.data) < 1.35 * result.report.weights_after * item_bytes + 700


def test_pack_float_model_with_fused_activations_stores_them_as_functions() -> None:
    tensors = [Tensor(name, (1, 3), DType.FLOAT32) for name in "xy"]
    weights = Weights(np.eye(3, dtype=np.float32) * 4)
    layer = Operator(OperatorKind.FULLY_CONNECTED, [0], [1], weights=weights, options={"activation": "relu6"})
    result = pack(Model(tensors, [layer], [Port(0, "x")], [Port(1, "y")]), storage="fp16")
    assert [operator.kind.name for operator in result.model.operators] == ["FULLY_CONNECTED", "LOOKUP"]
    (output,) = reference.run(container.load(result.data), [np.float32([[-1.0, 1.0, 2.0]])])
    assert output.tolist() == [[0.0, 4.0, 6.0]]


@pytest.mark.parametrize(
    ("target", "executor"),
    [("native", "the C core"), ("cpython", "the device package here"), ("micropython", "the device")],
)
def test_executors_of_devices_refuse_floats_by_name(target: str, executor: str, micropython: Path) -> None:
    opened = open_target(target)
    with pytest.raises(FormatError, match=f"unsupported_feature: needs float_tensors, which {executor} does"):
        opened.load(pack(import_onnx(GRAPH), storage="fp16").data)
    opened.close()


def test_export_of_floats_is_refused() -> None:
    with pytest.raises(UsageError, match="FLOAT_TENSORS, which the C core does not have"):
        export(pack(import_onnx(GRAPH), storage="fp16").data, "net")


def test_pack_floats_takes_no_recipe_and_no_integers() -> None:
    with pytest.raises(UsageError, match="no calibration and no recipe"):
        pack(import_onnx(GRAPH), storage="fp16", recipe=Recipe())
    with pytest.raises(UsageError, match="no storage 'fp8'"):
        pack(import_onnx(GRAPH), storage="fp8")
    integers = container.load((Path(__file__).parent / "vectors/files/fully_connected.thimble").read_bytes())
    with pytest.raises(PackError, match="is integer already"):
        pack(integers, storage="bfloat16")


def test_cli_packs_inspects_and_runs_floats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, packed, output = tmp_path / "net.onnx", tmp_path / "net.thimble", tmp_path / "y.npy"
    source.write_bytes(GRAPH)
    inputs = images(import_onnx(GRAPH))
    np.save(tmp_path / "x.npy", inputs[0])
    assert cli.main(["pack", str(source), "-o", str(packed), "--storage", "bfloat16"]) == 0
    assert cli.main(["inspect", str(packed)]) == 0
    assert "bfloat16" in capsys.readouterr().out
    run = ["run", str(packed), "--input", str(tmp_path / "x.npy"), "--output", str(output), "--target"]
    assert cli.main([*run, "reference"]) == 0
    np.testing.assert_array_equal(
        np.load(output).reshape(3, -1),
        reference.run(container.load(packed.read_bytes()), inputs)[0].transpose(0, 3, 1, 2).reshape(3, -1),
    )
    assert cli.main([*run, "native"]) != 0
    lacks = "net.thimble: unsupported_feature: needs float_tensors, which the C core does not run; "
    assert lacks + "`thimble run --target reference` does" in capsys.readouterr().err
    assert cli.main(["analyze", str(packed)]) == 0
    assert cli.main(["bench", str(packed), "--target", "native"]) != 0
    assert "unsupported_feature" in capsys.readouterr().err
    np.savez(tmp_path / "x.npz", image=inputs[0].transpose(0, 3, 1, 2), labels=np.zeros(3, np.int64))
    command = ["eval", str(packed), "--data", str(tmp_path / "x.npz"), "--original", str(source), "--json"]
    capsys.readouterr()
    assert cli.main([*command, "--target", "reference"]) == 0
    largest = json.loads(capsys.readouterr().out)["largest_difference"]
    assert 0 < largest < 0.1  # bfloat16 beside the very network in float32
    assert cli.main(["pack", str(source), "--storage", "fp16", "--board", "pico"]) != 0
    assert "no board runs a network that is stored as fp16" in capsys.readouterr().err
