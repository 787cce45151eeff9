"""Folds per-channel scalings (batch norm) into the weights before them, in a float model.

Importers write batch normalisation, and any other scale and offset per channel, as a 1x1 depthwise
convolution with one weight and one bias per channel. Where its input comes from a layer with weights that
nobody else reads, the two are one layer: w' = w * scale, b' = b * scale + offset (Jacob et al. 2018, section
3.2).
"""

from __future__ import annotations

import copy

import numpy as np

from model_packager.format_table import OperatorKind
from model_packager.model import Model, Operator
from model_packager.passes.graph_edges import remove_operator, sole_consumer
from model_packager.reference.executor import attributes_of

_FOLDS_INTO = (OperatorKind.CONV_2D, OperatorKind.DEPTHWISE_CONV_2D, OperatorKind.FULLY_CONNECTED)


def fold_batch_norm(model: Model) -> Model:
    """A new float model in which no foldable per-channel scaling is left."""
    folded = copy.deepcopy(model)
    index = 0
    while index < len(folded.operators):
        scaling_index = sole_consumer(folded, index)
        if scaling_index is not None and _foldable(folded, index, scaling_index):
            _fold(folded.operators[index], folded.operators[scaling_index])
            remove_operator(folded, scaling_index, keep_output_of=index)
        else:
            index += 1
    return folded


def _foldable(model: Model, producer_index: int, scaling_index: int) -> bool:
    producer, scaling = model.operators[producer_index], model.operators[scaling_index]
    if producer.kind not in _FOLDS_INTO or scaling.kind is not OperatorKind.DEPTHWISE_CONV_2D:
        return False
    if producer.weights is None or scaling.weights is None:
        return False
    pads = [value for name, value in attributes_of(scaling).items() if name.startswith("pad_")]
    strides = [attributes_of(scaling)["stride_h"], attributes_of(scaling)["stride_w"]]
    one_by_one = scaling.weights.values.shape[1] == 1 and not any(pads) and strides == [1, 1]
    same_rows = len(producer.weights.values) == len(scaling.weights.values)
    linear = producer.options.get("activation", "none") == "none"
    return one_by_one and same_rows and linear


def _fold(producer: Operator, scaling: Operator) -> None:
    assert producer.weights is not None and scaling.weights is not None
    factor = scaling.weights.values.reshape(-1).astype(np.float64)
    zeros = np.zeros(len(factor))
    bias = zeros if producer.bias is None else producer.bias.astype(np.float64)
    offset = zeros if scaling.bias is None else scaling.bias.astype(np.float64)
    producer.weights.values = (producer.weights.values * factor[:, np.newaxis]).astype(np.float32)
    if producer.weights.scales is not None:
        producer.weights.scales = producer.weights.scales * np.abs(factor)
    producer.bias = (bias * factor + offset).astype(np.float32)
    producer.options["activation"] = scaling.options.get("activation", "none")
