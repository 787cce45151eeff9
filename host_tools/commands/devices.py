"""`thimble devices`: the boards that are plugged in, by their USB ids and their own words."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from host_tools.identify import Device

HELP = "find the boards that are plugged in, and say what each is and runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    import os

    parser.add_argument(
        "--port",
        metavar="PORT",
        default=os.environ.get("THIMBLE_PORT"),
        help="look at this serial port alone (default: $THIMBLE_PORT, else every USB serial port)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print what was found as JSON, and nothing else on stdout"
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask each port, print what answered; without a device the exit code says so."""
    from host_tools.identify import State, identify, usb_ports
    from host_tools.progress import progress_bar
    from host_tools.tables import print_fitting, stdout_console
    from model_packager.errors import NoDeviceError

    usb = usb_ports()
    ports = [arguments.port] if arguments.port else list(usb)
    found = []
    with progress_bar("asking") as progress:
        for port in ports:
            found.append(identify(port, usb.get(port)))
            progress(len(found), len(ports))
    if arguments.json:
        print(json.dumps([_figures(device) for device in found]))
    elif found:
        print_fitting(stdout_console(), lambda narrow: _table(found, narrow))
    if not found:
        raise NoDeviceError("no serial device is plugged in")
    if arguments.port and found[0].state is State.CLOSED:
        raise NoDeviceError(f"{arguments.port} cannot be opened")
    return 0


def _figures(device: Device) -> dict[str, Any]:
    hello = device.hello
    server = hello and {
        "protocol_version": hello.protocol_version,
        "format_version": hello.format_version,
        "heap_free_bytes": hello.heap_free_bytes,
        "slot_bytes": hello.slot_bytes,
        "model_state": hello.model_state.name,
        "model_id": hello.model_id,
        "model_version": hello.model_version,
        "model_sha256": hello.model_sha256.hex(),
    }
    return {
        "port": device.port,
        "usb": device.usb,
        "state": device.state.value,
        "boards": list(device.boards),
        "says": device.says,
        "server": server,
    }


def _table(found: list[Device], narrow: bool) -> Table:
    from host_tools.tables import make_table

    columns = ("port", "usb", "board", "behind it", "model")
    table = make_table("Devices", narrow, *((name, "left") for name in columns))
    for device in found:
        board = " or ".join(device.boards) or device.says or "unknown"
        table.add_row(device.port, device.usb or "", board, _behind(device), _model(device))
    return table


def _behind(device: Device) -> str:
    from host_tools.identify import State

    return {
        State.SERVER: "device server",
        State.PROMPT: "MicroPython",
        State.SILENT: "no answer",
        State.CLOSED: "cannot be opened",
    }[device.state]


def _model(device: Device) -> str:
    from model_packager.format_table import ModelState

    if device.hello is None:
        return ""
    if device.hello.model_state is not ModelState.READY:
        return device.hello.model_state.name.lower()
    named = (
        f"id {device.hello.model_id} version {device.hello.model_version}, " if device.hello.model_id else ""
    )
    return f"{named}{device.hello.model_sha256.hex()[:12]}"
