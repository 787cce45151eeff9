"""Board files: a name goes in, a checked `Board` comes out.

`thimble serve` starts what a file says; host_tools/firmware_image.py builds what its `[firmware]` table says.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from host_tools.shipped import boards_folder, platform_folder
from model_packager.errors import UsageError
from model_packager.format_table import WIRE_MAX_PAYLOAD_BYTES, WIRE_MIN_PAYLOAD_BYTES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Names of `mpy-cross -march`.
ARCHITECTURES = (
    "x64", "x86", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin",
    "rv32imc", "rv64imc",
)  # fmt: skip

# Cores that the C firmware is built for, as GCC's -mcpu names them.
CPUS = ("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")
NAME_BYTES = 56  # of a description that the device says in HELLO


@dataclass(frozen=True)
class Firmware:
    """How the C firmware of a board is built; the `[firmware]` table of its file."""

    platform: str
    cpu: str
    max_payload: int
    keeps_models: bool


@dataclass(frozen=True)
class Board:
    """One board file; boards/README.md explains the fields."""

    name: str
    description: str
    architecture: str
    word_bits: int
    heap_bytes: int
    command: tuple[str, ...]
    firmware: Firmware | None = None

    def start_command(self, heap_bytes: int, image: Path | None = None) -> list[str]:
        """The command with its heap, or the image of its firmware, filled in."""
        return [word.format(heap_bytes=heap_bytes, image=image) for word in self.command]


def board_names() -> list[str]:
    """The boards that have a file, in alphabetical order."""
    return sorted(path.stem for path in boards_folder().glob("*.toml"))


def load_board(name: str) -> Board:
    """The board of that name.

    Raises:
        UsageError: there is no such board, or its file is not in order.
    """
    if name not in board_names():
        raise UsageError(f"there is no board {name!r}, only {', '.join(board_names())}")
    return read_board(boards_folder() / f"{name}.toml")


def read_board(path: Path) -> Board:
    """The board of one file.

    Raises:
        UsageError: the file is not TOML, or a field is missing, unknown, or not what it must be.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML ({error})") from None
    firmware = values.pop("firmware", None)
    _check_names(path, values, {field.name for field in fields(Board)} - {"firmware"}, "a board")
    checks = {
        "name": values["name"] == path.stem,
        "description": isinstance(values["description"], str),
        "architecture": values["architecture"] in ARCHITECTURES,
        "word_bits": values["word_bits"] in (32, 64),
        "heap_bytes": type(values["heap_bytes"]) is int and values["heap_bytes"] > 0,
        "command": _is_command(values["command"]),
    }
    _check_values(path, values, checks)
    built = None if firmware is None else _firmware(path, firmware, values["description"])
    return Board(**{**values, "command": tuple(values["command"]), "firmware": built})


def _firmware(path: Path, values: object, description: str) -> Firmware:
    if not isinstance(values, dict):
        raise UsageError(f"{path}: firmware is no table")
    _check_names(path, values, {field.name for field in fields(Firmware)}, "[firmware]")
    payload = values["max_payload"]
    limits = range(WIRE_MIN_PAYLOAD_BYTES, WIRE_MAX_PAYLOAD_BYTES + 1, 4)
    checks = {
        "platform": (platform_folder() / str(values["platform"])).is_dir(),
        "cpu": values["cpu"] in CPUS,
        "max_payload": type(payload) is int and payload in limits,
        "keeps_models": isinstance(values["keeps_models"], bool),
    }
    _check_values(path, values, checks)
    if len(description.encode()) > NAME_BYTES:
        raise UsageError(f"{path}: a device says at most {NAME_BYTES} bytes of its description")
    return Firmware(**values)


def _check_names(path: Path, values: dict[str, Any], known: set[str], owner: str) -> None:
    odd = sorted(known ^ set(values))
    if odd:
        raise UsageError(f"{path}: {odd[0]} is {'missing' if odd[0] in known else f'no field of {owner}'}")


def _check_values(path: Path, values: dict[str, Any], checks: dict[str, bool]) -> None:
    for name, is_right in checks.items():
        if not is_right:
            raise UsageError(f"{path}: {name} cannot be {values[name]!r}")


def _is_command(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)
