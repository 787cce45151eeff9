"""Encoders: int8 weight matrices to compact streams and back."""

from model_packager.encoders.choose import Objective, candidates, choose, choose_matching, cost, decode_cost
from model_packager.encoders.descriptor import (
    Encoding,
    EncodingPattern,
    Stream,
    StreamDescriptor,
    check_descriptor,
)
from model_packager.encoders.scratch import stream_scratch_bytes
from model_packager.encoders.stream import decode, encode

__all__ = [
    "Encoding",
    "EncodingPattern",
    "Objective",
    "Stream",
    "StreamDescriptor",
    "candidates",
    "check_descriptor",
    "choose",
    "choose_matching",
    "cost",
    "decode",
    "decode_cost",
    "encode",
    "stream_scratch_bytes",
]
