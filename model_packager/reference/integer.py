"""Kernels of integer models: attributes and constants of an operator applied with numerics' exact arithmetic.

Every kernel takes (operator, attributes, inputs, output tensor) with int8 inputs (N, d0, d1, d2, d3) and
returns int8 with N times the output's elements. Of an image, d0 is the batch dimension of 1. The elements of
BIT tensors are -1 and +1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager import numerics
from model_packager.errors import PackError
from model_packager.format_table import OperatorKind
from model_packager.model import Operator, Requant, Tensor, Weights
from model_packager.reference.bits import match_channels, signs
from model_packager.reference.movement import MOVEMENT_KERNELS, Kernel

Array = npt.NDArray[Any]


def _requantise(accumulators: Array, requant: Requant | None, attributes: dict[str, int]) -> Array:
    """Accumulators (..., rows) to int8: by multiplier and shift as TFLM, or by a power of two, half up."""
    if requant is None:
        raise PackError("an operator with weights has no requantisation")
    if requant.sign:
        return signs(accumulators)
    zero_point, low, high = (attributes[name] for name in ("output_zero_point", "clamp_min", "clamp_max"))
    if not requant.power_of_two:
        return numerics.requantise(accumulators, requant.multipliers, requant.shifts, zero_point, low, high)
    return numerics.requantise_power_of_two(accumulators, requant.shifts, zero_point, low, high)


def _weights(operator: Operator) -> Weights:
    if operator.weights is None:
        raise PackError(f"operator '{operator.name}' has no weights")
    return operator.weights


def _window(attributes: dict[str, int]) -> tuple[numerics.Pair, numerics.Pair, numerics.Pads]:
    """Kernel, stride and pads (above, below, left, right)."""
    kernel = (attributes["kernel_h"], attributes["kernel_w"])
    stride = (attributes["stride_h"], attributes["stride_w"])
    pads = (attributes["pad_top"], attributes["pad_bottom"], attributes["pad_left"], attributes["pad_right"])
    return kernel, stride, pads


def conv_2d(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    image = inputs[0][:, 0]
    kernel, stride, pads = _window(attributes)
    values = _weights(operator).values
    cells = values.reshape(len(values), *kernel, -1)
    if attributes["groups"] == 1:
        image, cells = match_channels(image, cells)
    accumulators = numerics.conv_2d_accumulate(
        image,
        cells,
        operator.bias,
        attributes["input_zero_point"],
        stride,
        pads,
        (attributes["dilation_h"], attributes["dilation_w"]),
    )
    return _requantise(accumulators, operator.requant, attributes)


def depthwise_conv_2d(
    operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor
) -> Array:
    kernel, stride, pads = _window(attributes)
    values = _weights(operator).values
    accumulators = numerics.depthwise_conv_2d_accumulate(
        inputs[0][:, 0],
        values.T.reshape(1, *kernel, len(values)),
        operator.bias,
        attributes["input_zero_point"],
        stride,
        pads,
        (attributes["dilation_h"], attributes["dilation_w"]),
    )
    return _requantise(accumulators, operator.requant, attributes)


def fully_connected(
    operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor
) -> Array:
    count, channels = len(inputs[0]), inputs[0].shape[-1]
    values = _weights(operator).values
    rows = len(values)
    cells = inputs[0].reshape(count, -1, channels)
    cells, weights = match_channels(cells, values.reshape(rows, cells.shape[1], -1))
    accumulators = numerics.fully_connected_accumulate(
        cells.reshape(count, -1), weights.reshape(rows, -1), operator.bias, attributes["input_zero_point"]
    )
    return _requantise(accumulators, operator.requant, attributes)


def _zero_points(attributes: dict[str, int]) -> tuple[int, int, int]:
    return attributes["input1_zero_point"], attributes["input2_zero_point"], attributes["output_zero_point"]


def _add_parameters(attributes: dict[str, int]) -> numerics.AddParameters:
    names = (
        "input1_multiplier",
        "input1_shift",
        "input2_multiplier",
        "input2_shift",
        "output_multiplier",
        "output_shift",
    )
    return numerics.AddParameters(attributes["left_shift"], *(attributes[name] for name in names))


def add(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return numerics.add(
        inputs[0], inputs[1], _add_parameters(attributes), _zero_points(attributes),
        attributes["clamp_min"], attributes["clamp_max"],
    )  # fmt: skip


def sub(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return numerics.sub(
        inputs[0], inputs[1], _add_parameters(attributes), _zero_points(attributes),
        attributes["clamp_min"], attributes["clamp_max"],
    )  # fmt: skip


def mul(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return numerics.mul(
        inputs[0], inputs[1], attributes["multiplier"], attributes["shift"], _zero_points(attributes),
        attributes["clamp_min"], attributes["clamp_max"],
    )  # fmt: skip


def average_pool_2d(
    operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor
) -> Array:
    clamp = attributes["clamp_min"], attributes["clamp_max"]
    return numerics.average_pool_2d(inputs[0][:, 0], *_window(attributes), *clamp)


def max_pool_2d(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    clamp = attributes["clamp_min"], attributes["clamp_max"]
    return numerics.max_pool_2d(inputs[0][:, 0], *_window(attributes), *clamp)


def mean(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    axes = [axis + 1 for axis in range(4) if attributes["axes"] >> axis & 1]
    return numerics.mean(
        inputs[0], axes, attributes["multiplier"], attributes["shift"],
        attributes["input_zero_point"], attributes["output_zero_point"],
    )  # fmt: skip


def softmax(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    constants = numerics.SoftmaxParameters(
        attributes["multiplier"], attributes["shift"], attributes["diff_min"]
    )
    return numerics.softmax(inputs[0], constants)


def lookup(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    if operator.table is None:
        raise PackError(f"operator '{operator.name}' has no table")
    return operator.table[inputs[0].astype(np.int16) + 128]


INTEGER_KERNELS: dict[OperatorKind, Kernel] = {
    OperatorKind.CONV_2D: conv_2d,
    OperatorKind.DEPTHWISE_CONV_2D: depthwise_conv_2d,
    OperatorKind.FULLY_CONNECTED: fully_connected,
    OperatorKind.ADD: add,
    OperatorKind.SUB: sub,
    OperatorKind.MUL: mul,
    OperatorKind.AVERAGE_POOL_2D: average_pool_2d,
    OperatorKind.MAX_POOL_2D: max_pool_2d,
    OperatorKind.MEAN: mean,
    OperatorKind.SOFTMAX: softmax,
    OperatorKind.LOOKUP: lookup,
    **MOVEMENT_KERNELS,
}
