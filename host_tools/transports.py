"""Ways to move bytes to a device and back: a serial port (USB, UART or pty) and a server in the same process.

A transport knows nothing of frames. The client (host_tools/client.py) sends and receives through the
`Transport` protocol below; tests put a transport of their own between the two to damage what passes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import serial

from host_tools.codec import DELIMITER, MAX_FRAME_BYTES
from model_packager.errors import DeviceError, NoDeviceError

BAUD = 115200  # of a real UART; USB and ptys ignore it


class Transport(Protocol):
    """Moves bytes; every wait has a time-out."""

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises DeviceError when the connection is broken."""

    def read(self, timeout_s: float) -> bytes:
        """The bytes that arrive next, as soon as there are any; b"" after `timeout_s` without any.

        Raises DeviceError when the connection is broken.
        """

    def close(self) -> None:
        """Give the port back; nothing may be sent or received afterwards."""


class SerialTransport:
    """A serial port of the operating system, opened for this client alone.

    Raises:
        NoDeviceError: there is no such port, or it cannot be opened.
    """

    def __init__(self, port: str, baud: int = BAUD, write_timeout_s: float = 10.0) -> None:
        try:
            # Exclusive: two clients on one line would each take the other's replies.
            self._serial = serial.Serial(port, baud, write_timeout=write_timeout_s, exclusive=True)
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise NoDeviceError(f"cannot open {port}: {_reason(error)}") from error
        self._port = port

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except OSError as error:
            raise DeviceError(f"{self._port} does not take data: {_reason(error)}") from error

    def read(self, timeout_s: float) -> bytes:
        try:
            self._serial.timeout = timeout_s
            first = self._serial.read(1)
            return first + self._serial.read(self._serial.in_waiting) if first else b""
        except OSError as error:
            raise DeviceError(f"{self._port} gave an error: {_reason(error)}") from error

    def close(self) -> None:
        self._serial.close()


def _reason(error: OSError | ValueError) -> str:
    # pyserial puts a sentence of its own into strerror.
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error)


class LoopbackTransport:
    """A device server in this process: each line goes to `handle`, the server's frame handler.

    Nothing ever waits: when the server has not answered by the time that write() returns, it never will, so
    read() gives b"" at once, and thousands of time-outs pass in a second.

    Args:
        handle: takes the bytes between two delimiters, gives the bytes of the reply or None.
        limit_bytes: length of line at which a serial server stops listening until the next delimiter.
    """

    def __init__(self, handle: Callable[[bytes], bytes | None], limit_bytes: int = MAX_FRAME_BYTES) -> None:
        self._handle = handle
        self._limit_bytes = limit_bytes
        self._to_device = bytearray()
        self._to_host = bytearray()

    def write(self, data: bytes) -> None:
        self._to_device += data
        *lines, rest = bytes(self._to_device).split(DELIMITER)
        self._to_device = bytearray(rest)
        for line in lines:
            if line and len(line) <= self._limit_bytes:
                self._to_host += self._handle(line) or b""

    def read(self, timeout_s: float) -> bytes:
        data = bytes(self._to_host)
        self._to_host.clear()
        return data

    def close(self) -> None:
        self._to_device.clear()
        self._to_host.clear()
