"""Which encoding a tensor gets.

``size``: fewest bytes of payload and descriptor. ``speed``: fewest decode cycles among the streams that are
not larger than raw 8-bit storage. Raw is always a candidate, so that nothing is ever larger than it.

The cycles are of a fully connected row on a Cortex-M0+, decoding, position update and multiplication
included. Sparse entries are as measured on LeNet-300-100 (docs/DESIGN.md, weight streams): fixed relative
index 111 to 185, Huffman 132 to 149, class 85 to 88, range coder 400. The other figures extend them by the
same steps: a weight that is multiplied costs 7, taking a fixed field 15, a Huffman symbol 45, a class token
40, an adaptive bit 45, a codebook look-up 4; a position of a bitmap 8; a weight in bit planes 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from model_packager.encoders.bit_planes import is_binary
from model_packager.encoders.descriptor import Encoding, Stream, StreamDescriptor
from model_packager.encoders.log2 import is_log2
from model_packager.encoders.scratch import is_raw, stream_scratch_bytes
from model_packager.encoders.stream import Matrix, RangePlan, encode_bits, encode_matrix, plan, plan_range
from model_packager.encoders.ternary import ternary_magnitudes
from model_packager.errors import UsageError
from model_packager.format_table import Coder, Layout, Limit, ValueMap

Objective = Literal["size", "speed"]
Fits = Callable[[StreamDescriptor], bool]

MULTIPLY_CYCLES = 7
CODEBOOK_CYCLES = 4
BITMAP_POSITION_CYCLES = 8
BITS_CYCLES = 2
ADAPTIVE_BIT_CYCLES = 45
DENSE_CYCLES = {Coder.FIXED: 15, Coder.HUFFMAN: 45, Coder.CLASS: 40}
SPARSE_CYCLES = {Coder.FIXED: 148, Coder.HUFFMAN: 140, Coder.CLASS: 87, Coder.RANGE: 400}

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


def raw(values: npt.NDArray[np.int8]) -> Stream:
    """The matrix as it is: 8 bits a weight."""
    rows, cols = values.shape
    descriptor = StreamDescriptor(rows, cols, Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY, value_bits=8)
    return Stream(descriptor, np.ascontiguousarray(values).tobytes())


def decode_cycles(descriptor: StreamDescriptor) -> float:
    """Cycles to decode and multiply the whole matrix once, by the model above."""
    count = descriptor.weight_count
    value_map_cycles = CODEBOOK_CYCLES if descriptor.value_map is not ValueMap.IDENTITY else 0
    if descriptor.layout is Layout.BITS:
        return count * BITS_CYCLES
    if is_raw(descriptor):
        return count * MULTIPLY_CYCLES
    if descriptor.layout is Layout.SPARSE:
        return descriptor.entry_count * (SPARSE_CYCLES[descriptor.coder] + value_map_cycles)
    if descriptor.coder is Coder.RANGE:
        value_cycles = ADAPTIVE_BIT_CYCLES * descriptor.value_bits
    else:
        value_cycles = DENSE_CYCLES[descriptor.coder]
    flag_cycles = 0
    if descriptor.layout is Layout.BITMAP:
        flag_cycles = ADAPTIVE_BIT_CYCLES if descriptor.coder is Coder.RANGE else BITMAP_POSITION_CYCLES
    return count * (flag_cycles + value_cycles + value_map_cycles + MULTIPLY_CYCLES)


def choose(
    values: npt.NDArray[np.int8], objective: Objective = "size", scratch_limit_bytes: int | None = None
) -> Stream:
    """The best stream of the int8 matrix ``values`` (rows, cols) under ``objective``, never larger than raw.

    ``scratch_limit_bytes``: streams whose decoder needs more scratch do not count; raw, which needs none,
    always does. Raises ``UsageError`` for an objective that does not exist.
    """
    matrix = Matrix(values)
    encodings = _candidates(matrix)

    def fits(descriptor: StreamDescriptor) -> bool:
        return scratch_limit_bytes is None or stream_scratch_bytes(descriptor) <= scratch_limit_bytes

    if objective == "size":
        return _smallest(matrix, encodings, raw(values), fits)
    if objective == "speed":
        return _fastest(matrix, encodings, raw(values), fits)
    raise UsageError(f"there is no objective {objective!r}, only size and speed")


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


def _fastest(matrix: Matrix, encodings: list[Encoding], raw_stream: Stream, fits: Fits) -> Stream:
    best = raw_stream
    for encoding in encodings:
        if encoding.coder is Coder.RANGE:
            continue  # never the fastest: CLASS holds the same weights and decodes in a quarter of the time
        stream = encode_matrix(matrix, encoding)
        if stream.stored_bytes <= raw_stream.stored_bytes and fits(stream.descriptor):
            best = min(best, stream, key=lambda each: (decode_cycles(each.descriptor), each.stored_bytes))
    return best
