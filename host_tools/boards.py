"""Board files: a name goes in, a checked `Board` comes out.

`thimble boards` and `devices` show what a file says, `pack --board` compares a model with it, `flash` runs
its tools and installs for it, `serve` starts what it says; host_tools/firmware_image.py builds what its
`[firmware]` table says. boards/README.md explains the fields.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
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
FPUS = ("none", "single", "double")
NAME_BYTES = 56  # of a description that the device says in HELLO
FILE_NAME = "board.toml"


@dataclass(frozen=True)
class Mcu:
    """The `[mcu]` table; None for what has no source."""

    part: str | None = None
    core: str | None = None
    core_count: int | None = None
    has_dsp: bool | None = None
    fpu: str | None = None
    clock_hz: int | None = None
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    flash_is_mapped: bool | None = None


@dataclass(frozen=True)
class ModelPlaces:
    """The `[model]` table: where a model can lie, and how long its file can be there."""

    romfs_bytes: int | None = None
    filesystem_bytes: int | None = None
    partition_bytes: int | None = None
    flash_store_bytes: int | None = None
    linker_section_bytes: int | None = None

    def places(self) -> dict[str, int]:
        """Place ("filesystem") to bytes, the roomiest first."""
        known = {field.name.removesuffix("_bytes"): getattr(self, field.name) for field in fields(self)}
        given = [(name, size) for name, size in known.items() if size is not None]
        return dict(sorted(given, key=lambda item: -item[1]))


@dataclass(frozen=True)
class MicroPython:
    """The `[micropython]` table of a board that MicroPython runs on."""

    board: str | None = None
    machine: str | None = None
    runs_native: bool = False


@dataclass(frozen=True)
class Port:
    """The `[port]` table: how a host sees the board."""

    usb: tuple[str, ...] = ()
    baud: int | None = None


@dataclass(frozen=True)
class Flash:
    """The `[flash]` table: how firmware gets onto the board."""

    image: str
    command: tuple[str, ...] = ()
    drive: str | None = None
    by_mpflash: bool = False


@dataclass(frozen=True)
class Measurement:
    """The `[measurement]` table: what an energy measurement needs, and an estimate without a meter."""

    trigger_pin: str | None = None
    supply_volts: float | None = None
    active_milliamps: tuple[float, float] | None = None


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
    heap_bytes: int = 0  # not known
    command: tuple[str, ...] = ()
    mcu: Mcu = Mcu()
    model: ModelPlaces = ModelPlaces()
    micropython: MicroPython | None = None
    port: Port = Port()
    flash: Flash | None = None
    measurement: Measurement = Measurement()
    firmware: Firmware | None = None
    sources: Mapping[str, str] | None = None

    def start_command(self, heap_bytes: int, image: Path | None = None) -> list[str]:
        """The command with its heap, or the image of its firmware, filled in."""
        return [word.format(heap_bytes=heap_bytes, image=image) for word in self.command]

    def facts(self) -> Iterator[tuple[str, Any]]:
        """Dotted name and value of everything that the file says about the board."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in TABLES and value is not None:
                known = ((part.name, getattr(value, part.name)) for part in fields(value))
                yield from ((f"{field.name}.{name}", fact) for name, fact in known if _is_given(fact))
            elif field.name != "sources" and _is_given(value):
                yield field.name, value

    def source(self, fact: str) -> str | None:
        """Where a fact (its dotted name) comes from: the file's source of itself, else of its table."""
        sources = self.sources or {}
        return sources.get(fact) or sources.get(fact.partition(".")[0])


def _is_given(fact: Any) -> bool:
    return fact is not None and fact != () and not (type(fact) is int and fact == 0)


TABLES: dict[str, type] = {
    "mcu": Mcu,
    "model": ModelPlaces,
    "micropython": MicroPython,
    "port": Port,
    "flash": Flash,
    "measurement": Measurement,
    "firmware": Firmware,
}
# Facts of the project's own, which are their own source.
UNSOURCED = ("name", "description", "word_bits", "command", "firmware")


def board_names() -> list[str]:
    """The boards that have a file, in alphabetical order."""
    return sorted(path.parent.name for path in boards_folder().glob(f"*/{FILE_NAME}"))


def load_board(name: str) -> Board:
    """The board of that name.

    Raises:
        UsageError: there is no such board, or its file is not in order.
    """
    if name not in board_names():
        raise UsageError(f"there is no board {name!r}, only {', '.join(board_names())}")
    return read_board(boards_folder() / name / FILE_NAME)


def all_boards() -> list[Board]:
    """Every board, in alphabetical order of their names."""
    return [load_board(name) for name in board_names()]


# ------------------------------------------------------------------------------------------------- the schema

Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)


def _is_range(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2 and all(map(_is_positive, value))
    return is_pair and value == sorted(value)


def _is_usb(value: Any) -> bool:
    return _is_words(value) and all(re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", item) for item in value)


def _is_payload(value: Any) -> bool:
    return type(value) is int and value in range(WIRE_MIN_PAYLOAD_BYTES, WIRE_MAX_PAYLOAD_BYTES + 1, 4)


# What each field must be; the dataclasses say which may be missing.
_CHECKS: dict[str, Check] = {
    "name": _is_text,
    "description": _is_text,
    "architecture": ARCHITECTURES.__contains__,
    "word_bits": (32, 64).__contains__,
    "heap_bytes": _is_count,
    "command": _is_words,
    "mcu.part": _is_text,
    "mcu.core": _is_text,
    "mcu.core_count": _is_count,
    "mcu.has_dsp": _is_flag,
    "mcu.fpu": FPUS.__contains__,
    "mcu.clock_hz": _is_count,
    "mcu.ram_bytes": _is_count,
    "mcu.flash_bytes": _is_count,
    "mcu.flash_is_mapped": _is_flag,
    **{f"model.{field.name}": _is_count for field in fields(ModelPlaces)},
    "micropython.board": _is_text,
    "micropython.machine": _is_text,
    "micropython.runs_native": _is_flag,
    "port.usb": _is_usb,
    "port.baud": _is_count,
    "flash.image": lambda value: _is_text(value) and value.startswith("."),
    "flash.command": _is_words,
    "flash.drive": _is_text,
    "flash.by_mpflash": _is_flag,
    "measurement.trigger_pin": _is_text,
    "measurement.supply_volts": _is_positive,
    "measurement.active_milliamps": _is_range,
    "firmware.platform": lambda value: _is_text(value) and (platform_folder() / value).is_dir(),
    "firmware.cpu": CPUS.__contains__,
    "firmware.max_payload": _is_payload,
    "firmware.keeps_models": _is_flag,
}
FIELDS = tuple(_CHECKS)


def read_board(path: Path) -> Board:
    """The board of one file.

    Raises:
        UsageError: the file is not TOML; a field is missing, unknown, or not what it must be; or a fact has
            no source.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML ({error})") from None
    sources = _checked_sources(path, values.pop("sources", {}))
    for name, kind in TABLES.items():
        if name in values:
            values[name] = _table(path, name, kind, values[name])
    board = Board(**_checked(path, "", Board, values), sources=sources)
    _check_whole(path, board)
    return board


def _table(path: Path, name: str, kind: type, values: object) -> Any:
    if not isinstance(values, dict):
        raise UsageError(f"{path}: {name} is no table")
    return kind(**_checked(path, f"{name}.", kind, values))


def _checked(path: Path, prefix: str, kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The fields of one table, lists as tuples."""
    owner = f"[{prefix[:-1]}]" if prefix else "a board"
    known = {field.name: field.default for field in fields(kind) if field.name != "sources"}
    for name in sorted(set(values) - set(known)):
        raise UsageError(f"{path}: {name} is no field of {owner}")
    for name, default in known.items():
        if default is MISSING and name not in values:
            raise UsageError(f"{path}: {prefix}{name} is missing")
    for name, value in values.items():
        check = _CHECKS.get(prefix + name)
        if check is not None and not _passes(check, value):
            raise UsageError(f"{path}: {prefix}{name} cannot be {value!r}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _passes(check: Check, value: Any) -> bool:
    try:
        return check(value)
    except TypeError:  # such as a list that is looked for in a tuple of names
        return False


def _checked_sources(path: Path, sources: object) -> dict[str, str]:
    if not isinstance(sources, dict) or not all(map(_is_text, sources.values())):
        raise UsageError(f"{path}: sources must be a table of links, document numbers and files")
    return sources


def _check_whole(path: Path, board: Board) -> None:
    """What no field can be checked for alone."""
    if board.name != path.parent.name:
        raise UsageError(f"{path}: name cannot be {board.name!r}")
    if board.firmware and len(board.description.encode()) > NAME_BYTES:
        raise UsageError(f"{path}: a device says at most {NAME_BYTES} bytes of its description")
    if board.command and not board.heap_bytes:
        raise UsageError(f"{path}: heap_bytes is missing, which the command needs")
    if board.flash and not (board.flash.command or board.flash.drive):
        raise UsageError(f"{path}: flash.command or flash.drive is missing")
    facts = [name for name, _ in board.facts() if name.partition(".")[0] not in UNSOURCED]
    for name in facts:
        if board.source(name) is None:
            raise UsageError(f"{path}: {name} has no source")
    covered = {*facts, *(name.partition(".")[0] for name in facts)}
    for name in sorted(set(board.sources or {}) - covered):
        raise UsageError(f"{path}: sources names {name}, of which the file says nothing")
