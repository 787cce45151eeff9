"""Figures of other stacks that MLPerf Tiny has published, to print beside one's own.

In goes the data set's mlperf_tiny/published_results.csv, which does not ship with Thimble; out comes the row
that is nearest to a measurement: the same benchmark, and as far as there are any, results of the same board.
"""

from __future__ import annotations

import csv
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from model_packager.model import Model

FILE = Path("mlperf_tiny") / "published_results.csv"
# Benchmark by the shapes of its first input and output, which all submitted networks share.
BENCHMARKS: dict[tuple[tuple[int, ...], ...], str] = {
    ((1, 49, 10, 1), (1, 12)): "kws",
    ((1, 32, 32, 3), (1, 10)): "ic",
    ((1, 96, 96, 3), (1, 2)): "vww",
    ((1, 640), (1, 640)): "ad",
}
# Where a board itself has no results: the board of the same core that has the most.
BOARD_OF_CORE = {"Cortex-M0": "G0B1RE", "Cortex-M0+": "G0B1RE", "Cortex-M4": "L4R5ZI", "Cortex-M7": "H7A3ZI"}


@dataclass(frozen=True)
class Published:
    """One published latency."""

    benchmark: str
    milliseconds: float
    system: str
    organisation: str
    round: str

    def text(self) -> str:
        """One line for people."""
        where = f"{self.organisation}, {self.system}, MLPerf Tiny {self.round}"
        return f"{self.benchmark} in {self.milliseconds:,.2f} ms ({where})"


def benchmark_of(model: Model) -> str | None:
    """Which benchmark of MLPerf Tiny the network is for, by its shapes; None for any other."""
    ports = (model.inputs[:1], model.outputs[:1])
    shapes = tuple(tuple(model.tensors[port.tensor].shape) for group in ports for port in group)
    return BENCHMARKS.get(shapes)


def results_path() -> Path:
    """The file of results: in $THIMBLE_DATA, or in shared/data beside a checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("THIMBLE_DATA") or beside) / FILE


def read_results(path: Path) -> list[Published]:
    """Every row that has a latency; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            Published(row["bench"], float(row["ms"]), row["system"], row["org"], row["round"])
            for row in csv.DictReader(stream)
            if row["ms"]
        ]


def nearest(
    results: list[Published], benchmark: str, board: str, core: str | None, milliseconds: float | None
) -> Published | None:
    """The result of the benchmark that is nearest to a measurement.

    Args:
        board: name of the measured board.
        core: of its processor; chooses a board where there are no results of `board`.
        milliseconds: of the measurement, where it has any; without it, the fastest.
    """
    rows = [row for row in results if row.benchmark == benchmark]
    for name in (board, BOARD_OF_CORE.get(core or "")):
        same = [row for row in rows if name and _letters(name).removeprefix("NUCLEO") in _letters(row.system)]
        rows = same or rows
        if same:
            break
    if not rows:
        return None
    if milliseconds is None:
        return min(rows, key=lambda row: row.milliseconds)
    return min(rows, key=lambda row: abs(math.log(row.milliseconds / milliseconds)))


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())
