"""Layout BITS: packed words of binary or ternary rows, so that a kernel can work on 32 weights at once.

A row is ceil(cols / 32) little-endian 32-bit words per plane, column 0 in bit 0 of the first word. BINARY has
one plane (1 = +1, 0 = -1; BinaryConnect and XNOR-Net, Courbariaux 2015, Rastegari 2016). TERNARY has a plane
of the non-zero positions and a plane of the negative ones; its two magnitudes come first, padded to a word.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_packager.encoders.bit_stream import Int8Array, IntArray, bad_stream
from model_packager.encoders.descriptor import Encoding, StreamDescriptor
from model_packager.encoders.ternary import MAGNITUDE_BYTES
from model_packager.encoders.value_map import ValueTable
from model_packager.format_table import Coder, Layout, ValueMap

WORD_BITS = 32
BINARY = Encoding(Layout.BITS, Coder.FIXED, ValueMap.BINARY)
MAGNITUDE_PADDING_BYTES = WORD_BITS // 8 - MAGNITUDE_BYTES


def row_words(cols: int) -> int:
    """Words of one row of one plane."""
    return (cols + WORD_BITS - 1) // WORD_BITS


def is_binary(weights: IntArray) -> bool:
    """Whether every weight is +1 or -1."""
    return bool((np.abs(weights) == 1).all())


def encode_binary(values: IntArray) -> bytes:
    """The payload of a matrix (rows, cols) of +1 and -1."""
    return _pack(values[:, np.newaxis, :] > 0)


def encode_ternary(values: IntArray, magnitudes: bytes) -> bytes:
    """The payload of a ternary matrix (rows, cols) with the stored ``magnitudes``."""
    planes = np.stack([values != 0, values < 0], axis=1)
    return magnitudes + bytes(MAGNITUDE_PADDING_BYTES) + _pack(planes)


def decode_bit_planes(payload: bytes, table: ValueTable | None, descriptor: StreamDescriptor) -> Int8Array:
    """Weights (rows * cols,); ``table`` is the ternary one, None for BINARY. Raises ``bad_stream``."""
    ternary = descriptor.value_map is ValueMap.TERNARY
    offset = MAGNITUDE_BYTES + MAGNITUDE_PADDING_BYTES if ternary else 0
    plane_count = 2 if ternary else 1
    expected = offset + descriptor.rows * plane_count * row_words(descriptor.cols) * WORD_BITS // 8
    if len(payload) != expected:
        raise bad_stream(f"a bit plane payload of {len(payload)} bytes should have {expected}")
    if any(payload[MAGNITUDE_BYTES:offset]):
        raise bad_stream("the padding after the ternary magnitudes is not zero")
    bits = np.unpackbits(np.frombuffer(payload, np.uint8, offset=offset), bitorder="little")
    planes = bits.reshape(descriptor.rows, plane_count, -1)
    if planes[:, :, descriptor.cols :].any():
        raise bad_stream("unused bits of a row's last word are not zero")
    planes = planes[:, :, : descriptor.cols].view(np.int8)
    if table is None:
        return (2 * planes[:, 0] - 1).ravel()
    nonzero, negative = planes[:, 0], planes[:, 1]
    if (negative & ~nonzero).any():
        raise bad_stream("a zero weight has its sign bit set")
    return table.weights.astype(np.int8)[nonzero + negative].ravel()


def _pack(planes: npt.NDArray[np.bool_]) -> bytes:
    """Planes (rows, planes, cols) as words, rows padded with zero bits."""
    rows, plane_count, cols = planes.shape
    padded = np.zeros((rows, plane_count, row_words(cols) * WORD_BITS), np.uint8)
    padded[:, :, :cols] = planes
    return np.packbits(padded.ravel(), bitorder="little").tobytes()
