"""The lecture's two tables, with ours beside them, from committed results; and how those were made.

    python benchmarks/training.py                     # both tables, from benchmarks/training/*.json
    python benchmarks/training.py --run lenet5_small  # train a recipe anew (PyTorch), and record it
    python benchmarks/training.py --record lenet5_small FIGURES.json   # what `thimble train --json` printed

A result holds the recipe's file, seed, commit, epochs and seconds, and what `thimble train` printed. The
first table is of whole files, which are committed beside their recipes: it reads their bytes, and evaluates
them again on the whole test set with the reference executor (`--quick` takes the recorded accuracy instead).
The second one is of methods of quantising, each trained for a few epochs from the float network; its
accuracies are those recorded. The figures of nncodec are measured by benchmarks/nncodec_bytes.py.
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

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.post_training import accuracy, cifar10, flat_mnist, mnist
from examples.gesture.recordings import load_windows
from examples.image_sets import REPOSITORY, data_folder, load_idx
from host_tools.inspect import inspect_file
from model_packager import container
from model_packager.model import Array, Model

RESULTS = REPOSITORY / "benchmarks" / "training"


def fashion(part: str) -> tuple[Array, Array]:
    images, labels = load_idx("fashion_mnist", part)
    return images.astype(np.float32) / 255, labels


FLOAT_BYTES = {
    "lenet300": 1_066_440,
    "lenet5": 1_724_320,
    "fashion": 246_056,
    "resnet8": 310_824,
    "gesture": 13_136,
}
TITLES = {
    "lenet300": "LeNet-300-100",
    "lenet5": "LeNet-5",
    "fashion": "Fashion CNN",
    "resnet8": "ResNet-8",
    "gesture": "gestures",
}
DATA = {
    "lenet300": flat_mnist,
    "lenet5": mnist,
    "fashion": fashion,
    "resnet8": cifar10,
    "gesture": load_windows,
}


@dataclass(frozen=True)
class Run:
    """A recipe of examples/: its network, its name, the folder of both where that is not the network's.
    `bars`: the names for bytes and accuracy; `is_kept`: whether the packed file is committed beside the
    recipes."""

    network: str
    recipe: str
    bars: tuple[str, str] | None = None
    folder_name: str = ""
    is_kept: bool = True

    @property
    def name(self) -> str:
        return f"{self.network}_{self.recipe}"

    @property
    def folder(self) -> Path:
        return REPOSITORY / "examples" / (self.folder_name or self.network)

    @property
    def recipe_path(self) -> Path:
        return self.folder / "recipes" / f"{self.name if self.folder_name else self.recipe}.yaml"

    @property
    def file(self) -> Path:
        return (self.folder if self.is_kept else REPOSITORY / "build") / f"{self.name}.thimble"


def bars_of(name: str) -> tuple[str, str]:
    return f"{name}_bytes", f"{name}_accuracy"


RUNS = (
    Run("lenet300", "lecture", bars_of("lenet300_lecture")),
    Run("lenet300", "accurate", bars_of("lenet300_accurate")),
    Run("lenet300", "small", bars_of("lenet300_small")),
    Run("lenet5", "lecture", bars_of("lenet5_lecture")),
    Run("lenet5", "small", bars_of("lenet5_small")),
    Run("lenet5", "tiny"),
    Run("fashion", "small"),
    Run("fashion", "xnor"),
    Run("resnet8", "small", bars_of("resnet8")),
    Run("gesture", "small"),
)


@dataclass(frozen=True)
class SummaryRow:
    """A row of the lecture's quantisation summary: bits of weights and activations and the accuracy lost, in
    points, as published (AlexNet and its like on ImageNet; None for a row that is ours alone), and our
    run."""

    method: str
    published_bits: str
    published_loss: float | None
    bits: str
    run: Run
    bar: str | None = None


def _on_mnist(network: str, recipe: str) -> Run:
    return Run(network, recipe, folder_name="mnist", is_kept=False)


SUMMARY = (
    SummaryRow("fixed point, not tuned", "8, 10", 0.4, "8, 8", _on_mnist("lenet300", "fixed_untuned")),
    SummaryRow("fixed point, fine-tuned", "8, 8", 0.6, "8, 8", _on_mnist("lenet300", "fixed_point")),
    SummaryRow("TWN", "2, 32", 3.7, "2, 8", _on_mnist("lenet300", "twn")),
    SummaryRow("TTQ", "2, 32", 0.6, "2, 8", _on_mnist("lenet300", "ttq")),
    SummaryRow("TTQ", "2, 32", 0.6, "2, 8", _on_mnist("lenet5", "ttq"), "ttq_loss"),
    SummaryRow("BinaryConnect", "1, 32", 19.2, "1, 8", _on_mnist("lenet300", "binary_connect")),
    SummaryRow("BWN", "1, 32", 0.8, "1, 8", _on_mnist("lenet300", "bwn")),
    SummaryRow("BWN", "1, 32", 0.8, "1, 8", _on_mnist("lenet5", "bwn"), "bwn_loss"),
    SummaryRow("BNN", "1, 1", 29.8, "1, 1", _on_mnist("lenet300", "bnn")),
    SummaryRow("XNOR-Net", "1, 1", 11.0, "1, 1", Run("fashion", "xnor"), "xnor_loss"),
    SummaryRow("LogNet", "5 and 4, 4", 3.2, "4, 4", _on_mnist("lenet300", "log_domain")),
    SummaryRow("weight sharing", "8 and 4, 16", 0.0, "4, 8", _on_mnist("lenet300", "weight_sharing")),
    SummaryRow("TernaryConnect", "2, 32", None, "2, 8", _on_mnist("lenet300", "ternary_connect")),
    SummaryRow("learned step (LSQ)", "", None, "4, 8", _on_mnist("lenet300", "learned_step")),
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


def all_runs() -> dict[str, Run]:
    """Every recipe of both tables by its name."""
    return {run.name: run for run in (*(row.run for row in SUMMARY), *RUNS)}


def xz_bytes(model: Model) -> int:
    """The weights alone, dense int8, each tensor by xz at its strongest: what no device can decode."""
    tensors = [operator.weights.values.tobytes() for operator in model.operators if operator.weights]
    return sum(len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) for data in tensors)


def load_result(run: Run) -> dict[str, Any] | None:
    """The recorded figures of a run, None if there are none."""
    path = RESULTS / f"{run.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def save_result(run: Run, result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{run.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def record(run: Run, figures: dict[str, Any], note: str | None = None) -> None:
    """Write what `thimble train --json` printed, with what is needed to repeat it; `note` says what a reader
    must know of how the run went."""
    from model_packager.training.recipe import load_training_recipe

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    kept = {key: value for key, value in figures.items() if key != "output"}
    result = {
        "recipe": str(run.recipe_path.relative_to(REPOSITORY)),
        "seed": load_training_recipe(run.recipe_path).seed,
        "commit": commit.stdout.strip(),
        **kept,
        **({"note": note} if note else {}),
    }
    save_result(run, result)


def train(run: Run) -> None:
    """`thimble train` of a recipe on one core, since sums follow the number of threads; the file goes beside
    the recipes, or into build where it is not kept, the figures to benchmarks/training."""
    run.file.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "host_tools.cli", "train", "--json", "-v", "--threads", "1"]
    if run.network == "resnet8":
        network = data_folder() / "mlperf_tiny" / "models" / "ic_pretrainedResnet_fp32.tflite"
        command += ["--network", str(network)]
    command += ["-o", str(run.file), str(run.recipe_path)]
    printed = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    record(run, json.loads(printed))


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def compression_table(quick: bool) -> tuple[Table, list[str]]:
    """(the lecture's table of files with ours, the lines of the bars)."""
    table = _table(
        "Whole files; ratio against float32 weights; the same integer weights alone by us, nncodec and xz",
        ("network", "method"),
        ("bytes", "ratio", "before", "after", "weights", "nncodec", "xz", "min", "commit"),
    )
    bars: list[str] = []
    for network, title in TITLES.items():
        for name, method, size, before, after in PUBLISHED:
            if name == network:
                start = "-" if before is None else f"{before:.2f}"
                ratio = f"{FLOAT_BYTES[network] / size:.0f}x"
                table.add_row(
                    title, f"{method}, published", f"{size:,}", ratio, start, f"{after:.2f}", *"-----"
                )
        for run in RUNS:
            if run.network == network:
                cells, found = _compression_cells(run, quick)
                table.add_row(title, f"ours, {run.recipe}", *cells)
                bars += found
    return table, bars


def _compression_cells(run: Run, quick: bool) -> tuple[tuple[str, ...], list[str]]:
    result = load_result(run)
    if result is None:
        return ("not trained", *"--------"), []
    data = run.file.read_bytes()
    model = container.load(data)
    reached = result["accuracy"] if quick else accuracy(model, *DATA[run.network]("test"))
    cells = (
        f"{len(data):,}",
        f"{FLOAT_BYTES[run.network] / len(data):.0f}x",
        f"{result['float_accuracy']:.2f}",
        f"{reached:.2f}",
        f"{inspect_file(data).weight_bytes:,}",
        f"{result['nncodec']['bytes']:,}" if "nncodec" in result else "-",
        f"{xz_bytes(model):,}",
        f"{result['seconds'] / 60:.1f}",
        result["commit"],
    )
    bars = [] if run.bars is None else [f"bar {run.bars[0]} {len(data)}", f"bar {run.bars[1]} {reached:.2f}"]
    return cells, bars


def summary_table() -> tuple[Table, list[str]]:
    """(the lecture's summary of quantisation with ours, the lines of the bars)."""
    table = _table(
        "Bits of weights and activations; accuracy lost against float32, in points; published: on ImageNet",
        ("method", "published bits", "bits", "network"),
        ("published loss", "loss", "float", "after", "bytes", "epochs", "min", "commit"),
    )
    bars = []
    for row in SUMMARY:
        result = load_result(row.run)
        published = "-" if row.published_loss is None else f"{row.published_loss:.1f}"
        head = (row.method, row.published_bits, row.bits, TITLES[row.run.network], published)
        if result is None:
            table.add_row(*head, "not trained", *"------")
            continue
        loss = result["float_accuracy"] - result["accuracy"]
        table.add_row(
            *head,
            f"{loss:.2f}",
            f"{result['float_accuracy']:.2f}",
            f"{result['accuracy']:.2f}",
            f"{result['file_bytes']:,}",
            str(result["epochs"]),
            f"{result['seconds'] / 60:.1f}",
            result["commit"],
        )
        if row.bar:
            bars.append(f"bar {row.bar} {loss:.2f}")
    return table, bars


def longest_minutes() -> float:
    """Of all recorded runs."""
    results = [load_result(run) for run in all_runs().values()]
    return max(result["seconds"] for result in results if result is not None) / 60


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    runs = all_runs()
    parser.add_argument("--run", choices=runs, help="train this recipe and record it")
    parser.add_argument(
        "--record", nargs=2, metavar=("NAME", "FIGURES"), help="what `thimble train --json` gave"
    )
    parser.add_argument("--note", help="with --record: what a reader must know of how the run went")
    parser.add_argument("--quick", action="store_true", help="the recorded accuracies, without evaluating")
    arguments = parser.parse_args()
    if arguments.record:
        name, figures = arguments.record
        if name not in runs:
            parser.error(f"there is no run '{name}'; there are {', '.join(runs)}")
        record(runs[name], json.loads(Path(figures).read_text(encoding="utf-8")), arguments.note)
    if arguments.run:
        train(runs[arguments.run])
    for table, bars in (compression_table(arguments.quick), summary_table()):
        Console(width=150).print(table)
        print("\n".join(bars))
    print(f"bar recipe_minutes {longest_minutes():.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
