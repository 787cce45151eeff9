"""Takes the mean error that changed weights cause out of the biases of an integer model.

Rounding, pruning or clustering weights shifts the mean of a layer's output by (W' - W) E[x]; the bias can
undo exactly that shift (Nagel et al. 2019, "Data-free quantization through weight equalization and bias
correction", section 4.2; the means are measured on samples here).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.format_table import DType, OperatorKind
from model_packager.model import Model, Operator, Tensor
from model_packager.passes.calibrate import activation_chunks

Array = npt.NDArray[Any]

_BIAS_LIMIT = (1 << 31) - 1


def correct_bias(model: Model, original: Model, samples: Sequence[Array]) -> Model:
    """A new model with corrected int32 biases.

    model: integer, with ``Weights.scales``. original: the same network, float or integer, before its weights
    were changed; operators are matched by name. samples: inputs of `original`, (N, *shape[1:]) each.
    """
    corrected = copy.deepcopy(model)
    means = _channel_means(original, samples)
    before = {operator.name: operator for operator in original.operators}
    for operator in corrected.operators:
        source = before.get(operator.name)
        if operator.weights is None or source is None or source.weights is None:
            continue
        if source.weights.values.shape != operator.weights.values.shape:
            continue
        error = _real_weights(operator) - _real_weights(source)
        shift = _mean_shift(operator, error, means[source.inputs[0]])
        unit = corrected.tensors[operator.inputs[0]].scale * _row_scales(operator)
        bias = np.zeros(len(error)) if operator.bias is None else operator.bias.astype(np.float64)
        steps = np.clip(np.round(bias - shift / unit), -_BIAS_LIMIT, _BIAS_LIMIT)
        operator.bias = steps.astype(np.int32) if np.any(steps) else None
    return corrected


def _channel_means(model: Model, samples: Sequence[Array]) -> list[Array]:
    """The mean of each channel (last axis) of every tensor in real units, float64 (channels,)."""
    totals = [np.zeros(tensor.shape[-1] if tensor.shape else 1) for tensor in model.tensors]
    counts = np.zeros(len(totals))
    for values in activation_chunks(model, samples):
        for index, (tensor, part) in enumerate(zip(model.tensors, values, strict=True)):
            rows = _real(tensor, part).reshape(-1, len(totals[index]))
            totals[index] += rows.sum(axis=0, dtype=np.float64)
            counts[index] += len(rows)
    return [total / count for total, count in zip(totals, counts, strict=True)]


def _real(tensor: Tensor, values: Array) -> Array:
    if tensor.dtype is DType.FLOAT32:
        return values
    return (values.astype(np.float64) - tensor.zero_point) * tensor.scale


def _row_scales(operator: Operator) -> Array:
    assert operator.weights is not None and operator.weights.scales is not None
    return np.broadcast_to(operator.weights.scales.astype(np.float64), (len(operator.weights.values),))


def _real_weights(operator: Operator) -> Array:
    assert operator.weights is not None
    values = operator.weights.values.astype(np.float64)
    return values if operator.weights.scales is None else values * _row_scales(operator)[:, np.newaxis]


def _mean_shift(operator: Operator, error: Array, means: Array) -> Array:
    """(rows,): what the weight error adds to the mean accumulator, in real units; borders are ignored."""
    rows, cols = error.shape
    if operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
        return error.sum(axis=1) * np.repeat(means, rows // len(means))
    groups = operator.attributes.get("groups", 1)
    depth = len(means) // groups
    by_channel = error.reshape(rows, cols // depth, depth).sum(axis=1)
    of_group = np.repeat(means.reshape(groups, depth), rows // groups, axis=0)
    return (by_channel * of_group).sum(axis=1)
