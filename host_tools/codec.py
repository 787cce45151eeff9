"""Frames and payloads of the serial protocol (docs/PROTOCOL.md), without any port: bytes in, bytes out.

`encode` makes the bytes of one frame; a `FrameReader` is fed whatever bytes arrive and gives the frames in
them; `pack` and `unpack` turn the fixed part of a payload into named values by the structs of the format
table. The device's own codec, firmware/thimble/wire.py, shares no line with this one: tests/vectors/frames/
holds both to the same bytes.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from model_packager.format_table import (
    WIRE_CRC_RESIDUE,
    WIRE_DELIMITER,
    WIRE_ESCAPE,
    WIRE_ESCAPE_XOR,
    WIRE_INTERRUPT,
    WIRE_MAX_PAYLOAD_BYTES,
    WIRE_OVERHEAD_BYTES,
    WIRE_RETURN,
    Field,
    struct_format,
)

DELIMITER = bytes([WIRE_DELIMITER])
# Two delimiters, and every byte of the largest content escaped.
MAX_FRAME_BYTES = 2 + 2 * (WIRE_OVERHEAD_BYTES + WIRE_MAX_PAYLOAD_BYTES)

_RESERVED_BYTES = (WIRE_ESCAPE, WIRE_DELIMITER, WIRE_RETURN, WIRE_INTERRUPT)
_ESCAPES = {bytes([byte]): bytes([WIRE_ESCAPE, byte ^ WIRE_ESCAPE_XOR]) for byte in _RESERVED_BYTES}
_UNESCAPES = {escape: byte for byte, escape in _ESCAPES.items()}
_TO_ESCAPE = re.compile(b"[" + b"".join(re.escape(byte) for byte in _ESCAPES) + b"]")
_TO_UNESCAPE = re.compile(b"|".join(re.escape(escape) for escape in _UNESCAPES))


@dataclass(frozen=True)
class Frame:
    """A frame that passed its check: message id (with the reply bit), sequence number (0 to 255), payload."""

    message: int
    sequence: int
    payload: bytes


def encode(frame: Frame) -> bytes:
    """The bytes of a frame on the wire, delimiters included.

    Raises:
        ValueError: a number is no byte, or the payload is longer than any device takes.
    """
    if len(frame.payload) > WIRE_MAX_PAYLOAD_BYTES:
        raise ValueError(f"payload of {len(frame.payload)} bytes; at most {WIRE_MAX_PAYLOAD_BYTES}")
    content = bytes([frame.message, frame.sequence]) + frame.payload
    content += struct.pack("<I", zlib.crc32(content))
    return DELIMITER + _TO_ESCAPE.sub(lambda match: _ESCAPES[match.group()], content) + DELIMITER


def decode(line: bytes) -> Frame | None:
    """The frame between two delimiters; None when it is damaged.

    An escape byte with an unknown byte behind it stands for itself, so that every decoder, whatever its
    method, computes the CRC-32 over the same content.
    """
    without_returns = line.replace(bytes([WIRE_RETURN]), b"")
    content = _TO_UNESCAPE.sub(lambda match: _UNESCAPES[match.group()], without_returns)
    if len(content) < WIRE_OVERHEAD_BYTES or zlib.crc32(content) != WIRE_CRC_RESIDUE:
        return None
    return Frame(content[0], content[1], content[2:-4])


class FrameReader:
    """Cuts a stream of bytes into frames.

    Damaged and oversized frames are counted in `bad_frames` and otherwise skipped: after noise of any kind
    the next delimiter starts afresh. Holds at most `MAX_FRAME_BYTES` bytes.
    """

    def __init__(self) -> None:
        self.bad_frames = 0
        self._line = bytearray()
        self._oversized = False

    def feed(self, data: bytes) -> list[Frame]:
        """The good frames that end within `data`, in order."""
        frames = []
        *ended, rest = data.split(DELIMITER)
        for piece in ended:
            self._extend(piece)
            frame = self._end_line()
            if frame is not None:
                frames.append(frame)
        self._extend(rest)
        return frames

    def _extend(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) > MAX_FRAME_BYTES:
            self._oversized = True
            self._line.clear()

    def _end_line(self) -> Frame | None:
        line, oversized = bytes(self._line), self._oversized
        self._line.clear()
        self._oversized = False
        if not line and not oversized:
            return None
        frame = None if oversized else decode(line)
        self.bad_frames += frame is None
        return frame


def pack(fields: tuple[Field, ...], **values: int | bytes) -> bytes:
    """The fixed part of a payload; a field that is not named in `values` (a reserved one) is 0.

    Raises:
        ValueError: a name is no field, or a value does not fit its field.
    """
    names = [field.name for field in fields]
    unknown = set(values) - set(names)
    if unknown:
        raise ValueError(f"no field {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    ordered = [values.get(name, 0) for name in names]
    try:
        return struct.pack(struct_format(fields), *ordered)
    except struct.error as error:
        raise ValueError(f"{error}: {dict(zip(names, ordered, strict=True))}") from error


def unpack(fields: tuple[Field, ...], payload: bytes) -> tuple[dict[str, int], dict[str, bytes], bytes]:
    """The numbers of a payload's fixed part, its byte strings, and the bytes behind the fixed part.

    Raises:
        ValueError: the payload is shorter than its fixed part.
    """
    layout = struct_format(fields)
    size = struct.calcsize(layout)
    if len(payload) < size:
        raise ValueError(f"payload of {len(payload)} bytes; its fixed part has {size}")
    named = dict(zip((field.name for field in fields), struct.unpack_from(layout, payload), strict=True))
    numbers = {name: value for name, value in named.items() if isinstance(value, int)}
    strings = {name: value for name, value in named.items() if isinstance(value, bytes)}
    return numbers, strings, payload[size:]
