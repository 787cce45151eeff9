"""When tensors live: a Model goes in, the first and last operator that touches each tensor comes out."""

from __future__ import annotations

from model_packager.format_table import ScheduleKind, TensorFlag
from model_packager.model import Model

FUSED = (ScheduleKind.FUSED_DEPTHWISE, ScheduleKind.FUSED_ADD)


class Lifetimes:
    """``first`` and ``last`` operator index per tensor; -1 is before the first operator (model inputs,
    persistent tensors), ``len(operators)`` after the last (model outputs, persistent tensors). A tensor that
    nothing touches has ``last`` -2. ``readers``: the operators that read it. Schedules play no part."""

    def __init__(self, model: Model) -> None:
        count, end = len(model.tensors), len(model.operators)
        self.first: list[int] = [end + 1] * count
        self.last: list[int] = [-2] * count
        self.readers: list[list[int]] = [[] for _ in range(count)]
        for index, operator in enumerate(model.operators):
            for tensor in operator.inputs:
                self._touch(tensor, index)
                self.readers[tensor].append(index)
            for tensor in operator.outputs:
                self._touch(tensor, index)
        for port in model.inputs:
            self._touch(port.tensor, -1)
        for port in model.outputs:
            self._touch(port.tensor, end)
        for tensor, value in enumerate(model.tensors):
            if value.flags & TensorFlag.PERSISTENT:
                self._touch(tensor, -1)
                self._touch(tensor, end)

    def _touch(self, tensor: int, step: int) -> None:
        self.first[tensor] = min(self.first[tensor], step)
        self.last[tensor] = max(self.last[tensor], step)

    def used(self, tensor: int) -> bool:
        return self.last[tensor] >= -1

    def dies_at(self, tensor: int, operator_index: int) -> bool:
        return self.last[tensor] == operator_index

    def takes_over(self, output: int, source: int, operator_index: int) -> bool:
        """Whether ``output`` may have the place of ``source``, which this operator is the last to read: a
        persistent output is alive all the time and cannot."""
        return self.first[output] == operator_index and self.dies_at(source, operator_index)

    def alive(self, tensor: int, operator_index: int) -> bool:
        return self.first[tensor] <= operator_index <= self.last[tensor]


def arena_spans(model: Model) -> dict[int, tuple[int, int]]:
    """Tensor -> the first and last operator during which it has its place in the arena, by the model's
    schedules; -1 and ``len(operators)`` as in ``Lifetimes``. Both operators of a fused pair are one step:
    what either reads or writes lives during both, and the tensor between them has no place.
    """
    lifetimes = Lifetimes(model)
    spans = {
        tensor: (lifetimes.first[tensor], lifetimes.last[tensor])
        for tensor in range(len(model.tensors))
        if lifetimes.used(tensor)
    }
    for index, operator in enumerate(model.operators):
        if operator.schedule in FUSED:
            spans.pop(operator.outputs[0])
            for tensor in model.operators[index + 1].outputs:
                spans[tensor] = (min(spans[tensor][0], index), spans[tensor][1])
            for tensor in operator.inputs:
                spans[tensor] = (spans[tensor][0], max(spans[tensor][1], index + 1))
    return spans


def living_ends(model: Model) -> list[int]:
    """Per operator, where the arena is free from: the highest end of a tensor that has its place in it then
    (``arena_spans``), rounded up to 4 bytes."""
    ends = [0] * len(model.operators)
    for tensor, (first, last) in arena_spans(model).items():
        end = model.tensors[tensor].arena_offset + model.tensors[tensor].size_bytes
        for index in range(max(first, 0), min(last + 1, len(ends))):
            ends[index] = max(ends[index], end)
    return [-(-end // 4) * 4 for end in ends]
