"""Tables on stdout, in the terminal's width; commands that print several of them share their looks here."""

from __future__ import annotations

import sys
from collections.abc import Callable

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


def print_fitting(console: Console, make: Callable[[bool], Table]) -> None:
    """Print ``make(False)``, or ``make(True)``, the narrow table, where the console is too narrow for it;
    one that is still wider loses nothing, its lines are just long."""
    for narrow in (False, True):
        table = make(narrow)
        natural = console.measure(table, options=console.options.update(max_width=1000)).maximum
        if natural <= console.width:
            break
    table.width = natural
    console.print(table, crop=False)
