"""Lines of text for the MicroPython examples: digits for digit_reader.py, recordings for gesture_loop.py.

    python examples/micropython/samples.py digits --count 20 > images.txt
    python examples/micropython/samples.py gestures --count 20 > recording.txt

The digits are scikit-learn's test images. The recordings come from the data folder (THIMBLE_DATA); what each
is goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def digit_lines(count: int) -> Iterator[tuple[str, str]]:
    """(what it is, its line) of the first test images."""
    from examples.digits.dataset import load_split

    _, _, images, labels = load_split()
    for image, label in list(zip(images, labels, strict=True))[:count]:
        yield str(label), " ".join(str(round(16 * level)) for level in image.ravel())


def gesture_lines(count: int) -> Iterator[tuple[str, str]]:
    """(what it is, its 128 lines) of the first test recordings."""
    from examples.gesture.recordings import CLASSES, load_windows

    windows, labels = load_windows("test")
    for window, label in list(zip(windows, labels, strict=True))[:count]:
        readings = window[:, :, 0].T
        yield CLASSES[label], "\n".join(" ".join(f"{value:.5f}" for value in row) for row in readings)


def main() -> int:
    """Print the lines."""
    sources = {"digits": digit_lines, "gestures": gesture_lines}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=sources)
    parser.add_argument("--count", type=int, default=10, help="images or recordings (default: %(default)s)")
    options = parser.parse_args()
    for label, lines in sources[options.what](options.count):
        print(label, end=" ", file=sys.stderr)
        print(lines)
    print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    sys.exit(main())
