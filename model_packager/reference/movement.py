"""Kernels of operators that move or select values: the same code serves integer and float models.

Every kernel takes (operator, attributes, inputs, output tensor) with inputs (N, d0, d1, d2, d3) and returns
an array with N times the output's elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager import numerics
from model_packager.format_table import DType, OperatorKind
from model_packager.model import Operator, Tensor

Array = npt.NDArray[Any]
Kernel = Callable[[Operator, dict[str, int], list[Array], Tensor], Array]


def reshape(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return inputs[0]


def transpose(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    """Axis n of the output is axis ``axis_n`` of the input."""
    return inputs[0].transpose(0, *(attributes[f"axis_{axis}"] + 1 for axis in range(4)))


def concatenation(
    operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor
) -> Array:
    return np.concatenate(inputs, axis=attributes["axis"] + 1)


def slice_cells(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    """As many cells as the output has along each axis, from ``begin_n`` on, ``stride_n`` apart."""
    cells: list[slice] = [slice(None)]
    for axis, size in enumerate(output.shape4):
        begin, stride = attributes[f"begin_{axis}"], attributes[f"stride_{axis}"]
        cells.append(slice(begin, begin + (size - 1) * stride + 1, stride))
    return inputs[0][tuple(cells)]


def pad(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    """Constant padding with ``value``, or ``options["value"]`` (default 0) in a float model; of bits, -1."""
    is_float = inputs[0].dtype == np.float32
    value = operator.options.get("value", 0.0) if is_float else attributes["value"]
    if output.dtype is DType.BIT:
        value = -1
    widths = [(0, 0)] + [(attributes[f"before_{axis}"], attributes[f"after_{axis}"]) for axis in range(4)]
    return np.pad(inputs[0], widths, constant_values=value)


def resize_nearest(
    operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor
) -> Array:
    _, height, width, _ = output.shape4
    flags = (bool(attributes["align_corners"]), bool(attributes["half_pixel_centers"]))
    rows = numerics.nearest_indices(inputs[0].shape[2], height, *flags)
    columns = numerics.nearest_indices(inputs[0].shape[3], width, *flags)
    return inputs[0][:, :, rows][:, :, :, columns]


def maximum(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return np.maximum(inputs[0], inputs[1])


def minimum(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return np.minimum(inputs[0], inputs[1])


MOVEMENT_KERNELS: dict[OperatorKind, Kernel] = {
    OperatorKind.RESHAPE: reshape,
    OperatorKind.TRANSPOSE: transpose,
    OperatorKind.CONCATENATION: concatenation,
    OperatorKind.SLICE: slice_cells,
    OperatorKind.PAD: pad,
    OperatorKind.RESIZE_NEAREST: resize_nearest,
    OperatorKind.MAXIMUM: maximum,
    OperatorKind.MINIMUM: minimum,
}
