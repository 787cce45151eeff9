"""Which encoding a tensor gets.

``size``: fewest bytes of payload and descriptor among the streams whose decoder costs little beside the
multiplications that it feeds (``DECODE_SHARE``).
``speed``: fewest instructions among the streams that are not larger than raw 8-bit storage. Raw is always a
candidate, so that nothing is ever larger than it. ``choose_matching``: fewest bytes, whatever it costs.

Costs are instructions of the C core on a Cortex-M4 for each weight of a fully connected layer, as
``benchmarks/decode_counts.py`` counts them, less its multiplication; of sparse layouts for each entry, with
it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from model_packager.encoders.bit_planes import is_binary
from model_packager.encoders.descriptor import Encoding, EncodingPattern, Stream, StreamDescriptor
from model_packager.encoders.log2 import is_log2
from model_packager.encoders.scratch import is_raw, stream_scratch_bytes
from model_packager.encoders.stream import (
    Matrix,
    RangePlan,
    encode_bits,
    encode_matrix,
    plan,
    plan_range,
    raw,
)
from model_packager.encoders.ternary import ternary_magnitudes
from model_packager.errors import UsageError
from model_packager.format_table import Coder, Layout, Limit, ValueMap

Objective = Literal["size", "speed"]
Fits = Callable[[StreamDescriptor], bool]

RAW_MULTIPLY_COST = 1.2
MULTIPLY_COST = 2.2
BITMAP_FLAG_COST = 10.0
BITS_COST = 5.0
ADAPTIVE_BIT_COST = 30.0
DENSE_COST = {Coder.FIXED: 10.0, Coder.HUFFMAN: 15.0, Coder.CLASS: 16.0}
SPARSE_COST = {Coder.FIXED: 55.0, Coder.HUFFMAN: 57.0, Coder.CLASS: 55.0, Coder.RANGE: 390.0}

SPARSE_MULTIPLY_COST = 14.0  # for each entry, in convolutions

# What decoding a weight may cost under `size`: so much, or this share of the multiplications that it feeds,
# whichever is more. The first keeps a fully connected layer below 20 instructions a weight, the second a
# convolution within a quarter of what it takes anyway. All of it is about the range coder, which makes files
# 1 to 2 % smaller, but also about bitmaps that are decoded for one use.
DECODE_LIMIT = 18.0
DECODE_SHARE = 1 / 4

# The estimate of a range coder's size ignores adaptation, which loses a little, or gains where a tensor
# changes on its way. It is run only when an estimate lower by this share would win.
RANGE_ESTIMATE_DOUBT = 0.03


def candidates(values: npt.NDArray[np.int8]) -> list[Encoding]:
    """Every encoding that can hold the int8 matrix ``values`` (rows, cols) without loss."""
    return _candidates(Matrix(values))


def _candidates(matrix: Matrix) -> list[Encoding]:
    ternary = ternary_magnitudes(matrix.weights) is not None
    maps = [ValueMap.IDENTITY, ValueMap.CODEBOOK]
    maps += [ValueMap.TERNARY] if ternary else []
    maps += [ValueMap.LOG2] if is_log2(matrix.weights) else []
    found = [Encoding(*parts) for parts in itertools.product([Layout.DENSE], Coder, maps)]
    sparse = [Layout.SPARSE] if matrix.cols <= Limit.SPARSE_ROW_LENGTH else []
    if len(matrix.entries.gaps):
        layouts = [*sparse, Layout.BITMAP]
        found += [Encoding(*parts) for parts in itertools.product(layouts, Coder, maps)]
    elif sparse:
        found.append(Encoding(Layout.SPARSE, Coder.FIXED, ValueMap.IDENTITY))
    if is_binary(matrix.weights):
        found.append(Encoding(Layout.BITS, Coder.FIXED, ValueMap.BINARY))
    if ternary:
        found.append(Encoding(Layout.BITS, Coder.FIXED, ValueMap.TERNARY))
    return found


def decode_cost(descriptor: StreamDescriptor) -> float:
    """Instructions to decode the whole matrix once, by the model above; sparse entries with one
    multiplication."""
    count = descriptor.weight_count
    if is_raw(descriptor):
        return 0.0
    if descriptor.layout is Layout.BITS:
        return count * BITS_COST
    if descriptor.layout is Layout.SPARSE:
        return descriptor.entry_count * SPARSE_COST[descriptor.coder]
    is_range = descriptor.coder is Coder.RANGE
    value_cost = ADAPTIVE_BIT_COST * descriptor.value_bits if is_range else DENSE_COST[descriptor.coder]
    flag_cost = 0.0
    if descriptor.layout is Layout.BITMAP:
        flag_cost = ADAPTIVE_BIT_COST if is_range else BITMAP_FLAG_COST
    return count * (flag_cost + value_cost)


def cost(descriptor: StreamDescriptor, uses: float) -> float:
    """Instructions to decode the whole matrix once and to multiply it ``uses`` times."""
    if descriptor.layout is Layout.SPARSE:
        return decode_cost(descriptor) + descriptor.entry_count * SPARSE_MULTIPLY_COST * (uses - 1)
    multiply_cost = RAW_MULTIPLY_COST if is_raw(descriptor) else MULTIPLY_COST
    return decode_cost(descriptor) + descriptor.weight_count * multiply_cost * uses


def is_worth_decoding(descriptor: StreamDescriptor, uses: float) -> bool:
    """Whether a stream whose weights are multiplied ``uses`` times whenever they are decoded costs little
    enough to decode."""
    limit = max(DECODE_LIMIT, DECODE_SHARE * MULTIPLY_COST * uses)
    return decode_cost(descriptor) <= limit * descriptor.weight_count


def choose(
    values: npt.NDArray[np.int8],
    objective: Objective = "size",
    scratch_limit_bytes: int | None = None,
    uses: float | None = None,
) -> Stream:
    """The best stream of the int8 matrix ``values`` (rows, cols) under ``objective``, never larger than raw.

    ``scratch_limit_bytes``: streams whose decoder needs more scratch do not count; raw, which needs none,
    always does. ``uses``: multiplications of each weight for one decoding, 1 in a fully connected layer;
    None: with ``size`` decoding may cost anything, with ``speed`` it is 1.

    Raises ``UsageError`` for an objective that does not exist.
    """
    matrix = Matrix(values)
    encodings = _candidates(matrix)

    def fits(descriptor: StreamDescriptor) -> bool:
        is_small = scratch_limit_bytes is None or stream_scratch_bytes(descriptor) <= scratch_limit_bytes
        return is_small and (uses is None or is_worth_decoding(descriptor, uses))

    if objective == "size":
        return _smallest(matrix, encodings, raw(values), fits)
    if objective == "speed":
        return _fastest(matrix, encodings, raw(values), fits, uses or 1)
    raise UsageError(f"there is no objective {objective!r}, only size and speed")


def choose_matching(values: npt.NDArray[np.int8], pattern: EncodingPattern) -> Stream:
    """The smallest stream of ``values`` (rows, cols) among the encodings that match, or raw; whatever its
    decoder costs."""
    matrix = Matrix(values)
    encodings = [encoding for encoding in _candidates(matrix) if pattern.matches(encoding)]
    return _smallest(matrix, encodings, raw(values), lambda descriptor: True)


def _smallest(matrix: Matrix, encodings: list[Encoding], best: Stream, fits: Fits) -> Stream:
    planned = [
        plan(matrix, encoding)
        for encoding in encodings
        if encoding.layout is not Layout.BITS and encoding.coder is not Coder.RANGE
    ]
    planned = [candidate for candidate in planned if fits(candidate.descriptor)]
    smallest = min(planned, key=lambda candidate: candidate.stored_bytes, default=None)
    streams = [
        best,
        *(encode_bits(matrix, item.value_map) for item in encodings if item.layout is Layout.BITS),
    ]
    if smallest is not None and smallest.stored_bytes < best.stored_bytes:
        streams.append(smallest.write())
    best = min(streams, key=lambda stream: stream.stored_bytes)
    for candidate in _adaptive_plans(matrix, encodings, fits):
        if candidate.estimated_bytes * (1 - RANGE_ESTIMATE_DOUBT) < best.stored_bytes:
            best = min(best, candidate.write(), key=lambda stream: stream.stored_bytes)
    return best


def _adaptive_plans(matrix: Matrix, encodings: list[Encoding], fits: Fits) -> list[RangePlan]:
    """The most promising RANGE plan of each layout that fits, best first.

    Between value maps of one layout the estimate is enough: the decisions hardly differ.
    """
    plans = [plan_range(matrix, encoding) for encoding in encodings if encoding.coder is Coder.RANGE]
    plans = [candidate for candidate in plans if fits(candidate.descriptor)]
    by_layout: dict[Layout, RangePlan] = {}
    for candidate in sorted(plans, key=lambda candidate: candidate.estimated_bytes):
        by_layout.setdefault(candidate.descriptor.layout, candidate)
    return list(by_layout.values())


def _fastest(
    matrix: Matrix, encodings: list[Encoding], raw_stream: Stream, fits: Fits, uses: float
) -> Stream:
    best = raw_stream
    for encoding in encodings:
        if encoding.coder is Coder.RANGE:
            continue  # never the fastest: CLASS holds the same weights and decodes in a tenth of the time
        stream = encode_matrix(matrix, encoding)
        if stream.stored_bytes <= raw_stream.stored_bytes and fits(stream.descriptor):
            best = min(best, stream, key=lambda each: (cost(each.descriptor, uses), each.stored_bytes))
    return best
