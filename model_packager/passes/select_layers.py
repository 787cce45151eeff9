"""Which layers a lossy pass changes, and how a layer gets new weights.

Lossy passes work on integer models whose ``Weights.scales`` are known, that is before packing: imported int8
networks and quantised float networks alike. Real weight = scale of the row * int8 value.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager import numerics
from model_packager.errors import PackError, UsageError
from model_packager.model import Model, Operator, Requant, Weights
from model_packager.passes.fixed_point_scales import is_power_of_two, shifts_for

Array = npt.NDArray[Any]

_BIAS_LIMIT = (1 << 31) - 1


def select_layers(model: Model, match: str | Sequence[str] = "*") -> list[Operator]:
    """The operators with weights that `match` names, in order.

    A pattern (``fnmatch``) is compared with the operator's name, its kind in lower case ("conv_2d",
    "depthwise_conv_2d", "fully_connected"), and "#n", its place among the operators with weights, from 0.
    Raises ``UsageError`` when a pattern names no layer, ``PackError`` for a model without weight scales.
    """
    patterns = [match] if isinstance(match, str) else list(match)
    layers = [operator for operator in model.operators if operator.weights is not None]
    chosen: list[Operator] = []
    for pattern in patterns:
        named = [
            layer
            for place, layer in enumerate(layers)
            if any(fnmatch.fnmatchcase(name, pattern) for name in layer_names(layer, place))
        ]
        if not named:
            raise UsageError(
                f"no layer is called '{pattern}'; there are "
                + ", ".join(f"#{place} {layer.name}" for place, layer in enumerate(layers))
            )
        chosen += [layer for layer in named if not any(layer is other for other in chosen)]
    for layer in chosen:
        if layer.weights is None or layer.weights.scales is None or layer.weights.values.dtype != np.int8:
            raise PackError(f"layer '{layer.name}' has no int8 weights with scales; quantise the model first")
    return chosen


def layer_names(layer: Operator, place: int) -> tuple[str, str, str]:
    """The names that a pattern can match."""
    return layer.name, layer.kind.name.lower(), f"#{place}"


def real_weights(layer: Operator) -> Array:
    """(rows, cols) float64."""
    return weights_of(layer).values * row_scales(layer)[:, np.newaxis]


def row_scales(layer: Operator) -> Array:
    """(rows,) float64."""
    weights = weights_of(layer)
    assert weights.scales is not None
    return np.broadcast_to(weights.scales.astype(np.float64), (len(weights.values),))


def weights_of(layer: Operator) -> Weights:
    assert layer.weights is not None
    return layer.weights


def set_weights(model: Model, layer: Operator, values: Array, scales: Array) -> None:
    """Give a layer new int8 (rows, cols) values with new row scales; bias and requantisation follow. A layer
    of dynamic fixed point keeps its shifts where the new scales are powers of two, and else gets
    multipliers."""
    old_scales = row_scales(layer)
    scales = np.asarray(scales, np.float64).astype(np.float32).astype(np.float64)
    if layer.bias is not None:
        steps = np.round(layer.bias.astype(np.float64) * old_scales / scales)
        layer.bias = np.clip(steps, -_BIAS_LIMIT, _BIAS_LIMIT).astype(np.int32)
    layer.weights = Weights(values.astype(np.int8), scales, weights_of(layer).encoding)
    is_fixed_point = layer.requant is not None and layer.requant.power_of_two
    if is_fixed_point and all(is_power_of_two(scale) for scale in scales):
        layer.requant = shifts_for(model, layer)
        return
    source, output = model.tensors[layer.inputs[0]], model.tensors[layer.outputs[0]]
    layer.requant = Requant(*numerics.conv_multipliers(source.scale, scales, output.scale))
