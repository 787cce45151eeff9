"""ST's X-NUCLEO-LPM01A: lines of text go to its virtual serial port and come back.

A command is answered with ``ack COMMAND`` or with ``error COMMAND`` and a line ``Error detail: ...``. Between
``start`` and ``stop`` come, in the format ascii_dec, a line for each sample, such as ``6409-07`` for
640.9 uA; every 1,000 samples one with the time of the next, ``TimeStamp: 001s 200ms, buff 03%``; and where
the pin at connector D7 falls, ``event 12 ris`` between two samples. The board gives the end of a trigger
window alone, so that the device says how long it was. Sources: ST UM2243 and the board's own `help`; the
events as MLPerf Tiny's public runner uses them.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import numpy as np
from serial.tools import list_ports

from host_tools.meters.trace import END, SET, Samples, make_samples
from host_tools.transports import SerialTransport, Transport
from model_packager.errors import DeviceError, DeviceTimeout, MeasurementError, NoDeviceError, UsageError

USB_ID = (0x0483, 0x5740)
BAUD = 3_686_400
LEAST_VOLTS, MOST_VOLTS = 1.8, 3.3
RATE_HZ, RATE = 5000, "5k"  # the highest in this format without a limit of time
MOST_AMPERES = {"dyn": 0.050, "stat": 0.200}
IMPOSSIBLE_AMPERES = 10.0  # a line that says so is broken
ANSWER_WAIT_S = 10.0  # `volt` calibrates the board
STOP_WAIT_S = 3.0
PROMPT = "PowerShield >"
COMPLETED = "Acquisition completed"
FULL_PERCENT = 100  # of the board's buffer

SAMPLE = re.compile(r"(\d{4})([+-]\d{2})")
TIME_STAMP = re.compile(r"TimeStamp: (\d+)s (\d+)ms, buff (\d+)%")
EVENT = re.compile(r"event \d+ (?:ris|fal)")


@dataclass(frozen=True)
class Options:
    """`acqmode`: dyn (to 50 mA) or stat (to 200 mA, for a current that hardly changes)."""

    acqmode: str = "dyn"


class LineDecoder:
    """Lines to samples; a piece of the stream may end anywhere.

    Args:
        volts: the supply.
        most_amperes: above which the board does not measure.
    """

    def __init__(self, volts: float, most_amperes: float) -> None:
        self._volts = volts
        self._most_amperes = most_amperes
        self._rest = ""
        self._index = 0  # of the next sample, lost ones counted
        self._has_fallen = False

    def decode(self, data: bytes) -> Samples:
        """The samples whose lines are whole now.

        Raises:
            MeasurementError: the board reports an error, or its buffer was full.
        """
        *lines, self._rest = (self._rest + data.decode("ascii", "replace")).replace("\0", "").split("\n")
        places: list[int] = []
        amperes: list[float] = []
        ends: list[bool] = []
        for line in lines:
            line = line.strip()
            found = SAMPLE.fullmatch(line)
            if found and (value := int(found[1]) * 10.0 ** int(found[2])) < IMPOSSIBLE_AMPERES:
                places.append(self._index)
                amperes.append(value)
                ends.append(self._has_fallen)
                self._has_fallen = False
                self._index += 1
            elif found := TIME_STAMP.fullmatch(line):
                self._check_buffer(int(found[3]))
                place = (int(found[1]) * 1000 + int(found[2])) * RATE_HZ // 1000
                self._index = max(self._index, place)
            elif EVENT.fullmatch(line):
                self._has_fallen = True
            elif line.lower().removeprefix(PROMPT.lower()).strip().startswith("error"):
                raise MeasurementError(f"the LPM01A stops with {line!r}")
            elif SAMPLE.search(line):
                self._index += 1  # the bytes of a line were lost: so is its sample
        current = np.array(amperes)
        return make_samples(
            time_s=np.array(places) / RATE_HZ,
            current_amperes=current,
            voltage_volts=self._volts,
            trigger=ends,
            clipped=current >= self._most_amperes,
        )

    @staticmethod
    def _check_buffer(percent: int) -> None:
        if percent >= FULL_PERCENT:
            raise MeasurementError("the LPM01A's buffer ran over: the host is too slow for its samples")


class Lpm01a:
    """A board; see `Meter`."""

    trigger_marks = END
    supply_source = SET

    def __init__(self, transport: Transport, options: Options, volts: float) -> None:
        self._transport = transport
        self._options = options
        self._decoder: LineDecoder | None = None
        self.title = f"ST X-NUCLEO-LPM01A, {'dynamic' if options.acqmode == 'dyn' else 'static'} mode"
        self.supply_volts: float | None = volts
        self._command("htc")
        for command in (
            f"volt {round(volts * 1000)}m",
            f"acqmode {options.acqmode}",
            "output current",
            "format ascii_dec",
            f"freq {RATE}",
            "acqtime inf",
            "trigsrc sw",
            "trigdelay 0",
            "eventsrc d7 fal",
            "pwrend on",
            "pwr on nostatus",
        ):
            self._command(command)

    def _command(self, command: str) -> None:
        self._transport.write(f"{command}\n".encode())
        heard, deadline = "", time.monotonic() + ANSWER_WAIT_S
        while (left_s := deadline - time.monotonic()) > 0:
            heard += self._transport.read(left_s).decode("ascii", "replace").replace("\0", "")
            *lines, _ = heard.split("\n")
            answers = [line.replace(PROMPT, "").strip() for line in lines]
            if f"ack {command}" in answers:
                return
            if any(answer.startswith("error") for answer in answers):
                raise DeviceError(f"the LPM01A refuses {command!r}: {_detail(answers)}")
        raise DeviceTimeout(f"no LPM01A answers there: {command!r} was not acknowledged")

    def start(self) -> None:
        assert self.supply_volts is not None
        self._decoder = LineDecoder(self.supply_volts, MOST_AMPERES[self._options.acqmode])
        self._transport.write(b"start\n")

    def read(self, timeout_s: float) -> Samples:
        if self._decoder is None:
            raise DeviceError("the LPM01A was not started")
        return self._decoder.decode(self._transport.read(timeout_s))

    def stop(self) -> None:
        self._transport.write(b"stop\n")
        heard, deadline = "", time.monotonic() + STOP_WAIT_S
        while COMPLETED not in heard and (left_s := deadline - time.monotonic()) > 0:
            heard = heard[-100:] + self._transport.read(left_s).decode("ascii", "replace")

    def close(self) -> None:
        try:
            self._transport.write(b"hrc\n")  # its own buttons work again
        finally:
            self._transport.close()


def _detail(answers: list[str]) -> str:
    details = [answer.partition(":")[2].strip() for answer in answers if answer.startswith("Error detail")]
    return details[0] if details else "it gives no reason"


def _only_port() -> str:
    ports = sorted(port.device for port in list_ports.comports() if (port.vid, port.pid) == USB_ID)
    if len(ports) != 1:
        what = "no LPM01A is plugged in" if not ports else f"{len(ports)} devices may be the LPM01A"
        raise NoDeviceError(f"{what}: give the port with --meter lpm01a:PORT")
    return ports[0]


def open_meter(place: str | None, options: Options, volts: float | None) -> Lpm01a:
    """The board at a port, or the only one. As `meter.open_meter`."""
    if options.acqmode not in MOST_AMPERES:
        raise UsageError(f"the LPM01A's acqmode is dyn or stat, not {options.acqmode!r}")
    if volts is None or not LEAST_VOLTS <= volts <= MOST_VOLTS:
        raise UsageError("the LPM01A supplies the device: say with how many volts, 1.8 to 3.3 (--volts)")
    transport = SerialTransport(place or _only_port(), BAUD)
    try:
        return Lpm01a(transport, options, volts)
    except BaseException:
        transport.close()
        raise
