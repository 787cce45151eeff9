"""MicroPython at the other end of a serial port: files and small questions, through mpremote's transport.

This is the only module that knows mpremote (PyPI, extra `flash`), whose transport is not a stable interface:
every wait has a time-out here, what it prints goes to stderr, and its exceptions become `DeviceError`.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from host_tools.transports import BAUD
from model_packager.errors import DeviceError, NoDeviceError, UsageError

READ_TIMEOUT_S = 5.0
PROMPT_TIMEOUT_S = 5.0
CHUNK_BYTES = 512  # of a file in one line of Python
MISSING = "mpremote is not installed: pip install thimble-runtime[flash]"


class MicroPythonBoard:
    """A board's MicroPython, interrupted and waiting in its raw prompt for as long as this is open.

    Raises:
        UsageError: mpremote is not installed.
        NoDeviceError: the port cannot be opened.
        DeviceError: what answers is no MicroPython prompt.
    """

    def __init__(self, port: str, baud: int = BAUD) -> None:
        try:
            from mpremote.transport import TransportError
            from mpremote.transport_serial import SerialTransport
        except ImportError:
            raise UsageError(MISSING) from None
        self._port = port
        self._is_asking = True  # its raw prompt
        self._errors: tuple[type[Exception], ...] = (TransportError, OSError)
        try:
            self._transport: Any = SerialTransport(port, baudrate=baud, timeout=READ_TIMEOUT_S)
        except self._errors as error:
            raise NoDeviceError(f"cannot open {port}: {error}") from error
        try:
            self._do(lambda: self._transport.enter_raw_repl(False, PROMPT_TIMEOUT_S))
        except DeviceError as error:
            self._transport.close()
            raise DeviceError(f"no MicroPython prompt at {port}") from error

    def __enter__(self) -> MicroPythonBoard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave MicroPython at the prompt that people use, and close the port."""
        if self._is_asking:
            with contextlib.suppress(*self._errors):  # it may be gone
                self._transport.exit_raw_repl()
        self._transport.close()

    def restart(self) -> None:
        """A soft reset: MicroPython starts anew and runs main.py. Nothing can be asked afterwards."""
        self._do(self._transport.exit_raw_repl)
        self._do(lambda: self._transport.serial.write(b"\x04"))
        self._is_asking = False

    def evaluate(self, expression: str, statements: str = "") -> Any:
        """The value of a Python expression of literals, after some statements."""
        output = self._do(lambda: self._transport.exec(f"{statements}\nprint(repr({expression}))"))
        try:
            return ast.literal_eval(output.decode())
        except (SyntaxError, ValueError) as error:
            raise DeviceError(f"{self._port} answered {output[:80]!r}") from error

    def sha256(self, path: str) -> bytes | None:
        """The hash of a file on the board; None where there is none."""
        if not self.exists(path):
            return None
        return bytes(self._do(lambda: self._transport.fs_hashfile(path, "sha256", CHUNK_BYTES)))

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return bool(self._do(lambda: self._transport.fs_exists(path)))

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in alphabetical order; none where there is no such folder."""
        if not self.exists(folder):
            return []
        return sorted(entry.name for entry in self._do(lambda: self._transport.fs_listdir(folder)))

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it, where they are not there."""
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            folder = "/".join(parts[:count])
            if folder and not self.exists(folder):
                self._do(lambda folder=folder: self._transport.fs_mkdir(folder))  # type: ignore[misc]

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._do(lambda: self._transport.fs_rmfile(path))

    def write(self, path: str, data: bytes, progress: Callable[[int, int], None] | None = None) -> None:
        """Write a file beside and rename it once its hash is right, so that no half of one stays.

        Raises:
            DeviceError: the board cannot write it, or reads something else back.
        """
        import hashlib

        new = f"{path}.new"
        try:
            self._do(lambda: self._transport.fs_writefile(new, data, CHUNK_BYTES, progress))
            if self.sha256(new) != hashlib.sha256(data).digest():
                raise DeviceError(f"{path} does not read back as it was written")
        except DeviceError:
            with contextlib.suppress(DeviceError):
                self.remove(new)
            raise
        if self.exists(path):
            self.remove(path)  # FAT does not rename onto a file
        self.evaluate("None", f"import os\nos.rename({new!r}, {path!r})")

    def _do(self, action: Callable[[], Any]) -> Any:
        try:
            with _chatter_on_stderr():
                return action()
        except self._errors as error:
            last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise DeviceError(f"{self._port}: {last[0]}") from error


@contextlib.contextmanager
def _chatter_on_stderr() -> Iterator[None]:
    with contextlib.redirect_stdout(sys.stderr):
        yield
