"""The model under construction: maps names of the ONNX graph to activations (`Value`) and to constants.

Every converter gets the one `Graph` and the `SourceNode` at hand, asks for values and constants by input
position, and adds operators. A converter refuses with ``ImportRefused(reason)``; the caller puts the node's
kind, name and position in front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import ImportRefused
from model_packager.format_table import DType, OperatorKind
from model_packager.importers.onnx import layout
from model_packager.importers.onnx.layout import Shape, Value
from model_packager.importers.onnx.source import SourceModel, SourceNode
from model_packager.model import Model, Operator, Tensor

Array = npt.NDArray[Any]

# Elements of an activation or a constant beyond this are damage, not a network for a microcontroller.
ELEMENTS_LIMIT = 1 << 26


@dataclass(frozen=True)
class QuantisedConstant:
    """What a DequantizeLinear of a constant read: int8 values, scales (1,) or one per slice of `axis`."""

    values: Array
    scales: Array
    axis: int


class Graph:
    """`model` grows as float operators are added; `is_quantised` says that it is to become an integer model.
    ``constants`` holds every tensor that is known now, ``quantised`` those that DequantizeLinear made."""

    def __init__(self, source: SourceModel) -> None:
        self.source = source
        self.opset = source.opset
        self.is_quantised = any(node.kind == "QuantizeLinear" for node in source.nodes)
        self.model = Model()
        self.constants: dict[str, Array] = dict(source.constants)
        self.quantised: dict[str, QuantisedConstant] = {}
        self._values: dict[str, Value] = {}
        self._arranged: dict[tuple[int, Any, Shape], int] = {}

    # ------------------------------------------------------------------------------------------- names

    def value(self, node: SourceNode, position: int = 0) -> Value:
        """The activation at an input position."""
        name = self._name(node, position)
        if name in self._values:
            return self._values[name]
        kind = "a constant" if name in self.constants else "read before any node writes it"
        raise ImportRefused(f"its input '{name}' is {kind}")

    def has_value(self, name: str) -> bool:
        return name in self._values

    def named_value(self, name: str) -> Value:
        return self._values[name]

    def has_input(self, node: SourceNode, position: int) -> bool:
        return position < len(node.inputs) and node.inputs[position] != ""

    def is_constant(self, node: SourceNode, position: int) -> bool:
        return self.has_input(node, position) and node.inputs[position] in self.constants

    def constant(self, node: SourceNode, position: int, what: str) -> Array:
        """The constant at an input position, as it is; ``what`` names it in the refusal."""
        name = self._name(node, position, what)
        if name not in self.constants:
            raise ImportRefused(f"its {what} '{name}' is not a constant")
        return self.constants[name]

    def floats(self, node: SourceNode, position: int, what: str) -> Array:
        """A constant of finite float32 numbers."""
        values = self.constant(node, position, what)
        if values.dtype.kind not in "fiu":
            raise ImportRefused(f"its {what} '{node.inputs[position]}' has type {values.dtype}")
        values = values.astype(np.float32)
        if not np.all(np.isfinite(values)):
            raise ImportRefused(f"its {what} '{node.inputs[position]}' holds numbers that are not finite")
        return values

    def integers(self, node: SourceNode, name: str, position: int | None = None) -> list[int] | None:
        """A list of integers: the attribute `name`, or else the constant at `position`; None if absent."""
        if name in node.attributes:
            given = node.attributes[name]
            listed = given if isinstance(given, list) else [given]
            if not all(isinstance(item, int) for item in listed):
                raise ImportRefused(f"its attribute {name} does not hold integers")
            return listed
        if position is None or not self.has_input(node, position):
            return None
        values = self.constant(node, position, name)
        if values.dtype.kind not in "iu":
            raise ImportRefused(f"its {name} have type {values.dtype}, not int64")
        return [int(item) for item in values.reshape(-1)]

    def set_value(self, node: SourceNode, value: Value, position: int = 0) -> None:
        """Give an output of a node its activation."""
        if position >= len(node.outputs) or not node.outputs[position]:
            raise ImportRefused(f"its output {position} is missing")
        self.set_named_value(node.outputs[position], value)

    def set_named_value(self, name: str, value: Value) -> None:
        if name in self._values or name in self.constants:
            raise ImportRefused(f"'{name}' is written twice")
        self._values[name] = value

    def _name(self, node: SourceNode, position: int, what: str = "input") -> str:
        if not self.has_input(node, position):
            raise ImportRefused(f"its {what} (input {position}) is missing")
        return node.inputs[position]

    # ------------------------------------------------------------------------------------------- tensors

    def tensor(self, index: int) -> Tensor:
        return self.model.tensors[index]

    def add_tensor(self, name: str, shape: Shape) -> int:
        """A new float activation; its index. `shape` is the model's (batch first, channels last)."""
        if not shape or min(shape) < 1 or len(shape) > 6 or math.prod(shape) > ELEMENTS_LIMIT:
            raise ImportRefused(f"'{name}' has the shape {shape}")
        self.model.tensors.append(Tensor(name, shape, DType.FLOAT32))
        return len(self.model.tensors) - 1

    def add(self, kind: OperatorKind, inputs: list[int], output: int, **parts: Any) -> Operator:
        """Append an operator; it takes the name of its output."""
        operator = Operator(kind, inputs, [output], name=self.tensor(output).name, **parts)
        self.model.operators.append(operator)
        return operator

    def add_result(
        self,
        node: SourceNode,
        kind: OperatorKind,
        inputs: list[int],
        shape: Shape,
        order: Sequence[int],
        stored: Shape | None = None,
        position: int = 0,
        **parts: Any,
    ) -> int:
        """Append the operator that makes an output of `node` of ONNX shape `shape`, axes stored in `order`.

        stored: the tensor's shape in the model, where it is not simply the axes in that order. Returns the
        tensor's index.
        """
        stored = stored or tuple(shape[axis] for axis in order)
        index = self.add_tensor(node.outputs[position], stored)
        self.add(kind, inputs, index, **parts)
        self.set_value(node, Value(index, shape, layout.stored_as(shape, order)), position)
        return index

    # ------------------------------------------------------------------------------------------- layouts

    def natural_order(self, value: Value) -> tuple[int, ...]:
        """The order in which the axes lie in memory: channels last where that is true, else as ONNX has
        them, else whatever order is true. Where none is, as in shuffled channels, the order to bring them
        into: channels last for images, ONNX's for others."""
        rank = len(value.shape)
        candidates = [layout.channels_last(rank), tuple(range(rank))] if rank > 2 else [tuple(range(rank))]
        axes = layout.split(value.factors, value.shape)
        if axes is not None:
            strides = [loops[0][1] if loops else 0 for loops in axes]
            candidates.append(tuple(sorted(range(rank), key=lambda axis: -strides[axis])))
        for order in candidates:
            if layout.is_contiguous(layout.in_order(value.factors, value.shape, order)):
                return order
        return layout.channels_last(rank) if rank == 4 else tuple(range(rank))

    def arranged(self, value: Value, order: Sequence[int], stored: Shape | None = None) -> int:
        """Index of a tensor that holds `value` with its axes in this order, and has the shape `stored`
        (default: the axes in that order). Adds a TRANSPOSE and RESHAPEs only where they are needed."""
        stored = stored or tuple(value.shape[axis] for axis in order)
        factors, tensor = value.factors, value.tensor
        wanted = layout.in_order(factors, value.shape, order)
        if wanted is None:
            # An axis ends inside a loop: bring the activation into ONNX's own order first.
            tensor = self._transposed(tensor, factors)
            wanted = layout.in_order(layout.row_major(value.shape), value.shape, order)
            assert wanted is not None
        return self.reshaped(self._transposed(tensor, wanted), stored)

    def _transposed(self, tensor: int, wanted: layout.Factors) -> int:
        if layout.is_contiguous(wanted):
            return tensor
        key = (tensor, wanted, ())
        if key not in self._arranged:
            shape, permutation = layout.transposition(wanted)
            if len(shape) > 4:
                raise ImportRefused(
                    f"'{self.tensor(tensor).name}' would have to be transposed in {len(shape)} dimensions; "
                    f"at most four are supported"
                )
            shape, permutation = (
                (1,) * (4 - len(shape)) + shape,
                (*range(4 - len(shape)), *(axis + 4 - len(shape) for axis in permutation)),
            )
            before = self.reshaped(tensor, shape)
            after = self.add_tensor(
                self._fresh_name(tensor, "transposed"), tuple(shape[axis] for axis in permutation)
            )
            attributes = {f"axis_{position}": axis for position, axis in enumerate(permutation)}
            self.add(OperatorKind.TRANSPOSE, [before], after, attributes=attributes)
            self._arranged[key] = after
        return self._arranged[key]

    def reshaped(self, tensor: int, stored: Shape) -> int:
        """Index of a tensor with the same elements in the same order and the shape `stored`."""
        have = self.tensor(tensor).shape
        if have == stored or (len(have) <= 4 and len(stored) <= 4 and _padded(have) == _padded(stored)):
            return tensor
        key = (tensor, None, stored)
        if key not in self._arranged:
            after = self.add_tensor(self._fresh_name(tensor, "reshaped"), stored)
            self.add(OperatorKind.RESHAPE, [tensor], after)
            self._arranged[key] = after
        return self._arranged[key]

    def _fresh_name(self, tensor: int, what: str) -> str:
        """A name for a tensor that the file lacks; operators are told apart by their outputs' names."""
        return f"{self.tensor(tensor).name}/{what}{len(self.model.tensors)}"

    def image(self, value: Value) -> tuple[int, int, int, int]:
        """(tensor (1, height, width, channels), height, width, channels) of an image N, C, H, W, or of a
        sequence N, C, L as an image of height 1."""
        if len(value.shape) not in (3, 4) or value.shape[0] != 1:
            raise ImportRefused(
                f"its input '{self.tensor(value.tensor).name}' has the shape {value.shape}; "
                f"(1, channels, height, width) or (1, channels, length) is needed"
            )
        height, width = (1, *value.shape[2:])[-2:]
        channels = value.shape[1]
        stored = (1, height, width, channels)
        return self.arranged(value, layout.channels_last(len(value.shape)), stored), height, width, channels

    def in_memory_order(self, value: Value, values: Array) -> Array:
        """A constant, broadcast to an activation's shape, in the order of the model's tensor: (elements,)."""
        flat = np.broadcast_to(values, value.shape).reshape(-1)
        stored = np.empty_like(flat)
        stored[layout.memory_positions(value.factors)] = flat
        return stored


def _padded(shape: Shape) -> Shape:
    return (1,) * (4 - len(shape)) + shape
