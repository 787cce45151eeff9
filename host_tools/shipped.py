"""Where the files that ship with Thimble and are not host code lie: the board files and the device's sources.

In an installation they lie below `host_tools/data` (setup.py puts them there); in a checkout, and so in an
editable installation, in the folders of the data path. Callers are the command line and the build commands.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(installed: str, in_checkout: str) -> Path:
    shipped = _PACKAGE / "data" / installed
    return shipped if shipped.is_dir() else _PACKAGE.parent / in_checkout


def boards_folder() -> Path:
    """Folder of the board files, one TOML file each."""
    return _folder("boards", "boards")


def core_folder() -> Path:
    """Folder of the C core's sources and of the generated C header."""
    return _folder("core", "firmware/core")


def server_folder() -> Path:
    """Folder of the device server in C."""
    return _folder("server", "firmware/server")


def platform_folder() -> Path:
    """Folder of start-up code, drivers and linker scripts of the C firmware, a folder for each machine."""
    return _folder("platform", "firmware/platform")


def meter_folder() -> Path:
    """Folder of the program that has a MicroPython board read a power meter's chip."""
    return _folder("meter", "firmware/meter")


def device_package_folder() -> Path:
    """Folder of the MicroPython package `thimble`, as it is copied to a board.

    Raises:
        FileNotFoundError: the installation lacks the package.
    """
    spec = find_spec("thimble")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if Path(folder).is_dir():
            return Path(folder)
    raise FileNotFoundError("this installation of Thimble lacks the device package `thimble`")
