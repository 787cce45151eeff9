"""The golden test of a file: inputs from a seed, and the CRC-32 of the outputs that they must give.

The packager stores (seed, CRC-32) in the GOLDEN section; a device, or ``thimble run --golden``, fills the
inputs with the same generator, runs the model and compares, so that one number proves loader, decoders and
kernels."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from model_packager.format_table import DType
from model_packager.model import NUMPY_DTYPES, Array, Model

DEFAULT_SEED = 0x54484D42


def xorshift32(state: int) -> int:
    """The next state of Marsaglia's 32-bit xorshift (Xorshift RNGs, 2003: shifts 13, 17, 5); never 0."""
    state ^= state << 13 & 0xFFFFFFFF
    state ^= state >> 17
    return state ^ (state << 5 & 0xFFFFFFFF)


def golden_inputs(model: Model, seed: int) -> list[Array]:
    """One array per model input, in its dtype and shape, filled in order with bytes of the generator.

    Each byte of an input (int16: low byte first) is the low byte of the state after one step; the state runs
    on from one input to the next. A float32 element is one such byte, as a signed number, over 64. ``seed``
    is 1 to 2^32 - 1."""
    if not 0 < seed < 1 << 32:
        raise ValueError(f"seed {seed} is not between 1 and 2^32 - 1")
    arrays: list[Array] = []
    state = seed
    for port in model.inputs:
        tensor = model.tensors[port.tensor]
        is_float = tensor.dtype is DType.FLOAT32
        filled = bytearray(tensor.element_count if is_float else tensor.size_bytes)
        for index in range(len(filled)):
            state = xorshift32(state)
            filled[index] = state & 0xFF
        dtype: np.dtype[Any] = np.dtype(NUMPY_DTYPES[tensor.dtype])
        read_as = np.dtype(np.int8) if is_float else dtype
        array = np.frombuffer(bytes(filled), read_as.newbyteorder("<")).astype(dtype)
        array = array / dtype.type(64) if is_float else array
        arrays.append(array.reshape(tensor.shape))
    return arrays


def output_crc32(outputs: Iterable[Array]) -> int:
    """CRC-32 of the outputs' little-endian bytes, one output after the other."""
    crc = 0
    for output in outputs:
        little = output.astype(output.dtype.newbyteorder("<"), copy=False)
        crc = zlib.crc32(np.ascontiguousarray(little).tobytes(), crc)
    return crc
