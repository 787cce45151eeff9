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
