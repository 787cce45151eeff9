"""Runs networks in the C core, where firmware/natmod is installed as thimble/core.mpy; thimble/__init__.py
then takes `load` from here.

The core reads a model where it lies in memory, aligned to 4, and gives the same bits and errors as the
interpreter. What it cannot take (a file too large for the heap, a buffer at an odd place) the interpreter
runs, and what it refuses the interpreter refuses with a sentence that says where.
"""

import struct
import time

from micropython import const

from thimble import core  # type: ignore[attr-defined]
from thimble.errors import ThimbleError
from thimble.interpreter import Network

# generated:begin Value:SHA256_BYTES Struct:HEADER.FORMAT
_SHA256_BYTES = const(32)
_HEADER_FORMAT = const("<4sBBHIIIIIIII")
# generated:end

_FUSED = const(2)


class CoreNetwork(Network):
    """A network whose arena and operators are the C core's."""

    def __init__(self, data, found):
        self._data = data  # the core reads it in place
        self._model, memory_bytes, at, self.operator_count, inputs, outputs = found
        self.arena_bytes, self.scratch_bytes, self.model_id, self.model_version = struct.unpack_from(
            _HEADER_FORMAT, data
        )[7:11]
        self.sha256 = bytes(data[at : at + _SHA256_BYTES])
        self.arena = bytearray(memory_bytes)
        self.inputs = self._views(inputs)
        self.outputs = self._views(outputs)
        self.reset()

    def _views(self, ports):
        arena = memoryview(self.arena)
        return [arena[at : at + size] for at, size in ports]

    def close(self):
        """Nothing to give back."""

    def reset(self):
        """Clear the persistent tensors."""
        core.reset(self._model, self.arena)

    def invoke(self, times=None):
        """As Network.invoke."""
        if times is None:
            code = core.run(self._model, self.arena)
        else:
            progress = core.begin(self._model, self.arena)
            while True:
                started = time.ticks_us()
                code = core.step(progress)
                elapsed = time.ticks_diff(time.ticks_us(), started)
                if code <= 0:
                    break
                if code == _FUSED:
                    times.append(0)
                times.append(elapsed)
        if code < 0:
            raise ThimbleError(code, "in the C core")


def load_core(source):
    """A CoreNetwork, or the core's error code. Raises MemoryError also where a file would leave less of the
    heap than it takes."""
    if isinstance(source, str):
        with open(source, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            source = bytearray(size)
            bytearray(size)  # only whether it could be
            file.readinto(source)
    found = core.load(source)
    return found if isinstance(found, int) else CoreNetwork(source, found)


def load(source, window_bytes=512, lane=None):
    """As thimble.load of the interpreter; `lane` names kernels, which only that has."""
    try:
        network = None if lane else load_core(source)
    except MemoryError:
        network = None
    return network if isinstance(network, CoreNetwork) else Network(source, window_bytes, lane)
