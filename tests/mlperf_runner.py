"""The host's side of MLPerf Tiny's text protocol, as the benchmark's public runner speaks it, for tests.

A `Line` is a device that answers; `Runner` sends what the benchmark's modes send."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from typing import Protocol

from host_tools.transports import SerialTransport
from tests.server_devices import CServer

READY = "m-ready"
BYTES_OF_A_COMMAND = 31  # of an input; 26 behind the interface board
ANSWER_WAIT_S = 15.0


class Line(Protocol):
    """A device on a line."""

    shows_edges: bool  # whether its answers have the edges of its pin

    def exchange(self, data: bytes, answers: int = 1) -> bytes:
        """Send bytes; gives all up to so many times `READY`."""


class HostLine:
    """firmware/server on this machine."""

    shows_edges = True

    def __init__(self, server: CServer) -> None:
        self._server = server

    def exchange(self, data: bytes, answers: int = 1) -> bytes:
        answer = self._server.receive(data)
        assert answer.count(READY.encode()) == answers, answer
        return answer


class SerialLine:
    """A device at a serial port."""

    def __init__(self, port: str, shows_edges: bool = False) -> None:
        self._transport = SerialTransport(port)
        self.shows_edges = shows_edges

    def exchange(self, data: bytes, answers: int = 1) -> bytes:
        if data:
            self._transport.write(data)
        answer, deadline = b"", time.monotonic() + ANSWER_WAIT_S
        while answer.count(READY.encode() + b"\r\n") < answers:
            assert time.monotonic() < deadline, answer
            answer += self._transport.read(1.0)
        return answer

    def close(self) -> None:
        """Let others have the port."""
        self._transport.close()


@dataclass(frozen=True)
class Inferences:
    """What `infer` answered."""

    results: tuple[float, ...]
    elapsed_us: int | None  # None in the mode energy


class Runner:
    """Drives one device."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def command(self, text: str) -> list[str]:
        """The lines of an answer, without the last one."""
        lines = self._line.exchange(text.encode() + b"%").decode("ascii").split("\r\n")
        assert lines[-2:] == [READY, ""], lines
        return lines[:-2]

    def value(self, command: str, name: str) -> str:
        """What stands in the brackets behind a name."""
        pattern = re.compile(rf"m-{name}-\[([^]]+)]")
        found = [match.group(1) for match in map(pattern.fullmatch, self.command(command)) if match]
        assert len(found) == 1
        return found[0]

    def load(self, data: bytes) -> None:
        """Send an input."""
        assert self.command(f"db load {len(data)}") == [f"m-[Expecting {len(data)} bytes]"]
        for at in range(0, len(data), BYTES_OF_A_COMMAND):
            answer = self.command(f"db {data[at : at + BYTES_OF_A_COMMAND].hex()}")
            assert answer == (["m-load-done"] if at + BYTES_OF_A_COMMAND >= len(data) else [])

    def infer(self, count: int, warmups: int) -> Inferences:
        """Run the model on the input."""
        lines = self.command(f"infer {count} {warmups}")
        text = "\n".join(lines)
        results = re.search(r"^m-results-\[([^]]+)]$", text, re.MULTILINE)
        assert results, lines
        times = [int(found) for found in re.findall(r"^m-lap-us-([0-9]+)$", text, re.MULTILINE)]
        assert len(times) in (0, 2)
        values = tuple(float(value) for value in results.group(1).split(","))
        return Inferences(values, times[1] - times[0] if times else None)

    def performance(self, data: bytes, count: int, warmups: int, windows: int = 5) -> tuple[float, list[int]]:
        """Median of inferences per second, by the device's clock, and the windows' times in microseconds."""
        times = []
        for _ in range(windows):
            self.load(data)
            elapsed_us = self.infer(count, warmups).elapsed_us
            assert elapsed_us
            times.append(elapsed_us)
        return statistics.median(1e6 * count / elapsed_us for elapsed_us in times), times
