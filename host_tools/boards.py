"""Board files: a name goes in, a checked `Board` comes out; `thimble serve` starts what unix.toml says."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path

from host_tools.shipped import boards_folder
from model_packager.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Names of `mpy-cross -march`.
ARCHITECTURES = (
    "x64", "x86", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin",
    "rv32imc", "rv64imc",
)  # fmt: skip


@dataclass(frozen=True)
class Board:
    """One board file; boards/README.md explains the fields."""

    name: str
    description: str
    architecture: str
    word_bits: int
    heap_bytes: int
    command: tuple[str, ...]

    def start_command(self, heap_bytes: int) -> list[str]:
        """The command with its heap filled in."""
        return [word.format(heap_bytes=heap_bytes) for word in self.command]


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
    known = {field.name for field in fields(Board)}
    odd = sorted(known ^ set(values))
    if odd:
        raise UsageError(f"{path}: {odd[0]} is {'missing' if odd[0] in known else 'no field of a board'}")
    checks = {
        "name": values["name"] == path.stem,
        "description": isinstance(values["description"], str),
        "architecture": values["architecture"] in ARCHITECTURES,
        "word_bits": values["word_bits"] in (32, 64),
        "heap_bytes": type(values["heap_bytes"]) is int and values["heap_bytes"] > 0,
        "command": _is_command(values["command"]),
    }
    for name, is_right in checks.items():
        if not is_right:
            raise UsageError(f"{path}: {name} cannot be {values[name]!r}")
    return Board(**{**values, "command": tuple(values["command"])})


def _is_command(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)
