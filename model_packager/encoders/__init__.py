"""Encoders: int8 weight matrices to compact streams and back."""

from model_packager.encoders.descriptor import Encoding, Stream, StreamDescriptor

__all__ = ["Encoding", "Stream", "StreamDescriptor"]
