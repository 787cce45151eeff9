"""Floats as bytes, for models that are stored without quantisation: a float32 matrix and a ``FloatFormat`` go
in, bytes come out, and back again.

Rounding is to nearest, ties to even. bfloat16 is the upper half of a float32 (Wang and Kanwar 2019; Intel
"BFLOAT16 hardware numerics definition", 2018). Callers are the container and ``pack``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import PackError
from model_packager.format_table import FloatFormat

Array = npt.NDArray[Any]

_STORED_AS = {FloatFormat.FP32: "<f4", FloatFormat.FP16: "<f2", FloatFormat.BFLOAT16: "<u2"}
ITEM_BYTES = {kind: np.dtype(code).itemsize for kind, code in _STORED_AS.items()}


def pack_floats(values: Array, kind: FloatFormat) -> bytes:
    """The bytes of float values in their order.

    Raises:
        PackError: a value that is not finite, or too large for the format.
    """
    wide = np.ascontiguousarray(values, np.float32)
    if kind is FloatFormat.BFLOAT16:
        bits = wide.view(np.uint32)
        stored = (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(_STORED_AS[kind])
    else:
        with np.errstate(over="ignore"):
            stored = wide.astype(_STORED_AS[kind])
    data = stored.tobytes()
    if not np.isfinite(wide).all() or not np.isfinite(unpack_floats(data, kind)).all():
        raise PackError(f"a value of {np.abs(wide).max():g} cannot be stored as {kind.name.lower()}")
    return data


def unpack_floats(data: bytes, kind: FloatFormat) -> Array:
    """float32 (n,) of the bytes of n floats."""
    stored = np.frombuffer(data, _STORED_AS[kind])
    if kind is FloatFormat.BFLOAT16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)
