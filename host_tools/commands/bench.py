"""`thimble bench`: how long a model takes on a device, by the device's clock, in all and per operator."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from host_tools.devices import add_device_option

HELP = "measure a model's latency on a device: min, median, p95, and each layer"
RUNS = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", metavar="MODEL.thimble", help="the packed model; it is deployed where it is not"
    )
    add_device_option(parser)
    parser.add_argument("--runs", metavar="N", type=int, default=RUNS, help=f"inferences (default: {RUNS})")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def percentile(times: list[int], share: float) -> int:
    """The smallest of `times` that at least `share` (above 0, at most 1) of them do not exceed."""
    return sorted(times)[math.ceil(share * len(times)) - 1]


def run(arguments: argparse.Namespace) -> int:
    """Deploy where needed, measure, print."""
    from pathlib import Path

    from host_tools.devices import open_device
    from host_tools.progress import progress_bar
    from model_packager import container
    from model_packager.errors import UsageError

    if arguments.runs < 1:
        raise UsageError("--runs must be at least 1")
    file = Path(arguments.model).read_bytes()
    operators = container.load(file).operators
    with open_device(arguments.target) as client:
        with progress_bar("deploy") as progress:
            client.deploy(file, progress=progress)
        with progress_bar("bench") as progress:
            times = client.bench(arguments.runs, progress)
        layers = client.profile()
        hello = client.hello
    figures: dict[str, Any] = {
        "sha256": hello.model_sha256.hex(),
        "board": hello.board,
        "runs": len(times),
        "min_us": min(times),
        "median_us": percentile(times, 0.5),
        "p95_us": percentile(times, 0.95),
        "times_us": times,
        "operators": [
            {"index": index, "kind": operator.kind.name, "us": time_us}
            for index, (operator, time_us) in enumerate(zip(operators, layers, strict=True))
        ],
    }
    print(json.dumps(figures)) if arguments.json else _print(arguments.model, figures)
    return 0


def _print(name: str, figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"{name} on {figures['board']}, {figures['runs']} runs, by the device's clock")
    print(f"  min {figures['min_us']:,} us, median {figures['median_us']:,} us, p95 {figures['p95_us']:,} us")
    total = sum(operator["us"] for operator in figures["operators"]) or 1
    table = Table("operator", "kind", "us", "share", box=None, pad_edge=True)
    for column in (0, 2, 3):
        table.columns[column].justify = "right"
    for operator in figures["operators"]:
        share = f"{operator['us'] / total:.1%}"
        table.add_row(str(operator["index"]), operator["kind"], f"{operator['us']:,}", share)
    table.add_row("", "one profiled run", f"{total:,}", "")
    Console(highlight=False).print(table)
