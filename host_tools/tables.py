"""Tables on stdout, in the terminal's width; commands that print several of them share their looks here."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH_WITHOUT_TERMINAL = 100


def stdout_console() -> Console:
    """As wide as the terminal, or 100 columns without one."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def make_table(title: str, narrow: bool, *columns: tuple[str, str]) -> Table:
    """An empty table; ``columns`` are (name, justification). Narrow: without space around cells."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
        padding=(0, 0) if narrow else (0, 1),
    )
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return table


def print_fitting(console: Console, make: Callable[[bool], Table], spare: Sequence[str] = ()) -> None:
    """Print ``make(False)``, or ``make(True)``, the narrow table, where the console is too narrow for it.

    Where that is too wide too, it loses columns in the order of ``spare``, until it fits, and a line below
    names them. What is wider still loses nothing more, its lines are just long.
    """
    table = make(False)
    if _natural_width(console, table) > console.width:
        table = make(True)
    lost = []
    for name in spare:
        if _natural_width(console, table) <= console.width:
            break
        if any(column.header == name for column in table.columns):
            table = _without(table, name)
            lost.append(name)
    table.width = _natural_width(console, table)
    console.print(table, crop=False)
    if lost:
        console.print(f"without {', '.join(lost)}, for a width of {console.width}", style="dim")


def _without(table: Table, name: str) -> Table:
    """The same table without the columns of that name."""
    kept = [column for column in table.columns if column.header != name]
    shorter = copy.copy(table)
    shorter.columns, shorter.rows = [], []
    for column in kept:
        shorter.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap)
    for row, cells in zip(table.rows, zip(*(column.cells for column in kept), strict=True), strict=True):
        shorter.add_row(*cells, style=row.style, end_section=row.end_section)
    return shorter


def _natural_width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(max_width=1000)).maximum
