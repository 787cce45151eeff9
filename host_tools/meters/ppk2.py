"""Nordic's Power Profiler Kit II: commands go to its USB serial port, 100,000 words a second come back.

A command is a byte and its arguments; the kit answers only to GET_METADATA, with lines `NAME: value` up to
`END`, and to START, with little-endian words of 32 bits:

    bits 0 to 13   ADC reading, of 4 steps each
    bits 14 to 16  measuring range, 0 (the smallest currents) to 4
    bits 18 to 23  sample counter, which wraps at 64: the only sign of samples that were lost on the way
    bits 24 to 31  logic channels D0 to D7

With x = (4 * ADC - O) * 1.8 / (163840 * R) the current in amperes is UG * (x * (GS * x + GI) + S * V + I),
the factors being those of the range in the metadata, and V the supply in volts. Facts, not code, from
Nordic's own application (github.com/NordicSemiconductor/pc-nrfconnect-ppk). That application also smooths
the three samples after each change of range; here they stay as they are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from serial.tools import list_ports

from host_tools.meters.trace import GIVEN, LEVEL, SET, Samples, make_samples
from host_tools.transports import SerialTransport, Transport
from model_packager.errors import DeviceError, DeviceTimeout, LostSamples, NoDeviceError, UsageError

USB_ID = (0x1915, 0xC00A)
START, STOP = b"\x06", b"\x07"
SET_POWER, SET_VOLTAGE, SET_MODE, GET_METADATA = 0x0C, 0x0D, 0x11, b"\x19"
MODES = {"ampere": 1, "source": 2}
ON = 1
LEAST_MILLIVOLTS, MOST_MILLIVOLTS = 800, 5000
METADATA_WAIT_S, QUIET_S = 3.0, 0.1
METADATA_END = b"END"
METADATA_LIMIT_BYTES = 4096

RATE_HZ = 100_000
RANGES = 5
ADC_BITS, ADC_STEP = 14, 4
RANGE_SHIFT, RANGE_MASK = 14, 7
COUNTER_SHIFT, COUNTER_MASK = 18, 63
LOGIC_SHIFT = 24
ADC_VOLTS = 1.8 / 163840
LEAST_IN_STEP = 0.5  # of a piece's samples: below, it is no row of words


@dataclass(frozen=True)
class Options:
    """`mode`: source (the kit supplies the device) or ampere (it lies in its supply); `channel`: the logic
    channel that the trigger pin is wired to."""

    mode: str = "source"
    channel: int = 0


@dataclass(frozen=True)
class Modifiers:
    """Factors of the five ranges, as the metadata names them."""

    r: tuple[float, ...] = (1031.64, 101.65, 10.15, 0.94, 0.043)  # ohms
    gs: tuple[float, ...] = (1.0,) * RANGES
    gi: tuple[float, ...] = (1.0,) * RANGES
    o: tuple[float, ...] = (0.0,) * RANGES
    s: tuple[float, ...] = (0.0,) * RANGES
    i: tuple[float, ...] = (0.0,) * RANGES
    ug: tuple[float, ...] = (1.0,) * RANGES

    NAMES: ClassVar = ("r", "gs", "gi", "o", "s", "i", "ug")
    NEVER_ZERO: ClassVar = ("r", "gi", "ug")


def parse_metadata(text: str) -> Modifiers:
    """The factors of a kit. What it has no number for (`-nan`, or 0 for a resistance or a gain) is not
    calibrated: the default stays. Lines of other names are left alone."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            try:
                found[name.strip().lower()] = float(value)
            except ValueError:
                continue  # such as a serial number
    defaults = Modifiers()
    factors = {}
    for name in Modifiers.NAMES:
        numbers = []
        for number, default in enumerate(getattr(defaults, name)):
            value = found.get(f"{name}{number}", default)
            usable = np.isfinite(value) and (value or name not in Modifiers.NEVER_ZERO)
            numbers.append(value if usable else default)
        factors[name] = tuple(numbers)
    return Modifiers(**factors)


class WordDecoder:
    """Words to samples; a piece of the stream may end anywhere.

    Args:
        volts: the supply.
        channel: logic channel of the trigger.
    """

    def __init__(self, modifiers: Modifiers, volts: float, channel: int) -> None:
        self._factors = {name: np.array(getattr(modifiers, name)) for name in Modifiers.NAMES}
        self._volts = volts
        self._channel = channel
        self._rest = b""
        self._counter: int | None = None
        self._index = 0  # of the next sample, lost ones counted

    def decode(self, data: bytes) -> Samples:
        """The samples that are whole now.

        Raises:
            LostSamples: bytes were lost, so that no word begins where one should.
        """
        data = self._rest + data
        whole = len(data) // 4 * 4
        self._rest = data[whole:]
        words = np.frombuffer(data[:whole], "<u4").astype(np.int64)
        index = self._place(words >> COUNTER_SHIFT & COUNTER_MASK)
        reading = words & (1 << ADC_BITS) - 1
        return make_samples(
            time_s=index / RATE_HZ,
            current_amperes=self._amperes(reading, words >> RANGE_SHIFT & RANGE_MASK),
            voltage_volts=self._volts,
            trigger=words >> (LOGIC_SHIFT + self._channel) & 1,
            clipped=reading == (1 << ADC_BITS) - 1,
        )

    def _place(self, counters: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each sample since the start; it jumps where the counter does."""
        if not len(counters):
            return np.zeros(0, np.int64)
        before = counters[0] - 1 if self._counter is None else self._counter
        steps = np.diff(counters, prepend=before) & COUNTER_MASK
        steps[steps == 0] = COUNTER_MASK + 1  # 63 were lost
        if len(steps) > COUNTER_MASK and np.mean(steps == 1) < LEAST_IN_STEP:
            raise LostSamples("bytes of the PPK2's stream were lost: its words are out of step")
        index = self._index + np.cumsum(steps) - 1
        self._index = int(index[-1]) + 1
        self._counter = int(counters[-1])
        return index

    def _amperes(self, reading: NDArray[np.int64], ranges: NDArray[np.int64]) -> NDArray[np.float64]:
        ranges = np.minimum(ranges, RANGES - 1)
        r, gs, gi, o, s, i, ug = (self._factors[name][ranges] for name in Modifiers.NAMES)
        x = (reading.astype(np.float64) * ADC_STEP - o) * (ADC_VOLTS / r)
        return ug * (x * (gs * x + gi) + s * self._volts + i)


class Ppk2:
    """A kit; see `Meter`."""

    trigger_marks = LEVEL

    def __init__(self, transport: Transport, options: Options, volts: float | None) -> None:
        self._transport = transport
        self._channel = options.channel
        self.title = f"Nordic PPK2, {options.mode} meter"
        self.supply_volts = volts
        self.supply_source = SET if options.mode == "source" else GIVEN
        self._decoder: WordDecoder | None = None
        self.modifiers = self._read_metadata()
        transport.write(bytes([SET_MODE, MODES[options.mode]]))
        if options.mode == "source":
            transport.write(bytes([SET_VOLTAGE]) + _millivolts(volts).to_bytes(2, "big"))
        transport.write(bytes([SET_POWER, ON]))

    def _read_metadata(self) -> Modifiers:
        self._transport.write(STOP)
        self._drain()  # what an earlier program has left running
        deadline = time.monotonic() + METADATA_WAIT_S
        self._transport.write(GET_METADATA)
        heard = b""
        while METADATA_END not in heard:
            data = self._transport.read(max(0.01, deadline - time.monotonic()))
            heard += data
            if not data or len(heard) > METADATA_LIMIT_BYTES:
                raise DeviceTimeout("no PPK2 answers there: it sends no metadata")
        self._drain()  # a line's end would put the words out of step
        return parse_metadata(heard.partition(METADATA_END)[0].decode("ascii", "replace"))

    def _drain(self) -> None:
        deadline = time.monotonic() + METADATA_WAIT_S
        while self._transport.read(QUIET_S) and time.monotonic() < deadline:
            pass

    def start(self) -> None:
        if self.supply_volts is None:
            raise UsageError("the PPK2 measures no voltage: give that of the supply with --volts")
        self._decoder = WordDecoder(self.modifiers, self.supply_volts, self._channel)
        self._transport.write(START)

    def read(self, timeout_s: float) -> Samples:
        if self._decoder is None:
            raise DeviceError("the PPK2 was not started")
        return self._decoder.decode(self._transport.read(timeout_s))

    def stop(self) -> None:
        self._transport.write(STOP)

    def close(self) -> None:
        self._transport.close()


def _millivolts(volts: float | None) -> int:
    if volts is None:
        raise UsageError("the PPK2 supplies the device: say with how many volts (--volts)")
    if not LEAST_MILLIVOLTS <= round(volts * 1000) <= MOST_MILLIVOLTS:
        raise UsageError(f"the PPK2 supplies 0.8 to 5 V, not {volts:g}")
    return round(volts * 1000)


def _only_port() -> str:
    """Of two ports of one kit, the first carries the commands."""
    found = sorted(
        (port.serial_number or "", port.device)
        for port in list_ports.comports()
        if (port.vid, port.pid) == USB_ID
    )
    if len({number for number, _ in found}) != 1:
        what = "no PPK2 is plugged in" if not found else "there are several PPK2s"
        raise NoDeviceError(f"{what}: give the port with --meter ppk2:PORT")
    return found[0][1]


def open_meter(place: str | None, options: Options, volts: float | None) -> Ppk2:
    """The kit at a port, or the only one. As `meter.open_meter`."""
    if options.mode not in MODES:
        raise UsageError(f"the PPK2's mode is source or ampere, not {options.mode!r}")
    if not 0 <= options.channel < 8:
        raise UsageError(f"the PPK2 has the logic channels 0 to 7, not {options.channel}")
    if options.mode == "source":
        _millivolts(volts)  # before anything is switched on
    transport = SerialTransport(place or _only_port())
    try:
        return Ppk2(transport, options, volts)
    except BaseException:
        transport.close()
        raise
