"""Walks a model's operators over a batch of inputs and dispatches each to its integer or float kernel.

Values are arrays (N, *shape) with a leading batch axis; kernels see them as (N, d0, d1, d2, d3), the shape
padded with ones on the left, and the operator's attributes with their defaults filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import UsageError
from model_packager.format_table import OPERATOR_ATTRIBUTES, DType, TensorFlag
from model_packager.model import NUMPY_DTYPES, Model, Operator, Tensor
from model_packager.reference.float import FLOAT_KERNELS
from model_packager.reference.integer import INTEGER_KERNELS

Array = npt.NDArray[Any]

# Elements of the largest activation times the samples of one chunk: keeps the temporaries of a convolution
# within tens of megabytes, whatever N is.
_CHUNK_ELEMENTS = 1 << 18


def run(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """Execute `model` on a batch.

    inputs: one array for each model input, (N, *shape[1:]) of the tensor's dtype (int8, or float32 in a float
    model). Returns one array (N, *shape[1:]) for each model output. Raises ``UsageError`` for inputs that do
    not fit.
    """
    batches = _checked_inputs(model, inputs)
    count = len(batches[0])
    last_use = _last_uses(model)
    step = _chunk_samples(model)
    chunks: list[list[Array]] = []
    if count == 0:
        return [
            np.zeros((0, *_sample_shape(tensor)), NUMPY_DTYPES[tensor.dtype]) for tensor in _outputs(model)
        ]
    for start in range(0, count, step):
        values = _execute(model, [batch[start : start + step] for batch in batches], last_use)
        chunks.append([values[port.tensor] for port in model.outputs])
    return [
        _batched(np.concatenate(parts), tensor)
        for parts, tensor in zip(zip(*chunks, strict=True), _outputs(model), strict=True)
    ]


def run_all(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """Like `run`, but gives every tensor, by index in ``model.tensors``; choose N to fit the memory."""
    values = _execute(model, _checked_inputs(model, inputs), None)
    return [_batched(values[index], tensor) for index, tensor in enumerate(model.tensors)]


def attributes_of(operator: Operator) -> dict[str, int]:
    """All attributes of an operator, missing ones with the format table's defaults."""
    defaults = {attribute.name: attribute.default for attribute in OPERATOR_ATTRIBUTES[operator.kind]}
    return defaults | operator.attributes


def _checked_inputs(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """The inputs as (N, *shape) arrays."""
    if len(inputs) != len(model.inputs):
        raise UsageError(f"the model has {len(model.inputs)} inputs, {len(inputs)} arrays were given")
    for tensor in model.tensors:
        if TensorFlag.PERSISTENT in tensor.flags:
            raise UsageError(
                f"tensor '{tensor.name}' keeps its content between runs, which is not executed here"
            )
        if tensor.dtype not in (DType.INT8, DType.BIT, DType.FLOAT32):
            raise UsageError(
                f"tensor '{tensor.name}' is {tensor.dtype.name}; the reference runs INT8, BIT and FLOAT32"
            )
    checked = []
    for port, values in zip(model.inputs, inputs, strict=True):
        tensor = model.tensors[port.tensor]
        expected = _sample_shape(tensor)
        array = np.asarray(values)
        if (
            array.ndim != len(expected) + 1
            or array.shape[1:] != expected
            or array.dtype != NUMPY_DTYPES[tensor.dtype]
        ):
            wanted = ", ".join(["N", *map(str, expected)])
            raise UsageError(
                f"input '{port.name}' must be {tensor.dtype.name.lower()} of shape ({wanted}), "
                f"not {array.dtype} of shape {array.shape}"
            )
        checked.append(array.reshape((len(array), *tensor.shape)))
    if len({len(array) for array in checked}) != 1:
        raise UsageError(f"the inputs have different numbers of samples: {[len(array) for array in checked]}")
    return checked


def _chunk_samples(model: Model) -> int:
    largest = max(tensor.element_count for tensor in model.tensors)
    return max(1, _CHUNK_ELEMENTS // largest)


def _last_uses(model: Model) -> list[int]:
    """For each tensor, the index of the last operator that reads it; outputs are never let go."""
    last = [-1] * len(model.tensors)
    for index, operator in enumerate(model.operators):
        for tensor in operator.inputs:
            last[tensor] = index
    for port in model.outputs:
        last[port.tensor] = len(model.operators)
    return last


def _execute(model: Model, inputs: list[Array], last_use: list[int] | None) -> dict[int, Array]:
    """All values by tensor index; with `last_use`, values that no later operator reads are dropped."""
    values = {port.tensor: array for port, array in zip(model.inputs, inputs, strict=True)}
    kernels = FLOAT_KERNELS if model.is_float else INTEGER_KERNELS
    for index, operator in enumerate(model.operators):
        arguments = [_four_dimensional(values[i], model.tensors[i]) for i in operator.inputs]
        outputs = [model.tensors[i] for i in operator.outputs]
        result = kernels[operator.kind](operator, attributes_of(operator), arguments, outputs[0])
        values[operator.outputs[0]] = result.reshape((len(inputs[0]), *outputs[0].shape))
        if last_use is not None:
            for tensor in {*operator.inputs}:
                if last_use[tensor] == index:
                    del values[tensor]
    return values


def _four_dimensional(value: Array, tensor: Tensor) -> Array:
    """(N, *shape) as (N, d0, d1, d2, d3); more dimensions, which only element-wise operators take, stay."""
    return value.reshape((len(value), *tensor.shape4)) if len(tensor.shape) <= 4 else value


def _outputs(model: Model) -> list[Tensor]:
    return [model.tensors[port.tensor] for port in model.outputs]


def _sample_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape of one sample: a leading 1 of a tensor's shape is the batch dimension."""
    return tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape


def _batched(value: Array, tensor: Tensor) -> Array:
    """(N, *shape) as (N, *sample shape)."""
    return value.reshape((len(value), *_sample_shape(tensor)))
