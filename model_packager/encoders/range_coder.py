"""Coder RANGE: an adaptive binary range coder, for the smallest file.

The arithmetic is that of LZMA's decoder (7-Zip, lzma specification, "range decoder"), narrowed so that every
step fits a signed 32-bit word: the range stays below 2^31. Probabilities have 12 bits and move by 2^-shift of
the distance at each bit. A symbol is binarised into *decisions*: (context, bit) pairs, where the context is
the place of its probability and -1 means an even chance ("direct"). Encoders binarise whole tensors by NumPy;
one tight loop then codes the decisions.

Contexts in order: the value tree (2^value_bits, the first unused), then by layout DENSE: 9 signs; BITMAP: 9
signs, 4 flags; SPARSE: 32 gap classes, 32 top mantissa bits.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_stream import IntArray, bad_stream
from model_packager.encoders.class_coder import gap_class
from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.encoders.symbol_coder import Neighbours
from model_packager.format_table import (
    CLASS_GAP_MAX,
    RANGE_FLAG_CONTEXTS,
    RANGE_GAP_CLASS_BITS,
    RANGE_PROBABILITY_BITS,
    RANGE_RENORMALISE_BITS,
    RANGE_SIGN_CONTEXTS,
    RANGE_TOP_BITS,
    Layout,
)

GAP_CONTEXTS = 1 << RANGE_GAP_CLASS_BITS
INITIAL_RANGE = (1 << RANGE_TOP_BITS) - 1
CODE_BYTES = 4
DIRECT = -1
LAYOUT_CONTEXTS = {
    Layout.DENSE: RANGE_SIGN_CONTEXTS,
    Layout.BITMAP: RANGE_SIGN_CONTEXTS + RANGE_FLAG_CONTEXTS,
    Layout.SPARSE: 2 * GAP_CONTEXTS,
}

# (contexts, bits), both (n,) int64.
Decisions = tuple[IntArray, IntArray]


def context_count(layout: Layout, value_bits: int) -> int:
    """How many probabilities a stream has."""
    return (1 << value_bits) + LAYOUT_CONTEXTS[layout]


# ---------------------------------------------------------------------------------------------- encoder


def _tree(symbols: IntArray, depth: int, base: int = 0) -> Decisions:
    """Decisions (n, depth) of a bit tree: the most significant bit first, node = 1, then 2 * node + bit."""
    remaining = np.arange(depth, 0, -1)
    nodes = (1 << np.arange(depth)) | (symbols[:, np.newaxis] >> remaining)
    return base + nodes, (symbols[:, np.newaxis] >> (remaining - 1)) & 1


def _sign(weights: IntArray) -> IntArray:
    return np.where(weights > 0, 1, np.where(weights < 0, 2, 0))


def _neighbours(weights: IntArray, distance: int) -> tuple[IntArray, IntArray]:
    """The weights before each of ``weights`` (n,) and ``distance`` back; 0 before the start."""
    before, back = np.zeros_like(weights), np.zeros_like(weights)
    before[1:] = weights[:-1]
    if distance:
        back[distance:] = weights[: len(weights) - distance]
    return before, back


def dense_decisions(weights: IntArray, indexes: IntArray, value_bits: int, distance: int) -> Decisions:
    """Decisions of a DENSE stream of ``weights`` (n,) with value ``indexes`` (n,)."""
    before, back = _neighbours(weights, distance)
    contexts, bits = _tree(indexes, value_bits)
    contexts[:, 0] = (1 << value_bits) + 3 * _sign(before) + _sign(back)
    return contexts.ravel(), bits.ravel()


def bitmap_decisions(weights: IntArray, indexes: IntArray, value_bits: int, distance: int) -> Decisions:
    """Decisions of a BITMAP stream; ``indexes`` are those of the non-zero ``weights`` only."""
    before, back = _neighbours(weights, distance)
    nonzero = weights != 0
    contexts = np.zeros((len(weights), 1 + value_bits), np.int64)
    bits = np.zeros_like(contexts)
    signs = 1 << value_bits
    contexts[:, 0] = signs + RANGE_SIGN_CONTEXTS + 2 * (before != 0) + (back != 0)
    bits[:, 0] = nonzero
    contexts[nonzero, 1:], bits[nonzero, 1:] = _tree(indexes, value_bits)
    contexts[:, 1] = signs + 3 * _sign(before) + _sign(back)
    coded = np.repeat(nonzero[:, np.newaxis], 1 + value_bits, axis=1)
    coded[:, 0] = True
    return contexts[coded], bits[coded]


def sparse_decisions(gaps: IntArray, indexes: IntArray, value_bits: int) -> Decisions:
    """Decisions of a SPARSE stream of entries with ``gaps`` (n,) and value ``indexes`` (n,)."""
    classes = gap_class(gaps)
    class_base = 1 << value_bits
    class_contexts, class_bits = _tree(classes, RANGE_GAP_CLASS_BITS, class_base)
    # Mantissa bits from the most significant one: bit c - 1 - k of gap + 1 for k below the class c.
    place = classes[:, np.newaxis] - 1 - np.arange(int(classes.max(initial=0)))
    mantissa_bits = ((gaps + 1)[:, np.newaxis] >> np.maximum(place, 0)) & 1
    mantissa_contexts = np.full_like(place, DIRECT)
    if place.shape[1]:
        mantissa_contexts[:, 0] = class_base + GAP_CONTEXTS + classes
    value_contexts, value_bits_coded = _tree(indexes, value_bits)
    coded = np.concatenate(
        [np.ones_like(class_bits, bool), place >= 0, np.ones_like(value_bits_coded, bool)], axis=1
    )
    contexts = np.concatenate([class_contexts, mantissa_contexts, value_contexts], axis=1)
    bits = np.concatenate([class_bits, mantissa_bits, value_bits_coded], axis=1)
    return contexts[coded], bits[coded]


def estimate_bytes(decisions: Decisions) -> float:
    """About what the decisions cost: the entropy of every context, and half a log2 of its uses for learning
    it.
    """
    contexts, bits = decisions
    direct = contexts == DIRECT
    uses = np.bincount(contexts[~direct])
    ones = np.bincount(contexts[~direct], weights=bits[~direct])
    share = np.clip(ones / np.maximum(uses, 1), 1e-9, 1 - 1e-9)
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    cost_bits = (uses * entropy).sum() + 0.5 * np.log2(uses[uses > 0]).sum() + direct.sum()
    return float(cost_bits) / 8


def encode_decisions(decisions: Decisions, shift: int) -> bytes:
    """The payload of ``decisions`` with the given adaptation shift; at most 4 trailing zero bytes are left
    out.
    """
    contexts, bits = decisions[0].tolist(), decisions[1].tolist()
    one = 1 << RANGE_PROBABILITY_BITS
    probabilities = [one >> 1] * (max(contexts) + 1)
    low_bits, low_mask = RANGE_TOP_BITS, (1 << RANGE_TOP_BITS) - 1
    smallest = 1 << RANGE_RENORMALISE_BITS
    low, span = 0, INITIAL_RANGE
    out = bytearray()
    for context, bit in zip(contexts, bits, strict=True):
        if context < 0:
            bound = span >> 1
        else:
            probability = probabilities[context]
            bound = (span >> RANGE_PROBABILITY_BITS) * probability
            if bit:
                probabilities[context] = probability - (probability >> shift)
            else:
                probabilities[context] = probability + ((one - probability) >> shift)
        if bit:
            low += bound
            span -= bound
        else:
            span = bound
        while span < smallest:
            if low > low_mask:
                _carry(out)
                low &= low_mask
            out.append(low >> RANGE_RENORMALISE_BITS)
            low = (low & (smallest - 1)) << 8
            span <<= 8
    # Any number in [low, low + span) decodes alike; the one with most trailing zeros can be cut shortest.
    zeros = low_bits
    while (rounded := -(-low >> zeros) << zeros) >= low + span:
        zeros -= 1
    if rounded > low_mask:
        _carry(out)
        rounded &= low_mask
    # The four last bytes hold 31 bits. The missing bit stands at the very front, where the decoder wants a 0.
    payload = (int.from_bytes(out, "big") << low_bits | rounded).to_bytes(len(out) + CODE_BYTES, "big")
    kept = max(len(payload.rstrip(b"\0")), len(payload) - CODE_BYTES)
    return payload[:kept]


def _carry(out: bytearray) -> None:
    """Adds one to the number that ``out`` holds, most significant byte first."""
    place = len(out) - 1
    while out[place] == 255:
        out[place] = 0
        place -= 1
    out[place] += 1


# ---------------------------------------------------------------------------------------------- decoder


class RangeDecoder:
    """The arithmetic of the decoder; raises ``bad_stream``."""

    def __init__(self, data: bytes, probability_count: int, shift: int) -> None:
        self._data = data
        self._read = 0
        self._probabilities = [1 << (RANGE_PROBABILITY_BITS - 1)] * probability_count
        self._shift = shift
        self._range = INITIAL_RANGE
        self._code = 0
        for _ in range(CODE_BYTES):
            self._code = self._code << 8 | self._next_byte()
        if self._code >= self._range:
            raise bad_stream("the range coder's first bytes lie outside its range")

    def _next_byte(self) -> int:
        """The next byte; up to four zeros behind the end, as the encoder leaves trailing zeros out."""
        place = self._read
        self._read += 1
        if place < len(self._data):
            return self._data[place]
        if place >= len(self._data) + CODE_BYTES:
            raise bad_stream("the payload ends before the last weight")
        return 0

    def _take(self, bound: int) -> int:
        """Decides between the parts below and above ``bound``, then fills the range up again."""
        bit = 0 if self._code < bound else 1
        if bit:
            self._code -= bound
            self._range -= bound
        else:
            self._range = bound
        while self._range < 1 << RANGE_RENORMALISE_BITS:
            self._range <<= 8
            self._code = self._code << 8 | self._next_byte()
        return bit

    def direct(self) -> int:
        """A bit with an even chance."""
        return self._take(self._range >> 1)

    def bit(self, context: int) -> int:
        """A bit by the probability of ``context``, which then moves towards it."""
        probability = self._probabilities[context]
        bit = self._take((self._range >> RANGE_PROBABILITY_BITS) * probability)
        if bit:
            probability -= probability >> self._shift
        else:
            probability += ((1 << RANGE_PROBABILITY_BITS) - probability) >> self._shift
        self._probabilities[context] = probability
        return bit

    def tree(self, base: int, depth: int, root: int) -> int:
        """A number of ``depth`` bits by a bit tree at ``base``, whose first bit has the context ``root``."""
        node = 2 + self.bit(root)
        for _ in range(depth - 1):
            node = 2 * node + self.bit(base + node)
        return node - (1 << depth)

    def finish(self) -> None:
        """Checks that every byte was needed."""
        if self._read < len(self._data):
            raise bad_stream(f"{len(self._data) - self._read} bytes are left after the last weight")


class RangeReader:
    """The symbols of a RANGE stream; ``data`` is its payload without the value map's entries."""

    def __init__(self, data: bytes, descriptor: StreamDescriptor) -> None:
        self._bits = descriptor.value_bits
        self._extra = 1 << self._bits  # first context behind the value tree
        count = context_count(descriptor.layout, self._bits)
        self._decoder = RangeDecoder(data, count, descriptor.adaptation_shift)

    def read_value(self, neighbours: Neighbours) -> int:
        root = 1
        if neighbours is not None:
            before, back = (0 if weight == 0 else 1 if weight > 0 else 2 for weight in neighbours)
            root = self._extra + 3 * before + back
        return self._decoder.tree(0, self._bits, root)

    def read_gap(self) -> int:
        size = self._decoder.tree(self._extra, RANGE_GAP_CLASS_BITS, self._extra + 1)
        if size > CLASS_GAP_MAX:
            raise bad_stream(f"gap class {size} is above {CLASS_GAP_MAX}")
        gap_plus_one = 1
        for place in range(size):
            bit = self._decoder.direct() if place else self._decoder.bit(self._extra + GAP_CONTEXTS + size)
            gap_plus_one = 2 * gap_plus_one + bit
        return gap_plus_one - 1

    def read_flag(self, neighbours: tuple[int, int]) -> int:
        before, back = neighbours
        context = self._extra + RANGE_SIGN_CONTEXTS + 2 * (before != 0) + (back != 0)
        return self._decoder.bit(context)

    def peek_entries(self, count: int) -> tuple[IntArray, IntArray, int] | None:
        return None  # every bit depends on those before it

    def skip_bits(self, count: int) -> None:
        raise AssertionError("there are no bits to skip in a range coder's payload")

    def finish(self) -> None:
        self._decoder.finish()
