"""`thimble serve`: a device server on a pseudo-terminal of this machine, until Ctrl-C."""

from __future__ import annotations

import argparse

HELP = "run a device server on a pseudo-terminal, for those without a board"

LEAST_HEAP_BYTES = 16384  # with less, MicroPython does not start


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from host_tools.firmware_image import MLPERF_MODES
    from host_tools.serve import HEAP_BYTES, TARGETS

    parser.add_argument("--target", choices=TARGETS, default="micropython", help="what runs the firmware")
    parser.add_argument(
        "--heap",
        metavar="BYTES",
        type=int,
        help=f"MicroPython's heap (default: {HEAP_BYTES}; objects are twice as large as on a board)",
    )
    parser.add_argument(
        "--storage", metavar="FOLDER", help="keep the model in this folder (default: a temporary one)"
    )
    parser.add_argument(
        "--mlperf",
        choices=MLPERF_MODES,
        nargs="?",
        const="performance",
        help="answer MLPerf Tiny's runner too (docs/MLPERF.md); performance is also the mode accuracy",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the port, then wait for the server's end or Ctrl-C."""
    from pathlib import Path

    from host_tools.serve import HEAP_BYTES, start
    from model_packager.errors import UsageError

    storage = Path(arguments.storage) if arguments.storage else None
    if storage is not None and not storage.is_dir():
        raise UsageError(f"{storage} is no folder")
    if arguments.heap is not None and arguments.target != "micropython":
        raise UsageError(f"--heap is for MicroPython, not for {arguments.target}")
    heap_bytes = HEAP_BYTES if arguments.heap is None else arguments.heap
    if heap_bytes < LEAST_HEAP_BYTES:
        raise UsageError(f"--heap is {heap_bytes}; MicroPython needs {LEAST_HEAP_BYTES} bytes or more")
    with start(arguments.target, storage, heap_bytes, mlperf=arguments.mlperf) as server:
        print(server.port, flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            return 0
    return 0
