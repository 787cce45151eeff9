"""Layout BITMAP: for every position a flag bit, then the value index where the flag is 1."""

from __future__ import annotations

from array import array

import numpy as np

from model_packager.encoders.bit_stream import Fields, Int8Array, IntArray, bad_stream
from model_packager.encoders.dense import neighbours_of
from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.encoders.symbol_coder import SymbolReader
from model_packager.encoders.value_map import ValueTable


def bitmap_records(weights: IntArray, value_fields: Fields) -> Fields:
    """Records of flag and value for all ``weights`` (n,); ``value_fields`` are those of the non-zero ones.

    At a zero the value's fields are empty (width 0).
    """
    flags = (weights != 0).astype(np.int64)
    columns: Fields = [(flags, np.ones_like(flags))]
    for values, widths in value_fields:
        spread_values, spread_widths = np.zeros_like(flags), np.zeros_like(flags)
        spread_values[flags == 1] = values
        spread_widths[flags == 1] = widths
        columns.append((spread_values, spread_widths))
    return columns


def decode_bitmap(reader: SymbolReader, table: ValueTable, descriptor: StreamDescriptor) -> Int8Array:
    """Weights (rows * cols,); raises ``bad_stream``."""
    weights = array("b")  # a byte each, where a list takes eight
    by_index = table.weights.tolist()
    for _ in range(descriptor.weight_count):
        neighbours = neighbours_of(weights, descriptor.context_distance)
        weight = 0
        if reader.read_flag(neighbours):
            index = reader.read_value(neighbours)
            if index >= len(by_index):
                raise bad_stream(f"value index {index} is not below {len(by_index)}")
            weight = by_index[index]
        weights.append(weight)
    reader.finish()
    return np.frombuffer(weights, np.int8)
