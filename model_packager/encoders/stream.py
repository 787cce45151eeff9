"""Encode a matrix with a given encoding, and decode any stream.

``Plan`` holds a descriptor whose size is known before a bit is written, so that the chooser can compare
dozens of encodings by their histograms and write only the best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model_packager.encoders import range_coder
from model_packager.encoders.bit_planes import decode_bit_planes, encode_binary, encode_ternary, is_binary
from model_packager.encoders.bit_stream import BitReader, BitWriter, IntArray
from model_packager.encoders.bitmap import bitmap_records, decode_bitmap
from model_packager.encoders.class_coder import ClassCoder, ClassReader, gap_class
from model_packager.encoders.dense import decode_dense, decode_fixed_dense
from model_packager.encoders.descriptor import (
    Encoding,
    Stream,
    StreamDescriptor,
    check_descriptor,
)
from model_packager.encoders.fixed import FixedCoder, FixedReader
from model_packager.encoders.huffman import HuffmanCoder, HuffmanReader
from model_packager.encoders.identity import twos_complement_bits
from model_packager.encoders.relative_index import Entries, decode_sparse, find_entries, insert_fillers
from model_packager.encoders.symbol_coder import SymbolCoder, SymbolReader
from model_packager.encoders.value_map import ValueTable, plan_table, read_table
from model_packager.errors import PackError
from model_packager.format_table import (
    RANGE_SHIFT_BITS,
    RANGE_SHIFT_MAX,
    RANGE_SHIFT_MIN,
    Coder,
    Layout,
    Limit,
    ValueMap,
)

RAW, RAW_BITS = Encoding(Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY), 8
GAP_BITS_TRIED = range(2, 9)
USUAL_SHIFT = 5  # the adaptation shift that is tried first
LAYOUT_DECODERS = {Layout.DENSE: decode_dense, Layout.SPARSE: decode_sparse, Layout.BITMAP: decode_bitmap}


class Matrix:
    """An int8 matrix (rows, cols) and what several encodings want to know about it."""

    def __init__(self, values: npt.NDArray[np.int8]) -> None:
        if values.ndim != 2 or values.dtype != np.int8 or not values.size:
            raise PackError(f"weights must be a matrix of int8, not {values.dtype} of shape {values.shape}")
        self.stored = values
        self.rows, self.cols = values.shape

    @cached_property
    def values(self) -> IntArray:
        """The weights (rows, cols) as int64; made when first asked for, since sparse layouts of large
        matrices do without."""
        return self.stored.astype(np.int64)

    @property
    def weights(self) -> IntArray:
        """The weights (rows * cols,) as int64."""
        return self.values.ravel()

    @cached_property
    def entries(self) -> Entries:
        """The non-zero weights."""
        return find_entries(self.stored)

    @cached_property
    def context_distance(self) -> int:
        """How far back the second neighbour of the range coder should lie; 0 when no distance is of use.

        The distance from 2 to cols at which signs agree (or disagree) most, by autocorrelation: rows of a
        spectrogram or of an image repeat after its width. Chance alone stays below 4 / sqrt(n).
        """
        signs = np.sign(self.weights).astype(np.float64)
        size = 1 << (2 * len(signs) - 1).bit_length()
        spectrum = np.fft.rfft(signs, size)
        # The sums are whole numbers: rounding keeps the choice between equal ones the same everywhere.
        agreement = np.abs(np.rint(np.fft.irfft(spectrum * spectrum.conj(), size)[: self.cols + 1]))
        if len(agreement) < 3:
            return 0
        distance = 2 + int(agreement[2:].argmax())
        return distance if agreement[distance] > 4 * np.sqrt(agreement[0]) else 0


@dataclass
class Plan:
    """A stream that is not written yet. ``bits`` counts the bit stream's bits (FIXED, HUFFMAN, CLASS)."""

    matrix: Matrix
    descriptor: StreamDescriptor
    table: ValueTable
    coder: SymbolCoder
    entries: Entries
    bits: int

    @property
    def stored_bytes(self) -> int:
        """Exactly what ``write().stored_bytes`` will be."""
        payload = len(self.table.entries) + len(self.coder.tables) + (self.bits + 7) // 8
        return payload + self.descriptor.stored_bytes

    def write(self) -> Stream:
        """The stream."""
        writer = BitWriter()
        layout = self.descriptor.layout
        if layout is Layout.SPARSE:
            gaps = self.coder.gap_fields(self.entries.gaps)
            writer.write_records(gaps + self.coder.value_fields(self.table.indexes(self.entries.weights)))
        elif layout is Layout.BITMAP:
            values = self.coder.value_fields(self.table.indexes(self.entries.weights))
            writer.write_records(bitmap_records(self.matrix.weights, values))
        else:
            writer.write_records(self.coder.value_fields(self.table.indexes(self.matrix.weights)))
        return Stream(self.descriptor, self.table.entries + self.coder.tables + writer.to_bytes())


def plan(matrix: Matrix, encoding: Encoding) -> Plan:
    """The smallest plan for FIXED, HUFFMAN or CLASS; gap_bits 2 to 8 are tried where the layout has them."""
    bounded_gaps = encoding.coder in (Coder.FIXED, Coder.HUFFMAN)
    if encoding.layout is Layout.SPARSE and bounded_gaps:
        # One after the other: with fillers, the entries of a large matrix take hundreds of megabytes.
        plans = (
            _plan(matrix, encoding, gap_bits) for gap_bits in _gap_bits_worth_trying(matrix.entries.gaps)
        )
        return min(plans, key=lambda candidate: candidate.stored_bytes)
    return _plan(matrix, encoding, 0)


def _gap_bits_worth_trying(gaps: IntArray) -> list[int]:
    """GAP_BITS_TRIED without those whose fillers alone, at 2 bits or more each, cost more than wider gaps
    could: the widest takes at most so many bits more for each entry, and 4 bits for each code length in its
    table."""
    widest = max(GAP_BITS_TRIED)
    entry_count = len(gaps) + int((gaps >> widest).sum())
    most_bits = widest * entry_count + (4 << widest)
    filler_counts = {gap_bits: int((gaps >> gap_bits).sum()) for gap_bits in GAP_BITS_TRIED}
    return [
        gap_bits
        for gap_bits, count in filler_counts.items()
        if 2 * (len(gaps) + count - entry_count) <= most_bits
    ]


def _plan(matrix: Matrix, encoding: Encoding, gap_bits: int) -> Plan:
    entries = insert_fillers(matrix.entries, gap_bits) if gap_bits else matrix.entries
    dense = encoding.layout is Layout.DENSE
    sparse = encoding.layout is Layout.SPARSE
    coded = matrix.weights if dense else entries.weights
    table = plan_table(coded, encoding.value_map, encoding.coder)
    indexes = table.indexes(coded)
    value_counts = np.bincount(indexes, minlength=1)
    gap_counts = np.zeros(0, np.int64)
    if sparse and encoding.coder is Coder.CLASS:
        gap_counts = np.bincount(gap_class(entries.gaps))
    elif gap_bits:
        gap_counts = np.bincount(entries.gaps, minlength=1 << gap_bits)
    coder: SymbolCoder
    if encoding.coder is Coder.FIXED:
        coder = FixedCoder(table.value_bits, gap_bits)
    elif encoding.coder is Coder.HUFFMAN:
        coder = HuffmanCoder(value_counts, gap_counts)
    else:
        coder = ClassCoder(value_counts, gap_counts)
    bits = int(value_counts @ coder.value_costs[: len(value_counts)] + gap_counts @ coder.gap_costs)
    if encoding.layout is Layout.BITMAP:
        bits += matrix.weights.size
    counted = encoding.coder is not Coder.FIXED or encoding.value_map is ValueMap.CODEBOOK
    descriptor = StreamDescriptor(
        matrix.rows,
        matrix.cols,
        encoding.layout,
        encoding.coder,
        encoding.value_map,
        value_bits=table.value_bits if encoding.coder is Coder.FIXED else 0,
        gap_bits=gap_bits,
        value_count=len(value_counts) if counted else 0,
        entry_count=len(entries.gaps) if sparse else 0,
        max_row_entries=entries.max_row_entries if sparse else 0,
    )
    return Plan(matrix, descriptor, table, coder, entries, bits)


@dataclass
class RangePlan:
    """A RANGE stream that is not written yet; its size is an estimate."""

    descriptor: StreamDescriptor  # with the usual adaptation shift
    table: ValueTable
    decisions: range_coder.Decisions

    @cached_property
    def estimated_bytes(self) -> float:
        """About what ``write().stored_bytes`` will be."""
        return (
            range_coder.estimate_bytes(self.decisions)
            + len(self.table.entries)
            + self.descriptor.stored_bytes
        )

    def write(self) -> Stream:
        """The smallest stream over the adaptation shifts, climbing from the usual one."""
        best = self.write_with(USUAL_SHIFT)
        for step in (1, -1):
            shift = USUAL_SHIFT + step
            while RANGE_SHIFT_MIN <= shift <= RANGE_SHIFT_MAX:
                stream = self.write_with(shift)
                if len(stream.payload) >= len(best.payload):
                    break
                best, shift = stream, shift + step
            if best.descriptor.adaptation_shift != USUAL_SHIFT:
                break
        return best

    def write_with(self, shift: int) -> Stream:
        """The stream with the given adaptation shift."""
        distance = self.descriptor.context_distance
        descriptor = StreamDescriptor(
            **{**self.descriptor.__dict__, "gap_bits": shift | distance << RANGE_SHIFT_BITS}
        )
        return Stream(descriptor, self.table.entries + range_coder.encode_decisions(self.decisions, shift))


def plan_range(matrix: Matrix, encoding: Encoding) -> RangePlan:
    """The plan for a RANGE stream."""
    entries = matrix.entries
    sparse = encoding.layout is Layout.SPARSE
    distance = 0 if sparse else matrix.context_distance
    coded = matrix.weights if encoding.layout is Layout.DENSE else entries.weights
    table = plan_table(coded, encoding.value_map, Coder.RANGE)
    indexes = table.indexes(coded)
    if encoding.layout is Layout.DENSE:
        decisions = range_coder.dense_decisions(matrix.weights, indexes, table.value_bits, distance)
    elif sparse:
        decisions = range_coder.sparse_decisions(entries.gaps, indexes, table.value_bits)
    else:
        decisions = range_coder.bitmap_decisions(matrix.weights, indexes, table.value_bits, distance)
    descriptor = StreamDescriptor(
        matrix.rows,
        matrix.cols,
        encoding.layout,
        encoding.coder,
        encoding.value_map,
        value_bits=table.value_bits,
        gap_bits=USUAL_SHIFT | distance << RANGE_SHIFT_BITS,
        value_count=len(table.weights) if encoding.value_map is ValueMap.CODEBOOK else 0,
        entry_count=len(entries.gaps) if sparse else 0,
        max_row_entries=entries.max_row_entries if sparse else 0,
    )
    return RangePlan(descriptor, table, decisions)


def encode_bits(matrix: Matrix, value_map: ValueMap) -> Stream:
    """The BITS stream of a binary or ternary matrix."""
    fields = (matrix.rows, matrix.cols, Layout.BITS, Coder.FIXED, value_map)
    if value_map is ValueMap.BINARY:
        if not is_binary(matrix.weights):
            raise PackError("weights other than +1 and -1 are not binary")
        return Stream(StreamDescriptor(*fields, value_bits=1), encode_binary(matrix.values))
    table = plan_table(matrix.weights, value_map, Coder.FIXED)
    return Stream(StreamDescriptor(*fields, value_bits=2), encode_ternary(matrix.values, table.entries))


def raw(values: npt.NDArray[np.int8]) -> Stream:
    """The matrix as it is: 8 bits a weight."""
    rows, cols = values.shape
    descriptor = StreamDescriptor(
        rows, cols, Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY, value_bits=RAW_BITS
    )
    return Stream(descriptor, np.ascontiguousarray(values).tobytes())


def encode(values: npt.NDArray[np.int8], encoding: Encoding) -> Stream:
    """Encodes an int8 matrix (rows, cols) without loss, with the best parameters of ``encoding``.

    Raises ``PackError`` when the encoding cannot hold these values (``candidates`` tells which can).
    """
    return encode_matrix(Matrix(values), encoding)


def encode_matrix(matrix: Matrix, encoding: Encoding) -> Stream:
    """``encode`` for a matrix that has been analysed already."""
    if encoding.layout is Layout.BITS:
        return encode_bits(matrix, encoding.value_map)
    if encoding.layout is Layout.SPARSE and matrix.cols > Limit.SPARSE_ROW_LENGTH:
        raise PackError(
            f"rows of {matrix.cols} weights are too long for a {encoding.name} stream;"
            f" {Limit.SPARSE_ROW_LENGTH} are supported"
        )
    if encoding.layout is not Layout.DENSE and not len(matrix.entries.gaps):
        if (encoding.coder, encoding.value_map) != (Coder.FIXED, ValueMap.IDENTITY):
            raise PackError(f"a matrix of zeros has no {encoding.name} stream: there is nothing to code")
    if encoding == RAW and twos_complement_bits(matrix.stored) == RAW_BITS:
        return raw(matrix.stored)  # without 64 bits for each weight, of which large networks have 10^8
    if encoding.coder is Coder.RANGE:
        return plan_range(matrix, encoding).write()
    return plan(matrix, encoding).write()


def decode(stream: Stream) -> npt.NDArray[np.int8]:
    """The int8 matrix (rows, cols) of a stream.

    Raises ``FormatError`` with ``bad_stream`` for anything that is wrong with descriptor or payload, and with
    ``limit_exceeded`` for a matrix that is too large.
    """
    descriptor, payload = stream.descriptor, stream.payload
    check_descriptor(descriptor)
    if descriptor.layout is Layout.BITS:
        binary = descriptor.value_map is ValueMap.BINARY
        table = None if binary else read_table(descriptor, payload)
        weights = decode_bit_planes(payload, table, descriptor)
    else:
        table = read_table(descriptor, payload)
        data = payload[len(table.entries) :]
        if descriptor.layout is Layout.DENSE and descriptor.coder is Coder.FIXED:
            weights = decode_fixed_dense(data, table, descriptor)
        else:
            weights = LAYOUT_DECODERS[descriptor.layout](_open_reader(descriptor, data), table, descriptor)
    return weights.reshape(descriptor.rows, descriptor.cols)


def _open_reader(descriptor: StreamDescriptor, data: bytes) -> SymbolReader:
    """The reader of a payload without the value map's entries."""
    sparse = descriptor.layout is Layout.SPARSE
    if descriptor.coder is Coder.RANGE:
        return range_coder.RangeReader(data, descriptor)
    if descriptor.coder is Coder.CLASS:
        return ClassReader(data, sparse)
    if descriptor.coder is Coder.HUFFMAN:
        return HuffmanReader(data, descriptor.value_count, descriptor.gap_bits)
    return FixedReader(BitReader(data), descriptor.value_bits, descriptor.gap_bits)
