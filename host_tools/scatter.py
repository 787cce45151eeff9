"""Accuracy against bytes: points go in, one panel of a picture comes out, with labels where there is room.

Bytes are on a logarithmic scale; up and to the left is better. `thimble report` and
benchmarks/training_picture.py draw their panels with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from host_tools.picture import Dot, Line, Picture, Text, round_steps, shortened, text_width

LEFT, RIGHT, TOP, BOTTOM = 56.0, 16.0, 44.0, 40.0  # around a panel's axes
_LABEL_SIZE = 11.0
_MOST_TICKS = 6
_LEAST_DECADES = 0.8  # from the left to the right edge
_MOST_COVERED = 0.3  # of a label, by others; with more it is left out


@dataclass(frozen=True)
class Point:
    """One mark: `size_bytes` above 0, accuracy in per cent; drawn at `height` where that is another."""

    label: str
    size_bytes: int
    accuracy: float
    colour: str
    shape: str = "circle"
    radius: float = 5.0
    height: float | None = None

    @property
    def drawn_at(self) -> float:
        """The accuracy at which it is drawn."""
        return self.accuracy if self.height is None else self.height

    @property
    def words(self) -> str:
        """Its label; with its accuracy, where it is drawn at another."""
        return self.label if self.height is None else f"{self.label}: {self.accuracy:.1f} %"

    @property
    def note(self) -> str:
        return f"{self.label}: {self.size_bytes:,} bytes, {self.accuracy:.2f} %"


@dataclass(frozen=True)
class Level:
    """An accuracy whose size is not known: a dashed line."""

    label: str
    accuracy: float
    colour: str


def in_view(points: Sequence[Point], floor: float) -> list[Point]:
    """What is below `floor`, in per cent, is drawn there, with its accuracy in the label."""
    return [point if point.accuracy >= floor else replace(point, height=floor) for point in points]


class Panel:
    """Scales and marks of one set of samples, at (left, top) of a picture.

    Args:
        points: at least one.
    """

    def __init__(
        self,
        picture: Picture,
        points: Sequence[Point],
        levels: Sequence[Level],
        place: tuple[float, float],
        size: tuple[float, float],
    ) -> None:
        self._picture, self._points, self._levels = picture, points, levels
        self._left, self._top = place[0] + LEFT, place[1] + TOP
        self._right, self._bottom = place[0] + size[0] - RIGHT, place[1] + size[1] - BOTTOM
        sizes = [math.log10(point.size_bytes) for point in points]
        heights = [each.drawn_at for each in points] + [each.accuracy for each in levels]
        self._first, self._last = min(sizes) - 0.15, max(sizes) + 0.3
        missing = max(0.0, _LEAST_DECADES - (self._last - self._first))
        self._first, self._last = self._first - missing / 2, self._last + missing / 2
        margin = max(0.1, 0.08 * (max(heights) - min(heights)))
        self._lowest, self._highest = min(heights) - margin, max(heights) + margin
        self._taken: list[tuple[float, float, float, float]] = []

    def x(self, size_bytes: float) -> float:
        """Where that size is in the picture."""
        share = (math.log10(size_bytes) - self._first) / (self._last - self._first)
        return self._left + share * (self._right - self._left)

    def y(self, accuracy: float) -> float:
        """Where that accuracy is in the picture."""
        share = (self._highest - accuracy) / (self._highest - self._lowest)
        return self._top + share * (self._bottom - self._top)

    def draw(self, title: str) -> None:
        """Add everything to the picture."""
        heading = shortened(title, self._right - self._left + LEFT, 14)
        self._picture.add(Text(self._left - LEFT + 4, self._top - 14, heading, size=14, bold=True))
        self._draw_axes()
        for level in self._levels:
            y = self.y(level.accuracy)
            self._picture.add(Line(((self._left, y), (self._right, y)), level.colour, dashed=True))
            width = text_width(level.label, _LABEL_SIZE)
            self._taken += [
                (self._right - width, y - 14, self._right, y),
                (self._left, y - 2, self._right, y + 2),
            ]
            self._picture.add(Text(self._right, y - 4, level.label, level.colour, _LABEL_SIZE, anchor="end"))
        for point in self._points:
            x, y = self.x(point.size_bytes), self.y(point.drawn_at)
            self._taken.append((x - 5, y - 5, x + 5, y + 5))
        for point in self._points:
            dot = self.x(point.size_bytes), self.y(point.drawn_at)
            self._picture.add(Dot(*dot, point.radius, point.colour, point.shape, point.note))
            self._picture.add(*self._label(point))

    def _draw_axes(self) -> None:
        for size_bytes in _decades(10**self._first, 10**self._last):
            x = self.x(size_bytes)
            text = f"{size_bytes / 1000:g} KB" if size_bytes < 10**6 else f"{size_bytes / 10**6:g} MB"
            self._picture.add(
                Line(((x, self._top), (x, self._bottom)), "grid"),
                Text(x, self._bottom + 15, text, "muted", _LABEL_SIZE, anchor="middle"),
            )
        steps = round_steps(self._lowest, self._highest, 7)
        digits = 1 if len(steps) < 2 or steps[1] - steps[0] > 0.09 else 2
        for accuracy in steps:
            y = self.y(accuracy)
            self._picture.add(
                Line(((self._left, y), (self._right, y)), "grid"),
                Text(self._left - 6, y + 4, f"{accuracy:.{digits}f} %", "muted", _LABEL_SIZE, anchor="end"),
            )

    def _label(self, point: Point) -> list[Text]:
        """Beside the mark, where the fewest other marks and labels are; none where they would cover it."""
        x, y = self.x(point.size_bytes), self.y(point.drawn_at)
        content = shortened(point.words, 0.6 * (self._right - self._left), _LABEL_SIZE)
        width = text_width(content, _LABEL_SIZE)
        places = [(x + 8, y + 4), (x - 8 - width, y + 4), (x - width / 2, y - 9), (x - width / 2, y + 17)]
        places += [(x + 8, y - 7), (x + 8, y + 15), (x - 8 - width, y - 7), (x - 8 - width, y + 15)]
        places += [(x + 8, y - 18), (x + 8, y + 26), (x - 8 - width, y - 18), (x - 8 - width, y + 26)]
        boxes = [(left, base - 9, left + width, base + 2) for left, base in places]
        best = min(range(len(places)), key=lambda number: (self._crowd(boxes[number]), number))
        if self._crowd(boxes[best]) > _MOST_COVERED * width * _LABEL_SIZE:
            return []
        self._taken.append(boxes[best])
        return [Text(*places[best], content, "text", _LABEL_SIZE)]

    def _crowd(self, box: tuple[float, float, float, float]) -> float:
        """The area of others that a box covers, and of the panel's outside."""
        covered = sum(
            max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
            * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
            for other in self._taken
        )
        sideways = max(0.0, self._left - box[0]) + max(0.0, box[2] - self._right - RIGHT)
        upright = max(0.0, self._top - box[1]) + max(0.0, box[3] - self._bottom)
        return covered + 20 * (sideways + upright)


def _decades(first: float, last: float) -> list[int]:
    """1, 2, 5, 10, ... times a power of ten between two sizes, or fewer of them where those are many."""
    powers = range(max(0, math.floor(math.log10(first))), math.ceil(math.log10(last)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if first <= tick <= last]
        if len(ticks) <= _MOST_TICKS:
            break
    return ticks
