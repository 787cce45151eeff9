"""`thimble flash`: firmware onto a board by the tool that its board file names; or the MicroPython package
onto a board that runs MicroPython, or into a folder for `mip`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host_tools.boards import Board
    from host_tools.install_package import Installation

RESTART_WAIT_S = 10.0
HELP = "flash a board's firmware, or install the MicroPython package on it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    import os

    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--image",
        metavar="FILE",
        help="the firmware (default: MicroPython, fetched by mpflash; on a micro:bit v1 the C firmware)",
    )
    what.add_argument(
        "--package",
        action="store_true",
        help="install the package `thimble` on a board that runs MicroPython (needs the extra 'flash')",
    )
    what.add_argument(
        "--mip",
        metavar="FOLDER",
        help="write the package and its package.json into a folder, for `mip` and `mpremote mip install`",
    )
    parser.add_argument(
        "--board", metavar="NAME", help="the board (`thimble boards`; default: what is at the port)"
    )
    parser.add_argument(
        "--port",
        metavar="PORT",
        default=os.environ.get("THIMBLE_PORT"),
        help="its serial port (default: $THIMBLE_PORT, else the only serial device that is plugged in)",
    )
    parser.add_argument("--drive", metavar="FOLDER", help="where the boot loader's UF2 drive is mounted")
    parser.add_argument(
        "--model", metavar="MODEL.thimble", help="with a package: add what this model needs beside the usual"
    )
    parser.add_argument(
        "--serve",
        action="store_true",
        help="with --package: a main.py, so that the board serves from now on",
    )
    parser.add_argument(
        "--trigger",
        action="store_true",
        help="with --package: a server that marks its inferences on the board's trigger pin, for `energy`",
    )
    parser.add_argument(
        "--mlperf",
        action="store_true",
        help="with a package: a server that answers MLPerf Tiny's runner too (docs/MLPERF.md)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --package: write also what is there, and replace main.py",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done or written, and do nothing"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Find the board, then flash or install."""
    from model_packager.errors import UsageError

    if (arguments.serve or arguments.trigger) and not arguments.package:
        raise UsageError(f"{'--serve' if arguments.serve else '--trigger'} needs --package")
    if arguments.mlperf and not (arguments.package or arguments.mip):
        raise UsageError("--mlperf needs --package or --mip")
    if arguments.mlperf and arguments.trigger:
        raise UsageError("a board serves --trigger or --mlperf: see docs/MLPERF.md for its mode energy")
    if arguments.package:
        return _install(arguments)
    return _mip(arguments) if arguments.mip else _flash(arguments)


def _features(arguments: argparse.Namespace) -> int:
    """Feature bits of the model for which the package is made."""
    from host_tools.packed_file import read_packed, required_features
    from model_packager import container

    if not arguments.model:
        return 0
    file = read_packed(arguments.model)
    container.load(file)  # says what is wrong with it
    return required_features(file)


def _board(arguments: argparse.Namespace) -> Board:
    """The named board, or the one that is at the port."""
    from host_tools.boards import load_board
    from host_tools.devices import only_serial_port
    from host_tools.identify import identify, usb_ports
    from model_packager.errors import UsageError

    if arguments.board:
        return load_board(arguments.board)
    port = arguments.port or only_serial_port()
    names = identify(port, usb_ports().get(port)).boards
    if len(names) != 1:
        can_be = f"can be {' or '.join(names)}" if names else "is not known"
        raise UsageError(f"the board at {port} {can_be}: say which it is with --board")
    return load_board(names[0])


def _flash(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from host_tools.flash_firmware import plan
    from host_tools.progress import progress_bar

    board = _board(arguments)
    image = Path(arguments.image) if arguments.image else None
    step = plan(board, image, arguments.port, Path(arguments.drive) if arguments.drive else None)
    if not arguments.dry_run:
        with progress_bar("flash") as progress:
            step.do(progress)
    if arguments.json:
        print(json.dumps({"board": board.name, "command": step.text(), "done": not arguments.dry_run}))
    elif arguments.dry_run:
        print(step.text())
    else:
        print(f"{board.description}: flashed")
    return 0


def _mip(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from host_tools.device_package import BYTECODE
    from host_tools.install_package import mip_package, write_files
    from model_packager.errors import UsageError

    if not arguments.board:
        raise UsageError("--mip needs --board: the package is compiled for one kind of board")
    board = _board(arguments)
    if board.micropython is None:
        raise UsageError(f"no MicroPython that takes the package runs on {board.description}")
    architecture = board.architecture if board.micropython.runs_native else BYTECODE
    files = mip_package(architecture, Path(arguments.mip), _features(arguments), arguments.mlperf)
    if not arguments.dry_run:
        write_files(files)
    *paths, manifest = files
    if arguments.json:
        done = {"done": not arguments.dry_run}
        names = list(map(str, files))
        print(json.dumps({"board": board.name, "architecture": architecture, "files": names, **done}))
    else:
        total = sum(len(files[path]) for path in paths)
        would = "would write " if arguments.dry_run else ""
        print(f"{would}{manifest}: {len(paths)} files for {architecture}, {total:,} bytes")
    return 0


def _install(arguments: argparse.Namespace) -> int:
    from host_tools.devices import only_serial_port
    from host_tools.install_package import install, install_main, runtime, trigger_pin
    from host_tools.micropython_board import MicroPythonBoard
    from host_tools.progress import progress_bar

    port = arguments.port or only_serial_port()
    features = _features(arguments)
    serves = arguments.serve and not arguments.dry_run
    with MicroPythonBoard(port) as board, progress_bar("install") as progress:
        pin = trigger_pin(runtime(board).machine) if arguments.trigger else None
        extras = {"trigger": arguments.trigger, "mlperf": arguments.mlperf}
        done = install(board, features, arguments.force, progress, arguments.dry_run, **extras)
        if serves:
            install_main(board, arguments.force, pin, arguments.mlperf)
            board.restart()
    if serves:
        _check_that_it_serves(port)
    if arguments.json:
        print(json.dumps(_figures(done, serves)))
    else:
        _print(done, arguments.dry_run, serves)
    return 0


def _check_that_it_serves(port: str) -> None:
    import time

    from host_tools.identify import State, identify
    from model_packager.errors import VerificationError

    deadline = time.monotonic() + RESTART_WAIT_S
    while identify(port).state is not State.SERVER:
        if time.monotonic() > deadline:
            raise VerificationError("the package is there, but the board does not serve after its reset")


def _figures(done: Installation, serves: bool) -> dict[str, object]:
    return {
        "machine": done.runtime.machine,
        "architecture": done.runtime.architecture,
        "folder": done.folder,
        "written": list(done.written),
        "kept": list(done.kept),
        "removed": list(done.removed),
        "sent_bytes": done.sent_bytes,
        "serves": serves,
    }


def _print(done: Installation, is_plan: bool, serves: bool) -> None:
    print(f"{done.runtime.machine}, native code {done.runtime.architecture}")
    verbs = ("would write", "has", "would remove") if is_plan else ("wrote", "had", "removed")
    for verb, paths in zip(verbs, (done.written, done.kept, done.removed), strict=True):
        if paths:
            print(f"  {verb} {', '.join(paths)}")
    print(f"  {done.sent_bytes:,} bytes{' to send' if is_plan else ' sent, read back and right'}")
    if serves:
        print("  it serves now: thimble deploy")
