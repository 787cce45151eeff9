"""Evaluates a packed model on a data set: accuracy against labels, and agreement with the original model.

In: a target with the model loaded, the user's arrays, perhaps labels and a judge. Out: an ``Evaluation``,
which ``thimble eval`` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from host_tools.judges import Judge
from host_tools.ports import in_original_layout, real_outputs
from host_tools.targets import Target
from model_packager.errors import UsageError
from model_packager.format_table import PortFlag
from model_packager.model import Array, Model
from model_packager.numerics import dequantise
from model_packager.sample_arrays import batches_for_inputs, quantised_batch

LABEL_NAMES = ("labels", "label", "y", "targets")
_CHUNK_SAMPLES = 100

Progress = Callable[[int, int], Any]


@dataclass(frozen=True)
class Evaluation:
    """Counts of samples. ``right`` and ``original_right`` are None without labels; the rest of the original's
    figures are None without a judge. ``identical`` counts samples whose outputs equal the original's in every
    bit (int8 originals only); ``largest_difference`` is in the outputs' unit, steps of int8 or real numbers.
    """

    count: int
    right: int | None
    judge: str | None = None
    original_right: int | None = None
    same_class: int | None = None
    identical: int | None = None
    largest_difference: float | None = None


def split_labels(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], Array | None]:
    """(inputs, labels): takes the array called labels, label, y or targets out, if there is one."""
    for name in LABEL_NAMES:
        if name in arrays:
            return {key: value for key, value in arrays.items() if key != name}, arrays[name]
    return dict(arrays), None


def checked_labels(labels: Array, count: int, class_count: int) -> Array:
    """Class numbers (N,) int64; raises ``UsageError`` for other shapes, dtypes, counts or classes."""
    flat = labels.reshape(-1)
    if len(flat) != count:
        raise UsageError(f"there are {len(flat)} labels for {count} samples")
    if not np.issubdtype(flat.dtype, np.integer):
        raise UsageError(f"labels are integers, not {flat.dtype}")
    if count and not 0 <= flat.min() <= flat.max() < class_count:
        last = class_count - 1
        raise UsageError(f"labels go from {flat.min()} to {flat.max()}, the classes from 0 to {last}")
    return flat.astype(np.int64)


def evaluate(
    target: Target,
    model: Model,
    arrays: Mapping[str, Array],
    labels: Array | None = None,
    judge: Judge | None = None,
    limit: int | None = None,
    progress: Progress = lambda done, whole: None,
) -> Evaluation:
    """Run all samples (or the first `limit`) and count. `progress` gets the samples done and all."""
    batches = [batch[:limit] for batch in batches_for_inputs(arrays, model)]
    count = len(batches[0])
    class_count = model.tensors[model.outputs[0].tensor].element_count
    known = None if labels is None else checked_labels(labels.reshape(-1)[:limit], count, class_count)
    tally = _Tally(judge is not None)
    for start in range(0, count, _CHUNK_SAMPLES):
        part = [batch[start : start + _CHUNK_SAMPLES] for batch in batches]
        steps = [quantised_batch(batch, model, port) for batch, port in zip(part, model.inputs, strict=True)]
        outputs = target.run(steps)
        answers = known[start : start + _CHUNK_SAMPLES] if known is not None else None
        theirs = judge.run(_judge_inputs(judge, model, part, steps)) if judge is not None else None
        pairs = zip(outputs, model.outputs, strict=True)
        integers = [in_original_layout(output, model, port) for output, port in pairs]
        tally.count(integers, real_outputs(outputs, model), theirs, answers)
        progress(start + len(steps[0]), count)
    return tally.evaluation(count, judge, known is not None)


def _judge_inputs(judge: Judge, model: Model, part: Sequence[Array], steps: Sequence[Array]) -> list[Array]:
    """What the original gets: real numbers where it takes floats, else the very integers the target got."""
    if len(judge.input_dtypes) != len(part):
        raise UsageError(f"the original has {len(judge.input_dtypes)} inputs, the packed model {len(part)}")
    chosen = []
    for dtype, stored, stored_step, port in zip(judge.input_dtypes, part, steps, model.inputs, strict=True):
        batch, step = (in_original_layout(values, model, port) for values in (stored, stored_step))
        if not np.issubdtype(dtype, np.floating) or np.issubdtype(step.dtype, np.floating):
            chosen.append(step.astype(dtype))
        elif port.flags & PortFlag.FLOAT and batch.dtype != step.dtype:
            chosen.append(batch.astype(dtype))
        else:
            chosen.append(dequantise(step, port.scale, port.zero_point).astype(dtype))
    return chosen


class _Tally:
    """Counts over chunks."""

    def __init__(self, judged: bool) -> None:
        self._right = self._original_right = self._same_class = self._identical = 0
        self._largest = 0.0
        self._bitwise = judged

    def count(
        self, integers: list[Array], real: list[Array], theirs: list[Array] | None, answers: Array | None
    ) -> None:
        classes = _classes(real[0])
        if answers is not None:
            self._right += int((classes == answers).sum())
        if theirs is None:
            return
        if len(theirs) != len(real) or any(a.size != b.size for a, b in zip(theirs, real, strict=True)):
            raise UsageError("the original's outputs have other shapes than the packed model's")
        original_classes = _classes(theirs[0])
        self._same_class += int((classes == original_classes).sum())
        if answers is not None:
            self._original_right += int((original_classes == answers).sum())
        ours = [a if b.dtype == a.dtype else r for a, r, b in zip(integers, real, theirs, strict=True)]
        self._bitwise &= all(np.issubdtype(b.dtype, np.integer) for b in theirs)
        gaps = [
            np.abs(a.astype(np.float64).reshape(len(a), -1) - b.astype(np.float64).reshape(len(a), -1))
            for a, b in zip(ours, theirs, strict=True)
        ]
        self._identical += int(np.all([gap.max(axis=1) == 0 for gap in gaps], axis=0).sum())
        self._largest = max(self._largest, *(float(gap.max()) for gap in gaps))

    def evaluation(self, count: int, judge: Judge | None, labelled: bool) -> Evaluation:
        right = self._right if labelled else None
        if judge is None:
            return Evaluation(count, right)
        return Evaluation(
            count,
            right,
            judge.name,
            self._original_right if labelled else None,
            self._same_class,
            self._identical if self._bitwise else None,
            self._largest,
        )


def _classes(output: Array) -> Array:
    return output.reshape(len(output), -1).argmax(axis=1)
