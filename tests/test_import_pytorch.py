"""Structures of published networks as PyTorch exports them: committed graphs, and modules."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from onnx_models import compare, imported_outputs, kinds, original_outputs, sample_inputs

from host_tools.targets import open_target
from model_packager import container
from model_packager.errors import ImportRefused, UsageError
from model_packager.importers.onnx import import_onnx
from model_packager.importers.pytorch import import_module
from model_packager.pack import pack
from model_packager.reference import run

DATA = REPOSITORY / "tests" / "data"
GRAPHS = sorted(DATA.glob("*.onnx"))
NO_TORCH = "PyTorch is not installed; `make test-train` installs it"


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_import_onnx_exported_structure_computes_as_onnxruntime(path: Path) -> None:
    assert path.stat().st_size < 50_000
    compare(path.read_bytes(), tolerance=2e-5)


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_pack_exported_structure_stays_close_to_the_original(path: Path) -> None:
    """Calibrated on 64 random inputs: the error is a small part of the outputs' spread over other inputs."""
    data = path.read_bytes()
    result = pack(path, calibration=sample_inputs(data, seed=50, count=64))
    inputs = sample_inputs(data, seed=80, count=32)
    ours = imported_outputs(result.model, inputs)[0]
    theirs = original_outputs(data, inputs)[0].reshape(ours.shape)
    noise = np.sqrt(np.mean((ours - theirs) ** 2)) / theirs.std()
    assert noise < 0.1
    assert result.report.file_bytes <= result.report.raw_file_bytes


@pytest.mark.parametrize("name", ["cpython", "micropython"])
def test_run_of_exported_structures_is_the_same_on_every_executor(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Random bytes as inputs: they reach further than calibrated ones."""
    if name == "micropython":
        request.getfixturevalue("micropython")
    random = np.random.default_rng(21)
    target = open_target(name)
    try:
        for path in GRAPHS:
            data = pack(path, calibration=sample_inputs(path.read_bytes(), seed=50, count=8)).data
            model = container.load(data)
            shapes = [model.tensors[port.tensor].shape for port in model.inputs]
            inputs = [random.integers(-128, 128, (2, *shape[1:]), dtype=np.int8) for shape in shapes]
            target.load(data)
            for ours, expected in zip(target.run(inputs), run(model, inputs), strict=True):
                np.testing.assert_array_equal(ours, expected, err_msg=path.stem)
    finally:
        target.close()


def test_import_onnx_graphs_are_those_of_the_script() -> None:
    script = (DATA / "make_onnx_graphs.py").read_text(encoding="utf-8")
    assert len(GRAPHS) == 8
    assert all(f'    "{path.stem}": (' in script for path in GRAPHS)


def test_import_onnx_shuffle_unit_folds_and_needs_one_transpose_each() -> None:
    model = import_onnx(DATA / "shuffle_unit.onnx")
    assert kinds(model).count("TRANSPOSE") == 2


def test_import_module_computes_as_pytorch() -> None:
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    graphs = importlib.import_module("data.make_onnx_graphs")
    for name in graphs.MODULES:
        module, example = graphs.build_module(name)
        module.train()
        model = import_module(module, example)
        assert module.training
        inputs = torch.randn(4, *example.shape[1:])
        with torch.no_grad():
            expected = module.eval()(inputs).numpy()
        ours = imported_outputs(model, {model.inputs[0].name: inputs.numpy()})[0]
        np.testing.assert_allclose(ours.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


def test_import_module_that_cannot_be_exported_is_refused() -> None:
    torch = pytest.importorskip("torch", reason=NO_TORCH)

    class Unsupported(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, x):  # type: ignore[no-untyped-def]
            return torch.linalg.qr(x)[0]

    with pytest.raises(ImportRefused, match="PyTorch cannot export the module to ONNX") as caught:
        import_module(Unsupported(), torch.zeros(1, 3, 3))
    assert "\n" not in str(caught.value)


def test_import_module_without_pytorch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UsageError, match=r"pip install 'thimble-runtime\[train\]'"):
        import_module(None, None)
