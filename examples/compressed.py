"""The compressed example networks, run on the firmware's own code: second half of `make demo`.

In: the committed .thimble files beside their recipes, and the results recorded when they were made
(benchmarks/training). Out: a table: bytes, ratio against float32, accuracy as recorded, RAM, and whether the
interpreter that runs on boards gives the same bits as the reference on the golden and on random inputs.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.training import FLOAT_BYTES, RUNS, TITLES, load_result
from examples.digits.demo import firmware_target
from model_packager import container, reference
from model_packager.golden import DEFAULT_SEED, golden_inputs
from model_packager.model import Array, Model
from model_packager.passes.kernel_scratch import ram_peak_bytes

RANDOM_INPUTS = {"micropython": 7, "cpython": 0}  # beside the golden one; Python checks every step
LARGEST_MACS = 5_000_000  # ResNet-8 takes minutes in an interpreter


def sample_inputs(model: Model, random_count: int) -> list[Array]:
    """The golden input and some random ones, (N, *shape[1:]) for each port."""
    random = np.random.default_rng(1)
    return [
        np.concatenate([golden, random.integers(-128, 128, (random_count, *golden.shape[1:]), dtype=np.int8)])
        for golden in golden_inputs(model, DEFAULT_SEED)
    ]


def main() -> int:
    """Print the table; the exit code is 1 if the firmware gave other bits than the reference."""
    name, target = firmware_target()
    table = Table(
        box=box.SIMPLE_HEAD, title=f"Compressed networks; the firmware ran on {name}", title_justify="left"
    )
    for heading in ("network", "bytes", "ratio", "accuracy", "RAM bytes", "same bits"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    all_same = True
    try:
        for run in RUNS:
            result = load_result(run)
            model = None if result is None else container.load(run.file.read_bytes())
            if result is None or model is None or sum(map(model.mac_count, model.operators)) > LARGEST_MACS:
                continue
            inputs = sample_inputs(model, RANDOM_INPUTS[name])
            target.load(run.file.read_bytes())
            pairs = zip(target.run(inputs), reference.run(model, inputs), strict=True)
            same = all(np.array_equal(ours.reshape(expected.shape), expected) for ours, expected in pairs)
            all_same &= same
            size, count = run.file.stat().st_size, len(inputs[0])
            table.add_row(
                f"{TITLES[run.network]}, {run.recipe}",
                f"{size:,}",
                f"{FLOAT_BYTES[run.network] / size:.0f}x",
                f"{result['accuracy']:.2f} %",
                f"{ram_peak_bytes(model):,}",
                f"{count if same else 0} of {count}",
            )
    finally:
        target.close()
    Console(width=100).print(table)
    return 0 if all_same else 1


if __name__ == "__main__":
    sys.exit(main())
