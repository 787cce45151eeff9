"""A transport that damages what passes: drops, flips, doubles, holds up, repeats old frames, adds noise."""

from __future__ import annotations

import random

from host_tools.codec import DELIMITER
from host_tools.transports import Transport

QUIET_S = 0.02  # ends a piece of the line that has no delimiter
OLD_FRAMES = 50  # that may come again: far fewer than sequence numbers exist


class FaultyTransport:
    """Between a client and its transport; `rate` is the share of writes and reads that are damaged."""

    def __init__(self, inner: Transport, rate: float, seed: int) -> None:
        self.inner = inner
        self.rate = rate
        self.fault_count = 0
        self._random = random.Random(seed)
        self._sent: list[bytes] = []
        self._held_up: dict[str, bytes] = {"write": b"", "read": b""}

    def write(self, data: bytes) -> None:
        self._sent = [*self._sent[-OLD_FRAMES:], data]
        self.inner.write(self._damaged(data, "write"))

    def read(self, timeout_s: float) -> bytes:
        # Up to a delimiter: an emulated UART gives single bytes, and no frame would survive damage to each.
        data = more = self.inner.read(timeout_s)
        while more and not data.endswith(DELIMITER):
            more = self.inner.read(QUIET_S)
            data += more
        return self._damaged(data, "read")

    def close(self) -> None:
        self.inner.close()

    def _damaged(self, data: bytes, direction: str) -> bytes:
        data = self._held_up[direction] + data
        self._held_up[direction] = b""
        if not data or self._random.random() >= self.rate:
            return data
        self.fault_count += 1
        kind = self._random.randrange(8)
        if kind == 0:
            return b""
        if kind == 1:
            return data + data
        if kind == 2:
            return self._flipped(data)
        if kind == 3:
            return data[: self._random.randrange(len(data))]
        if kind == 4:
            return self._random.randbytes(self._random.randrange(1, 200)) + data
        if kind == 5:
            start = self._random.randrange(len(data))
            return data[:start] + data[start + self._random.randrange(1, 20) :]
        if kind == 6:
            start = self._random.randrange(len(data))
            self._held_up[direction] = data[start:]  # comes before what is next
            return data[:start]
        return self._random.choice(self._sent) + data

    def _flipped(self, data: bytes) -> bytes:
        flipped = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 5))):
            flipped[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        return bytes(flipped)
