"""Who writes and who reads a tensor: what passes ask of a graph, and the removal of a node."""

from __future__ import annotations

from model_packager.model import Model


def consumers(model: Model, tensor: int) -> list[int]:
    """Indexes of the operators that read `tensor`, in order."""
    return [index for index, operator in enumerate(model.operators) if tensor in operator.inputs]


def producer(model: Model, tensor: int) -> int | None:
    """Index of the operator that writes `tensor`; None for a model input."""
    for index, operator in enumerate(model.operators):
        if tensor in operator.outputs:
            return index
    return None


def sole_consumer(model: Model, operator_index: int) -> int | None:
    """The one reader of an operator's only output; None if there are several or it is a model output."""
    operator = model.operators[operator_index]
    if len(operator.outputs) != 1 or any(port.tensor == operator.outputs[0] for port in model.outputs):
        return None
    readers = consumers(model, operator.outputs[0])
    if len(readers) != 1 or model.operators[readers[0]].inputs.count(operator.outputs[0]) != 1:
        return None
    return readers[0]


def remove_operator(model: Model, index: int, keep_output_of: int) -> None:
    """Delete operator `index`, which read only operator `keep_output_of`; that one writes its output now."""
    model.operators[keep_output_of].outputs = model.operators[index].outputs
    del model.operators[index]
    drop_unused_tensors(model)


def drop_unused_tensors(model: Model) -> None:
    """Delete the tensors that no operator and no port refers to, and number the others anew."""
    used = {port.tensor for port in model.inputs + model.outputs}
    for operator in model.operators:
        used.update(operator.inputs, operator.outputs)
    order = sorted(used)
    number = {old: new for new, old in enumerate(order)}
    model.tensors = [model.tensors[old] for old in order]
    for operator in model.operators:
        operator.inputs = [number[tensor] for tensor in operator.inputs]
        operator.outputs = [number[tensor] for tensor in operator.outputs]
    for port in model.inputs + model.outputs:
        port.tensor = number[port.tensor]
