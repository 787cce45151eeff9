"""A device server that marks its inferences on a pin, for a power meter (docs/ENERGY.md).

On a board: ``from thimble.trigger import serve; serve(machine.Pin("GP15", machine.Pin.OUT))``. The server is
thimble.slots; BENCH with the flag WINDOW has the pin on for all its runs without a break.
"""

import gc
import struct
from time import ticks_diff, ticks_us

from micropython import const

from thimble import server
from thimble import slots
from thimble.errors import ThimbleError

# generated:begin Message:BENCH BenchFlag:WINDOW Capability:TRIGGER ErrorCode:RESERVED_BITS,BAD_ARGUMENT
# generated:also Struct:BENCH_REQUEST.FORMAT,BENCH_WINDOW_REPLY.FORMAT,HELLO_REPLY.CAPABILITIES
_MESSAGE_BENCH = const(11)
_BENCH_FLAG_WINDOW = const(1)
_CAPABILITY_TRIGGER = const(16)
_ERROR_RESERVED_BITS = const(-4)
_ERROR_BAD_ARGUMENT = const(-49)
_BENCH_REQUEST_FORMAT = const("<HBB")
_BENCH_WINDOW_REPLY_FORMAT = const("<I")
_HELLO_REPLY_CAPABILITIES_OFFSET = const(8)
# generated:end


class TriggerServer(slots.SlotServer):
    """A SlotServer with a pin.

    Args:
        pin: a machine.Pin that is an output, or any function that takes 1 and 0.
    """

    def __init__(self, pin, path="model.thimble", max_payload=0):
        self._pin = pin
        pin(0)
        slots.SlotServer.__init__(self, path, max_payload)

    def _hello(self, sequence, version, max_payload, session):
        reply = bytearray(slots.SlotServer._hello(self, sequence, version, max_payload, session))
        reply[_HELLO_REPLY_CAPABILITIES_OFFSET] |= _CAPABILITY_TRIGGER
        return bytes(reply)

    def _time(self):
        self._pin(1)
        try:
            return slots.SlotServer._time(self)
        finally:
            self._pin(0)

    def _bench_runs(self, runs, flags):
        if not flags:
            return slots.SlotServer._bench(self, runs)
        if flags != _BENCH_FLAG_WINDOW:
            raise ThimbleError(_ERROR_RESERVED_BITS)
        model = self._running()
        if not runs:
            raise ThimbleError(_ERROR_BAD_ARGUMENT, runs)
        self._forget_tensors()
        gc.collect()
        self._pin(1)
        started = ticks_us()
        try:
            for _ in range(runs):
                model.invoke()
        finally:
            elapsed = ticks_diff(ticks_us(), started)
            self._pin(0)
        return struct.pack(_BENCH_WINDOW_REPLY_FORMAT, elapsed)


TriggerServer._actions = dict(slots.SlotServer._actions)
TriggerServer._actions[_MESSAGE_BENCH] = (TriggerServer._bench_runs, _BENCH_REQUEST_FORMAT, 2, False)


def serve(pin, stream=None, path="model.thimble", max_payload=0):
    """As thimble.slots.serve, with a pin as of TriggerServer."""
    server.serve(stream, path, max_payload, lambda path, limit: TriggerServer(pin, path, limit))
