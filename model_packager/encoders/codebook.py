"""Value map CODEBOOK: 1 to 256 int8 entries at the payload's start, and an index for each weight.

Weight sharing in the sense of Deep Compression (Han, Mao, Dally 2016, section 3), and the lossless form for
tensors that use only some of the 256 weights. Any order of entries is legal; the order is the encoder's
choice.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_stream import IntArray
from model_packager.format_table import Coder


def codebook_entries(weights: IntArray, coder: Coder) -> IntArray:
    """The different values of ``weights`` (n,) int64, in the order that suits ``coder``.

    CLASS: by falling frequency, as its tokens are finest for small indexes. The others: ascending, so that
    the first bits of the range coder's tree separate negative from positive.
    """
    entries, counts = np.unique(weights, return_counts=True)
    if coder is Coder.CLASS:
        entries = entries[np.argsort(-counts, kind="stable")]
    return entries


def codebook_bytes(entries: IntArray) -> bytes:
    """The entries as the payload stores them."""
    return entries.astype(np.int8).tobytes()


def codebook_table(payload: bytes, value_count: int) -> IntArray:
    """Weights (value_count,) int64 from a payload that starts with a codebook."""
    return np.frombuffer(payload, np.int8, value_count).astype(np.int64)
