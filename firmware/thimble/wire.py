"""Frames of the serial protocol (docs/PROTOCOL.md): bytes in, bytes out, no port. Used by thimble.server.

A content is message id, sequence number, payload and CRC-32. In a frame, the bytes that a line-based stream
or a console would take for itself are escaped, so a frame is one line: readline() of any MicroPython stream
finds its end in C, and after noise the next line feed is the start of a good frame again. All loops over
bytes are inside replace() and crc32(), which are C as well.
"""

import struct
from binascii import crc32

from micropython import const

# generated:begin Value:WIRE_DELIMITER,WIRE_ESCAPE,WIRE_ESCAPE_XOR,WIRE_INTERRUPT,WIRE_RETURN
# generated:also Value:WIRE_OVERHEAD_BYTES,WIRE_CRC_RESIDUE
_WIRE_DELIMITER = const(10)
_WIRE_ESCAPE = const(27)
_WIRE_ESCAPE_XOR = const(64)
_WIRE_INTERRUPT = const(3)
_WIRE_RETURN = const(13)
_WIRE_OVERHEAD_BYTES = const(6)
_WIRE_CRC_RESIDUE = const(558161692)
# generated:end

_LINE = bytes((_WIRE_DELIMITER,))
_RETURN = bytes((_WIRE_RETURN,))
# The escape itself comes first: encoding must not escape what it has just inserted.
_ESCAPED = bytes((_WIRE_ESCAPE, _WIRE_DELIMITER, _WIRE_RETURN, _WIRE_INTERRUPT))


def _pair(byte):
    return bytes((byte,)), bytes((_WIRE_ESCAPE, byte ^ _WIRE_ESCAPE_XOR))


def encode(message, sequence, payload):
    """The frame of a message, a line feed at both ends: the first one ends whatever noise came before."""
    content = bytes((message, sequence)) + payload
    content += struct.pack("<I", crc32(content))
    for byte in _ESCAPED:
        content = content.replace(*_pair(byte))
    return _LINE + content + _LINE


def decode(line):
    """(message id, sequence number, payload) of what stands between two line feeds; None when damaged."""
    content = line.replace(_RETURN, b"")
    for byte in reversed(_ESCAPED):
        byte, escaped = _pair(byte)
        content = content.replace(escaped, byte)
    if len(content) < _WIRE_OVERHEAD_BYTES or crc32(content) != _WIRE_CRC_RESIDUE:
        return None
    return content[0], content[1], content[2:-4]
