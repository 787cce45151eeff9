"""Encoders: int8 weight matrices to compact streams and back."""

from model_packager.encoders.choose import Objective, candidates, choose, decode_cycles
from model_packager.encoders.descriptor import Encoding, Stream, StreamDescriptor, check_descriptor
from model_packager.encoders.scratch import stream_scratch_bytes
from model_packager.encoders.stream import decode, encode

__all__ = [
    "Encoding",
    "Objective",
    "Stream",
    "StreamDescriptor",
    "candidates",
    "check_descriptor",
    "choose",
    "decode",
    "decode_cycles",
    "encode",
    "stream_scratch_bytes",
]
