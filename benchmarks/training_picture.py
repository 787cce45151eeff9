"""Accuracy against bytes of the compressed networks, as a picture: results of benchmarks/training in, SVG
out.

    python benchmarks/training_picture.py              # writes docs/training.svg

A panel for each network: our files, the quantising methods of the lecture's summary (whose files are not made
to be small), what was published, and the float32 network. Bytes are on a logarithmic scale; up and to the
left is better.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.training import FLOAT_BYTES, PUBLISHED, RUNS, SUMMARY, TITLES, load_result
from examples.image_sets import REPOSITORY
from host_tools.atomic_file import replacing

PICTURE = REPOSITORY / "docs" / "training.svg"
NETWORKS = ("lenet300", "lenet5", "fashion", "resnet8")
PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 520, 330, 2
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 44, 40  # around a panel's axes
HEAD_HEIGHT = 64
MOST_TICKS = 6
MOST_LOSS = 2.5  # points below float32; what lost more lies on that line, with its figure
FONT_SIZE, LETTER_WIDTH = 11, 6.4
COLOURS = {"ours": "#2a6f97", "method": "#7fb0cc", "published": "#d1603d", "float32": "#555555"}
LEGEND = {
    "ours": "our files",
    "method": "quantising methods, our files",
    "published": "published",
    "float32": "float32 weights",
}


@dataclass(frozen=True)
class Point:
    """One mark: whole file in bytes (weights alone for float32), accuracy in per cent."""

    kind: str
    label: str
    size: int
    accuracy: float


def points(network: str) -> list[Point]:
    """All marks of a network's panel; what lost most is moved up to the lowest line of the panel."""
    marks = list(_recorded(network))
    dense = max((mark.accuracy for mark in marks if mark.kind == "float32"), default=0.0)
    lowest = dense - MOST_LOSS
    return [
        mark
        if mark.accuracy >= lowest
        else Point(mark.kind, f"{mark.label}: {mark.accuracy:.1f} %", mark.size, lowest)
        for mark in marks
    ]


def _recorded(network: str) -> Iterator[Point]:
    """Runs without a recorded result are left out."""
    dense = None
    for run in RUNS:
        result = load_result(run) if run.network == network else None
        if result is not None:
            dense = result["float_accuracy"]
            yield Point("ours", run.recipe, result["file_bytes"], result["accuracy"])
    for row in SUMMARY:
        result = load_result(row.run) if row.run.network == network and row.run not in RUNS else None
        if result is not None:
            dense = result["float_accuracy"]
            yield Point("method", row.method, result["file_bytes"], result["accuracy"])
    for name, method, size, _, after in PUBLISHED:
        if name == network:
            yield Point("published", method.split(" (")[0], size, after)
    if dense is not None:
        yield Point("float32", "float32", FLOAT_BYTES[network], dense)


class _Panel:
    """Scales and marks of one network."""

    def __init__(self, marks: list[Point], left: float, top: float) -> None:
        self.marks, self.left, self.top = marks, left, top
        sizes = [math.log10(mark.size) for mark in marks]
        heights = [mark.accuracy for mark in marks]
        self.first, self.last = min(sizes) - 0.15, max(sizes) + 0.3
        margin = max(0.1, 0.08 * (max(heights) - min(heights)))
        self.lowest, self.highest = min(heights) - margin, max(heights) + margin
        self.taken: list[tuple[float, float, float, float]] = []

    def x(self, size: float) -> float:
        share = (math.log10(size) - self.first) / (self.last - self.first)
        return self.left + LEFT + share * (PANEL_WIDTH - LEFT - RIGHT)

    def y(self, accuracy: float) -> float:
        share = (self.highest - accuracy) / (self.highest - self.lowest)
        return self.top + TOP + share * (PANEL_HEIGHT - TOP - BOTTOM)

    def draw(self, title: str) -> Iterator[str]:
        yield _text(self.left + LEFT, self.top + TOP - 12, title, size=14, weight="bold")
        yield from self._axes()
        for mark in self.marks:
            x, y = self.x(mark.size), self.y(mark.accuracy)
            self.taken.append((x - 5, y - 5, x + 5, y + 5))
        for mark in self.marks:
            yield _mark(mark.kind, self.x(mark.size), self.y(mark.accuracy))
            yield self._label(mark)

    def _axes(self) -> Iterator[str]:
        bottom, right = self.top + PANEL_HEIGHT - BOTTOM, self.left + PANEL_WIDTH - RIGHT
        for size in _decades(10**self.first, 10**self.last):
            x = self.x(size)
            yield _line(x, self.top + TOP, x, bottom)
            yield _text(x, bottom + 15, f"{size // 1000} KB", colour="#777777", anchor="middle")
        for accuracy in _steps(self.lowest, self.highest):
            y = self.y(accuracy)
            yield _line(self.left + LEFT, y, right, y)
            yield _text(self.left + LEFT - 6, y + 4, f"{accuracy:.1f} %", colour="#777777", anchor="end")

    def _label(self, mark: Point) -> str:
        """Beside the mark, where the fewest other marks and labels are."""
        x, y, width = self.x(mark.size), self.y(mark.accuracy), LETTER_WIDTH * len(mark.label)
        places = [(x + 8, y + 4), (x - 8 - width, y + 4), (x - width / 2, y - 9), (x - width / 2, y + 17)]
        places += [(x + 8, y - 7), (x + 8, y + 15), (x - 8 - width, y - 7), (x - 8 - width, y + 15)]
        boxes = [(left, base - 9, left + width, base + 2) for left, base in places]
        place = min(range(len(places)), key=lambda number: (self._crowd(boxes[number]), number))
        self.taken.append(boxes[place])
        return _text(
            *places[place], mark.label, colour=COLOURS[mark.kind] if mark.kind != "method" else "#4f88a8"
        )

    def _crowd(self, box: tuple[float, float, float, float]) -> float:
        """The area of others that a box covers, and of the panel's outside."""
        covered = sum(
            max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
            * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
            for other in self.taken
        )
        edges = self.left + LEFT, self.left + PANEL_WIDTH
        return covered + 20 * (max(0.0, edges[0] - box[0]) + max(0.0, box[2] - edges[1]))


def _decades(first: float, last: float) -> Iterable[int]:
    """1, 2, 5, 10, ... thousand between two sizes, or 1, 3, 10 ... where those are many."""
    for steps in ((1, 2, 5), (1, 3)):
        ticks = [step * 10**power for power in range(3, 8) for step in steps]
        ticks = [tick for tick in ticks if first <= tick <= last]
        if len(ticks) <= MOST_TICKS:
            break
    return ticks


def _steps(low: float, high: float) -> Iterable[float]:
    """Round values between two accuracies, three to eight of them."""
    step = next(step for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if (high - low) / step < 8)
    return [round(number * step, 6) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _mark(kind: str, x: float, y: float) -> str:
    colour = COLOURS[kind]
    if kind == "published":
        return f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" fill="{colour}"/>'
    if kind == "float32":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if kind == "ours" else 3.5}" fill="{colour}"/>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#e4e6ea" fill="none"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = FONT_SIZE,
    colour: str = "#222222",
    weight: str = "normal",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )


def draw() -> str:
    """The whole SVG document."""
    drawn = [(network, points(network)) for network in NETWORKS]
    drawn = [(network, marks) for network, marks in drawn if marks]
    width = COLUMNS * PANEL_WIDTH
    height = HEAD_HEIGHT + math.ceil(len(drawn) / COLUMNS) * PANEL_HEIGHT
    body = [f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    body.append(
        _text(24, 30, "Accuracy on the test set against bytes of the whole file", size=18, weight="bold")
    )
    left = 24.0
    for kind, meaning in LEGEND.items():
        body += [_mark(kind, left + 6, 50), _text(left + 18, 54, meaning, colour="#333333")]
        left += 40 + LETTER_WIDTH * len(meaning)
    for place, (network, marks) in enumerate(drawn):
        left, top = place % COLUMNS * PANEL_WIDTH, HEAD_HEIGHT + place // COLUMNS * PANEL_HEIGHT
        body += _Panel(marks, left, top).draw(TITLES[network])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def main() -> int:
    with replacing(PICTURE) as file:
        file.write(draw().encode())
    print(f"wrote {PICTURE.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
