"""How fast a deployment is, verification included, and how much RAM it takes of a device.

    python benchmarks/deploy_rates.py

`bar deploy_line_share`: a file goes into a device server over a line of 115,200 baud, ten bits a byte, in
both directions. The line's time is counted, not waited for: the time of every byte that passes, and beside
it all the time that host and device really take, since one waits for the other. The share is that of the
file's bytes in what the line could have carried from the first byte to the end of the last reply: HELLO,
checks, golden test, trial and CONFIRM count. The device is firmware/server on emulated flash, with
sanitizers; the smallest payload of any board file with C firmware gives the bar's figure. The best of
several deployments: others run here too.

`bar deploy_pty_rate`: thousands of file bytes in a second over a pseudo-terminal to MicroPython's unix
port, from the first byte to the end of the last reply as well; the median of several.

`bar deploy_ram`: of the image for the micro:bit, the server's struct and what its two buffers have beside
their payloads; its stack is deepest in a load, which a device without deployments needs as well.

The same of MicroPython is printed beside it: the smallest heap in which a deployment succeeds, less the
smallest in which the server only starts with its model, less two payloads. Objects of the unix port are twice
as large as a board's, buffers are not.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from host_tools import serve
from host_tools.boards import board_names, load_board
from host_tools.client import Client
from host_tools.device_package import build_device_package
from host_tools.firmware_image import Image, cached_image
from host_tools.transports import LoopbackTransport, Transport
from tests.device_models import packed_model
from tests.server_devices import CDevice, SlotDevice, build_c_server

BAUD, BITS_A_BYTE = 115_200, 10
LINE_DEPLOYMENTS, PTY_DEPLOYMENTS = 10, 5
BOARD_OF_RAM = "qemu_microbit"
HEAPS, HEAP_STEP_BYTES, HEAP_WAIT_S = (48_000, 120_000), 256, 3.0  # of MicroPython, for small models
MICROPYTHON_PAYLOADS = (128, 1024, 4096)
# Takes the frames of a deployment from a file, as a UART would give them: by readline() in C.
REPLAY = """
from thimble import server, slots
class Line:
    def __init__(self):
        self.readline = open("frames", "rb").readline
    def write(self, data):
        pass
{}
print("started")
"""
START = "slots.SlotServer('model.thimble', {})"
SERVE = "server.serve(Line(), 'model.thimble', {}, slots.SlotServer)"


class CountingTransport:
    """Counts the bytes that pass in both directions."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.byte_count = 0

    def write(self, data: bytes) -> None:
        self.byte_count += len(data)
        self._inner.write(data)

    def read(self, timeout_s: float) -> bytes:
        data = self._inner.read(timeout_s)
        self.byte_count += len(data)
        return data

    def close(self) -> None:
        self._inner.close()


def line_share(program: Path, folder: Path, max_payload: int, files: tuple[bytes, bytes]) -> float:
    """The share of the line's rate that a deployment uses."""
    server = CDevice(program, folder).start(max_payload)
    inner = LoopbackTransport(server.handle, server.limit_bytes)
    Client(inner, resend_s=10).deploy(files[1])
    shares = []
    for index in range(LINE_DEPLOYMENTS):
        file = files[index % 2]
        line = CountingTransport(inner)
        started = time.monotonic()
        Client(line, resend_s=10).deploy(file)
        computing_s = time.monotonic() - started
        line_s = line.byte_count * BITS_A_BYTE / BAUD
        shares.append(len(file) * BITS_A_BYTE / BAUD / (line_s + computing_s))
    server.close()
    return max(shares)


def pty_rate(old: bytes, new: bytes) -> float:
    """Bytes in a second of deployments to MicroPython's unix port."""
    rates = []
    with serve.start("micropython") as server:
        for index in range(PTY_DEPLOYMENTS + 1):
            file = (old, new)[index % 2]
            started = time.monotonic()
            with server.connect() as client:
                client.deploy(file, force=True)
            rates.append(len(file) / (time.monotonic() - started))
    return statistics.median(rates[1:])


def deployment_ram() -> int:
    """Bytes of RAM beside two payloads that the server takes on the micro:bit."""
    board = load_board(BOARD_OF_RAM)
    assert board.firmware is not None
    sizes = Image(cached_image(board)).symbol_sizes
    buffers = sizes["request_buffer"] + sizes["reply_buffer"] - 2 * board.firmware.max_payload
    return sizes["server"] + buffers


class RecordingTransport:
    """Keeps what the host sends."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data
        self._inner.write(data)

    def read(self, timeout_s: float) -> bytes:
        return self._inner.read(timeout_s)

    def close(self) -> None:
        self._inner.close()


def recorded_deployment(old: bytes, new: bytes, max_payload: int) -> bytes:
    """All that the host sends in a deployment of `new` in place of `old`."""
    with tempfile.TemporaryDirectory(prefix="thimble-") as name:
        device = SlotDevice(Path(name))
        device.store(old)
        server = device.start(max_payload)
        line = RecordingTransport(LoopbackTransport(server.handle, server.limit_bytes))
        Client(line, resend_s=100).deploy(new)
        server.close()
    return line.sent


def smallest_heap(package_parent: Path, old: bytes, frames: bytes, program: str, done: bytes | None) -> int:
    """Bytes of MicroPython's heap that a program needs at least; `done` is the model that is stored then,
    None where its words count."""

    def succeeds(heap_bytes: int) -> bool:
        with tempfile.TemporaryDirectory(prefix="thimble-") as name:
            device = SlotDevice(Path(name))
            device.store(old)
            Path(name, "frames").write_bytes(frames)
            command = [serve.micropython_command(), "-X", f"heapsize={heap_bytes}", "-c", program]
            environment = {**os.environ, "MICROPYPATH": f"{package_parent}:.frozen"}
            try:
                ended = subprocess.run(
                    command, cwd=name, env=environment, capture_output=True, timeout=HEAP_WAIT_S
                )
            except subprocess.TimeoutExpired:  # it asks for memory for ever
                return False
            return b"started" in ended.stdout if done is None else device.stored() == done

    return _least(succeeds, *HEAPS)


def _least(succeeds: Callable[[int], bool], low: int, high: int) -> int:
    if succeeds(low) or not succeeds(high):
        raise SystemExit(f"the smallest heap is not between {low:,} and {high:,} bytes")
    while high - low > HEAP_STEP_BYTES:
        middle = (low + high) // 2
        low, high = (low, middle) if succeeds(middle) else (middle, high)
    return high


def print_micropython_ram(old: bytes, new: bytes) -> None:
    """Bytes of heap beside two payloads that a deployment takes on MicroPython."""
    with tempfile.TemporaryDirectory(prefix="thimble-") as name:
        build_device_package("x64", Path(name) / "thimble")
        for max_payload in MICROPYTHON_PAYLOADS:
            frames = recorded_deployment(old, new, max_payload)
            start, whole = (REPLAY.format(line.format(max_payload)) for line in (START, SERVE))
            needed = smallest_heap(Path(name), old, frames, whole, new)
            needed -= smallest_heap(Path(name), old, frames, start, None)
            beyond = needed - 2 * max_payload
            print(
                f"MicroPython, payloads of {max_payload:4}: {needed:,} bytes of heap for a deployment, "
                f"{beyond:,} beyond two payloads"
            )


def main() -> int:
    gcc = shutil.which("gcc")
    if gcc is None:
        print("no gcc here", file=sys.stderr)
        return 2
    old, new = packed_model(seed=1, units=100), packed_model(seed=2, units=150)
    boards = [board.firmware for board in map(load_board, board_names()) if board.firmware is not None]
    payloads = sorted({firmware.max_payload for firmware in boards})
    shares = {}
    with tempfile.TemporaryDirectory(prefix="thimble-") as name:
        program = build_c_server(Path(gcc), Path(name))
        for max_payload in payloads:
            shares[max_payload] = line_share(program, Path(name), max_payload, (old, new))
            print(
                f"{len(new):,} bytes at {BAUD:,} baud, payloads of {max_payload:4}: {shares[max_payload]:.1%}"
            )
    print(f"bar deploy_line_share {shares[payloads[0]]:.3f}")
    old, new = packed_model(seed=1, units=2000), packed_model(seed=2, units=2000)
    print(f"bar deploy_pty_rate {pty_rate(old, new) / 1000:.0f}")
    print(f"bar deploy_ram {deployment_ram()}")
    print_micropython_ram(packed_model(seed=1), packed_model(seed=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
