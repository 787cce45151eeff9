"""Takes fused activations out of the operators of a float model again: files of floats hold functions as
operators of their own. The inverse of ``fuse_activations``."""

from __future__ import annotations

import copy

from model_packager.format_table import OperatorKind
from model_packager.model import Model, Operator


def split_activations(model: Model) -> Model:
    """A new float model, without activations as options."""
    split = copy.deepcopy(model)
    operators: list[Operator] = []
    for operator in split.operators:
        operators.append(operator)
        function = operator.options.pop("activation", "none")
        if function == "none":
            continue
        output = operator.outputs[0]
        inner = copy.copy(split.tensors[output])
        inner.name = f"{inner.name}/linear"
        split.tensors.append(inner)
        operator.outputs = [len(split.tensors) - 1]
        lookup = Operator(OperatorKind.LOOKUP, operator.outputs[:], [output], options={"function": function})
        lookup.name = f"{operator.name}/{function}"
        operators.append(lookup)
    split.operators = operators
    return split
