"""Power meters on pseudo-terminals, which speak the wire protocols of the real ones.

They are written from the protocols' descriptions (docs/ENERGY.md names them), without the drivers' code or
constants. A meter samples a load: a function of the time in seconds (arrays) that gives amperes, and the
level of the trigger pin. Samples come somewhat late, when the load of their time is known for sure.
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

LATE_S = 0.15
PERIOD_S = 0.02

Load = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class PinLog:
    """A file in which a device's program notes the levels of its pin: lines of a level and the nanoseconds of
    the wall clock. The load that follows from it takes `active_amperes` while the pin is on."""

    def __init__(self, path: Path, idle_amperes: float, active_amperes: float) -> None:
        self._path = path
        self._amperes = (idle_amperes, active_amperes)

    def __call__(self, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        text = self._path.read_text() if self._path.exists() else ""
        edges = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        times = np.array([int(ns) for _, ns in edges], float) / 1e9
        levels = np.array([0, *(int(level) for level, _ in edges)])
        level = levels[np.searchsorted(times, time_s, side="right")]
        return np.where(level == 1, self._amperes[1], self._amperes[0]), level


class SimulatedMeter:
    """A pty whose other end is `port`. Subclasses answer commands and make the bytes of samples."""

    rate_hz = 1000

    def __init__(self, load: Load) -> None:
        self._load = load
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._is_over = threading.Event()
        self.is_sampling = False
        self._next_sample = 0
        self._started_s = 0.0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> SimulatedMeter:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def send(self, data: bytes) -> None:
        """Write, in pieces, as much as the other end takes."""
        view = memoryview(data)
        while view and not self._is_over.is_set():
            if select.select([], [self._master], [], PERIOD_S)[1]:
                view = view[os.write(self._master, view[:1021]) :]  # no multiple of anything

    def start(self) -> None:
        """Begin to sample."""
        self.is_sampling = True
        self._next_sample = 0
        self._started_s = time.time()

    def settle(self) -> None:
        """Wait until everything that was sent to it has been acted on."""
        deadline = time.monotonic() + 5
        while select.select([self._master], [], [], 2 * PERIOD_S)[0]:
            assert time.monotonic() < deadline, "the meter does not read"
        time.sleep(PERIOD_S)

    def _serve(self) -> None:
        while not self._is_over.is_set():
            if select.select([self._master], [], [], PERIOD_S)[0]:
                self.receive(os.read(self._master, 4096))
            if self.is_sampling:
                until = int((time.time() - LATE_S - self._started_s) * self.rate_hz)
                if until > self._next_sample:
                    index = np.arange(self._next_sample, until)
                    amperes, level = self._load(self._started_s + index / self.rate_hz)
                    self._next_sample = until
                    self.send(self.encode(index, amperes, level))

    def receive(self, data: bytes) -> None:
        """Act on bytes from the host."""
        raise NotImplementedError

    def encode(self, index: np.ndarray, amperes: np.ndarray, level: np.ndarray) -> bytes:
        """What is sent of the samples `index`."""
        raise NotImplementedError


class SimulatedPpk2(SimulatedMeter):
    """A Power Profiler Kit II with a calibration of its own.

    Args:
        dropped: numbers of samples that are lost on the way.
        metadata: lines that take the place of its own.
        leftover: bytes that an earlier program has left in the line.
    """

    rate_hz = 100_000
    OHMS = (1003.35, 101.59, 10.303, 0.9636, 0.05640)
    OFFSETS = (64.0, 80.0, 72.0, 70.0, 79.0)
    GAIN = 1.02
    LIMITS = (50e-6, 500e-6, 5e-3, 50e-3)  # amperes at which the next range begins
    ARGUMENTS = {0x0C: 1, 0x0D: 2, 0x11: 1}

    def __init__(
        self,
        load: Load,
        dropped: Sequence[int] = (),
        metadata: Sequence[str] | None = None,
        leftover: bytes = b"",
    ) -> None:
        self._dropped = np.array(sorted(dropped), int)
        own = ["Calibrated: 0", "VDD: 3700", "HW: 9", "mode: 2", "IA: 56"]
        for number, (ohms, offset) in enumerate(zip(self.OHMS, self.OFFSETS, strict=True)):
            own += [f"R{number}: {ohms:.4f}", f"GS{number}: 0.0000", f"GI{number}: 1.0000"]
            own += [
                f"O{number}: {offset:.4f}",
                f"S{number}: 0.0",
                f"I{number}: -nan",
                f"UG{number}: {self.GAIN}",
            ]
        self._metadata = own if metadata is None else list(metadata)
        self._leftover = leftover
        self.commands: list[bytes] = []
        self._pending = b""
        super().__init__(load)

    def receive(self, data: bytes) -> None:
        self._pending += data
        while self._pending:
            length = 1 + self.ARGUMENTS.get(self._pending[0], 0)
            if len(self._pending) < length:
                return
            command, self._pending = self._pending[:length], self._pending[length:]
            self.commands.append(command)
            if command == b"\x19":
                self.send(self._leftover + "".join(f"{line}\n" for line in [*self._metadata, "END"]).encode())
            elif command == b"\x06":
                self.start()
            elif command == b"\x07":
                self.is_sampling = False

    def encode(self, index: np.ndarray, amperes: np.ndarray, level: np.ndarray) -> bytes:
        ranges = np.searchsorted(self.LIMITS, amperes, side="right")
        ohms, offsets = np.array(self.OHMS)[ranges], np.array(self.OFFSETS)[ranges]
        reading = np.rint((amperes / self.GAIN * ohms * 163840 / 1.8 + offsets) / 4)
        reading = np.clip(reading, 0, 16383).astype(np.uint32)
        words = reading | (ranges.astype(np.uint32) << 14) | ((index % 64).astype(np.uint32) << 18)
        words |= level.astype(np.uint32) << 24
        return words[~np.isin(index, self._dropped)].astype("<u4").tobytes()


class SimulatedLpm01a(SimulatedMeter):
    """An X-NUCLEO-LPM01A in the format ascii_dec, as UM2243 and the board's `help` describe it.

    Args:
        dropped: numbers of samples that are lost on the way.
        refused: words of commands that it answers with an error.
        buffer_percent: what its time stamps say of its buffer.
    """

    def __init__(
        self, load: Load, dropped: Sequence[int] = (), refused: Sequence[str] = (), buffer_percent: int = 0
    ) -> None:
        self._dropped = set(dropped)
        self._refused = refused
        self._buffer_percent = buffer_percent
        self.commands: list[str] = []
        self._pending = b""
        self._level, self._events = 0, 0
        super().__init__(load)

    def receive(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            command = line.decode()
            self.commands.append(command)
            if command.split()[0] in self._refused:
                self.send(f"\r\nPowerShield > error {command}\r\nError detail: not today\r\n".encode())
                continue
            if command.startswith("freq "):
                self.rate_hz = {"1k": 1000, "5k": 5000, "10k": 10000}[command.split()[1]]
            self.send(f"\r\nPowerShield > ack {command}\r\n".encode())
            if command == "start":
                self.start()
            elif command == "stop":
                self.is_sampling = False
                self.send(b"end\r\nPowerShield > Acquisition completed\r\n")

    def encode(self, index: np.ndarray, amperes: np.ndarray, level: np.ndarray) -> bytes:
        lines = []
        for number, current, on in zip(index.tolist(), amperes.tolist(), level.tolist(), strict=True):
            if self._level and not on:
                self._events += 1
                lines.append(f"event {self._events} ris")
            self._level = on
            if number % 1000 == 0:
                ms = number * 1000 // self.rate_hz
                lines.append(f"TimeStamp: {ms // 1000:03}s {ms % 1000:03}ms, buff {self._buffer_percent:02}%")
            if number not in self._dropped:
                digits, exponent = f"{current:.3e}".split("e")
                lines.append(f"{digits.replace('.', '')}{int(exponent) - 3:+03}")
        return "".join(f"{line}\r\n" for line in lines).encode()
