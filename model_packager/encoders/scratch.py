"""How much RAM a stream needs while it is decoded: tables and the row buffer. The header's scratch_bytes and
every executor stand on this one function.
"""

from __future__ import annotations

from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.encoders.range_coder import context_count
from model_packager.format_table import CLASS_MAX_LENGTH_BITS, HUFFMAN_PRIMARY_BITS, Coder, Layout, ValueMap

HUFFMAN_PRIMARY_BYTES = 2 << HUFFMAN_PRIMARY_BITS  # (symbol, length) for the next 6 bits
HUFFMAN_LENGTH_BYTES = 64  # per code length: count, first code and offset into the symbols
CLASS_TABLE_BYTES = 1 << CLASS_MAX_LENGTH_BITS  # token << 3 | length for the next 6 bits
PROBABILITY_BYTES = 2
SPARSE_ENTRY_BYTES = 3  # uint16 position or gap, and the weight


def stream_table_bytes(descriptor: StreamDescriptor) -> int:
    """Bytes of decode tables or probabilities."""
    sparse = descriptor.layout is Layout.SPARSE
    if descriptor.coder is Coder.RANGE:
        return PROBABILITY_BYTES * context_count(descriptor.layout, descriptor.value_bits)
    if descriptor.coder is Coder.CLASS:
        return CLASS_TABLE_BYTES * (2 if sparse else 1)
    if descriptor.coder is Coder.FIXED:
        return 0
    alphabets = [descriptor.value_count] + ([1 << descriptor.gap_bits] if sparse else [])
    return sum(HUFFMAN_PRIMARY_BYTES + HUFFMAN_LENGTH_BYTES + symbols for symbols in alphabets)


def row_buffer_bytes(descriptor: StreamDescriptor) -> int:
    """Bytes of one row as a kernel gets it; 0 where rows are read in place."""
    if descriptor.layout is Layout.SPARSE:
        return SPARSE_ENTRY_BYTES * descriptor.max_row_entries
    if descriptor.layout is Layout.BITS or is_raw(descriptor):
        return 0
    return descriptor.cols


def is_raw(descriptor: StreamDescriptor) -> bool:
    """Whether the payload is the int8 matrix itself."""
    return (
        descriptor.layout is Layout.DENSE
        and descriptor.coder is Coder.FIXED
        and descriptor.value_map is ValueMap.IDENTITY
        and descriptor.value_bits == 8
    )


def stream_scratch_bytes(descriptor: StreamDescriptor) -> int:
    """Bytes of scratch of an open stream."""
    return stream_table_bytes(descriptor) + row_buffer_bytes(descriptor)
