"""Proves that no 32-bit accumulator of an integer model can overflow, whatever the input.

The bounds hold for every partial sum too, in any order: each term's range includes 0, because an input may
equal its zero point, so leaving terms out never leaves the range of the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import PackError
from model_packager.fixed_point import INT32_MAX, INT32_MIN
from model_packager.format_table import DType, OperatorKind
from model_packager.model import Model, Operator
from model_packager.reference.executor import attributes_of

Bounds = tuple[int, int]
Array = npt.NDArray[Any]

_RANGES: dict[DType, Bounds] = {DType.INT8: (-128, 127), DType.INT16: (-32768, 32767), DType.BIT: (-1, 1)}


def accumulator_bounds(model: Model) -> list[Bounds | None]:
    """(smallest, largest) value of each operator's accumulator, bias and partial sums included.

    None where an operator has no accumulator. Before requantisation a positive shift multiplies it by a power
    of two; that product is proven to fit as well. Raises ``PackError`` naming the operator when a value may
    leave int32.
    """
    bounds: list[Bounds | None] = []
    for index, operator in enumerate(model.operators):
        found = _operator_bounds(model, operator)
        bounds.append(found)
        if found is None:
            continue
        low, high = found
        left = _largest_left_shift(operator)
        if low << left < INT32_MIN or high << left > INT32_MAX:
            raise PackError(
                f"operator {index} {operator.kind.name} '{operator.name}' may overflow its 32-bit "
                f"accumulator: it reaches {low} to {high}" + (f", shifted left by {left}" if left else "")
            )
    return bounds


def _operator_bounds(model: Model, operator: Operator) -> Bounds | None:
    if operator.weights is not None:
        return _weighted_bounds(model, operator)
    attributes = attributes_of(operator)
    if operator.kind in (OperatorKind.ADD, OperatorKind.SUB):
        # Each operand, shifted left, is scaled by a factor of at most 1/2 before the two are combined.
        operands = [_input_range(model, operator, position) for position in (0, 1)]
        return _hull(
            [(low << attributes["left_shift"], high << attributes["left_shift"]) for low, high in operands]
        )
    if operator.kind is OperatorKind.MUL:
        first, second = (_input_range(model, operator, position) for position in (0, 1))
        products = [a * b for a in first for b in second]
        return min(products), max(products)
    if operator.kind in (OperatorKind.MEAN, OperatorKind.AVERAGE_POOL_2D):
        count = _summed_cells(model, operator, attributes)
        low, high = _input_range(model, operator, 0)
        return low * count, high * count
    return None


def _input_range(model: Model, operator: Operator, position: int) -> Bounds:
    """Range of an input less its zero point; 0 belongs to it."""
    attributes = attributes_of(operator)
    name = "input_zero_point" if "input_zero_point" in attributes else f"input{position + 1}_zero_point"
    zero_point = attributes.get(name, 0)
    low, high = _RANGES[model.tensors[operator.inputs[position]].dtype]
    return min(low - zero_point, 0), max(high - zero_point, 0)


def _hull(ranges: list[Bounds]) -> Bounds:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _weighted_bounds(model: Model, operator: Operator) -> Bounds:
    """Bias plus the extreme products of every row's weights with the input's range."""
    assert operator.weights is not None
    weights = operator.weights.values
    positive = np.maximum(weights, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(weights, 0).sum(axis=1, dtype=np.int64)
    low, high = _input_range(model, operator, 0)
    bias: Array = (
        np.zeros(len(weights), np.int64) if operator.bias is None else operator.bias.astype(np.int64)
    )
    smallest = bias + positive * low + negative * high
    largest = bias + positive * high + negative * low
    return int(min(smallest.min(), 0)), int(max(largest.max(), 0))


def _summed_cells(model: Model, operator: Operator, attributes: dict[str, int]) -> int:
    if operator.kind is OperatorKind.AVERAGE_POOL_2D:
        return attributes["kernel_h"] * attributes["kernel_w"]
    shape = model.tensors[operator.inputs[0]].shape4
    return int(np.prod([shape[axis] for axis in range(4) if attributes["axes"] >> axis & 1]))


def _largest_left_shift(operator: Operator) -> int:
    """The positive shift that requantisation applies to the accumulator before it multiplies."""
    if operator.requant is not None:
        return 0 if operator.requant.power_of_two else max(int(operator.requant.shifts.max()), 0)
    if operator.kind in (OperatorKind.MUL, OperatorKind.MEAN):
        return max(attributes_of(operator)["shift"], 0)
    return 0
