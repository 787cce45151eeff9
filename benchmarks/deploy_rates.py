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
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from host_tools import serve
from host_tools.boards import board_names, load_board
from host_tools.client import Client
from host_tools.firmware_image import Image, cached_image
from host_tools.transports import LoopbackTransport, Transport
from tests.device_models import packed_model
from tests.server_devices import CDevice, build_c_server

BAUD, BITS_A_BYTE = 115_200, 10
LINE_DEPLOYMENTS, PTY_DEPLOYMENTS = 10, 5
BOARD_OF_RAM = "qemu_microbit"


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
