"""Accuracy against size: every model whose accuracy was measured, with the network that it was made of.

Accuracies on different samples say nothing beside each other, so each set of samples has a panel of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from host_tools.picture import Picture, legend
from host_tools.report.figure import BREAK, Figure, Table
from host_tools.report.models import Model, file_name, short_sha256
from host_tools.report.read_runs import Accuracy, Training
from host_tools.scatter import Level, Panel, Point, in_view

_OURS, _ORIGINAL = "blue", "orange"
_PANEL_HEIGHT = 330.0
_CROWD = 8  # points that half of the width has room for
_MOST_LOSS = 2.5  # points below the best, or as many median losses; what lost more lies on that line
_MOST_MEDIAN_LOSSES = 4


@dataclass
class _Samples:
    """One set of samples, what reached which accuracy on it, and the rows of its table."""

    title: str
    points: list[Point] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)


def accuracy_figure(models: Sequence[Model]) -> Figure | None:
    """One figure for all models; None where no accuracy is known."""
    sets: dict[object, _Samples] = {}
    for model in models:
        for accuracy in model.all(Accuracy):
            if accuracy.right is not None and accuracy.count:
                _add_evaluation(sets, model, accuracy)
        for training in model.all(Training):
            _add_training(sets, model, training)
    if not sets:
        return None

    def draw(width: float) -> Picture:
        return _draw(list(sets.values()), width)

    columns = (
        *(("model", False), ("SHA-256", False), ("bytes", True), ("accuracy", True)),
        *(("made of", False), ("its bytes", True), ("its accuracy", True)),
    )
    tables = tuple(Table(each.title, columns, tuple(each.rows)) for each in sets.values())
    notes = ["Bytes are those of whole files. Up and to the left is better."]
    if any(len(each.points) > _CROWD for each in sets.values()):
        notes.append("Where names have no room they are left out; the tables have them all.")
    return Figure("accuracy", "Accuracy against size", draw, tables, tuple(notes))


def _add_evaluation(sets: dict[object, _Samples], model: Model, accuracy: Accuracy) -> None:
    data = file_name(accuracy.data)
    samples = sets.setdefault(
        ("eval", data, accuracy.count), _Samples(f"{accuracy.count:,} samples of {data}")
    )
    percent = 100 * (accuracy.right or 0) / accuracy.count
    label = model.label if accuracy.target == "reference" else f"{model.label} on {accuracy.target}"
    samples.points.append(Point(label, max(accuracy.file_bytes, 1), percent, _OURS))
    original = ["not given", "", ""]
    if accuracy.original_right is not None and accuracy.original is not None:
        name = file_name(accuracy.original)
        dense = 100 * accuracy.original_right / accuracy.count
        size = accuracy.original_bytes
        original = [name, f"{size:,}" if size else "not known", f"{dense:.2f} %"]
        if size:
            point = Point(name, size, dense, _ORIGINAL, "square")
            samples.points += [] if point in samples.points else [point]
        else:
            _add_level(samples, name, dense)
    samples.rows.append(
        (label, short_sha256(model.sha256), f"{accuracy.file_bytes:,}", f"{percent:.2f} %", *original)
    )


def _add_training(sets: dict[object, _Samples], model: Model, training: Training) -> None:
    dense, count = training.float_accuracy, training.test_count
    title = f"{count:,} test samples, float {dense:.2f} %"
    samples = sets.setdefault(("train", count, dense), _Samples(title))
    samples.points.append(Point(model.label, max(training.file_bytes, 1), training.accuracy, _OURS))
    _add_level(samples, "float network", dense)
    sha256 = short_sha256(model.sha256)
    ours = (model.label, sha256, f"{training.file_bytes:,}", f"{training.accuracy:.2f} %")
    samples.rows.append((*ours, "float network", "not known", f"{dense:.2f} %"))


def _add_level(samples: _Samples, name: str, accuracy: float) -> None:
    level = Level(f"{name} {accuracy:.2f} %", accuracy, "muted")
    samples.levels += [] if level in samples.levels else [level]


def _draw(sets: Sequence[_Samples], width: float) -> Picture:
    best = max((point for each in sets for point in each.points if point.colour == _OURS), key=_accuracy)
    description = f"{len(sets)} set{'s' if len(sets) > 1 else ''} of samples; most accurate is {best.note}."
    picture = Picture("Accuracy against size", description, width)
    entries = [(_OURS, "circle", "our files")]
    if any(point.colour == _ORIGINAL for each in sets for point in each.points):
        entries.append((_ORIGINAL, "square", "the networks that they were made of"))
    top = legend(picture, 4, 16, entries, width)
    x, y = 0.0, top
    for samples in sets:
        is_half = width >= BREAK and len(sets) > 1 and len(samples.points) <= _CROWD
        panel_width = width / 2 if is_half else width
        if x + panel_width > width:
            x, y = 0.0, y + _PANEL_HEIGHT
        points = in_view(samples.points, _floor(samples))
        Panel(picture, points, samples.levels, (x, y), (panel_width, _PANEL_HEIGHT)).draw(samples.title)
        x += panel_width
    picture.height = y + _PANEL_HEIGHT
    return picture


def _floor(samples: _Samples) -> float:
    """The accuracy below which a point would press the others together."""
    best = max(each.accuracy for each in samples.points)
    losses = sorted(best - each.accuracy for each in samples.points)
    return best - max(_MOST_LOSS, _MOST_MEDIAN_LOSSES * losses[len(losses) // 2])


def _accuracy(point: Point) -> float:
    return point.accuracy


def accuracy_text(accuracy: Accuracy | Training) -> str:
    """Such as "90.10 % of 1,000"."""
    if isinstance(accuracy, Training):
        return f"{accuracy.accuracy:.2f} % of {accuracy.test_count:,}"
    return f"{100 * (accuracy.right or 0) / accuracy.count:.2f} % of {accuracy.count:,}"
