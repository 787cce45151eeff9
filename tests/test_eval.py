"""`thimble eval`: the counts are right, the original really runs, and misuse is one sentence."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models
from tflm_oracle import run_tflm

from host_tools.cli import main
from host_tools.judges import open_judge, original_beside
from model_packager.errors import UsageError
from model_packager.pack import pack

SAMPLES, CLASSES, INPUTS = 40, 5, 24
# The one that has a wheel for this Python (pyproject.toml, extra `judge`).
TFLITE_RUNTIME = "tflite_runtime" if importlib.util.find_spec("tflite_runtime") else "ai_edge_litert"


@pytest.fixture
def network(tmp_path: Path) -> tuple[Path, bytes]:
    """(path of the packed file, bytes of the .tflite beside it): one fully connected layer."""
    generator = np.random.default_rng(11)
    original = tflite_models.fully_connected(
        (1, INPUTS),
        generator.integers(-127, 128, (CLASSES, INPUTS)).astype(np.int8),
        generator.integers(-500, 500, CLASSES).astype(np.int32),
        (0.02, 3),
        [0.01],
        (0.05, -7),
    )
    (tmp_path / "net.tflite").write_bytes(original)
    (tmp_path / "net.thimble").write_bytes(pack(tmp_path / "net.tflite").data)
    return tmp_path / "net.thimble", original


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(12).integers(-128, 128, (SAMPLES, INPUTS)).astype(np.int8)


def _eval(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["eval", *map(str, arguments), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("kernels", ["default", "reference", "tflm"])
def test_eval_counts_right_answers_and_agreement(
    kernels: str,
    network: tuple[Path, bytes],
    samples: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    require_module: Callable[[str], Any],
) -> None:
    require_module("tflite_micro")
    path, original = network
    truth = np.stack([run_tflm(original, sample[np.newaxis])[0][0] for sample in samples])
    labels = truth.argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % CLASSES  # ten answers are wrong by construction
    np.savez(path.parent / "data.npz", x=samples, labels=labels)
    result = _eval(capsys, path, "--data", path.parent / "data.npz", "--kernels", kernels)
    assert (result["count"], result["right"]) == (SAMPLES, SAMPLES - 10)
    assert result["original_right"] == SAMPLES - 10 if kernels == "tflm" else result["original_right"] >= 25
    assert result["identical"] == SAMPLES if kernels == "tflm" else result["largest_difference"] <= 1
    assert result["judge"]


def test_eval_sees_a_packed_model_that_is_not_the_original(
    network: tuple[Path, bytes], samples: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = network
    other = path.parent / "other.tflite"
    generator = np.random.default_rng(13)
    weights = generator.integers(-127, 128, (CLASSES, INPUTS)).astype(np.int8)
    bias = np.zeros(CLASSES, np.int32)
    other.write_bytes(
        tflite_models.fully_connected((1, INPUTS), weights, bias, (0.02, 3), [0.01], (0.05, -7))
    )
    np.savez(path.parent / "data.npz", x=samples)
    result = _eval(capsys, path, "--data", path.parent / "data.npz", "--original", other)
    assert result["right"] is None
    assert result["same_class"] < SAMPLES
    assert result["identical"] < SAMPLES


def test_eval_limit_takes_the_first_samples(
    network: tuple[Path, bytes], samples: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = network
    np.savez(path.parent / "data.npz", x=samples, y=np.zeros(SAMPLES, int))
    assert _eval(capsys, path, "--data", path.parent / "data.npz", "--limit", 7)["count"] == 7


@pytest.mark.parametrize(
    ("arrays", "extra", "sentence"),
    [
        ({"y": np.zeros(3, int)}, [], "there are 3 labels for 40 samples"),
        ({"y": np.zeros(SAMPLES)}, [], "labels are integers, not float64"),
        ({"y": np.full(SAMPLES, CLASSES)}, [], "labels go from 5 to 5, the classes from 0 to 4"),
        ({"y": np.full(SAMPLES, -1)}, [], "labels go from -1 to -1"),
        ({"y": np.int64(1)}, [], "there are 1 labels for 40 samples"),
        ({}, ["--original", "net.h5"], "no runtime judges such a file"),
        ({}, ["--original", "gone.tflite"], "there is no such file"),
        ({}, ["--kernels", "best"], "the kernels are default, reference, tflm, not 'best'"),
        ({}, ["--limit", "0"], "--limit is 0"),
    ],
)
def test_eval_misuse_is_one_sentence(
    arrays: dict[str, np.ndarray],
    extra: list[str],
    sentence: str,
    network: tuple[Path, bytes],
    samples: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, _ = network
    np.savez(path.parent / "data.npz", x=samples, **arrays)
    assert main(["eval", str(path), "--data", str(path.parent / "data.npz"), *extra]) != 0
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_eval_without_labels_and_original_says_so(
    network: tuple[Path, bytes], samples: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = network
    path.with_suffix(".tflite").unlink()
    np.savez(path.parent / "data.npz", x=samples)
    assert original_beside(path) is None
    assert main(["eval", str(path), "--data", str(path.parent / "data.npz")]) == 2
    assert "neither labels nor an original" in capsys.readouterr().err


def test_judge_damaged_original_is_refused(tmp_path: Path, require_module: Callable[[str], Any]) -> None:
    require_module(TFLITE_RUNTIME)
    (tmp_path / "bad.tflite").write_bytes(b"not a model")
    with pytest.raises(UsageError, match=r"bad\.tflite: not a \.tflite file"):
        open_judge(tmp_path / "bad.tflite")


@pytest.mark.parametrize("kernels", ["default", "tflm"])
def test_judge_original_cut_anywhere_is_refused_and_never_ends_the_process(
    kernels: str, network: tuple[Path, bytes], tmp_path: Path
) -> None:
    _, original = network
    for length in range(0, len(original) - 100, 97):
        (tmp_path / "cut.tflite").write_bytes(original[:length])
        with pytest.raises(UsageError, match=r"cut\.tflite: "):
            open_judge(tmp_path / "cut.tflite", kernels)


@pytest.mark.parametrize("kernels", ["default", "tflm"])
def test_eval_original_of_another_shape_is_one_sentence(
    kernels: str,
    network: tuple[Path, bytes],
    samples: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    require_module: Callable[[str], Any],
) -> None:
    require_module("tflite_micro" if kernels == "tflm" else TFLITE_RUNTIME)
    path, _ = network
    other = path.parent / "other.tflite"
    weights = np.ones((CLASSES, INPUTS + 1), np.int8)
    other.write_bytes(
        tflite_models.fully_connected((1, INPUTS + 1), weights, None, (0.02, 3), [0.01], (0.05, -7))
    )
    np.savez(path.parent / "data.npz", x=samples)
    arguments = ["--data", path.parent / "data.npz", "--original", other, "--kernels", kernels]
    assert main(["eval", str(path), *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert "the original takes inputs of shape (1, 25), the packed model (24,)" in error
    assert error.count("\n") == 1
