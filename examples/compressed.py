"""The compressed example networks, run on the firmware's own code: second half of `make demo`.

In: the committed .thimble files beside their recipes, and the results recorded when they were made
(benchmarks/training). Out: a table: bytes, ratio against float32, accuracy as recorded, RAM, whether the
interpreter that runs on boards gives the same bits as the reference on the golden and on random inputs; and
whether an emulated Cortex-M4 does (`--target qemu:m4`), with the instructions of one inference there. Where
the emulator or a compiler for it is not installed, that part is left out, and a line says so.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.training import FLOAT_BYTES, RUNS, TITLES, load_result
from examples.digits.demo import firmware_target
from host_tools.client import Client
from host_tools.devices import open_device
from model_packager import container, reference
from model_packager.errors import UsageError
from model_packager.golden import DEFAULT_SEED, golden_inputs
from model_packager.model import Array, Model
from model_packager.passes.kernel_scratch import ram_peak_bytes

BOARD = "qemu:m4"
BOARD_INPUTS = 3
RANDOM_INPUTS = {"micropython": 7, "cpython": 0}  # beside the golden one; Python checks every step
LARGEST_MACS = 5_000_000  # ResNet-8 takes minutes in an interpreter


def sample_inputs(model: Model, random_count: int) -> list[Array]:
    """The golden input and some random ones, (N, *shape[1:]) for each port."""
    random = np.random.default_rng(1)
    return [
        np.concatenate([golden, random.integers(-128, 128, (random_count, *golden.shape[1:]), dtype=np.int8)])
        for golden in golden_inputs(model, DEFAULT_SEED)
    ]


def same_bits(ours: Sequence[Array], expected: Sequence[Array]) -> int:
    """On how many samples all outputs are equal."""
    pairs = zip(ours, expected, strict=True)
    equal = [np.all(a.reshape(len(b), -1) == b.reshape(len(b), -1), axis=1) for a, b in pairs]
    return int(np.logical_and.reduce(equal).sum())


def run_on_interpreter(target: Any, data: bytes, inputs: list[Array], expected: list[Array]) -> str:
    target.load(data)
    return f"{same_bits(target.run(inputs), expected)} of {len(inputs[0])}"


def run_on_board(client: Client, data: bytes, inputs: list[Array], expected: list[Array]) -> tuple[str, str]:
    """(samples with the same bits, instructions of one inference on the golden input)."""
    client.deploy(data)
    count = min(BOARD_INPUTS, len(inputs[0]))
    found = []
    for sample in range(count):
        outputs, _ = client.infer([batch[sample].tobytes() for batch in inputs])
        found.append([np.frombuffer(output, np.int8) for output in outputs])
    ours = [np.stack(samples) for samples in zip(*found, strict=True)]
    instructions = client.bench(1, inputs=[batch[0].tobytes() for batch in inputs])[0]
    return f"{same_bits(ours, [part[:count] for part in expected])} of {count}", f"{instructions:,}"


@contextlib.contextmanager
def emulated_board() -> Any:
    """A client of the emulated board, or None where it cannot run here."""
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(open_device(BOARD))
        except UsageError as reason:
            print(f"no emulated board here: {reason}", file=sys.stderr)
            client = None
        yield client


def main() -> int:
    """Print the table; the exit code is 1 if the firmware gave other bits than the reference."""
    name, target = firmware_target()
    title = f"Compressed networks; the firmware's MicroPython source on {name}, its C core on {BOARD}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("network")
    headings = ("bytes", "ratio", "accuracy", "RAM bytes", "same bits", "on Cortex-M4", "instructions")
    for heading in headings:
        table.add_column(heading, justify="right")
    compared: list[str] = []
    with contextlib.closing(target), emulated_board() as client:
        for run in RUNS:
            result = load_result(run)
            if result is None:
                continue
            data = run.file.read_bytes()
            model = container.load(data)
            inputs = sample_inputs(model, RANDOM_INPUTS[name])
            expected = reference.run(model, inputs)
            interpreted, (emulated, instructions) = "-", ("-", "-")
            if sum(map(model.mac_count, model.operators)) <= LARGEST_MACS:
                interpreted = run_on_interpreter(target, data, inputs, expected)
            if client is not None:
                emulated, instructions = run_on_board(client, data, inputs, expected)
            compared += [cell for cell in (interpreted, emulated) if cell != "-"]
            table.add_row(
                f"{TITLES[run.network]}, {run.recipe}",
                f"{len(data):,}",
                f"{FLOAT_BYTES[run.network] / len(data):.0f}x",
                f"{result['accuracy']:.2f} %",
                f"{ram_peak_bytes(model):,}",
                interpreted,
                emulated,
                instructions,
            )
    Console(width=120).print(table)
    return 0 if all(cell.split()[0] == cell.split()[-1] for cell in compared) else 1


if __name__ == "__main__":
    sys.exit(main())
