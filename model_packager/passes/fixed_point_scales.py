"""Dynamic fixed point: every scale is a power of two, and each tensor has a fraction length of its own.

Sources: Courbariaux et al. 2015, "Training deep neural networks with low precision multiplications" (a
scaling factor for each group of values); Gysel et al. 2018, "Ristretto" (fraction lengths of each layer's
inputs, weights and outputs from their ranges, after training). Requantisation is then a shift with round half
up (docs/NUMERICS.md), which a file stores as one byte for a layer. ``quantise`` calls this module where a
recipe's calibration says ``power_of_two``; ``quantise_bits`` keeps to it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import PackError
from model_packager.format_table import DType
from model_packager.model import Model, Operator, Requant

Array = npt.NDArray[Any]

LARGEST_SHIFT = 31


def fraction_length(peak: float, steps: int) -> int:
    """The most fractional bits at which `steps` units still reach `peak`: scale = 2^-fraction_length."""
    return -math.ceil(math.log2(peak / steps)) if peak > 0 else 0


def power_of_two_scale(low: float, high: float) -> tuple[float, int]:
    """(scale, zero point) of int8 activations from `low` to `high`: zero point 0, or -128, that is unsigned
    bytes, where nothing is negative."""
    if low >= 0:
        return 2.0 ** -fraction_length(high, 255), -128
    return 2.0 ** -fraction_length(max(-low, high), 127), 0


def is_power_of_two(scale: float) -> bool:
    return math.frexp(scale)[0] == 0.5


def shift_of(model: Model, operator: Operator, weight_scale: float) -> int:
    """The right shift from accumulator to output: all fraction lengths of the inputs less the output's."""
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    return round(math.log2(output.scale / (source.scale * weight_scale)))


def set_weight_scales(model: Model) -> None:
    """Give the float weights of each layer one power of two as scale. Changes `model`, whose activations have
    their scales. Layers that read or make bits keep their own.

    Raises:
        PackError: outputs so small that a layer would have to shift to the left.
    """
    for operator in model.operators:
        if operator.weights is None or _meets_bits(model, operator):
            continue
        peak = float(np.abs(operator.weights.values).max())
        scale = 2.0 ** -fraction_length(peak, 127)
        shift = shift_of(model, operator, scale)
        if shift < 0 and peak > 0:
            raise PackError(f"layer '{operator.name}' makes outputs too small for power-of-two scales")
        # More than 31 bits cannot be shifted out: such small weights get fewer.
        scale *= 2.0 ** (shift - min(max(shift, 0), LARGEST_SHIFT))
        operator.weights.scales = np.full(len(operator.weights.values), scale)


def use_shifts(model: Model) -> None:
    """Replace the multipliers of the layers that `set_weight_scales` prepared. Changes `model`."""
    for operator in model.operators:
        if operator.weights is not None and not _meets_bits(model, operator):
            operator.requant = shifts_for(model, operator)


def shifts_for(model: Model, operator: Operator) -> Requant:
    """The requantisation of a layer whose weights' scales are powers of two."""
    assert operator.weights is not None and operator.weights.scales is not None
    scales = np.broadcast_to(operator.weights.scales, len(operator.weights.values))
    shifts = np.array([shift_of(model, operator, float(scale)) for scale in scales], np.int32)
    return Requant(np.zeros(len(shifts), np.int32), shifts, power_of_two=True)


def _meets_bits(model: Model, operator: Operator) -> bool:
    return any(model.tensors[i].dtype is DType.BIT for i in (*operator.inputs, *operator.outputs))
