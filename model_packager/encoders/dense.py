"""Layout DENSE: a value index for every position."""

from __future__ import annotations

from array import array

import numpy as np

from model_packager.encoders.bit_stream import Int8Array, bad_stream
from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.encoders.symbol_coder import SymbolReader
from model_packager.encoders.value_map import ValueTable

CHUNK_VALUES = 1 << 18  # decoded at once


def neighbours_of(weights: array[int], distance: int) -> tuple[int, int]:
    """(weight at the previous position, weight ``distance`` positions back) of the position to be appended.

    0 before the start, and for a distance of 0.
    """
    before = weights[-1] if weights else 0
    back = weights[-distance] if 0 < distance <= len(weights) else 0
    return before, back


def decode_fixed_dense(data: bytes, table: ValueTable, descriptor: StreamDescriptor) -> Int8Array:
    """What `decode_dense` gives for values of a fixed width, many at a time: large networks keep most of
    their weights so."""
    count, bits = descriptor.weight_count, descriptor.value_bits
    needed_bytes = (count * bits + 7) // 8
    if len(data) < needed_bytes:
        raise bad_stream("the payload ends in the middle of a symbol")
    if len(data) > needed_bytes:
        raise bad_stream(f"{len(data) - needed_bytes} bytes are left after the last weight")
    if count * bits % 8 and data[-1] >> count * bits % 8:
        raise bad_stream("the padding after the last weight is not zero")
    stored, powers = np.frombuffer(data, np.uint8), 1 << np.arange(bits, dtype=np.uint8)
    weights = np.empty(count, np.int8)
    for start in range(0, count, CHUNK_VALUES):  # a whole number of bytes each
        part = stored[start * bits // 8 : (start + CHUNK_VALUES) * bits // 8 + 1]
        taken = min(CHUNK_VALUES, count - start)
        indexes = part[:taken]
        if bits < 8:
            fields = np.unpackbits(part, bitorder="little")[: taken * bits]
            indexes = fields.reshape(taken, bits) @ powers
        largest = int(indexes.max(initial=0))
        if largest >= len(table.weights):
            raise bad_stream(f"value index {largest} is not below {len(table.weights)}")
        weights[start : start + taken] = table.weights[indexes]
    return weights


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
