"""What each part of a report gives to the page: a picture for any width, the numbers as tables, notes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from host_tools.picture import Picture

WIDE, NARROW = 960.0, 366.0  # pixels; the page shows the narrow drawing on narrow screens
BREAK = 600.0  # between both, for what is laid out in another way


@dataclass(frozen=True)
class Table:
    """Cells are text. `columns`: heading, and whether it is above numbers. The last `totals` rows: sums."""

    caption: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, ...], ...]
    totals: int = 0


@dataclass(frozen=True)
class Figure:
    """`name` is unique in the report and names the PNG; `draw` makes the picture for a width in pixels."""

    name: str
    title: str
    draw: Callable[[float], Picture]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def figure_name(kind: str, number: int, label: str) -> str:
    """Such as "size-1-kws": letters, digits and hyphens only."""
    letters = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40].strip("-")
    return "-".join(filter(None, (kind, str(number), letters)))


def shape_text(shape: tuple[int, ...]) -> str:
    """Such as "25x5x64": without the batch dimension, which is always 1."""
    return "x".join(map(str, shape[1:] if len(shape) > 1 else shape))


def kind_text(kind: str) -> str:
    """Such as "depthwise conv": an operator's name for people."""
    return kind.lower().replace("_2d", "").replace("_", " ")


def share_text(part: float, whole: float) -> str:
    """Such as "12.3 %"."""
    return f"{part / whole:.1%}".replace("%", " %") if whole else "-"


def number_text(value: float) -> str:
    """Four digits or more, without an exponent for large numbers."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
