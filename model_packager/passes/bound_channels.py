"""Bounds of every channel of every activation, for all possible inputs: interval arithmetic through an
integer Model.

A Model goes in, ``Bounds`` comes out; the model is not changed. A channel whose bounds meet is a constant,
which is what ``eliminate_dead_channels`` looks for. Bounds are sound (no input leaves them) and never wider
than the tensor's dtype; operators without a rule give their clamp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model_packager import numerics
from model_packager.format_table import DType, OperatorKind
from model_packager.model import Model, Operator

IntArray = npt.NDArray[np.int64]
# Weights bounded at a time: the temporaries of a layer of VGG-16 would take gigabytes.
_BLOCK_WEIGHTS = 1 << 22
Interval = tuple[
    IntArray, IntArray
]  # lowest and highest value of each channel (the last dimension), int64 (C,)

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
WEIGHTED = (OperatorKind.CONV_2D, OperatorKind.DEPTHWISE_CONV_2D, OperatorKind.FULLY_CONNECTED)
_DTYPE_LIMITS = {DType.INT8: (-128, 127), DType.INT16: (-32768, 32767), DType.BIT: (-1, 1)}


@dataclass
class Bounds:
    """``channels``: one Interval per tensor. ``accumulators``: operator index -> Interval over output
    channels, bias included, for the operators with weights.
    """

    channels: list[Interval] = field(default_factory=list)
    accumulators: dict[int, Interval] = field(default_factory=dict)

    def constants(self, tensor: int) -> tuple[npt.NDArray[np.bool_], IntArray]:
        """(which channels are constant, the lowest value of each channel)."""
        low, high = self.channels[tensor]
        return low == high, low


def is_padded(operator: Operator) -> bool:
    """Whether the operator's window reaches over the border of its input."""
    return any(operator.attributes.get(f"pad_{side}", 0) for side in ("top", "left", "bottom", "right"))


def input_channels(operator: Operator, channel_count: int) -> IntArray:
    """(rows, cols): the input channel that each weight meets. Columns run over the channels
    last; a depthwise row r meets channel r // multiplier only, a grouped convolution's row the channels of
    its group.
    """
    assert operator.weights is not None
    rows, cols = operator.weights.values.shape
    if operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
        multiplier = max(1, rows // channel_count)
        return np.broadcast_to((np.arange(rows) // multiplier)[:, None], (rows, cols))
    groups = operator.attributes.get("groups", 1)
    per_group = channel_count // groups
    within = np.arange(cols) % per_group
    if groups == 1:
        return np.broadcast_to(within, (rows, cols))
    return within[None, :] + (np.arange(rows) * groups // rows * per_group)[:, None]


def _weighted(operator: Operator, source: Interval) -> Interval:
    """Accumulator bounds of an operator with weights."""
    assert operator.weights is not None
    zero_point = operator.attributes.get("input_zero_point", 0)
    low, high = source[0] - zero_point, source[1] - zero_point
    if is_padded(operator):
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    channel = input_channels(operator, len(low))
    values = operator.weights.values
    lowest, highest = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    rows = max(1, _BLOCK_WEIGHTS // values.shape[1])
    for start in range(0, len(values), rows):
        part = slice(start, start + rows)
        weights, channels = values[part].astype(np.int64), channel[part]
        ends = weights * low[channels], weights * high[channels]
        lowest[part], highest[part] = np.minimum(*ends).sum(axis=1), np.maximum(*ends).sum(axis=1)
    bias = 0 if operator.bias is None else operator.bias.astype(np.int64)
    return lowest + bias, highest + bias


def requantised(operator: Operator, accumulators: IntArray) -> IntArray:
    """Outputs (rows,) int64 of one accumulator per output channel, clamped; int8 activations."""
    assert operator.requant is not None
    attributes = operator.attributes
    zero_point = attributes.get("output_zero_point", 0)
    if operator.requant.power_of_two:
        shifts = operator.requant.shifts.astype(np.int64)
        scaled = (accumulators + ((np.int64(1) << shifts) >> 1)) >> shifts
    else:
        scaled = numerics.multiply_by_quantized_multiplier(
            accumulators, operator.requant.multipliers, operator.requant.shifts
        )
    return np.clip(scaled + zero_point, attributes.get("clamp_min", -128), attributes.get("clamp_max", 127))


def _fits_requantisation(operator: Operator, accumulators: Interval) -> bool:
    """Whether requantisation is monotone here: nothing leaves int32, also after a left shift."""
    assert operator.requant is not None
    left = 0 if operator.requant.power_of_two else max(0, int(operator.requant.shifts.max(initial=0)))
    non_negative = operator.requant.power_of_two or int(operator.requant.multipliers.min(initial=0)) >= 0
    lowest, highest = int(accumulators[0].min()) << left, int(accumulators[1].max()) << left
    return non_negative and lowest >= INT32_MIN and highest <= INT32_MAX


def _clamped_default(model: Model, operator: Operator, tensor: int) -> Interval:
    low, high = _DTYPE_LIMITS.get(model.tensors[tensor].dtype, (INT32_MIN, INT32_MAX))
    low = max(low, operator.attributes.get("clamp_min", low)) if "clamp_min" in operator.attributes else low
    high = (
        min(high, operator.attributes.get("clamp_max", high)) if "clamp_max" in operator.attributes else high
    )
    return full_interval(model, tensor, low, high)


def full_interval(model: Model, tensor: int, low: int, high: int) -> Interval:
    count = model.tensors[tensor].shape4[3]
    return np.full(count, low, np.int64), np.full(count, high, np.int64)


def _lookup(model: Model, operator: Operator, source: Interval) -> Interval:
    assert operator.table is not None
    table = operator.table.astype(np.int64)
    pairs = [table[low + 128 : high + 129] for low, high in zip(*source, strict=True)]
    return np.array([pair.min() for pair in pairs]), np.array([pair.max() for pair in pairs])


def _pool(model: Model, operator: Operator, source: Interval) -> Interval:
    low, high = operator.attributes.get("clamp_min", -128), operator.attributes.get("clamp_max", 127)
    return np.clip(source[0], low, high), np.clip(source[1], low, high)


def _mean(model: Model, operator: Operator, source: Interval) -> Interval | None:
    if not is_spatial_mean(operator):
        return None
    attributes = operator.attributes
    _, height, width, channels = model.tensors[operator.inputs[0]].shape4

    def of(values: IntArray) -> IntArray:
        plane = np.broadcast_to(values, (1, height, width, channels)).astype(np.int8)
        result = numerics.mean(
            plane,
            (1, 2),
            attributes.get("multiplier", 0),
            attributes.get("shift", 0),
            attributes.get("input_zero_point", 0),
            attributes.get("output_zero_point", 0),
        )
        return result.reshape(channels).astype(np.int64)

    return of(source[0]), of(source[1])


def is_spatial_mean(operator: Operator) -> bool:
    """A MEAN that keeps channels apart: over height, width, or both."""
    axes = operator.attributes.get("axes", 6)
    return operator.kind is OperatorKind.MEAN and axes == 6


def _reshape(model: Model, operator: Operator, source: Interval) -> Interval | None:
    links = reshape_links(model, operator)
    if links is None:
        return None
    before, after = links
    count = model.tensors[operator.outputs[0]].shape4[3]
    low, high = np.full(count, INT32_MAX, np.int64), np.full(count, INT32_MIN, np.int64)
    np.minimum.at(low, after, source[0][before])
    np.maximum.at(high, after, source[1][before])
    return low, high


def reshape_links(model: Model, operator: Operator) -> tuple[IntArray, IntArray] | None:
    """(channel before, channel after) of the elements of a RESHAPE, or None where channels get mixed: one of
    the two shapes must keep the channels as its last dimension or flatten everything into it.
    """
    before = model.tensors[operator.inputs[0]].shape4[3]
    after = model.tensors[operator.outputs[0]].shape4[3]
    count = model.tensors[operator.inputs[0]].element_count
    if before != after and count not in (before, after):
        return None
    elements = np.arange(max(before, after))
    return elements % before, elements % after


_RULES: dict[OperatorKind, Callable[[Model, Operator, Interval], Interval | None]] = {
    OperatorKind.LOOKUP: _lookup,
    OperatorKind.AVERAGE_POOL_2D: _pool,
    OperatorKind.MAX_POOL_2D: _pool,
    OperatorKind.MEAN: _mean,
    OperatorKind.RESHAPE: _reshape,
}


def _output_interval(model: Model, index: int, bounds: Bounds) -> Interval:
    operator = model.operators[index]
    source = bounds.channels[operator.inputs[0]]
    default = _clamped_default(model, operator, operator.outputs[0])
    if operator.kind in WEIGHTED:
        sums = bounds.accumulators[index] = _weighted(operator, source)
        is_int8 = model.tensors[operator.outputs[0]].dtype is DType.INT8
        if not is_int8 or not _fits_requantisation(operator, sums):
            return default
        return requantised(operator, sums[0]), requantised(operator, sums[1])
    dtypes = {model.tensors[tensor].dtype for tensor in (operator.inputs[0], operator.outputs[0])}
    if operator.kind in _RULES and dtypes == {DType.INT8}:
        return _RULES[operator.kind](model, operator, source) or default
    return default


def bound_channels(model: Model) -> Bounds:
    """Bounds of all channels and accumulators of an integer model."""
    bounds = Bounds()
    for tensor, value in enumerate(model.tensors):
        low, high = _DTYPE_LIMITS.get(value.dtype, (INT32_MIN, INT32_MAX))
        bounds.channels.append(full_interval(model, tensor, low, high))
    for index, operator in enumerate(model.operators):
        for output in operator.outputs[1:]:
            bounds.channels[output] = _clamped_default(model, operator, output)
        bounds.channels[operator.outputs[0]] = _output_interval(model, index, bounds)
    return bounds
