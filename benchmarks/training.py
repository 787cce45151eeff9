"""The lecture's compression table, with ours beside it, from committed results; and how they were made.

    python benchmarks/training.py                     # both tables, from benchmarks/training/*.json
    python benchmarks/training.py --run lenet5_small  # train a recipe anew (PyTorch), and record it

A result holds the recipe's file, seed, commit, epochs and seconds, and what `thimble train` printed. The
packed files themselves are committed beside their recipes; the table reads their bytes, and evaluates them
again on the whole test set with the reference executor (`--quick` takes the recorded accuracy instead).
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.post_training import accuracy, cifar10, flat_mnist, mnist
from examples.gesture.recordings import load_windows
from examples.image_sets import REPOSITORY, data_folder
from model_packager import container
from model_packager.model import Model

RESULTS = REPOSITORY / "benchmarks" / "training"
FLOAT_BYTES = {"lenet300": 1_066_440, "lenet5": 1_724_320, "resnet8": 310_824, "gesture": 13_136}
TITLES = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5", "resnet8": "ResNet-8", "gesture": "gestures"}
DATA = {"lenet300": flat_mnist, "lenet5": mnist, "resnet8": cifar10, "gesture": load_windows}


@dataclass(frozen=True)
class Run:
    """A recipe of examples/, by the names of its bars; `bar` None for a run without one."""

    network: str
    recipe: str
    bars: tuple[str, str] | None

    @property
    def name(self) -> str:
        return f"{self.network}_{self.recipe}"

    @property
    def folder(self) -> Path:
        return REPOSITORY / "examples" / self.network

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.thimble"


RUNS = (
    Run("lenet300", "lecture", ("lenet300_lecture_bytes", "lenet300_lecture_accuracy")),
    Run("lenet300", "accurate", ("lenet300_accurate_bytes", "lenet300_accurate_accuracy")),
    Run("lenet5", "lecture", ("lenet5_lecture_bytes", "lenet5_lecture_accuracy")),
    Run("lenet5", "small", ("lenet5_small_bytes", "lenet5_small_accuracy")),
    Run("resnet8", "small", ("resnet8_bytes", "resnet8_accuracy")),
    Run("gesture", "small", None),
)

# (network, method, bytes, accuracy before, accuracy after) as published; the seed lecture's table first.
PUBLISHED = (
    ("lenet300", "Deep Compression (the lecture)", 27_000, 98.36, 98.42),
    ("lenet300", "EPR (Oktay et al. 2020)", 8_560, None, 98.1),
    ("lenet5", "Deep Compression (the lecture)", 44_000, 99.20, 99.26),
    ("lenet5", "Weightless", 4_520, None, 99.0),
    ("lenet5", "MIRACLE", 3_030, None, 99.31),
    ("lenet5", "EPR (Oktay et al. 2020)", 2_840, None, 99.0),
)


def xz_bytes(model: Model) -> int:
    """The weights alone, dense int8, each tensor by xz at its strongest: what no device can decode."""
    tensors = [operator.weights.values.tobytes() for operator in model.operators if operator.weights]
    return sum(len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) for data in tensors)


def load_result(run: Run) -> dict[str, Any] | None:
    """The recorded figures of a run, None if there are none."""
    path = RESULTS / f"{run.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def record(run: Run, figures: dict[str, Any], note: str | None = None) -> None:
    """Write what `thimble train --json` printed, with what is needed to repeat it; `note` says what a reader
    must know of how the run went."""
    from model_packager.training.recipe import load_training_recipe

    recipe = run.folder / "recipes" / f"{run.recipe}.yaml"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    kept = {key: value for key, value in figures.items() if key != "output"}
    result = {
        "recipe": str(recipe.relative_to(REPOSITORY)),
        "seed": load_training_recipe(recipe).seed,
        "commit": commit.stdout.strip(),
        **kept,
        **({"note": note} if note else {}),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{run.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def train(run: Run) -> None:
    """`thimble train` of a recipe; the file goes beside the recipes, the figures to benchmarks/training."""
    command = [sys.executable, "-m", "host_tools.cli", "train", "--json", "-v", "-o", str(run.file)]
    if run.network == "resnet8":
        network = data_folder() / "mlperf_tiny" / "models" / "ic_pretrainedResnet_fp32.tflite"
        command += ["--network", str(network)]
    command.append(str(run.folder / "recipes" / f"{run.recipe}.yaml"))
    printed = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    record(run, json.loads(printed))


def compression_table(quick: bool) -> tuple[Table, list[str]]:
    """(the lecture's table with ours, the lines of the bars)."""
    table = Table(
        box=box.SIMPLE_HEAD, title="Whole files; ratio against float32 weights", title_justify="left"
    )
    for heading in (
        "network",
        "method",
        "bytes",
        "ratio",
        "before",
        "after",
        "xz",
        "epochs",
        "min",
        "commit",
    ):
        table.add_column(heading, justify="left" if heading in ("network", "method") else "right")
    bars: list[str] = []
    slowest = 0.0
    for network, title in TITLES.items():
        for name, method, size, before, after in PUBLISHED:
            if name == network:
                start = "-" if before is None else f"{before:.2f}"
                ratio = f"{FLOAT_BYTES[network] / size:.0f}x"
                table.add_row(
                    title, f"{method}, published", f"{size:,}", ratio, start, f"{after:.2f}", *"----"
                )
        for run in RUNS:
            result = load_result(run)
            if run.network != network or result is None:
                continue
            data = run.file.read_bytes()
            model = container.load(data)
            reached = result["accuracy"] if quick else accuracy(model, *DATA[network]("test"))
            table.add_row(
                title,
                f"ours, {run.recipe}",
                f"{len(data):,}",
                f"{FLOAT_BYTES[network] / len(data):.0f}x",
                f"{result['float_accuracy']:.2f}",
                f"{reached:.2f}",
                f"{xz_bytes(model):,}",
                str(result["epochs"]),
                f"{result['seconds'] / 60:.1f}",
                result["commit"],
            )
            if run.bars:
                bars += [f"bar {run.bars[0]} {len(data)}", f"bar {run.bars[1]} {reached:.2f}"]
            slowest = max(slowest, result["seconds"] / 60)
    return table, [*bars, f"bar recipe_minutes {slowest:.1f}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", choices=[run.name for run in RUNS], help="train this recipe and record it")
    parser.add_argument(
        "--record", nargs=2, metavar=("NAME", "FIGURES"), help="what `thimble train --json` gave"
    )
    parser.add_argument("--note", help="with --record: what a reader must know of how the run went")
    parser.add_argument("--quick", action="store_true", help="the recorded accuracies, without evaluating")
    arguments = parser.parse_args()
    if arguments.record:
        name, figures = arguments.record
        run = next(run for run in RUNS if run.name == name)
        record(run, json.loads(Path(figures).read_text(encoding="utf-8")), arguments.note)
    if arguments.run:
        train(next(run for run in RUNS if run.name == arguments.run))
    table, bars = compression_table(arguments.quick)
    Console(width=120).print(table)
    print("\n".join(bars))
    return 0


if __name__ == "__main__":
    sys.exit(main())
