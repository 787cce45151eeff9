"""Runs an example for makers here, and its network on an emulated board, or on any other device server.

    python examples/micropython/emulated.py digit_reader < images.txt
    python examples/micropython/emulated.py gesture_loop --target qemu:m7 < recording.txt

The example's own file runs on this Python; only `network.run` goes over the line, to the C firmware on QEMU.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from host_tools.client import Client
from host_tools.devices import open_device

HERE = Path(__file__).resolve().parent
MODELS = {
    "gesture_loop": HERE.parent / "gesture" / "gesture_small.thimble",
    "digit_reader": HERE.parent / "digits" / "digits_int8.thimble",
}


class BoardNetwork:
    """What `thimble.load` gives, on the other end of a line."""

    def __init__(self, client: Client, model: Path) -> None:
        client.deploy(model.read_bytes())
        self._client = client

    def run(self, samples: bytes) -> bytes:
        """The outputs for the bytes of the only input."""
        (output,), _ = self._client.infer([bytes(samples)])
        return output


def main() -> int:
    """Run the example on standard input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("example", choices=MODELS)
    parser.add_argument("--target", default="qemu:m4", help="a device server (default: %(default)s)")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    example = importlib.import_module(options.example)
    with open_device(options.target) as client:
        network = BoardNetwork(client, MODELS[options.example])
        if options.example == "gesture_loop":
            example.watch(example.lines(sys.stdin), network)
        else:
            example.serve(network)
    return 0


if __name__ == "__main__":
    sys.exit(main())
