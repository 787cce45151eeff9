"""The demo: packs the digit classifier at several compression levels, runs each on the firmware's own code.

In: ``digits.onnx`` beside this file (float32) and scikit-learn's digit images. Out: a table: bytes of the
file, accuracy on the 360 test images, RAM, and whether the interpreter that runs on boards gave the same
bits: its very source, in MicroPython where that is installed, else in Python. Files go to ``build/digits``.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from host_tools.atomic_file import replacing
from host_tools.progress import progress_bar
from host_tools.targets import open_target
from model_packager import reference
from model_packager.errors import ThimbleError
from model_packager.pack import PackResult, import_model, pack
from model_packager.recipe import load_recipe
from model_packager.sample_arrays import batches_for_inputs, quantised_batch

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CALIBRATION_COUNT = 200
EMULATED_COUNT = {"micropython": 40, "cpython": 2}  # images; Python checks every step, which takes seconds
LEVELS = (
    ("int8, lossless", None),
    ("16 shared weights", "shared.yaml"),
    ("pruned and shared", "pruned.yaml"),
    ("Deep Compression", "deep_compression.yaml"),
    ("one ternary layer", "ternary.yaml"),
)


@dataclass(frozen=True)
class Level:
    """One row of the table; times in seconds."""

    name: str
    result: PackResult
    right: int
    count: int
    emulated: int
    identical: int
    seconds: float


def firmware_target() -> tuple[str, Any]:
    """(name, open target): MicroPython where its binary is installed, else the same source on this Python."""
    try:
        return "micropython", open_target("micropython")
    except ThimbleError as error:
        print(f"no MicroPython here ({error}): running its source on Python", file=sys.stderr)
        return "cpython", open_target("cpython")


def run_level(
    name: str,
    recipe: str | None,
    data: tuple[np.ndarray, ...],
    target: Any,
    emulated_count: int,
    folder: Path,
) -> Level:
    """Pack one level, evaluate it on all test images, and emulate some of them on the firmware."""
    train_images, _, test_images, test_labels = data
    chosen = load_recipe(HERE / "recipes" / recipe) if recipe else None
    calibration = {"pixels": train_images[:CALIBRATION_COUNT]}
    result = pack(HERE / "digits.onnx", calibration=calibration, recipe=chosen)
    with replacing(folder / f"{name.replace(', ', '_').replace(' ', '_')}.thimble") as file:
        file.write(result.data)
    batches = batches_for_inputs({"pixels": test_images}, result.model)
    steps = [
        quantised_batch(batch, result.model, port)
        for batch, port in zip(batches, result.model.inputs, strict=True)
    ]
    expected = reference.run(result.model, steps)[0].reshape(len(test_labels), -1)
    target.load(result.data)
    started = time.perf_counter()
    emulated = target.run([step[:emulated_count] for step in steps])[0].reshape(emulated_count, -1)
    seconds = time.perf_counter() - started
    identical = int(np.all(emulated == expected[:emulated_count], axis=1).sum())
    right = int((expected.argmax(axis=1) == test_labels).sum())
    return Level(name, result, right, len(test_labels), emulated_count, identical, seconds)


def table_of(levels: list[Level], float_bytes: int, float_right: int, target: str) -> Table:
    """The table that the demo prints."""
    title = f"Handwritten digits of 8 x 8 pixels; the firmware ran on {target}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for heading in ("compression", "bytes", "of float32", "accuracy", "RAM bytes", "same bits"):
        table.add_column(heading, justify="left" if heading == "compression" else "right")
    count = levels[0].count
    table.add_row("float32 weights", f"{float_bytes:,}", "100.0%", f"{float_right / count:.2%}", "-", "-")
    for level in levels:
        size = len(level.result.data)
        table.add_row(
            level.name,
            f"{size:,}",
            f"{size / float_bytes:.1%}",
            f"{level.right / count:.2%}",
            f"{level.result.report.ram_peak_bytes:,}",
            f"{level.identical} of {level.emulated}",
        )
    return table


def main() -> int:
    """Print the table; the exit code is 1 if the firmware gave other bits than the reference."""
    from examples.digits.dataset import load_split

    data = load_split()
    folder = REPOSITORY / "build" / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    float_model = import_model(HERE / "digits.onnx")
    float_bytes = sum(
        4 * (operator.weights.values.size + (operator.bias.size if operator.bias is not None else 0))
        for operator in float_model.operators
        if operator.weights is not None
    )
    outputs = reference.run(float_model, batches_for_inputs({"pixels": data[2]}, float_model))[0]
    float_right = int((outputs.reshape(len(data[3]), -1).argmax(axis=1) == data[3]).sum())
    name, target = firmware_target()
    levels = []
    try:
        with progress_bar("packing and emulating") as progress:
            for place, (level, recipe) in enumerate(LEVELS):
                levels.append(run_level(level, recipe, data, target, EMULATED_COUNT[name], folder))
                progress(place + 1, len(LEVELS))
    finally:
        target.close()
    Console().print(table_of(levels, float_bytes, float_right, name))
    for level in levels:
        rate = level.emulated / level.seconds
        print(f"{level.name}: {rate:.0f} images a second on {name}, on this computer, transfers included")
    print(f"files: {folder.relative_to(REPOSITORY)}")
    return 0 if all(level.identical == level.emulated for level in levels) else 1


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    sys.exit(main())
