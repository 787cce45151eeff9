"""`thimble boards`: the boards that Thimble knows, or all facts about one of them with their sources."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from host_tools.boards import Board

SPARE_COLUMNS = ("core", "MHz", "flash")  # what a very narrow terminal does without, the first first
HELP = "list the known boards, or show one with the source of every fact"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("board", metavar="BOARD", nargs="?", help="the board to show (default: list all)")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the list or the board."""
    from host_tools.boards import all_boards, load_board
    from host_tools.tables import stdout_console

    boards = [load_board(arguments.board)] if arguments.board else all_boards()
    if arguments.json:
        shown = [_with_sources(board) for board in boards]
        print(json.dumps(shown[0] if arguments.board else shown))
    elif arguments.board:
        _print_board(boards[0])
    else:
        print_boards(stdout_console(), boards)
    return 0


def print_boards(console: Console, boards: list[Board]) -> None:
    """The list, in the console's width."""
    from host_tools.tables import print_fitting

    print_fitting(console, lambda narrow: _table(boards, narrow), SPARE_COLUMNS)


def _with_sources(board: Board) -> dict[str, Any]:
    return {"facts": dict(board.facts()), "sources": dict(board.sources or {})}


def size_text(size_bytes: int | None) -> str:
    """A memory's size as data sheets say it, in KB or MB of 1024; "" for None."""
    if size_bytes is None:
        return ""
    for unit, power in (("MB", 20), ("KB", 10)):
        if size_bytes >= 1 << power:
            return f"{size_bytes / (1 << power):.3g} {unit}"
    return f"{size_bytes} B"


def _table(boards: list[Board], narrow: bool) -> Table:
    from host_tools.tables import make_table

    columns = ("board", "core") if narrow else ("board", "mcu", "core")
    numbers = ("MHz", "RAM", "flash", "largest model")
    sides = [(name, "left") for name in columns] + [(name, "right") for name in numbers]
    table = make_table("Boards", False, *sides)
    for board in boards:
        mcu = board.mcu
        clock = f"{mcu.clock_hz / 1e6:.0f}" if mcu.clock_hz else ""
        core = f"{mcu.core_count} x {mcu.core}" if (mcu.core_count or 1) > 1 else mcu.core or ""
        largest = next(iter(board.model.places().items()), None)
        room = f"{size_text(largest[1])}, {largest[0].replace('_', ' ')}" if largest else ""
        sizes = (size_text(mcu.ram_bytes), size_text(mcu.flash_bytes), room)
        part = () if narrow else (mcu.part or "this machine",)
        table.add_row(board.name, *part, core, clock, *sizes)
    return table


def _print_board(board: Board) -> None:
    facts = list(board.facts())
    width = max(len(name) for name, _ in facts)
    for name, fact in facts:
        print(f"{name:{width}}  {_fact_text(fact)}")
    print("\nSources")
    for name, source in (board.sources or {}).items():
        print(f"{name:{width}}  {source}")


def _fact_text(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, tuple):
        return " ".join(map(str, fact))
    return f"{fact:,}" if isinstance(fact, int) else str(fact)
