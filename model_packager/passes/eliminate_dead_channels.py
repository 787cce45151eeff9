"""Lossless removal of channels that carry no information: a Model goes in and comes back changed in place;
pack calls it.

Two kinds of channels go. A *constant* channel has the same value for every input (its weights are all zero,
or its clamp catches every sum): its share moves into the biases of the layers that read it. An *unread*
channel meets only zero weights. A channel is removed from its producer and from all of its readers at once,
and operators that keep channels apart (depthwise, pooling, look-up, reshape) pass the removal on. Outputs
stay bit-identical.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_packager.errors import PackError
from model_packager.format_table import DType, OperatorKind, TensorFlag
from model_packager.model import Model, Operator
from model_packager.passes.bound_channels import (
    INT32_MAX,
    INT32_MIN,
    Bounds,
    bound_channels,
    input_channels,
    is_padded,
    is_spatial_mean,
    reshape_links,
)

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_MIXING = (OperatorKind.CONV_2D, OperatorKind.FULLY_CONNECTED)
_POINTWISE = (OperatorKind.LOOKUP, OperatorKind.AVERAGE_POOL_2D, OperatorKind.MAX_POOL_2D)


def _links(model: Model, operator: Operator) -> tuple[IntArray, IntArray] | None:
    """(input channel, output channel) pairs that an operator ties together: both go or none. None for
    operators that mix channels.
    """
    channels = model.tensors[operator.inputs[0]].shape4[3]
    if operator.kind in _POINTWISE or is_spatial_mean(operator):
        return np.arange(channels), np.arange(channels)
    if operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
        outputs = np.arange(model.tensors[operator.outputs[0]].shape4[3])
        return outputs // (len(outputs) // channels), outputs
    if operator.kind is OperatorKind.RESHAPE:
        return reshape_links(model, operator)
    return None


def _is_mixing(operator: Operator) -> bool:
    """A layer whose rows and columns can be dropped independently."""
    return operator.kind in _MIXING and operator.attributes.get("groups", 1) == 1


def _droppable_inputs(model: Model, operator: Operator, bounds: Bounds) -> BoolArray:
    """Which input channels a mixing layer can do without: zero weights, or a constant that the bias can take
    over (with padding, the border would see the zero point instead, so that only a constant equal to it is
    exact).
    """
    assert operator.weights is not None
    constant, value = bounds.constants(operator.inputs[0])
    if is_padded(operator):
        constant = constant & (value == operator.attributes.get("input_zero_point", 0))
    zero = operator.weights.values == 0
    if operator.kind is not OperatorKind.DEPTHWISE_CONV_2D and operator.attributes.get("groups", 1) == 1:
        return zero.all(axis=0).reshape(-1, len(value)).all(axis=0) | constant
    channel = input_channels(operator, len(value))
    unread = np.ones(len(value), np.bool_)
    np.logical_and.at(unread, channel, zero)
    return unread | constant


def _start(model: Model, bounds: Bounds) -> list[BoolArray]:
    """Per tensor the channels that no single operator or port insists on."""
    dead = [np.ones(tensor.shape4[3], np.bool_) for tensor in model.tensors]
    kept = [port.tensor for port in [*model.inputs, *model.outputs]]
    kept += [i for i, tensor in enumerate(model.tensors) if tensor.flags & TensorFlag.PERSISTENT]
    made = {output for operator in model.operators for output in operator.outputs}
    kept += [i for i in range(len(model.tensors)) if i not in made]
    for operator in model.operators:
        if _is_mixing(operator) and model.tensors[operator.inputs[0]].dtype is DType.INT8:
            dead[operator.inputs[0]] &= _droppable_inputs(model, operator, bounds)
        elif _links(model, operator) is None:
            kept += [*operator.inputs, *operator.outputs]
    for tensor in kept:
        dead[tensor][:] = False
    return dead


def _settle(model: Model, dead: list[BoolArray]) -> None:
    """Take channels back until linked ones agree and every tensor keeps one. Changes `dead`."""
    changed = True
    while changed:
        changed = False
        for operator in model.operators:
            links = _links(model, operator)
            if links is None:
                continue
            source, target = dead[operator.inputs[0]], dead[operator.outputs[0]]
            disagree = source[links[0]] != target[links[1]]
            if disagree.any():
                source[links[0][disagree]] = False
                target[links[1][disagree]] = False
                changed = True
        for channels in dead:
            if channels.all():
                channels[0] = False
                changed = True


def _fold_bias(model: Model, operator: Operator, dead: BoolArray, bounds: Bounds) -> None:
    """Add to the bias what the removed input channels contributed, for those that are constant (a channel
    that is not meets zero weights only).
    """
    assert operator.weights is not None
    constant, value = bounds.constants(operator.inputs[0])
    offset = np.where(dead & constant, value - operator.attributes.get("input_zero_point", 0), 0)
    if not offset.any():
        return
    weights = operator.weights.values.astype(np.int64)
    share = (weights * offset[input_channels(operator, len(dead))]).sum(axis=1)
    if not share.any():
        return
    bias = share if operator.bias is None else operator.bias.astype(np.int64) + share
    if bias.min() < INT32_MIN or bias.max() > INT32_MAX:
        raise PackError(
            f"{operator.kind.name}: a bias leaves 32 bits when constant channels are folded into it"
        )
    operator.bias = bias.astype(np.int32)


def _drop_rows(operator: Operator, keep: BoolArray) -> None:
    assert operator.weights is not None
    count = len(keep)
    operator.weights.values = operator.weights.values[keep]
    if operator.weights.scales is not None and len(operator.weights.scales) == count:
        operator.weights.scales = operator.weights.scales[keep]
    if operator.bias is not None:
        operator.bias = operator.bias[keep]
    if operator.requant is not None:
        if len(operator.requant.multipliers) == count:
            operator.requant.multipliers = operator.requant.multipliers[keep]
        if len(operator.requant.shifts) == count:
            operator.requant.shifts = operator.requant.shifts[keep]


def _remove(model: Model, dead: list[BoolArray], bounds: Bounds) -> None:
    for operator in model.operators:
        source, target = dead[operator.inputs[0]], dead[operator.outputs[0]]
        if operator.weights is None:
            continue
        if _is_mixing(operator) and source.any():
            _fold_bias(model, operator, source, bounds)
            keep = ~source[input_channels(operator, len(source))[0]]
            operator.weights.values = operator.weights.values[:, keep]
        if target.any():
            _drop_rows(operator, ~target)
    for tensor, channels in zip(model.tensors, dead, strict=True):
        if channels.any():
            tensor.shape = (*tensor.shape[:-1], int((~channels).sum()))


def eliminate_dead_channels(model: Model) -> Model:
    """Remove constant and unread channels from an integer model, in place; returns it.

    Shapes of inner tensors shrink; ports keep theirs, and every tensor keeps at least one channel. Runs until
    nothing more goes: a channel that is read only by dead channels dies with them. A model with BIT tensors
    stays as it is: their channels are filled up to whole words anyway.

    Raises:
        PackError: a float model, or a folded bias outside int32.
    """
    if model.is_float:
        raise PackError("dead channels are eliminated in an integer model; quantise it first")
    if any(tensor.dtype is DType.BIT for tensor in model.tensors):
        return model
    while True:
        bounds = bound_channels(model)
        dead = _start(model, bounds)
        _settle(model, dead)
        if not any(channels.any() for channels in dead):
            return model
        _remove(model, dead, bounds)
