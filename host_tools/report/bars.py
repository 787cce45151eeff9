"""Horizontal bars with their figures beside them; on narrow paper the words are above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from host_tools.picture import Picture, Rectangle, Text, legend, shortened, text_width
from host_tools.report.figure import BREAK

_ROW, _TALL_ROW, _HEADING = 22.0, 38.0, 28.0
_LEAST = 1.5  # pixels of a bar that is not 0


@dataclass(frozen=True)
class Bar:
    """`value` is drawn in `colour`, what of it is above `base` in `rest_colour`. None: words alone."""

    label: str
    note: str
    value: float | None
    value_text: str
    colour: str
    base: float | None = None
    rest_colour: str = ""


@dataclass(frozen=True)
class Group:
    """Bars under one heading."""

    heading: str
    bars: tuple[Bar, ...]


def draw_bars(
    title: str,
    description: str,
    width: float,
    groups: Sequence[Group],
    entries: Sequence[tuple[str, str]] = (),
) -> Picture:
    """All groups on one scale. `entries`: colour and meaning for the legend."""
    picture = Picture(title, description, width)
    y = 6.0
    if entries:
        y = 12 + legend(picture, 0, y + 10, [(colour, "square", words) for colour, words in entries], width)
    most = max((bar.value or 0.0 for group in groups for bar in group.bars), default=0.0)
    for group in groups:
        if group.heading:
            picture.add(Text(4, y + 18, group.heading, "text", 13, bold=True))
            y += _HEADING
        for number, bar in enumerate(group.bars):
            y = (_wide_row if width >= BREAK else _tall_row)(picture, bar, y, most, number % 2 == 1)
        y += 6
    picture.height = y
    return picture


def _wide_row(picture: Picture, bar: Bar, y: float, most: float, striped: bool) -> float:
    label_room, note_room, value_room = 0.24 * picture.width, 0.22 * picture.width, 0.15 * picture.width
    if striped:
        picture.add(Rectangle(0, y, picture.width, _ROW, "stripe"))
    baseline, left = y + 15, label_room + note_room
    picture.add(Text(4, baseline, shortened(bar.label, label_room - 10)))
    picture.add(Text(label_room, baseline, shortened(bar.note, note_room - 10), "muted"))
    end = _bar(picture, bar, left, y + 5, picture.width - left - value_room, _ROW - 10, most)
    picture.add(Text(end + 6, baseline, bar.value_text, "muted" if bar.value is None else "text"))
    return y + _ROW


def _tall_row(picture: Picture, bar: Bar, y: float, most: float, striped: bool) -> float:
    if striped:
        picture.add(Rectangle(0, y, picture.width, _TALL_ROW, "stripe"))
    value_room = text_width(bar.value_text) + 8
    words = shortened(bar.label, picture.width - value_room - 4)
    picture.add(Text(4, y + 15, words))
    left = 4 + text_width(words + "  ")
    note_room = picture.width - value_room - left
    if note_room > 40:
        picture.add(Text(left, y + 15, shortened(bar.note, note_room), "muted"))
    picture.add(Text(picture.width - 4, y + 15, bar.value_text, anchor="end"))
    _bar(picture, bar, 4, y + 21, picture.width - 8, 10, most)
    return y + _TALL_ROW


def _bar(picture: Picture, bar: Bar, x: float, y: float, room: float, height: float, most: float) -> float:
    """Draws it; where it ends."""
    if bar.value is None or not most:
        return x
    length = max(room * bar.value / most, _LEAST if bar.value else 0)
    words = f"{bar.label} {bar.note}: {bar.value_text}"
    if bar.base is None or bar.base >= bar.value:
        picture.add(Rectangle(x, y, length, height, bar.colour, note=words))
    else:
        first = room * bar.base / most
        picture.add(Rectangle(x, y, first, height, bar.colour, note=words))
        picture.add(Rectangle(x + first, y, length - first, height, bar.rest_colour, note=words))
    return x + length
