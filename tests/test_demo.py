"""The demo runs as its user runs it, and the committed int8 file is what the packer makes today."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model_packager import container, reference
from model_packager.pack import pack
from model_packager.sample_arrays import batches_for_inputs, quantised_batch
from tests.conftest import require_tool

DEMO_LEVELS = (
    "int8, lossless",
    "16 shared weights",
    "pruned and shared",
    "Deep Compression",
    "one ternary layer",
)


def test_demo_prints_every_level_with_the_firmware_in_agreement(
    repository: Path, micropython: Path, require_module: Callable[[str], Any]
) -> None:
    require_module("sklearn")
    require_module("onnx")
    command = [sys.executable, str(repository / "examples" / "digits" / "demo.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=repository.parent)
    assert done.returncode == 0, done.stderr
    sizes = []
    for level in DEMO_LEVELS:
        row = re.search(rf"{level} +([\d,]+) +[\d.]+% +([\d.]+)% +[\d,]+ +40 of 40", done.stdout)
        assert row, f"no row for {level} in\n{done.stdout}"
        sizes.append(int(row[1].replace(",", "")))
        assert float(row[2]) > 96
    assert sizes == sorted(sizes, reverse=True)


def test_demo_int8_file_is_reproducible_and_classifies(
    repository: Path, require_module: Callable[[str], Any]
) -> None:
    require_module("sklearn")
    require_module("onnx")
    from examples.digits.dataset import load_split

    images, _, test_images, test_labels = load_split()
    folder = repository / "examples" / "digits"
    data = (folder / "digits_int8.thimble").read_bytes()
    model = container.load(data)
    made = container.load(pack(folder / "digits.onnx", calibration={"pixels": images[:200]}).data)
    for committed, fresh in zip(model.operators, made.operators, strict=True):
        if committed.weights is not None and fresh.weights is not None:
            assert np.array_equal(committed.weights.values, fresh.weights.values)
    batches = batches_for_inputs({"pixels": test_images}, model)
    steps = [quantised_batch(batch, model, port) for batch, port in zip(batches, model.inputs, strict=True)]
    outputs = reference.run(model, steps)[0].reshape(len(test_labels), -1)
    assert (outputs.argmax(axis=1) == test_labels).mean() > 0.985


def test_compressed_networks_run_on_the_firmware_bit_for_bit(repository: Path, micropython: Path) -> None:
    """In MicroPython, but for ResNet-8, and on an emulated Cortex-M4."""
    from benchmarks.training import RUNS, load_result

    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    command = [sys.executable, str(repository / "examples" / "compressed.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=repository.parent)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"([\d,]+) +\d+x +[\d.]+ % +[\d,]+ +(8 of 8|-) +3 of 3 +([\d,]+)", done.stdout)
    results = [load_result(run) for run in RUNS]
    sizes = [f"{result['file_bytes']:,}" for result in results if result is not None]
    assert sizes and [row[0] for row in rows] == sizes
    assert [row[1] for row in rows].count("-") == 1
    assert all(int(row[2].replace(",", "")) > 100_000 for row in rows)


def test_recorded_results_are_those_of_the_committed_files(repository: Path, data_dir: Path) -> None:
    """The bytes of each file, and for the gestures the accuracy, which is quick to measure."""
    from benchmarks.post_training import accuracy
    from benchmarks.training import RUNS, all_runs, load_result
    from examples.gesture.recordings import load_windows

    for run in all_runs().values():
        result = load_result(run)
        if run in RUNS:
            assert run.file.exists() == (result is not None), run.name
            assert result is None or run.file.stat().st_size == result["file_bytes"]
        if result is not None:
            # In ResNet-8, whose sums the training graph rounds once, 19 of 10,000 images differ.
            assert result["agreement"] >= (99.8 if run.network == "resnet8" else 99.9)
            assert result["recipe"] == str(run.recipe_path.relative_to(repository))
            assert run.recipe_path.is_file()
    gestures = container.load((repository / "examples" / "gesture" / "gesture_small.thimble").read_bytes())
    measured = accuracy(gestures, *load_windows("test"))
    recorded = load_result(next(run for run in RUNS if run.name == "gesture_small"))
    assert recorded is not None and abs(measured - recorded["accuracy"]) < 0.01


def test_training_picture_has_a_mark_for_each_result_and_published_figure() -> None:
    from xml.etree import ElementTree

    from benchmarks.training import PUBLISHED, all_runs, load_result
    from benchmarks.training_picture import NETWORKS, draw
    from host_tools.picture import COLOURS

    marks = [element.get("fill") for element in ElementTree.fromstring(draw()).iter() if element.get("d")]
    assert marks.count(COLOURS["orange"][0]) == len(PUBLISHED) + 1  # one in the legend
    circles = [element for element in ElementTree.fromstring(draw()).iter() if element.tag.endswith("circle")]
    recorded = [
        run for run in all_runs().values() if load_result(run) is not None and run.network in NETWORKS
    ]
    assert len(circles) == len(recorded) + 2
