"""Pictures as lists of marks: rectangles, lines, dots and text go in, SVG comes out (``png_picture``: PNG).

What draws (`thimble analyze --picture`, `thimble report`, benchmarks/training_picture.py) gives positions in
pixels from the upper left corner, and colours by name; the name stands for one colour on white paper and
another on dark. Inside a page the SVG carries class names, so that the page's style sheet can follow the
reader's scheme; by itself it carries the colours for white paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

# Name -> (on white, on dark): text 4.5 : 1 or better against the paper, marks 3 : 1 (WCAG 2.1, 1.4.3 and
# 1.4.11), but for the lines and stripes that only guide the eye.
COLOURS = {
    "paper": ("#ffffff", "#15181c"),
    "text": ("#1b1f24", "#e8eaed"),
    "muted": ("#59616b", "#a9b1bb"),
    "grid": ("#dfe3e8", "#363c44"),
    "stripe": ("#f3f5f7", "#1d2126"),
    "blue": ("#2a6f97", "#5aa9d6"),
    "sky": ("#5796bb", "#37739b"),
    "orange": ("#c9532e", "#ee8b66"),
    "green": ("#4a7d49", "#7fbf7d"),
    "grey": ("#6d757f", "#8b949e"),
    "violet": ("#7b5ea7", "#b39ddb"),
    "on_fill": ("#ffffff", "#15181c"),
}
FONT_SIZE = 12
_HEADING = 36.0  # pixels above a picture
_FAMILY = "Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Rectangle:
    """`note` is what a browser shows under the pointer, and a screen reader reads."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None
    stroke: str | None = None
    note: str = ""
    opacity: float = 1.0


@dataclass(frozen=True)
class Line:
    """A polyline through `points`."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """A circle, square or diamond around (x, y)."""

    x: float
    y: float
    radius: float
    colour: str
    shape: str = "circle"
    note: str = ""


@dataclass(frozen=True)
class Text:
    """`y` is that of the baseline; `anchor`: start, middle or end."""

    x: float
    y: float
    content: str
    colour: str = "text"
    size: float = FONT_SIZE
    bold: bool = False
    anchor: str = "start"


Mark = Rectangle | Line | Dot | Text


@dataclass
class Picture:
    """Marks, drawn in their order. `title` and `description` are its alternative text."""

    title: str
    description: str
    width: float
    height: float = 0.0
    marks: list[Mark] = field(default_factory=list)

    def add(self, *marks: Mark) -> None:
        self.marks += marks


def text_width(content: str, size: float = FONT_SIZE) -> float:
    """About as wide as a proportional font draws it."""
    return 0.56 * size * len(content)


def shortened(content: str, width: float, size: float = FONT_SIZE) -> str:
    """`content`, cut with an ellipsis where it is wider than `width`."""
    if text_width(content, size) <= width:
        return content
    return content[: max(1, int(width / text_width("x", size)) - 1)].rstrip() + "…"


def with_heading(picture: Picture) -> Picture:
    """The picture with its title above it, for where it stands alone."""
    heading = Text(4, 22, shortened(picture.title, picture.width - 8, 16), size=16, bold=True)
    moved: list[Mark] = [heading]
    for mark in picture.marks:
        if isinstance(mark, Line):
            moved.append(replace(mark, points=tuple((x, y + _HEADING) for x, y in mark.points)))
        else:
            moved.append(replace(mark, y=mark.y + _HEADING))
    return replace(picture, height=picture.height + _HEADING, marks=moved)


def legend(
    picture: Picture, x: float, y: float, entries: Sequence[tuple[str, str, str]], room: float
) -> float:
    """Dots (colour, shape) with their meanings, in as many lines as they take; the last line's y."""
    left = x
    for colour, shape, meaning in entries:
        wide = 18 + text_width(meaning)
        if left > x and left + wide > x + room:
            left, y = x, y + 18
        picture.add(Dot(left + 6, y - 4, 5, colour, shape), Text(left + 16, y, meaning))
        left += wide + 16
    return y


def round_steps(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, at most `most` + 1 of them; one where both are the same."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    return [round(n * step, 12) for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


# ------------------------------------------------------------------------------------------------------ SVG


def svg(picture: Picture, name: str | None = None) -> str:
    """The SVG element: by itself, or as a part of the page, where `name` is unique and classes colour it."""
    size = f'viewBox="0 0 {_number(picture.width)} {_number(picture.height)}"'
    if name is None:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_number(picture.width)}" '
            f'height="{_number(picture.height)}" {size} font-family="{_FAMILY}">'
        )
    else:
        head = f'<svg {size} role="img" aria-labelledby="{name}-title {name}-description" class="{name}">'
    identity = [f' id="{name}-{part}"' if name else "" for part in ("title", "description")]
    parts = [
        head,
        f"<title{identity[0]}>{escape(picture.title)}</title>",
        f"<desc{identity[1]}>{escape(picture.description)}</desc>",
    ]
    if name is None:
        parts.append(f'<rect width="100%" height="100%" fill="{COLOURS["paper"][0]}"/>')
    parts += [_svg_mark(mark, name is not None) for mark in picture.marks]
    return "\n".join((*parts, "</svg>")) + "\n"


def style_sheet() -> str:
    """The classes that `svg` uses in a page; each colour is a variable of the same name."""
    fills = "".join(f".f-{name}{{fill:var(--{name})}}" for name in COLOURS)
    return fills + "".join(f".s-{name}{{stroke:var(--{name})}}" for name in COLOURS)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _paint(fill: str | None, stroke: str | None, in_page: bool) -> str:
    if in_page:
        names = [f"f-{fill}" if fill else "", f"s-{stroke}" if stroke else ""]
        return f' class="{" ".join(filter(None, names))}"' + ("" if fill else ' fill="none"')
    painted = f' fill="{COLOURS[fill][0] if fill else "none"}"'
    return painted + (f' stroke="{COLOURS[stroke][0]}"' if stroke else "")


def _svg_mark(mark: Mark, in_page: bool) -> str:
    if isinstance(mark, Text):
        weight = ' font-weight="bold"' if mark.bold else ""
        anchor = "" if mark.anchor == "start" else f' text-anchor="{mark.anchor}"'
        return (
            f'<text x="{_number(mark.x)}" y="{_number(mark.y)}" font-size="{_number(mark.size)}"{weight}'
            f"{anchor}{_paint(mark.colour, None, in_page)}>{escape(mark.content)}</text>"
        )
    if isinstance(mark, Line):
        path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in mark.points)
        width = "" if mark.width == 1 else f' stroke-width="{_number(mark.width)}"'
        dashes = ' stroke-dasharray="5 4"' if mark.dashed else ""
        return f'<path d="{path}"{_paint(None, mark.colour, in_page)}{width}{dashes}/>'
    if isinstance(mark, Rectangle):
        opacity = "" if mark.opacity == 1 else f' opacity="{mark.opacity:.2f}"'
        shape = (
            f'rect x="{_number(mark.x)}" y="{_number(mark.y)}" width="{_number(mark.width)}" '
            f'height="{_number(mark.height)}"{_paint(mark.fill, mark.stroke, in_page)}{opacity}'
        )
        return _with_note(shape, "rect", mark.note)
    x, y, radius = mark.x, mark.y, mark.radius
    if mark.shape == "circle":
        shape = f'circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}"'
    else:
        around = "L".join(f"{_number(a)} {_number(b)}" for a, b in corners(mark))
        shape = f'path d="M{around}z"'
    return _with_note(shape + _paint(mark.colour, None, in_page), shape.split(" ")[0], mark.note)


def _with_note(shape: str, element: str, note: str) -> str:
    return f"<{shape}><title>{escape(note)}</title></{element}>" if note else f"<{shape}/>"


def corners(dot: Dot) -> list[tuple[float, float]]:
    """Of a square or a diamond."""
    reach = dot.radius * (0.85 if dot.shape == "square" else 1.2)
    if dot.shape == "square":
        directions = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    else:
        directions = ((0, -1), (1, 0), (0, 1), (-1, 0))
    return [(dot.x + reach * a, dot.y + reach * b) for a, b in directions]
