"""Layout DENSE: a value index for every position."""

from __future__ import annotations

from array import array

import numpy as np

from model_packager.encoders.bit_stream import Int8Array, bad_stream
from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.encoders.symbol_coder import SymbolReader
from model_packager.encoders.value_map import ValueTable


def neighbours_of(weights: array[int], distance: int) -> tuple[int, int]:
    """(weight at the previous position, weight ``distance`` positions back) of the position to be appended.

    0 before the start, and for a distance of 0.
    """
    before = weights[-1] if weights else 0
    back = weights[-distance] if 0 < distance <= len(weights) else 0
    return before, back


def decode_dense(reader: SymbolReader, table: ValueTable, descriptor: StreamDescriptor) -> Int8Array:
    """Weights (rows * cols,); raises ``bad_stream``."""
    weights = array("b")  # a byte each, where a list takes eight
    by_index = table.weights.tolist()
    for _ in range(descriptor.weight_count):
        index = reader.read_value(neighbours_of(weights, descriptor.context_distance))
        if index >= len(by_index):
            raise bad_stream(f"value index {index} is not below {len(by_index)}")
        weights.append(by_index[index])
    reader.finish()
    return np.frombuffer(weights, np.int8)
