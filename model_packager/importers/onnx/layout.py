"""Where the elements of an ONNX activation lie in the model's tensor.

ONNX counts an image's axes N, C, H, W; the model stores N, H, W, C. Instead of moving data at every reshape
and transpose of the graph, the importer keeps for each activation the *factors* of its elements' order:
running through the activation in ONNX's row-major order is a nest of loops, and each loop is a pair (count,
stride in the model's tensor). Reshaping changes no factor, transposing reorders them, and an operator that
needs another order gets one TRANSPOSE. So transposes that only undo each other vanish, and a channel shuffle
becomes a single TRANSPOSE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Factors = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Value:
    """An activation: index of the model's tensor, shape as ONNX has it, and its loops, outermost first."""

    tensor: int
    shape: Shape
    factors: Factors

    @property
    def element_count(self) -> int:
        return math.prod(self.shape)


def merged(factors: Sequence[tuple[int, int]]) -> Factors:
    """The same loops without those of one step, neighbours that run on in memory joined into one."""
    result: list[tuple[int, int]] = []
    for count, stride in factors:
        if count == 1:
            continue
        if result and result[-1][1] == count * stride:
            result[-1] = (result[-1][0] * count, stride)
        else:
            result.append((count, stride))
    return tuple(result)


def row_major(shape: Shape) -> Factors:
    """Factors of an activation that lies in memory as ONNX counts it."""
    return merged([(math.prod(shape), 1)])


def stored_as(shape: Shape, order: Sequence[int]) -> Factors:
    """Factors of an activation of ONNX shape `shape` whose axes lie in memory in `order`, outermost first."""
    strides, stride = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = stride
        stride *= shape[axis]
    return merged(list(zip(shape, strides, strict=True)))


def channels_last(rank: int) -> tuple[int, ...]:
    """The order N, spatial axes, C of an activation that ONNX counts N, C, spatial axes."""
    return (0, *range(2, rank), 1)


def split(factors: Factors, shape: Shape) -> list[Factors] | None:
    """The loops of each axis of `shape`; None where an axis ends inside a loop that cannot be cut there."""
    remaining = list(factors)
    axes: list[Factors] = []
    for size in reversed(shape):
        loops: list[tuple[int, int]] = []
        while size > 1:
            count, stride = remaining.pop()
            if size % count == 0:
                loops.insert(0, (count, stride))
                size //= count
            elif count % size == 0:
                loops.insert(0, (size, stride))
                remaining.append((count // size, stride * size))
                size = 1
            else:
                return None
        axes.insert(0, tuple(loops))
    return axes


def in_order(factors: Factors, shape: Shape, order: Sequence[int]) -> Factors | None:
    """The loops when the axes of `shape` are run through in another order; None as in ``split``."""
    axes = split(factors, shape)
    return None if axes is None else merged([loop for axis in order for loop in axes[axis]])


def is_contiguous(factors: Factors | None) -> bool:
    """Whether running through the loops runs through memory from end to end."""
    return factors is not None and (not factors or (len(factors) == 1 and factors[0][1] == 1))


def memory_positions(factors: Factors) -> Array:
    """int64 (elements,): for each element in ONNX's row-major order, its place in the model's tensor."""
    positions = np.zeros(1, np.int64)
    for count, stride in factors:
        positions = (positions[:, np.newaxis] + np.arange(count, dtype=np.int64) * stride).reshape(-1)
    return positions


def transposition(wanted: Factors) -> tuple[Shape, tuple[int, ...]]:
    """(shape of the memory now, permutation) of the TRANSPOSE after which `wanted` runs through memory."""
    order = sorted(range(len(wanted)), key=lambda loop: -wanted[loop][1])
    return tuple(wanted[loop][0] for loop in order), tuple(order.index(loop) for loop in range(len(wanted)))
