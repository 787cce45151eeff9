"""`thimble bench`: how long a model takes on a device, by the device's clock, in all and per operator; or
in the C core on this machine.

An emulated board counts instructions instead of microseconds. Each of its runs gets the inputs of the file's
golden test, since a count depends on them: the same file then gives the same count every time.

What decoding costs is measured too: the model is run a second time with raw weights in its file.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from host_tools.devices import add_device_option

if TYPE_CHECKING:
    from rich.table import Table

    from host_tools.client import Client
    from model_packager.model import Model

CORE_HERE = "the C core here"  # what stands for a board under --target native
HELP = "measure a model's latency on a device: min, median, p95, and each layer"
RUNS, WARM_UP_RUNS = 20, 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", metavar="MODEL.thimble", help="the packed model; it is deployed where it is not"
    )
    add_device_option(parser, "native for the C core on this machine")
    parser.add_argument("--runs", metavar="N", type=int, default=RUNS, help=f"inferences (default: {RUNS})")
    parser.add_argument(
        "--warm-up",
        metavar="N",
        type=int,
        default=WARM_UP_RUNS,
        help=f"inferences before them that do not count (default: {WARM_UP_RUNS})",
    )
    parser.add_argument(
        "--load",
        action="store_true",
        help="send the model again where it runs already, to measure its loading",
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="on a device, deploy the model with raw weights for a while, to measure what decoding costs; "
        "emulated boards and this machine do so anyway",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def percentile(times: Sequence[float], share: float) -> float:
    """The smallest of `times` that at least `share` (above 0, at most 1) of them do not exceed."""
    return sorted(times)[math.ceil(share * len(times)) - 1]


def run(arguments: argparse.Namespace) -> int:
    """Deploy where needed, measure, print."""
    from host_tools.packed_file import read_packed
    from model_packager import container
    from model_packager.errors import UsageError

    if arguments.runs < 1 or arguments.warm_up < 0:
        raise UsageError("--runs must be at least 1, and --warm-up at least 0")
    file = read_packed(arguments.model)
    model = container.load(file)
    measure = _measure_native if arguments.target == "native" else _measure_device
    figures = measure(arguments, file, model)
    unit = figures["unit"]
    macs = sum(map(model.mac_count, model.operators))
    figures |= {
        "kind": "bench",
        "model": arguments.model,
        "warm_up_runs": arguments.warm_up,
        "macs": macs,
        "macs_per_s": round(macs / figures["median_us"] * 1e6) if unit == "us" and macs else None,
        "instructions_per_mac": round(figures[f"median_{unit}"] / macs, 3) if unit != "us" and macs else None,
        "decode_share": _decode_share(figures),
        "other_stack": _other_stack(model, figures),
    }
    print(json.dumps(figures)) if arguments.json else _print(arguments.model, figures)
    return 0


# ------------------------------------------------------------------------------------------------- measuring


def _figures(
    board: str, sha256: bytes, unit: str, times: Sequence[float], layers: Sequence[float], model: Model
) -> dict[str, Any]:
    from model_packager.passes.lifetimes import FUSED

    return {
        "sha256": sha256.hex(),
        "board": board,
        "unit": unit,
        "runs": len(times),
        f"min_{unit}": min(times),
        f"median_{unit}": percentile(times, 0.5),
        f"p95_{unit}": percentile(times, 0.95),
        f"times_{unit}": list(times),
        "operators": [
            {
                "index": index,
                "kind": operator.kind.name,
                "macs": model.mac_count(operator),
                "fused": operator.schedule in FUSED,
                unit: time,
            }
            for index, (operator, time) in enumerate(zip(model.operators, layers, strict=True))
        ],
    }


def _raw_file(file: bytes) -> bytes:
    """The same network with raw weights."""
    from model_packager import container
    from model_packager.pack import with_raw_weights

    return with_raw_weights(container.load(file))


def _measure_device(arguments: argparse.Namespace, file: bytes, model: Model) -> dict[str, Any]:
    from host_tools import serve
    from host_tools.devices import deploy_with_bar, open_device

    with open_device(arguments.target) as client:
        deployment = deploy_with_bar(client, file, arguments.load)
        times, layers = _times(client, arguments, model)
        unit = client.time_unit
        figures = _figures(client.hello.board, client.hello.model_sha256, unit, times, layers, model)
        figures[f"load_{unit}"] = None if deployment.skipped else deployment.load_us
        is_coded = not model.is_float
        if is_coded and (arguments.decode or arguments.target in serve.TARGETS):
            figures |= _raw_figures(client, arguments, file, model)
    return figures


def _times(client: Client, arguments: argparse.Namespace, model: Model) -> tuple[list[int], list[int]]:
    """Of each run and of each operator in one more."""
    from host_tools.progress import progress_bar
    from model_packager.golden import golden_inputs

    inputs: list[bytes] = []
    if client.time_unit == "instructions" and model.golden is not None:
        inputs = [array.tobytes() for array in golden_inputs(model, model.golden[0])]
    with progress_bar("bench") as progress:
        if arguments.warm_up:
            client.bench(arguments.warm_up, None, inputs)
        times = client.bench(arguments.runs, progress, inputs)
        progress.wait("profile")
        return times, client.profile(inputs)


def _raw_figures(client: Client, arguments: argparse.Namespace, file: bytes, model: Model) -> dict[str, Any]:
    """What the model takes with raw weights; the device has its own file again afterwards."""
    from host_tools.devices import deploy_with_bar
    from model_packager.errors import DeviceRefused

    unit = client.time_unit
    try:
        deploy_with_bar(client, _raw_file(file), title="deploy with raw weights")
    except DeviceRefused as error:
        return {"raw_refused": error.code.name.lower()}
    try:
        times, layers = _times(client, arguments, model)
    finally:
        deploy_with_bar(client, file)
    return {f"raw_median_{unit}": percentile(times, 0.5), f"raw_operators_{unit}": list(layers)}


def _measure_native(arguments: argparse.Namespace, file: bytes, model: Model) -> dict[str, Any]:
    from host_tools.client import trailer_sha256
    from host_tools.targets.native import NativeTarget

    target = NativeTarget(threads=1)
    measured, loads_us = [], []
    for raw_weights in (False, True):
        target.load(_raw_file(file) if raw_weights else file)
        loads_us.append(round(target.load_us, 1))
        if arguments.warm_up:
            target.bench(arguments.warm_up)
        times, layers = target.bench(arguments.runs)
        measured.append(([round(time, 1) for time in times], [round(time, 1) for time in layers]))
    (times, layers), (raw_times, raw_layers) = measured
    figures = _figures(CORE_HERE, trailer_sha256(file), "us", times, layers, model)
    raw = {"raw_median_us": percentile(raw_times, 0.5), "raw_operators_us": raw_layers}
    return figures | {"load_us": loads_us[0]} | raw


def _decode_share(figures: dict[str, Any]) -> float | None:
    """The part of the median that raw weights would spare; 0 where coded weights are no slower."""
    unit = figures["unit"]
    raw = figures.get(f"raw_median_{unit}")
    return None if raw is None else max(0.0, round(1 - raw / figures[f"median_{unit}"], 4))


def _other_stack(model: Model, figures: dict[str, Any]) -> dict[str, Any] | None:
    """The nearest published result; its "missing" says why there is none."""
    from dataclasses import asdict

    from host_tools.identify import board_of
    from host_tools.published import FILE, benchmark_of, nearest, read_results, results_path

    benchmark = benchmark_of(model)
    if benchmark is None:
        return None
    results = read_results(results_path())
    if not results:
        return {"benchmark": benchmark, "missing": f"no {FILE} in $THIMBLE_DATA"}
    board = board_of(figures["board"])
    name, core = (board.name, board.mcu.core) if board else ("", None)
    milliseconds = figures["median_us"] / 1000 if figures["unit"] == "us" else None
    found = nearest(results, benchmark, name, core, milliseconds)
    if found is None:
        return {"benchmark": benchmark, "missing": "nothing is published for it"}
    return {**asdict(found), "text": found.text()}


# ------------------------------------------------------------------------------------------------- printing


def _rate(macs: int, time: float, unit: str) -> str:
    """Products per microsecond, or instructions per product."""
    if not macs or not time:
        return ""
    return f"{macs / time:,.0f}" if unit == "us" else f"{time / macs:,.2f}"


def _print(name: str, figures: dict[str, Any]) -> None:
    from host_tools.tables import print_fitting, stdout_console

    unit = figures["unit"]
    print(f"{name} on {figures['board']}: {figures['runs']} runs after {figures['warm_up_runs']} to warm up")
    shown = (f"{label} {figures[f'{label}_{unit}']:,} {unit}" for label in ("min", "median", "p95"))
    print(f"  {', '.join(shown)}")
    for label, text in _lines(figures):
        print(f"  {label:12}  {text}")
    print_fitting(stdout_console(), lambda narrow: _table(figures, narrow))


def _lines(figures: dict[str, Any]) -> list[tuple[str, str]]:
    unit = figures["unit"]
    rate = "no products"
    if figures["macs_per_s"]:
        millions = figures["macs_per_s"] / 1e6
        rate = f"{millions:,.{0 if millions >= 100 else 2}f} million MACs a second"
    elif figures["instructions_per_mac"]:
        rate = f"{figures['instructions_per_mac']:,} instructions for a MAC"
    load = figures.get(f"load_{unit}")
    other = figures["other_stack"]
    clock = "this machine's" if figures["board"] == CORE_HERE else "the device's own"
    if unit != "us":
        clock = "counts instructions: an emulator has no milliseconds"
    return [
        ("clock", clock),
        ("all in all", f"{rate}, {figures['macs']:,} MACs"),
        ("loading", "not measured: it ran already (--load)" if load is None else f"{load:,} {unit}"),
        ("decoding", _decoding(figures)),
        ("other stack", (other.get("text") or other["missing"]) if other else "no published figure"),
    ]


def _decoding(figures: dict[str, Any]) -> str:
    unit = figures["unit"]
    if "raw_refused" in figures:
        return f"not measured: with raw weights the device refuses it ({figures['raw_refused']})"
    if figures["decode_share"] is None:
        return "not measured (--decode)"
    return f"{figures['decode_share']:.1%}: raw weights take {figures[f'raw_median_{unit}']:,} {unit}"


def _table(figures: dict[str, Any], narrow: bool) -> Table:
    """A row for each operator; of a fused pair the second has the time and the products of both."""
    from host_tools.tables import make_table

    unit, operators = figures["unit"], figures["operators"]
    raw = figures.get(f"raw_operators_{unit}")
    total = sum(operator[unit] for operator in operators) or 1
    rate = "MACs/us" if unit == "us" else "per MAC"
    sides = [("", "right"), ("operator", "left")]
    numbers = ["MACs", unit, "share", rate, *(["raw weights"] if raw else [])]
    table = make_table("Operators", narrow, *sides, *((name, "right") for name in numbers))
    fused_macs = 0
    for operator in operators:
        macs, time = operator["macs"], operator[unit]
        cells = [str(operator["index"]), operator["kind"], f"{macs:,}" if macs else ""]
        if operator["fused"]:
            cells += ["with next", "", ""]
            fused_macs = macs
        else:
            cells += [f"{time:,}", f"{time / total:.1%}", _rate(macs + fused_macs, time, unit)]
            fused_macs = 0
        table.add_row(*cells, *([f"{raw[operator['index']]:,}"] if raw else []))
    table.add_section()
    sums = [
        "",
        "all",
        f"{figures['macs']:,}",
        f"{round(total, 1):,}",
        "",
        _rate(figures["macs"], total, unit),
    ]
    table.add_row(*sums, *([f"{round(sum(raw), 1):,}"] if raw else []))
    return table
