"""Between weights and value indexes: one table per stream, index to weight, whatever the value map.

A decoder gets the table from the descriptor and the payload; an encoder plans it from the weights and looks
the indexes up in its inverse. So an encoding cannot map a weight to an index that decodes to another weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_packager.encoders import codebook, identity, log2, ternary
from model_packager.encoders.bit_stream import IntArray, bad_stream
from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.errors import PackError
from model_packager.format_table import Coder, ValueMap


@dataclass(frozen=True)
class ValueTable:
    """Weights by value index, (count,) int64, and the bytes that a payload stores for them."""

    weights: IntArray
    entries: bytes = b""

    def indexes(self, weights: npt.NDArray[np.int8] | IntArray) -> IntArray:
        """The value index of every weight, same shape, int64; ``PackError`` for a weight without one."""
        inverse = np.full(256, -1, np.int64)
        inverse[self.weights + 128] = np.arange(len(self.weights))
        found = inverse[weights.astype(np.int64) + 128]
        if np.any(found < 0):
            raise PackError("the weights do not fit the value map that was asked for")
        return found

    @property
    def value_bits(self) -> int:
        """Bits of the largest index, at least 1."""
        return max(1, (len(self.weights) - 1).bit_length())


def plan_table(weights: IntArray, value_map: ValueMap, coder: Coder) -> ValueTable:
    """The table that codes ``weights`` (n,) int64; raises ``PackError`` when the map cannot hold them."""
    if value_map is ValueMap.CODEBOOK:
        entries = codebook.codebook_entries(weights, coder)
        return ValueTable(entries, codebook.codebook_bytes(entries))
    if value_map is ValueMap.TERNARY:
        magnitudes = ternary.ternary_magnitudes(weights)
        if magnitudes is None:
            raise PackError("weights with more than one positive or negative value are not ternary")
        stored = ternary.ternary_bytes(magnitudes)
        return ValueTable(ternary.ternary_table(stored), stored)
    if value_map is ValueMap.LOG2:
        return ValueTable(log2.log2_table())
    if value_map is not ValueMap.IDENTITY:
        raise PackError(f"value map {value_map.name.lower()} has no index table")
    if coder is Coder.FIXED:
        return ValueTable(identity.twos_complement_table(identity.twos_complement_bits(weights)))
    if coder is Coder.RANGE:
        return ValueTable(identity.sign_first_table(identity.twos_complement_bits(weights)))
    magnitudes_doubled = 2 * np.abs(weights) - (weights < 0)
    return ValueTable(identity.zigzag_table(int(magnitudes_doubled.max(initial=0)) + 1))


def read_table(descriptor: StreamDescriptor, payload: bytes) -> ValueTable:
    """The table of a stream whose descriptor has been checked; raises ``bad_stream``."""
    if descriptor.value_map is ValueMap.CODEBOOK:
        stored = payload[: descriptor.value_count]
        if len(stored) < descriptor.value_count:
            raise bad_stream("the payload ends inside the codebook")
        return ValueTable(codebook.codebook_table(stored, descriptor.value_count), stored)
    if descriptor.value_map is ValueMap.TERNARY:
        stored = payload[: ternary.MAGNITUDE_BYTES]
        if len(stored) < ternary.MAGNITUDE_BYTES:
            raise bad_stream("the payload ends inside the ternary magnitudes")
        return ValueTable(ternary.ternary_table(stored)[: descriptor.value_count or None], stored)
    if descriptor.value_map is ValueMap.LOG2:
        return ValueTable(log2.log2_table()[: descriptor.value_count or None])
    if descriptor.coder is Coder.FIXED:
        return ValueTable(identity.twos_complement_table(descriptor.value_bits))
    if descriptor.coder is Coder.RANGE:
        return ValueTable(identity.sign_first_table(descriptor.value_bits))
    return ValueTable(identity.zigzag_table(descriptor.value_count))
