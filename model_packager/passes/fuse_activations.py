"""Fuses relu, relu6 and relu_n1_to_1 into the operator before them, in a float model.

A fused activation costs nothing: it becomes the clamp of the requantisation (Jacob et al. 2018, section 2.4).
"""

from __future__ import annotations

import copy

from model_packager.format_table import OperatorKind
from model_packager.model import Model
from model_packager.passes.graph_edges import remove_operator, sole_consumer

_FUSABLE_FUNCTIONS = ("relu", "relu6", "relu_n1_to_1")
_HAVE_CLAMPS = (
    OperatorKind.CONV_2D,
    OperatorKind.DEPTHWISE_CONV_2D,
    OperatorKind.FULLY_CONNECTED,
    OperatorKind.ADD,
    OperatorKind.SUB,
    OperatorKind.MUL,
    OperatorKind.AVERAGE_POOL_2D,
    OperatorKind.MAX_POOL_2D,
)


def fuse_activations(model: Model) -> Model:
    """A new float model; an activation that directly follows an operator with clamps becomes its option."""
    fused = copy.deepcopy(model)
    index = 0
    while index < len(fused.operators):
        operator = fused.operators[index]
        next_index = sole_consumer(fused, index)
        if (
            next_index is not None
            and operator.kind in _HAVE_CLAMPS
            and operator.options.get("activation", "none") == "none"
            and fused.operators[next_index].kind is OperatorKind.LOOKUP
            and fused.operators[next_index].options.get("function") in _FUSABLE_FUNCTIONS
        ):
            operator.options["activation"] = fused.operators[next_index].options["function"]
            remove_operator(fused, next_index, keep_output_of=index)
        index += 1
    return fused
