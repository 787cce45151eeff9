"""Which boards are plugged in: serial ports go in, what is known of the device behind each comes out.

A board is recognised by its USB id first, which several boards may share, then by what it answers: a device
server names its board in HELLO, and MicroPython at its prompt is asked. What stays open between two boards is
left open. Callers are `thimble devices` and `thimble flash`.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable
from dataclasses import dataclass

from serial.tools import list_ports

from host_tools.boards import Board, all_boards
from host_tools.client import Client, Hello
from host_tools.transports import SerialTransport, Transport
from model_packager.errors import DeviceError, DeviceTimeout, NoDeviceError

HELLO_WAIT_S = 1.5
PROMPT_WAIT_S = 5.0
QUIET_S = 0.2
# HELLO's message id is Ctrl-A, at which MicroPython's prompt changes into its raw form and says so.
RAW_PROMPT = b"raw REPL"
INTERRUPT, RUN, FRIENDLY_PROMPT = b"\x03", b"\x04", b"\x02"
ASK_MACHINE = b"import sys;print(sys.implementation._machine)"


class State(enum.Enum):
    """What is behind a port."""

    SERVER = "server"  # a device server answers
    PROMPT = "prompt"  # MicroPython waits for input, without a server
    SILENT = "silent"  # nothing that is known answers
    CLOSED = "closed"  # the port cannot be opened: another program has it


@dataclass(frozen=True)
class Device:
    """One serial port; `boards` holds the names of all boards that it can be, one where it is known."""

    port: str
    usb: str | None
    state: State
    boards: tuple[str, ...]
    says: str | None = None  # the board's own words
    hello: Hello | None = None


def usb_ports() -> dict[str, str]:
    """The USB serial ports of this machine, by name, with their ids (vendor:product)."""
    found = {port.device: (port.vid, port.pid) for port in list_ports.comports() if port.vid is not None}
    return {name: f"{vendor:04x}:{product or 0:04x}" for name, (vendor, product) in sorted(found.items())}


def candidates(usb: str | None, says: str | None, boards: Iterable[Board]) -> tuple[str, ...]:
    """Names of the boards whose own words these are; without such, of those that have the USB id."""
    known = list(boards)
    by_words = [board.name for board in known if says is not None and says in _own_words(board)]
    return tuple(by_words or [board.name for board in known if usb is not None and usb in board.port.usb])


def board_of(says: str) -> Board | None:
    """The one board whose own words these are; None for other words, and for those of several."""
    boards = all_boards()
    names = candidates(None, says, boards)
    return next((board for board in boards if (board.name,) == names), None)


def _own_words(board: Board) -> list[str]:
    machine = board.micropython.machine if board.micropython else None
    return [words for words in (machine, board.description if board.firmware else None) if words]


def identify(port: str, usb: str | None = None) -> Device:
    """What is behind a serial port; `usb` is its id where it has one."""
    boards = all_boards()
    try:
        transport = SerialTransport(port)
    except NoDeviceError:
        return Device(port, usb, State.CLOSED, candidates(usb, None, boards))
    try:
        state, says, hello = _answer(transport)
    except DeviceError:  # it was pulled out, or speaks something else
        state, says, hello = State.SILENT, None, None
    finally:
        transport.close()
    return Device(port, usb, state, candidates(usb, says, boards), says, hello)


class _Listening:
    """A transport that keeps the last bytes that came through it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.heard = b""

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def read(self, timeout_s: float) -> bytes:
        data = self._transport.read(timeout_s)
        self.heard = (self.heard + data)[-4096:]
        return data

    def drain(self) -> None:
        """Read until nothing comes any more."""
        while self.read(QUIET_S):
            pass

    def close(self) -> None:
        self._transport.close()


def _answer(transport: Transport) -> tuple[State, str | None, Hello | None]:
    listening = _Listening(transport)
    try:
        hello = Client(listening, connect_wait_s=HELLO_WAIT_S).hello
    except DeviceTimeout:
        if RAW_PROMPT not in listening.heard:
            return State.SILENT, None, None
        return State.PROMPT, _machine_at_raw_prompt(listening), None
    return State.SERVER, hello.board, hello


def _machine_at_raw_prompt(listening: _Listening) -> str | None:
    """Ask MicroPython what it runs on, and leave it at the prompt that people use."""
    listening.write(INTERRUPT)  # what is left of HELLO on the input line
    listening.drain()
    listening.heard = b""
    listening.write(ASK_MACHINE + RUN)
    deadline = time.monotonic() + PROMPT_WAIT_S
    while listening.heard.count(RUN) < 2 and time.monotonic() < deadline:
        listening.read(QUIET_S)
    listening.write(FRIENDLY_PROMPT)
    listening.drain()
    output, _, _ = listening.heard.partition(b"OK")[2].partition(RUN)
    return output.decode("utf-8", "replace").strip() or None
