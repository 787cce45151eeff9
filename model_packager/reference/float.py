"""Kernels of float models in float32, for calibration and for comparing a quantised model with its original.

Same signature and layout as the integer kernels; fused activations come from ``options["activation"]``,
one-input functions from ``options["function"]``. Sums run in NumPy's order: the last bits differ from other
runtimes'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import PackError
from model_packager.format_table import OperatorKind
from model_packager.model import Operator, Tensor
from model_packager.reference.movement import MOVEMENT_KERNELS, Kernel

Array = npt.NDArray[Any]

_ACTIVATION_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def _activate(values: Array, operator: Operator) -> Array:
    name = operator.options.get("activation", "none")
    if name == "sign":
        return FUNCTIONS["sign"](values)
    if name not in _ACTIVATION_BOUNDS:
        raise PackError(f"operator '{operator.name}' has the unknown activation {name}")
    low, high = _ACTIVATION_BOUNDS[name]
    return values if low is None and high is None else np.clip(values, low, high)


def padded(image: Array, attributes: dict[str, int], value: float) -> Array:
    """(N, height, width, channels) with the operator's pads around, filled with `value`."""
    rows = (attributes["pad_top"], attributes["pad_bottom"])
    columns = (attributes["pad_left"], attributes["pad_right"])
    return np.pad(image, ((0, 0), rows, columns, (0, 0)), constant_values=value)


def kernel_windows(image: Array, attributes: dict[str, int]) -> Array:
    """View (N, out_h, out_w, kernel_h, kernel_w, channels) of a padded image."""
    dilation = (attributes.get("dilation_h", 1), attributes.get("dilation_w", 1))
    reach = (
        (attributes["kernel_h"] - 1) * dilation[0] + 1,
        (attributes["kernel_w"] - 1) * dilation[1] + 1,
    )
    rows = np.lib.stride_tricks.sliding_window_view(image, reach[0], axis=1)
    view = np.lib.stride_tricks.sliding_window_view(rows, reach[1], axis=2)
    strided = view[:, :: attributes["stride_h"], :: attributes["stride_w"], :, :: dilation[0], :: dilation[1]]
    return strided.transpose(0, 1, 2, 4, 5, 3)


def _matrix(operator: Operator) -> Array:
    if operator.weights is None:
        raise PackError(f"operator '{operator.name}' has no weights")
    return operator.weights.values.astype(np.float32)


def _finish(sums: Array, operator: Operator) -> Array:
    """Bias and activation."""
    return _activate(sums if operator.bias is None else sums + operator.bias.astype(np.float32), operator)


def conv_2d(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    matrix = _matrix(operator)
    windows = kernel_windows(padded(inputs[0][:, 0], attributes, 0.0), attributes)
    groups = attributes["groups"]
    rows, depth = len(matrix) // groups, windows.shape[5] // groups
    sums = np.empty((*windows.shape[:3], len(matrix)), np.float32)
    for group in range(groups):
        columns = windows[..., group * depth : (group + 1) * depth].reshape(-1, matrix.shape[1])
        part = slice(group * rows, (group + 1) * rows)
        sums[..., part] = (columns @ matrix[part].T).reshape(*windows.shape[:3], rows)
    return _finish(sums, operator)


def depthwise_conv_2d(
    operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor
) -> Array:
    matrix = _matrix(operator)
    image = padded(inputs[0][:, 0], attributes, 0.0)
    # Output channel o reads input channel o // multiplier.
    windows = kernel_windows(np.repeat(image, len(matrix) // image.shape[3], axis=3), attributes)
    kernel = matrix.T.reshape(attributes["kernel_h"], attributes["kernel_w"], len(matrix))
    sums = np.zeros((*windows.shape[:3], len(matrix)), np.float32)
    for ky in range(kernel.shape[0]):
        for kx in range(kernel.shape[1]):
            sums += windows[:, :, :, ky, kx] * kernel[ky, kx]
    return _finish(sums, operator)


def fully_connected(
    operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor
) -> Array:
    return _finish(inputs[0].reshape(len(inputs[0]), -1) @ _matrix(operator).T, operator)


def add(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return _activate(inputs[0] + inputs[1], operator)


def sub(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return _activate(inputs[0] - inputs[1], operator)


def mul(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return _activate(inputs[0] * inputs[1], operator)


def average_pool_2d(
    operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor
) -> Array:
    """The mean of the cells inside the image; cells of the pads do not count."""
    image = inputs[0][:, 0]
    inside = np.ones((1, *image.shape[1:3], 1), np.float32)
    counts = kernel_windows(padded(inside, attributes, 0.0), attributes).sum(axis=(3, 4))
    sums = kernel_windows(padded(image, attributes, 0.0), attributes).sum(axis=(3, 4), dtype=np.float32)
    return _activate(sums / counts, operator)


def max_pool_2d(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return _activate(
        kernel_windows(padded(inputs[0][:, 0], attributes, -np.inf), attributes).max(axis=(3, 4)), operator
    )


def mean(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    axes = tuple(axis + 1 for axis in range(4) if attributes["axes"] >> axis & 1)
    return inputs[0].mean(axis=axes, keepdims=True, dtype=np.float32)


def softmax(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    scaled = np.float32(operator.options.get("beta", 1.0)) * inputs[0]
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _leaky_relu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, x * np.float32(alpha))


def _logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) by the exponential that cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e).astype(np.float32) / (1 + e)


# One-input functions; those that .tflite files have go by the names of numerics.lookup_table.
FUNCTIONS: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sign": lambda x: np.where(x >= 0, 1, -1).astype(np.float32),
    "relu6": lambda x: np.clip(x, 0, 6),
    "relu_n1_to_1": lambda x: np.clip(x, -1, 1),
    "clip": lambda x, low, high: np.clip(x, low, high),
    "leaky_relu": _leaky_relu,
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "logistic": _logistic,
    "tanh": np.tanh,
}


def apply_function(operator: Operator, x: Array) -> Array:
    """float32: ``options["function"]`` of every value; the other options are its parameters.

    Raises ``PackError`` for a function that is not in `FUNCTIONS`.
    """
    name = operator.options.get("function")
    if name not in FUNCTIONS:
        raise PackError(f"operator '{operator.name}' has the unknown function {name}")
    parameters = {key: value for key, value in operator.options.items() if key != "function"}
    return FUNCTIONS[name](x, **parameters).astype(np.float32)


def lookup(operator: Operator, attributes: dict[str, int], inputs: list[Array], output: Tensor) -> Array:
    return apply_function(operator, inputs[0])


FLOAT_KERNELS: dict[OperatorKind, Kernel] = {
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
