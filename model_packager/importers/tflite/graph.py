"""The model under construction: maps tensors of the .tflite file to activations of the Model.

Every converter gets the one `Graph` and the `SourceOperator` at hand, asks for activations and constants by
input position, and adds operators. A converter refuses with ``ImportRefused(reason)``; the caller puts the
operator's name and position in front.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import ImportRefused
from model_packager.format_table import DType, OperatorKind
from model_packager.importers.tflite.flatbuffer import SourceModel, SourceOperator, SourceTensor
from model_packager.model import Model, Operator, Tensor
from model_packager.numerics import dequantise

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Graph:
    """`model` grows as operators are added; `is_float` says which of the two kinds of model it becomes."""

    def __init__(self, source: SourceModel, is_float: bool) -> None:
        self.source = source
        self.is_float = is_float
        self.model = Model()
        self._activations: dict[int, int] = {}  # source tensor index -> model tensor index

    # ------------------------------------------------------------------------------------------- tensors

    def add_activation(self, source_index: int) -> int:
        """Register a model input or an operator's output as a new activation; its index in the model."""
        tensor = self.source.tensors[source_index]
        if tensor.data is not None or source_index in self._activations:
            raise ImportRefused(f"tensor '{tensor.name}' is written twice or is a constant")
        self._activations[source_index] = self._append(self._activation_of(tensor))
        return self._activations[source_index]

    def alias(self, source_index: int, model_index: int) -> None:
        """Let a tensor of the file stand for an activation that exists already."""
        self._activations[source_index] = model_index

    def add_inner(self, name: str, shape: Shape, like: Tensor) -> int:
        """A tensor that the file does not have, quantised as `like`."""
        return self._append(Tensor(name, shape, like.dtype, like.scale, like.zero_point))

    def activation(self, source_index: int) -> int:
        """Model index of an activation that a converter reads."""
        if source_index not in self._activations:
            tensor = self.source.tensors[source_index]
            kind = "a constant" if tensor.data is not None else "read before any operator writes it"
            raise ImportRefused(f"its input '{tensor.name}' is {kind}")
        return self._activations[source_index]

    def has_activation(self, source_index: int) -> bool:
        return source_index in self._activations

    def tensor(self, model_index: int) -> Tensor:
        return self.model.tensors[model_index]

    def _append(self, tensor: Tensor) -> int:
        self.model.tensors.append(tensor)
        return len(self.model.tensors) - 1

    def _activation_of(self, tensor: SourceTensor) -> Tensor:
        if tensor.is_variable:
            raise ImportRefused(f"tensor '{tensor.name}' is a variable that keeps its value between runs")
        if not tensor.shape or min(tensor.shape) < 1 or len(tensor.shape) > 6:
            raise ImportRefused(f"tensor '{tensor.name}' has the shape {tensor.shape}")
        wanted = "float32" if self.is_float else "int8"
        if tensor.dtype != wanted:
            raise ImportRefused(
                f"tensor '{tensor.name}' has type {tensor.dtype}, not {wanted} like the others"
            )
        if self.is_float:
            return Tensor(tensor.name, tensor.shape, DType.FLOAT32)
        if tensor.scales.size != 1 or not -128 <= int(tensor.zero_points[0]) <= 127:
            raise ImportRefused(f"tensor '{tensor.name}' has no single scale and int8 zero point")
        return Tensor(
            tensor.name, tensor.shape, DType.INT8, float(tensor.scales[0]), int(tensor.zero_points[0])
        )

    # --------------------------------------------------------------------------------------- operators' parts

    def input(self, operator: SourceOperator, position: int = 0) -> tuple[int, Tensor]:
        """(model index, tensor) of an operator's input, which must be an activation."""
        if position >= len(operator.inputs) or operator.inputs[position] < 0:
            raise ImportRefused(f"its input {position} is missing")
        index = self.activation(operator.inputs[position])
        return index, self.tensor(index)

    def output(
        self, operator: SourceOperator, shape: Shape | None = None, position: int = 0
    ) -> tuple[int, Tensor]:
        """(model index, tensor) of an operator's output, newly made. `shape` is what the operator's geometry
        gives; a file that says otherwise is refused."""
        if position >= len(operator.outputs):
            raise ImportRefused(f"its output {position} is missing")
        stated = self.source.tensors[operator.outputs[position]]
        if shape is not None and stated.shape != shape:
            raise ImportRefused(
                f"its output '{stated.name}' is said to be {stated.shape} but comes out as {shape}"
            )
        index = self.add_activation(operator.outputs[position])
        return index, self.tensor(index)

    def source_input(self, operator: SourceOperator, position: int) -> SourceTensor | None:
        """The file's tensor at an input position; None where it is absent."""
        if position >= len(operator.inputs) or operator.inputs[position] < 0:
            return None
        return self.source.tensors[operator.inputs[position]]

    def constant(self, operator: SourceOperator, position: int, what: str) -> SourceTensor:
        """The file's constant tensor at an input position."""
        tensor = self.source_input(operator, position)
        if tensor is None:
            raise ImportRefused(f"its {what} (input {position}) is missing")
        if tensor.data is None:
            raise ImportRefused(f"its {what} '{tensor.name}' is not a constant")
        return tensor

    def integers(self, operator: SourceOperator, position: int, what: str) -> list[int]:
        """A constant int32 or int64 vector as a list."""
        tensor = self.constant(operator, position, what)
        assert tensor.data is not None
        if tensor.dtype not in ("int32", "int64"):
            raise ImportRefused(f"its {what} '{tensor.name}' has type {tensor.dtype}, not int32")
        return [int(value) for value in tensor.data.reshape(-1)]

    def add(self, kind: OperatorKind, inputs: list[int], outputs: list[int], **parts: Any) -> Operator:
        """Append an operator; it takes the name of its first output."""
        operator = Operator(kind, inputs, outputs, name=self.tensor(outputs[0]).name, **parts)
        self.model.operators.append(operator)
        return operator

    def require_same_quantisation(self, first: Tensor, second: Tensor) -> None:
        """Operators that only move or compare values need one scale and zero point throughout."""
        if (first.scale, first.zero_point) != (second.scale, second.zero_point):
            raise ImportRefused(
                f"'{first.name}' has scale {first.scale:g} and zero point {first.zero_point}, but "
                f"'{second.name}' has {second.scale:g} and {second.zero_point}"
            )


def real_values(tensor: SourceTensor) -> Array:
    """A constant of a float model as float32: float32 and float16 as they are, int8 dequantised.

    int8 appears in dynamic-range quantised files, with one scale or one per slice of the tensor's axis.
    """
    data = tensor.data
    assert data is not None
    if tensor.dtype in ("float32", "float16"):
        values = data.astype(np.float32)
        if not np.all(np.isfinite(values)):
            raise ImportRefused(f"its constant '{tensor.name}' holds numbers that are not finite")
        return values
    if tensor.dtype != "int8" or tensor.scales.size == 0:
        raise ImportRefused(
            f"its constant '{tensor.name}' has type {tensor.dtype}, which a float model cannot use"
        )
    if tensor.scales.size == 1:
        return dequantise(data, float(tensor.scales[0]), int(tensor.zero_points[0]))
    along_axis = tuple(-1 if axis == tensor.axis else 1 for axis in range(data.ndim))
    centred = data.astype(np.int64) - tensor.zero_points.reshape(along_axis)
    return (tensor.scales.astype(np.float64).reshape(along_axis) * centred).astype(np.float32)
