"""Devices for tests of the server, behind the same few functions: what is started, and on what storage.

`PythonDevice` is the device package's server on CPython and a file; `CDevice` is firmware/server in a process
of its own, with AddressSanitizer and UndefinedBehaviorSanitizer, on emulated flash with rules to keep.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from model_packager.format_table import SHA256_BYTES, SIGNATURE_BYTES, WIRE_CRC_RESIDUE
from tests.core_driver import CORE, SANITIZERS, WARNINGS

FIRMWARE = CORE.parent
HALVES = 2
HALF_BYTES = 64 * 1024
MEMORY_BYTES = 64 * 1024
SLOT_RECORD = struct.Struct("<IBBHI")  # generation, slot, whether it is on trial, 0, CRC-32
QUESTION = b"\xff" * 4  # of a server with a key: a SHA-256 and a signature follow
RECORD = struct.Struct("<II4sI")  # generation, length of the file, not written, CRC-32 of the first two


Verify = Callable[[bytes, bytes], bool]


class Server(Protocol):
    """A running server."""

    limit_bytes: int

    def handle(self, line: bytes) -> bytes | None:
        """The reply to what stands between two delimiters."""

    @property
    def bad_frames(self) -> int:
        """Damaged pieces since it started."""

    def close(self) -> None:
        """End it."""


class Device(Protocol):
    """A device whose storage outlives its servers."""

    def start(self, max_payload: int) -> Any:
        """What a device does after a power cut. Gives a Server."""

    def stored(self) -> bytes | None:
        """The model that is stored."""

    def store(self, file: bytes) -> None:
        """Put `file` there as the stored model, in order or not."""

    def is_clean(self) -> bool:
        """Whether nothing of a transfer is left in the storage."""


class PythonDevice:
    """firmware/thimble/server.py on this Python."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "model.thimble"

    def start(self, max_payload: int) -> Any:
        from thimble.server import Server

        return Server(str(self._path), max_payload)

    def stored(self) -> bytes | None:
        return self._path.read_bytes() if self._path.exists() else None

    def store(self, file: bytes) -> None:
        self._path.write_bytes(file)

    def is_clean(self) -> bool:
        return all(path == self._path for path in self._path.parent.iterdir())


class SlotDevice:
    """firmware/thimble/slots.py on this Python; its docstring says what the files are."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "model.thimble"
        self._slots = (self._path, folder / "model.thimble.b")
        self._records = (folder / "model.thimble.0", folder / "model.thimble.1")

    def start(self, max_payload: int) -> Any:
        from thimble.slots import SlotServer

        return SlotServer(str(self._path), max_payload)

    def stored(self) -> bytes | None:
        newest = max([(0, 0, 0), *(SLOT_RECORD.unpack(record)[:3] for record in self._whole_records())])
        path = self._slots[newest[1] ^ newest[2]]
        return path.read_bytes() if path.exists() else None

    def _whole_records(self) -> list[bytes]:
        found = [path.read_bytes() for path in self._records if path.exists()]
        return [record for record in found if len(record) == 12 and zlib.crc32(record) == WIRE_CRC_RESIDUE]

    def store(self, file: bytes) -> None:
        for path in (*self._slots, *self._records):
            path.unlink(missing_ok=True)
        self._path.write_bytes(file)

    def provision(self, key: bytes) -> None:
        """Give it a public key, for its next start."""
        self._path.with_name("model.thimble.key").write_bytes(key)

    def is_clean(self) -> bool:
        """The slot that is not active may hold anything: nothing but a record says that it is a model."""
        return set(self._path.parent.iterdir()) <= {*self._slots, *self._records}


def build_c_server(gcc: Path, folder: Path) -> Path:
    """Compiles firmware/server for this machine; `folder` takes the program."""
    program = folder / "host_server"
    server, platform = FIRMWARE / "server", FIRMWARE / "platform"
    sources = [
        *sorted((CORE / "src").glob("*.c")),
        *sorted((server / "src").glob("*.c")),
        platform / "emulated_flash.c",
        server / "test" / "host_server.c",
    ]
    includes = [CORE / "include", CORE / "src", server / "include", server / "src", platform]
    flags = [*WARNINGS, *SANITIZERS, "-D_POSIX_C_SOURCE=200809L", *(f"-I{path}" for path in includes)]
    command = [gcc, *flags, *sources, "-o", program]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


class CServer:
    """firmware/server/test/host_server.c, one command at a time.

    Raises:
        AssertionError: the process ended; its last words, such as a sanitizer's, are in the message.
    """

    def __init__(self, command: list[str], max_payload: int) -> None:
        self.limit_bytes = 2 * (6 + max_payload) + 1
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self._verify: Verify | None = None

    def command(self, letter: bytes, data: bytes = b"") -> bytes:
        """The result of one command; see host_server.c."""
        self._write(letter + struct.pack("<I", len(data)) + data)
        while (head := self._read(4)) == QUESTION:
            assert self._verify is not None
            sha256, signature = self._read(SHA256_BYTES), self._read(SIGNATURE_BYTES)
            self._write(bytes([self._verify(sha256, signature)]))
        return self._read(struct.unpack("<I", head)[0])

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _read(self, length: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(length)
        if len(data) < length:
            self._fail()
        return data

    def _fail(self) -> None:
        _, errors = self._process.communicate()
        raise AssertionError(f"the server ended: {errors.decode('utf-8', 'replace')[:4000]}")

    def receive(self, line: bytes) -> bytes:
        """What it sends when these bytes come in."""
        return self.command(b"b", line)

    def handle(self, line: bytes) -> bytes | None:
        return self.receive(b"\n" + line + b"\n") or None

    @property
    def bad_frames(self) -> int:
        return struct.unpack("<I", self.command(b"n"))[0]

    def fail_after(self, byte_count: int) -> None:
        """Let programming fail once so many more bytes are written."""
        self.command(b"f", struct.pack("<I", byte_count))

    def cut_after(self, operations: int, seed: int) -> None:
        """Let the power fail within an operation of flash after so many others; `seed`: what it leaves."""
        self.command(b"c", struct.pack("<II", operations, seed))

    @property
    def operations(self) -> int:
        """Pages erased and units programmed since `cut_after`."""
        return struct.unpack("<I", self.command(b"o"))[0]

    @property
    def trigger_count(self) -> int:
        """How often the trigger pin was set on."""
        return struct.unpack("<I", self.command(b"t"))[0]

    def remove_trigger(self) -> None:
        """Take its trigger pin away."""
        self.command(b"q")

    def power_on(self) -> None:
        """Start again on the same flash, with other things in RAM."""
        self.command(b"r")

    def provision(self, verify: Verify) -> None:
        """Give it a key: `verify` takes a SHA-256 and a signature."""
        self._verify = verify
        self.command(b"k")

    def erase(self, offset: int) -> int:
        """The flash driver's own result."""
        return struct.unpack("<i", self.command(b"e", struct.pack("<I", offset)))[0]

    def program(self, offset: int, data: bytes) -> int:
        """The flash driver's own result."""
        return struct.unpack("<i", self.command(b"p", struct.pack("<I", offset) + data))[0]

    def frame(self, content: bytes) -> bytes:
        """The frame of id, sequence number and payload."""
        return self.command(b"s", content)

    def cut(self, line: bytes) -> tuple[list[bytes], int]:
        """The contents, without CRC-32, of the good frames in bytes from the line; the count of bad ones."""
        pieces, contents, bad, at = self.command(b"d", line), [], 0, 0
        while at < len(pieces):
            kind, length = struct.unpack_from("<BI", pieces, at)
            at += 5
            if kind == 1:
                contents.append(pieces[at : at + length])
            else:
                bad += 1
            at += length
        return contents, bad

    def close(self) -> None:
        """End it; what it leaked or broke on the way is an error."""
        if self._process.poll() is None:
            _, errors = self._process.communicate(timeout=20)
            assert self._process.returncode == 0, errors.decode("utf-8", "replace")[:4000]


class CDevice:
    """firmware/server and its flash; firmware/server/README.md says where in it records lie."""

    def __init__(self, program: Path, folder: Path, page_bytes: int = 1024, unit_bytes: int = 4) -> None:
        self._program = program
        self._flash = folder / "flash"
        self._page_bytes = page_bytes
        self._unit_bytes = unit_bytes
        self._flash.write_bytes(bytes(HALVES * HALF_BYTES))  # never erased: the server must not rely on it

    def start(self, max_payload: int) -> CServer:
        sizes = (HALVES * HALF_BYTES, self._page_bytes, self._unit_bytes, max_payload, MEMORY_BYTES)
        return CServer([str(self._program), str(self._flash), *map(str, sizes)], max_payload)

    @property
    def _capacity(self) -> int:
        return HALF_BYTES - max(RECORD.size, self._unit_bytes) - self._unit_bytes

    def _records(self) -> list[tuple[int, bool, bytes]]:
        """(generation, is confirmed, file) of each whole record."""
        found = []
        for half in range(HALVES):
            flash = self._flash.read_bytes()[half * HALF_BYTES : (half + 1) * HALF_BYTES]
            generation, length, _, crc = RECORD.unpack_from(flash, self._capacity)
            if zlib.crc32(flash[self._capacity : self._capacity + 8]) == crc:
                mark = flash[HALF_BYTES - self._unit_bytes :]
                found.append((generation, not any(mark), flash[:length]))
        return found

    def stored(self) -> bytes | None:
        records = sorted(self._records())
        confirmed = [record for record in records if record[1]]
        return (confirmed or records or [(0, False, None)])[-1][2]

    def store(self, file: bytes) -> None:
        flash = bytearray(b"\xff" * HALVES * HALF_BYTES)
        flash[: len(file)] = file
        numbers = struct.pack("<II", 7, len(file))
        RECORD.pack_into(flash, self._capacity, 7, len(file), b"\xff" * 4, zlib.crc32(numbers))
        flash[HALF_BYTES - self._unit_bytes : HALF_BYTES] = bytes(self._unit_bytes)
        with self._flash.open("r+b") as file:  # a server that runs has mapped it
            file.write(flash)

    def is_clean(self) -> bool:
        """A transfer may leave bytes behind in flash, but no record besides those of the last two models."""
        return len({generation for generation, _, _ in self._records()}) == len(self._records())
