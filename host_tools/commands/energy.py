"""`thimble energy`: the energy of an inference, by a power meter and the device's trigger pin.

Without a meter nothing is measured, and it says so; what it then prints is labelled as an estimate. A window
is one BENCH of many runs, for all of which the pin is on; the idle power beside each window is subtracted.
docs/ENERGY.md is for its users.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from host_tools.devices import add_device_option

if TYPE_CHECKING:
    from rich.table import Table

    from host_tools.client import Client
    from host_tools.meters.meter import Meter, MeterName, Recorder
    from host_tools.meters.trace import Samples, Trace

HELP = "measure the energy of an inference with a power meter, or estimate it without one"
WINDOWS, SECONDS, IDLE_S = 5, 10.0, 1.0
MOST_SECONDS = 100.0  # a 32-bit counter of a device's clock may wrap a little later
MOST_RUNS = 0xFFFF  # of one BENCH
LATENCY_RUNS, SLOW_S = 5, 2.0
QUIET_SHARE = 0.9  # of the expected time, in which nothing is sent to the device


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", metavar="MODEL.thimble", help="the packed model; it is deployed where it is not"
    )
    add_device_option(parser)
    parser.add_argument(
        "--meter",
        metavar="M",
        help="ppk2, lpm01a, js220 or ina, with a port or serial number (ppk2:/dev/ttyACM1) and options "
        "(ppk2,mode=ampere); or replay:FILE.npz, a trace file; docs/ENERGY.md lists them (default: none)",
    )
    parser.add_argument(
        "--volts", metavar="V", type=float, help="the supply: set by ppk2 and lpm01a, else as it is"
    )
    parser.add_argument(
        "--windows", metavar="N", type=int, default=WINDOWS, help=f"windows (default: {WINDOWS})"
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        default=SECONDS,
        help=f"least length of a window, in which inferences repeat (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--idle",
        metavar="S",
        type=float,
        default=IDLE_S,
        help=f"seconds before and after each window, for the idle power (default: {IDLE_S:g})",
    )
    parser.add_argument("--save-trace", metavar="FILE.npz", help="keep all samples")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure, replay or estimate; print."""
    from host_tools.client import trailer_sha256
    from host_tools.energy import estimate_by_operations, measure, measurement_figures
    from host_tools.meters.meter import REPLAY, parse_name
    from host_tools.meters.replay import replay
    from host_tools.meters.trace import check_trace_path
    from host_tools.packed_file import read_packed
    from model_packager import container
    from model_packager.errors import UsageError

    name = parse_name(arguments.meter) if arguments.meter else None
    _check(arguments)
    if arguments.save_trace:
        if name is None or name.kind == REPLAY:
            raise UsageError("--save-trace keeps what a meter measures: name one with --meter")
        check_trace_path(arguments.save_trace)
    file = read_packed(arguments.model)
    model = container.load(file)
    figures: dict[str, Any] = {
        "kind": "energy",
        "format": 1,
        "model": arguments.model,
        "sha256": trailer_sha256(file).hex(),
        "board": None,
        "latency_us": None,
        "measurement": None,
        "estimate": None,
    }
    if name is None:
        figures |= _device_figures(arguments, file)
        figures["estimate"] = {
            "active_current": _by_current(figures["board"], figures["latency_us"]),
            "operations": None if model.is_float else estimate_by_operations(model),
        }
    else:
        if name.kind == REPLAY:
            trace = replay(name, figures["sha256"])
        else:
            trace, figures["latency_us"] = _record(arguments, name, file)
        figures["board"] = trace.info.board or None
        figures["measurement"] = measurement_figures(trace, measure(trace))
    print(json.dumps(figures)) if arguments.json else _print(figures)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from model_packager.errors import UsageError

    if (
        arguments.windows < 1
        or not 0 < arguments.seconds <= MOST_SECONDS
        or not 0 < arguments.idle <= MOST_SECONDS
    ):
        raise UsageError(
            f"--windows must be at least 1, --seconds and --idle above 0 and at most {MOST_SECONDS:g}"
        )
    if arguments.volts is not None and not 0 < arguments.volts < math.inf:
        raise UsageError("--volts must be above 0")


# ------------------------------------------------------------------------------------------------- the device


def _latencies(client: Client) -> list[int]:
    """Microseconds of some runs after a first one; of a slow network that first one alone."""
    from host_tools.progress import progress_bar

    with progress_bar("latency") as progress:
        first = client.bench(1)
        return first if first[0] > SLOW_S * 1e6 else client.bench(LATENCY_RUNS, progress)


def _device_figures(arguments: argparse.Namespace, file: bytes) -> dict[str, Any]:
    """Board and latency, without a meter."""
    from statistics import median

    from host_tools.devices import deploy_with_bar, open_device

    with open_device(arguments.target) as client:
        deploy_with_bar(client, file)
        latency = median(_latencies(client)) if client.time_unit == "us" else None
        return {"board": client.hello.board, "latency_us": latency}


def _by_current(words: str, latency_us: float | None) -> dict[str, Any] | None:
    from host_tools.energy import estimate_by_current
    from host_tools.identify import board_of

    board = board_of(words)
    return estimate_by_current(board, latency_us) if board is not None and latency_us is not None else None


def _record(arguments: argparse.Namespace, name: MeterName, file: bytes) -> tuple[Trace, float]:
    """The recording of all windows, and the latency in microseconds."""
    from statistics import median

    from host_tools.devices import deploy_with_bar, open_device
    from host_tools.meters.meter import open_meter
    from host_tools.meters.trace import Trace, TraceInfo, save_trace
    from host_tools.progress import progress_bar

    # The meter first: it may be what gives the device its power.
    with contextlib.closing(open_meter(name, arguments.volts)) as meter:
        with open_device(arguments.target) as client:
            _check_device(client)
            _check_supply(meter, client.hello.board)
            deploy_with_bar(client, file)
            latencies_us = _latencies(client)
            windows, runs = _plan(arguments, min(latencies_us))  # no window is to be shorter than `--seconds`
            window_s = runs * median(latencies_us) / 1e6
            recorder, device_us = _windows(arguments, client, meter, windows, runs, window_s)
            samples = recorder.samples()
            info = TraceInfo(
                meter.title,
                _supply_volts(meter, samples),
                meter.supply_source,
                meter.trigger_marks,
                client.hello.model_sha256.hex(),
                client.hello.board,
                (runs,) * windows,
                tuple(device_us),
            )
    trace = Trace(samples, info)
    if arguments.save_trace:
        with progress_bar("save") as progress:
            save_trace(arguments.save_trace, trace, progress)
    return trace, median(latencies_us)


def _check_device(client: Client) -> None:
    from model_packager.errors import MeasurementError, MissingTrigger
    from model_packager.format_table import Capability

    if Capability.INSTRUCTIONS in client.hello.capabilities:
        raise MeasurementError("an emulated board takes no power that a meter could measure")
    if Capability.TRIGGER not in client.hello.capabilities:
        raise MissingTrigger(
            "the device marks its inferences on no pin: `thimble flash --package --serve --trigger` installs "
            "a server that does"
        )


def _check_supply(meter: Meter, words: str) -> None:
    """Where neither meter nor user know the voltage, the board's file may."""
    from host_tools.identify import board_of
    from host_tools.meters.trace import BOARD_FILE, MEASURED
    from model_packager.errors import UsageError

    if meter.supply_volts is None and meter.supply_source != MEASURED:
        board = board_of(words)
        if board is None or board.measurement.supply_volts is None:
            raise UsageError(f"the supply of {words} is not known: give its voltage with --volts")
        meter.supply_volts, meter.supply_source = board.measurement.supply_volts, BOARD_FILE


def _supply_volts(meter: Meter, samples: Samples) -> float:
    """Where the meter measures it, the mean while the trigger is on."""
    if meter.supply_volts is not None:
        return meter.supply_volts
    during = samples.voltage_volts[samples.trigger] if samples.trigger.any() else samples.voltage_volts
    return float(during.mean()) if len(during) else 0.0


def _plan(arguments: argparse.Namespace, latency_us: float) -> tuple[int, int]:
    """Windows, and inferences in each: so many that it lasts `--seconds`. Where the most that one request can
    ask for are shorter, there are so many windows that all together last as long."""
    runs = min(MOST_RUNS, max(1, math.ceil(arguments.seconds * 1e6 / max(1.0, latency_us))))
    together = math.ceil(arguments.seconds * 1e6 / (runs * max(1.0, latency_us)))
    return max(arguments.windows, together), runs


def _windows(
    arguments: argparse.Namespace,
    client: Client,
    meter: Meter,
    windows: int,
    runs: int,
    window_s: float,
) -> tuple[Recorder, list[int]]:
    """Record; the recorder, and the microseconds of each window by the device's clock. `window_s`: about how
    long a window of `runs` inferences will be."""
    from host_tools.meters.meter import Recorder
    from host_tools.progress import progress_bar

    whole_ms = round((windows * window_s + (windows + 1) * arguments.idle) * 1e3)
    device_us: list[int] = []
    with progress_bar("measure") as progress:

        def tick(elapsed_s: float) -> None:
            progress(min(round(elapsed_s * 1e3), whole_ms), whole_ms)

        with Recorder(meter, tick) as recorder:
            recorder.wait_for_first()
            recorder.wait(arguments.idle)
            for _ in range(windows):
                try:
                    device_us.append(client.bench_window(runs, QUIET_SHARE * window_s))
                except KeyboardInterrupt:
                    _leave_device(client, window_s)
                    raise
                recorder.wait(arguments.idle)
            recorder.catch_up()
    return recorder, device_us


def _leave_device(client: Client, window_s: float) -> None:
    """After Ctrl-C: the device is busy until its window ends, and would not answer the next command."""
    from host_tools.client import REPLY_WAIT_S
    from model_packager.errors import DeviceError

    print("thimble: waiting until the device has ended its window (Ctrl-C: do not)", file=sys.stderr)
    with contextlib.suppress(DeviceError, KeyboardInterrupt):
        client.wait_until_idle(window_s + REPLY_WAIT_S)


# ------------------------------------------------------------------------------------------------- printing


def energy_text(microjoules: float) -> str:
    """With a unit that fits, to four digits; what is less than a femtojoule is rounding."""
    if abs(microjoules) < 1e-9:
        return "0 nJ"
    for unit, factor in (("nJ", 1e-3), ("uJ", 1.0), ("mJ", 1e3)):
        if abs(microjoules) < 1000 * factor:
            return f"{microjoules / factor:.4g} {unit}"
    return f"{microjoules / 1e6:.4g} J"


def _print(figures: dict[str, Any]) -> None:
    from host_tools.tables import print_fitting, stdout_console

    measured = figures["measurement"]
    print(f"{figures['model']} on {figures['board'] or 'a board without a name'}")
    for label, text in _measured_lines(figures) if measured else _estimated_lines(figures):
        print(f"  {label:12}  {text}")
    if measured:
        print_fitting(stdout_console(), lambda narrow: _table(measured["windows"], narrow))


def _spread_text(figures: dict[str, float]) -> str:
    texts = {name: energy_text(value) for name, value in figures.items()}
    return (
        f"{texts['mean']} an inference; standard deviation {texts['standard_deviation']}, "
        f"{texts['min']} to {texts['max']}"
    )


def _measured_lines(figures: dict[str, Any]) -> list[tuple[str, str]]:
    measured = figures["measurement"]
    windows = measured["windows"]
    latency = figures["latency_us"]
    if latency is None:
        latency = sum(window["device_us"] for window in windows) / sum(window["runs"] for window in windows)
    source = {"set": "set by the meter", "board file": "from the board's file"}.get(
        measured["supply_source"], measured["supply_source"]
    )
    faults = (
        f"{measured[name]:,} {word}" if measured[name] else f"none {word}"
        for name, word in (("lost_samples", "lost"), ("clipped_samples", "out of range"))
    )
    return [
        ("energy", f"{_spread_text(measured['energy_per_inference_uj']['net'])}; idle subtracted"),
        ("gross", _spread_text(measured["energy_per_inference_uj"]["gross"])),
        ("Vcc", f"{measured['supply_volts']:.4g} V, {source}"),
        ("latency", f"{latency:,.0f} us by the device's clock"),
        ("meter", measured["meter"]),
        ("samples", f"{measured['sample_rate_hz']:,.0f} a second, {', '.join(faults)}"),
    ]


def _estimated_lines(figures: dict[str, Any]) -> list[tuple[str, str]]:
    estimate, latency = figures["estimate"], figures["latency_us"]
    by_current, by_operations = estimate["active_current"], estimate["operations"]
    clock = "not measured: the device's clock counts instructions"
    lines = [
        ("energy", "not measured: no meter (--meter)"),
        ("latency", clock if latency is None else f"{latency:,.0f} us by the device's clock"),
    ]
    if by_current is not None:
        low, high = by_current["estimated_uj"]
        span = energy_text(low) if low == high else f"{energy_text(low)} to {energy_text(high)}"
        amperes = " to ".join(f"{value:g}" for value in sorted(set(by_current["active_milliamps"])))
        how = f"latency x {amperes} mA x {by_current['supply_volts']:g} V, {by_current['source']}"
        lines.append(("estimate", f"{span} an inference: {how}"))
    if by_operations is not None:
        text = f"{energy_text(by_operations['estimated_uj'])} for arithmetic and memory alone, at 45 nm"
        lines.append(("estimate", f"{text} (thimble analyze)"))
    return lines


def _table(windows: list[dict[str, Any]], narrow: bool) -> Table:
    from host_tools.tables import make_table

    columns = ("", "seconds", "inferences", "gross", "net", "an inference", "idle")
    table = make_table("Windows", narrow, *((name, "right") for name in columns))
    for number, window in enumerate(windows, 1):
        table.add_row(
            str(number),
            f"{window['end_s'] - window['start_s']:.3f}",
            f"{window['runs']:,}",
            energy_text(window["gross_uj"]),
            energy_text(window["net_uj"]),
            energy_text(window["net_uj"] / window["runs"]),
            f"{window['idle_mw']:.4g} mW",
        )
    return table
