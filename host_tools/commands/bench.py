"""`thimble bench`: how long a model takes on a device, by the device's clock, in all and per operator; or
in the C core on this machine."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any

from host_tools.devices import add_device_option

HELP = "measure a model's latency on a device: min, median, p95, and each layer"
RUNS = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", metavar="MODEL.thimble", help="the packed model; it is deployed where it is not"
    )
    add_device_option(parser, "native for the C core on this machine")
    parser.add_argument("--runs", metavar="N", type=int, default=RUNS, help=f"inferences (default: {RUNS})")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def percentile(times: Sequence[float], share: float) -> float:
    """The smallest of `times` that at least `share` (above 0, at most 1) of them do not exceed."""
    return sorted(times)[math.ceil(share * len(times)) - 1]


def run(arguments: argparse.Namespace) -> int:
    """Deploy where needed, measure, print."""
    from pathlib import Path

    from model_packager import container
    from model_packager.errors import UsageError

    if arguments.runs < 1:
        raise UsageError("--runs must be at least 1")
    file = Path(arguments.model).read_bytes()
    model = container.load(file)
    measure = _measure_native if arguments.target == "native" else _measure_device
    board, sha256, times, layers = measure(arguments, file)
    figures: dict[str, Any] = {
        "sha256": sha256.hex(),
        "board": board,
        "runs": len(times),
        "min_us": min(times),
        "median_us": percentile(times, 0.5),
        "p95_us": percentile(times, 0.95),
        "times_us": times,
        "operators": [
            {
                "index": index,
                "kind": operator.kind.name,
                "macs": model.mac_count(operator),
                "us": time_us,
            }
            for index, (operator, time_us) in enumerate(zip(model.operators, layers, strict=True))
        ],
    }
    print(json.dumps(figures)) if arguments.json else _print(arguments.model, figures)
    return 0


# Board, SHA-256 of the model, microseconds of each run and of each operator.
Measurement = tuple[str, bytes, Sequence[float], Sequence[float]]


def _measure_device(arguments: argparse.Namespace, file: bytes) -> Measurement:
    from host_tools.devices import open_device
    from host_tools.progress import progress_bar

    with open_device(arguments.target) as client:
        with progress_bar("deploy") as progress:
            client.deploy(file, progress=progress)
        with progress_bar("bench") as progress:
            times = client.bench(arguments.runs, progress)
        return client.hello.board, client.hello.model_sha256, times, client.profile()


def _measure_native(arguments: argparse.Namespace, file: bytes) -> Measurement:
    from host_tools.client import trailer_sha256
    from host_tools.targets.native import NativeTarget

    target = NativeTarget(threads=1)
    target.load(file)
    times, layers = target.bench(arguments.runs)
    return (
        "the C core here",
        trailer_sha256(file),
        [round(time, 1) for time in times],
        [round(time, 1) for time in layers],
    )


def _print(name: str, figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"{name} on {figures['board']}, {figures['runs']} runs, by its own clock")
    print(f"  min {figures['min_us']:,} us, median {figures['median_us']:,} us, p95 {figures['p95_us']:,} us")
    total = sum(operator["us"] for operator in figures["operators"]) or 1
    table = Table("operator", "kind", "MACs", "us", "share", "MACs/us", box=None, pad_edge=True)
    for column in (0, 2, 3, 4, 5):
        table.columns[column].justify = "right"
    for operator in figures["operators"]:
        macs, us = operator["macs"], operator["us"]
        row = (str(operator["index"]), operator["kind"], f"{macs:,}" if macs else "", f"{us:,}")
        table.add_row(*row, f"{us / total:.1%}", f"{macs / us:,.0f}" if macs and us else "")
    macs = sum(operator["macs"] for operator in figures["operators"])
    table.add_row("", "all operators", f"{macs:,}", f"{round(total, 1):,}", "", f"{macs / total:,.0f}")
    Console(highlight=False).print(table)
