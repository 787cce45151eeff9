"""`thimble bench`: how long a model takes on a device, by the device's clock, in all and per operator; or
in the C core on this machine.

An emulated board counts instructions instead of microseconds. Each of its runs gets the inputs of the file's
golden test, since a count depends on them: the same file then gives the same count every time.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from host_tools.devices import add_device_option

if TYPE_CHECKING:
    from model_packager.model import Model

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
    if arguments.target == "native":
        board, sha256, unit, times, layers = _measure_native(arguments, file)
    else:
        board, sha256, unit, times, layers = _measure_device(arguments, file, model)
    figures: dict[str, Any] = {
        "sha256": sha256.hex(),
        "board": board,
        "runs": len(times),
        f"min_{unit}": min(times),
        f"median_{unit}": percentile(times, 0.5),
        f"p95_{unit}": percentile(times, 0.95),
        f"times_{unit}": times,
        "operators": [
            {"index": index, "kind": operator.kind.name, "macs": model.mac_count(operator), unit: time}
            for index, (operator, time) in enumerate(zip(model.operators, layers, strict=True))
        ],
    }
    print(json.dumps(figures)) if arguments.json else _print(arguments.model, figures, unit)
    return 0


# Board, SHA-256 of the model, unit ("us" or "instructions"), time of each run and of each operator in it.
Measurement = tuple[str, bytes, str, Sequence[float], Sequence[float]]


def _measure_device(arguments: argparse.Namespace, file: bytes, model: Model) -> Measurement:
    from host_tools.devices import open_device
    from host_tools.progress import progress_bar
    from model_packager.golden import golden_inputs

    with open_device(arguments.target) as client:
        with progress_bar("deploy") as progress:
            client.deploy(file, progress=progress)
        inputs: list[bytes] = []
        if client.time_unit == "instructions" and model.golden is not None:
            inputs = [array.tobytes() for array in golden_inputs(model, model.golden[0])]
        with progress_bar("bench") as progress:
            times = client.bench(arguments.runs, progress, inputs)
        layers = client.profile(inputs)
        return client.hello.board, client.hello.model_sha256, client.time_unit, times, layers


def _measure_native(arguments: argparse.Namespace, file: bytes) -> Measurement:
    from host_tools.client import trailer_sha256
    from host_tools.targets.native import NativeTarget

    target = NativeTarget(threads=1)
    target.load(file)
    times, layers = target.bench(arguments.runs)
    return (
        "the C core here",
        trailer_sha256(file),
        "us",
        [round(time, 1) for time in times],
        [round(time, 1) for time in layers],
    )


def _rate(macs: int, time: float, unit: str) -> str:
    """Products per microsecond, or instructions per product."""
    if not macs or not time:
        return ""
    return f"{macs / time:,.0f}" if unit == "us" else f"{time / macs:,.2f}"


def _print(name: str, figures: dict[str, Any], unit: str) -> None:
    from rich.console import Console
    from rich.table import Table

    clock = "by its own clock" if unit == "us" else "counted: an emulator has no milliseconds"
    print(f"{name} on {figures['board']}, {figures['runs']} runs, {clock}")
    shown = (f"{label} {figures[f'{label}_{unit}']:,} {unit}" for label in ("min", "median", "p95"))
    print(f"  {', '.join(shown)}")
    total = sum(operator[unit] for operator in figures["operators"]) or 1
    rate = "MACs/us" if unit == "us" else "per MAC"
    table = Table("operator", "kind", "MACs", unit, "share", rate, box=None, pad_edge=True)
    for column in (0, 2, 3, 4, 5):
        table.columns[column].justify = "right"
    for operator in figures["operators"]:
        macs, time = operator["macs"], operator[unit]
        row = (str(operator["index"]), operator["kind"], f"{macs:,}" if macs else "", f"{time:,}")
        table.add_row(*row, f"{time / total:.1%}", _rate(macs, time, unit))
    macs = sum(operator["macs"] for operator in figures["operators"])
    table.add_row("", "all operators", f"{macs:,}", f"{round(total, 1):,}", "", _rate(macs, total, unit))
    Console(highlight=False).print(table)
