"""Accuracy against bytes of the compressed networks, as a picture: results of benchmarks/training in, SVG
out.

    python benchmarks/training_picture.py              # writes docs/training.svg

A panel for each network: our files, the quantising methods of the lecture's summary (whose files are not made
to be small), what was published, and the float32 network. Bytes are on a logarithmic scale; up and to the
left is better.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.training import FLOAT_BYTES, PUBLISHED, RUNS, SUMMARY, TITLES, load_result
from examples.image_sets import REPOSITORY
from host_tools.atomic_file import replacing
from host_tools.picture import Picture, Text, legend, svg
from host_tools.scatter import Panel, Point, in_view

PICTURE = REPOSITORY / "docs" / "training.svg"
NETWORKS = ("lenet300", "lenet5", "fashion", "resnet8")
PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 520, 330, 2
HEAD_HEIGHT = 64
MOST_LOSS = 2.5  # points below float32; what lost more lies on that line, with its figure
MARKS = {  # kind -> colour, shape, radius, meaning
    "ours": ("blue", "circle", 5.0, "our files"),
    "method": ("sky", "circle", 3.5, "quantising methods, our files"),
    "published": ("orange", "diamond", 5.0, "published"),
    "float32": ("grey", "square", 5.0, "float32 weights"),
}
TITLE = "Accuracy on the test set against bytes of the whole file"


def points(network: str) -> list[Point]:
    """All marks of a network's panel; what lost most is moved up to the lowest line of the panel."""
    marks = list(_recorded(network))
    return in_view(marks, max((each.accuracy for each in marks), default=0.0) - MOST_LOSS)


def _point(kind: str, label: str, size_bytes: int, accuracy: float) -> Point:
    """Whole file in bytes (weights alone for float32), accuracy in per cent."""
    colour, shape, radius, _ = MARKS[kind]
    return Point(label, size_bytes, accuracy, colour, shape, radius)


def _recorded(network: str) -> Iterator[Point]:
    """Runs without a recorded result are left out."""
    dense = None
    for run in RUNS:
        result = load_result(run) if run.network == network else None
        if result is not None:
            dense = result["float_accuracy"]
            yield _point("ours", run.recipe, result["file_bytes"], result["accuracy"])
    for row in SUMMARY:
        result = load_result(row.run) if row.run.network == network and row.run not in RUNS else None
        if result is not None:
            dense = result["float_accuracy"]
            yield _point("method", row.method, result["file_bytes"], result["accuracy"])
    for name, method, size, _, after in PUBLISHED:
        if name == network:
            yield _point("published", method.split(" (")[0], size, after)
    if dense is not None:
        yield _point("float32", "float32", FLOAT_BYTES[network], dense)


def draw() -> str:
    """The whole SVG document."""
    drawn = [(network, points(network)) for network in NETWORKS]
    drawn = [(network, marks) for network, marks in drawn if marks]
    height = HEAD_HEIGHT + -(-len(drawn) // COLUMNS) * PANEL_HEIGHT
    picture = Picture(TITLE, "A panel for each network.", COLUMNS * PANEL_WIDTH, height)
    picture.add(Text(24, 30, TITLE, size=18, bold=True))
    legend(
        picture, 24, 54, [(colour, shape, text) for colour, shape, _, text in MARKS.values()], picture.width
    )
    for number, (network, marks) in enumerate(drawn):
        place = number % COLUMNS * PANEL_WIDTH, HEAD_HEIGHT + number // COLUMNS * PANEL_HEIGHT
        Panel(picture, marks, (), place, (PANEL_WIDTH, PANEL_HEIGHT)).draw(TITLES[network])
    return svg(picture)


def main() -> int:
    with replacing(PICTURE) as file:
        file.write(draw().encode())
    print(f"wrote {PICTURE.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
