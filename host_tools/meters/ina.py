"""TI's INA226 or INA228 behind a second MicroPython board, which runs firmware/meter/ina.py meanwhile.

That file goes to the board's raw prompt with every measurement; its docstring says what comes back. The chip
measures the voltage of its shunt, and that of the supply.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from host_tools.identify import FRIENDLY_PROMPT, INTERRUPT, RAW_PROMPT, RUN
from host_tools.meters.trace import LEVEL, MEASURED, Samples, make_samples
from host_tools.shipped import meter_folder
from host_tools.transports import SerialTransport, Transport
from model_packager.errors import DeviceError, DeviceTimeout, UsageError

RAW = b"\x01"
PROMPT_WAIT_S, QUIET_S = 5.0, 0.2
CHUNK_BYTES, CHUNK_PAUSE_S = 256, 0.01  # boards with a UART have no flow control
RECORD_BYTES, HEAD, TAIL = 13, 0xA5, 0x5A
TICK_BITS = 30
START, STOP = b"s", b"q"


@dataclass(frozen=True)
class Chip:
    """Volts of one count of shunt and bus, and the bits of both; they begin at the register's highest bit."""

    shunt_volts: float
    bus_volts: float
    bits: int


CHIPS = {"INA226": Chip(2.5e-6, 1.25e-3, 16), "INA228": Chip(312.5e-9, 195.3125e-6, 20)}


@dataclass(frozen=True)
class Options:
    """`shunt_ohms`: the resistor; `trigger`: the second board's pin that the trigger is wired to; `bus`,
    `sda` and `scl`: its I2C, with the bus's own pins where none are given; `address`: the chip's."""

    shunt_ohms: float
    trigger: str
    bus: int = 0
    sda: str = ""
    scl: str = ""
    address: int = 0x40
    rate_hz: int = 1000


class RecordDecoder:
    """Records to samples; a piece of the stream may end anywhere. What is no whole record is passed over."""

    def __init__(self, chip: Chip, shunt_ohms: float) -> None:
        self._chip = chip
        self._shunt_ohms = shunt_ohms
        self._rest = b""
        self._ticks: int | None = None
        self._time_us = 0

    def decode(self, data: bytes) -> Samples:
        """The samples that are whole now."""
        data, records, at = self._rest + data, [], 0
        while at + RECORD_BYTES <= len(data):
            if data[at] == HEAD and data[at + RECORD_BYTES - 1] == TAIL and data[at + RECORD_BYTES - 2] < 2:
                records.append(data[at : at + RECORD_BYTES])
                at += RECORD_BYTES
            else:
                at += 1
        self._rest = data[at:]
        fields = np.frombuffer(b"".join(records), np.uint8).reshape(-1, RECORD_BYTES).astype(np.int64)
        shunt = self._counts(fields[:, 5:8])
        limit = 1 << (self._chip.bits - 1)
        shunt = np.where(shunt >= limit, shunt - 2 * limit, shunt)
        return make_samples(
            time_s=self._times_us(fields[:, 1:5]) / 1e6,
            current_amperes=shunt * self._chip.shunt_volts / self._shunt_ohms,
            voltage_volts=self._counts(fields[:, 8:11]) * self._chip.bus_volts,
            trigger=fields[:, 11],
            clipped=shunt >= limit - 1,
        )

    def _counts(self, register: np.ndarray) -> np.ndarray:
        return (register @ [1 << 16, 1 << 8, 1]) >> (24 - self._chip.bits)

    def _times_us(self, ticks_bytes: np.ndarray) -> np.ndarray:
        """Since the first record; the board's ticks wrap."""
        ticks = ticks_bytes @ [1, 1 << 8, 1 << 16, 1 << 24]
        if not len(ticks):
            return ticks
        steps = np.diff(ticks, prepend=ticks[0] if self._ticks is None else self._ticks) % (1 << TICK_BITS)
        times = self._time_us + np.cumsum(steps)
        self._ticks, self._time_us = int(ticks[-1]), int(times[-1])
        return times


class Ina:
    """A board with a chip; see `Meter`."""

    trigger_marks = LEVEL
    supply_source = MEASURED

    def __init__(self, transport: Transport, options: Options) -> None:
        self._transport = transport
        self._options = options
        self._decoder: RecordDecoder | None = None
        self.supply_volts: float | None = None
        self._enter_raw_prompt()
        name = self._start_program()
        if name not in CHIPS:
            self._leave()
            raise DeviceError(f"the board with the meter: {name}")
        self._chip = CHIPS[name]
        self.title = f"TI {name}, shunt of {options.shunt_ohms:g} ohms"

    def _enter_raw_prompt(self) -> None:
        self._transport.write(INTERRUPT + INTERRUPT + b"\r" + RAW)
        heard, deadline = b"", time.monotonic() + PROMPT_WAIT_S
        while not (RAW_PROMPT in heard and heard.endswith(b">")):
            data = self._transport.read(max(0.01, deadline - time.monotonic()))
            heard += data
            if not data:
                raise DeviceTimeout("no MicroPython prompt answers at the meter's port")

    def _start_program(self) -> str:
        """Send and run; the line that the program says first."""
        options = self._options
        interval_us = round(1e6 / options.rate_hz)
        arguments = [options.bus, _pin(options.sda), _pin(options.scl), options.address]
        call = f"run({', '.join(map(repr, [*arguments, _pin(options.trigger), interval_us]))})\n"
        program = (meter_folder() / "ina.py").read_bytes() + call.encode()
        for at in range(0, len(program), CHUNK_BYTES):
            self._transport.write(program[at : at + CHUNK_BYTES])
            time.sleep(CHUNK_PAUSE_S)
        self._transport.write(RUN)
        heard, deadline = b"", time.monotonic() + PROMPT_WAIT_S
        while heard.count(b"\n") == 0:
            data = self._transport.read(max(0.01, deadline - time.monotonic()))
            heard += data
            if not data:
                raise DeviceTimeout("the board with the meter does not run its program")
        if b"Traceback" in heard:
            lines = (heard + self._drain()).partition(RUN + b">")[0].decode("utf-8", "replace").split("\n")
            return next(line.strip() for line in reversed(lines) if line.strip())
        line = heard.partition(b"\n")[0].partition(b"OK")[2]
        return line.decode("utf-8", "replace").strip()

    def _drain(self) -> bytes:
        heard, deadline = b"", time.monotonic() + PROMPT_WAIT_S
        while (data := self._transport.read(QUIET_S)) and time.monotonic() < deadline:
            heard = (heard + data)[-4096:]
        return heard

    def start(self) -> None:
        self._decoder = RecordDecoder(self._chip, self._options.shunt_ohms)
        self._transport.write(START)

    def read(self, timeout_s: float) -> Samples:
        if self._decoder is None:
            raise DeviceError("the INA was not started")
        return self._decoder.decode(self._transport.read(timeout_s))

    def stop(self) -> None:
        self._transport.write(STOP)
        self._drain()

    def _leave(self) -> None:
        self._transport.write(FRIENDLY_PROMPT)
        self._drain()

    def close(self) -> None:
        try:
            self.stop()
            self._leave()
        finally:
            self._transport.close()


def _pin(name: str) -> str | int | None:
    """What machine.Pin takes."""
    return int(name) if name.isdigit() else name or None


def open_meter(place: str | None, options: Options, volts: float | None) -> Ina:
    """The chip of the board at a port. As `meter.open_meter`."""
    if place is None:
        raise UsageError("say at which port the board with the INA is: --meter ina:PORT,...")
    if volts is not None:
        raise UsageError("the INA measures the voltage itself: leave out --volts")
    if options.shunt_ohms <= 0 or not 1 <= options.rate_hz <= 2000 or bool(options.sda) != bool(options.scl):
        raise UsageError("the INA's shunt_ohms is above 0, its rate_hz 1 to 2000, and sda needs scl")
    transport = SerialTransport(place)
    try:
        return Ina(transport, options)
    except BaseException:
        transport.close()
        raise
