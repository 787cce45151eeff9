"""Runs sorted by the model that they are about: runs go in, a ``Model`` for each SHA-256 comes out, in the
order in which the runs were given.

A run without a SHA-256 (results of training from before it was recorded, an original network) is a model of
its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import TypeVar

from host_tools.report.read_runs import (
    Accuracy,
    Counts,
    Energy,
    Figures,
    Latency,
    Packing,
    Run,
    Sizes,
    Training,
)

T = TypeVar("T")


@dataclass
class Model:
    """Everything that is known of one model. `label` is unique in the report."""

    sha256: str | None
    label: str = ""
    runs: list[Run] = field(default_factory=list)

    def all(self, kind: type[T]) -> list[T]:
        """The figures of that kind, in the order given."""
        return [run.figures for run in self.runs if isinstance(run.figures, kind)]

    def first(self, kind: type[T]) -> T | None:
        """The first of them."""
        return next(iter(self.all(kind)), None)

    @property
    def sizes(self) -> Sizes | None:
        return self.first(Sizes)

    @property
    def counts(self) -> Counts | None:
        return self.first(Counts)

    @property
    def packing(self) -> Packing | None:
        return self.first(Packing)

    @property
    def file_bytes(self) -> int | None:
        """Bytes of the file, by whatever run knows them."""
        known = (Sizes, Packing, Accuracy, Training)
        return next((run.figures.file_bytes for run in self.runs if isinstance(run.figures, known)), None)

    @property
    def ram_peak_bytes(self) -> int | None:
        known = (Sizes, Packing)
        return next((run.figures.ram_peak_bytes for run in self.runs if isinstance(run.figures, known)), None)

    @property
    def accuracy(self) -> Accuracy | Training | None:
        """The accuracy on the most samples; `eval`'s before what training said."""
        labelled = [each for each in self.all(Accuracy) if each.right is not None and each.count]
        if labelled:
            return max(labelled, key=lambda each: each.count)
        return self.first(Training)

    @property
    def boards(self) -> list[str | None]:
        """Boards that it was measured on, in the order given; [None] where none is named."""
        boards = (run.figures.board for run in self.runs if isinstance(run.figures, Latency | Energy))
        return list(dict.fromkeys(board for board in boards if board is not None)) or [None]

    @property
    def is_packed(self) -> bool:
        """Whether it is a .thimble file; `analyze` also counts networks that are none."""
        return self.sha256 is not None or bool(self.all(Training))


def by_model(runs: Iterable[Run]) -> list[Model]:
    """One ``Model`` for each SHA-256."""
    found: dict[str, Model] = {}
    for number, run in enumerate(runs):
        sha256 = run.figures.sha256
        model = found.setdefault(sha256 or f"run {number}", Model(sha256))
        model.runs.append(run)
    models = list(found.values())
    for model, label in zip(models, _unique([_label(model) for model in models], models), strict=True):
        model.label = label
    return models


def file_name(path: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(path).name or path


def short_sha256(sha256: str | None) -> str:
    """The first 12 digits."""
    return sha256[:12] if sha256 else "not recorded"


def _label(model: Model) -> str:
    """The name of its file without the suffix; of training results that do not say it, of the document."""
    for run in model.runs:
        path = _model_path(run.figures)
        if path:
            return PureWindowsPath(path).stem
    return PureWindowsPath(model.runs[0].source).stem


def _model_path(figures: Figures) -> str:
    return figures.output if isinstance(figures, Packing | Training) else figures.model


def _unique(labels: Sequence[str], models: Sequence[Model]) -> Iterator[str]:
    """Labels that several models have get the digits of their SHA-256, or a number."""
    for number, (label, model) in enumerate(zip(labels, models, strict=True)):
        if labels.count(label) == 1:
            yield label
        else:
            yield f"{label} ({model.sha256[:8] if model.sha256 else number + 1})"
