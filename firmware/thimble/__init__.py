"""Thimble's interpreter: runs compressed integer networks on MicroPython, and the same source on a host.

import thimble
network = thimble.load("model.thimble")
scores = network.run(samples)
"""

import sys

if sys.implementation.name == "cpython":
    # Gives CPython the names and the integers of a board.
    import host_tools.shim  # type: ignore[import-not-found]  # noqa: F401

from thimble.errors import ThimbleError
from thimble.interpreter import Network
from thimble.loader import FEATURES, OPERATORS

try:
    from thimble import bits  # where it is installed: extends Program, Operator and Network
except ImportError:
    bits = None  # type: ignore[assignment]

__all__ = ["FEATURES", "OPERATORS", "Network", "ThimbleError", "load"]


def load(source, window_bytes=512, lane=None):
    """Check a model and make it ready to run.

    Args:
        source: the path of a file, or a buffer that holds one and stays (flash through uctypes.bytearray_at,
        a
            memoryview of a ROMFS file, bytes).
        window_bytes: RAM through which a stream is read from a file; 24 at least.
        lane: the module of the kernels; by default the fastest that the board can run.

    Raises ThimbleError: the first check that fails; OSError: the file cannot be read.
    """
    return Network(source, window_bytes, lane)


try:  # in C, where the native module of firmware/natmod is installed
    from thimble.native import load  # noqa: F811
except ImportError:
    pass
