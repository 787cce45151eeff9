"""What every power meter's driver is to the command, and how a user names a meter.

A driver is a module of this folder with `open_meter(place, options, volts)`, and an `Options` dataclass whose
fields are what a user may say behind the name: ``--meter ppk2:/dev/ttyACM1,mode=ampere`` is kind, place and
an option.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, Protocol

from host_tools.meters.trace import Samples, join_samples
from model_packager.errors import DeviceTimeout, UsageError

DRIVERS = ("ppk2", "lpm01a", "js220", "ina")
REPLAY = "replay"
FIRST_SAMPLE_WAIT_S = 5.0
CATCH_UP_WAIT_S = 3.0
CONVERSIONS: dict[str, Callable[[str], Any]] = {
    "int": lambda text: int(text, 0),  # also 0x40
    "float": float,
    "str": str,
}
READ_S = 0.1  # an interrupt is noticed within this time


class Meter(Protocol):
    """A meter that is open; its target has power.

    `title` is for people. `supply_volts` is None where the meter measures it (`supply_source` says so), and
    where only the user can know it; then both are set before `start`.
    """

    title: str
    supply_volts: float | None
    supply_source: str
    trigger_marks: str

    def start(self) -> None:
        """Begin to sample. Raises DeviceError."""

    def read(self, timeout_s: float) -> Samples:
        """The samples that have arrived since, perhaps none after `timeout_s`.

        Raises:
            DeviceError: the meter is gone.
            MeasurementError: what comes is not to be understood.
        """

    def stop(self) -> None:
        """End sampling."""

    def close(self) -> None:
        """Give the port back. The target keeps its power."""


@dataclass(frozen=True)
class MeterName:
    """A meter as a user names it."""

    kind: str
    place: str | None
    options: dict[str, str]


def parse_name(text: str) -> MeterName:
    """`KIND[:PLACE][,OPTION=VALUE...]`; the place is a serial port, a serial number, or a file.

    Raises:
        UsageError: no such kind, or an option without a value.
    """
    head, *words = text.split(",")
    kind, _, place = head.partition(":")
    if kind not in (*DRIVERS, REPLAY):
        raise UsageError(f"no meter is called {kind!r}; there are {', '.join(DRIVERS)} and {REPLAY}:FILE")
    options = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value:
            raise UsageError(f"--meter {text}: {word!r} is no OPTION=VALUE")
        options[name] = value
    return MeterName(kind, place or None, options)


def _options(kind: str, given: dict[str, str], options_type: type) -> Any:
    """An `Options` of the driver: its fields are numbers or words."""
    known = {field.name: field for field in fields(options_type)}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise UsageError(f"the meter {kind} has no option {name!r}; it has {', '.join(known)}")
        convert = CONVERSIONS[str(known[name].type)]
        try:
            values[name] = convert(text)
        except ValueError:
            raise UsageError(f"the meter {kind}: {name} cannot be {text!r}") from None
    for name, field in known.items():
        if field.default is MISSING and name not in values:
            raise UsageError(f"the meter {kind} needs the option {name}")
    return options_type(**values)


def open_meter(name: MeterName, volts: float | None) -> Meter:
    """The meter of that name. `volts`: the supply, as the user says it.

    Raises:
        UsageError: an option or the voltage is not for this meter, or a package that it needs is missing.
        NoDeviceError: there is no such meter.
        DeviceError, DeviceTimeout: it does not answer as it should.
    """
    driver = importlib.import_module(f"host_tools.meters.{name.kind}")
    options = _options(name.kind, name.options, driver.Options)
    return driver.open_meter(name.place, options, volts)


class Recorder:
    """Samples of a meter, taken by a thread for the length of a `with` block.

    Args:
        tick: is called now and then with the seconds since the start.
    """

    def __init__(self, meter: Meter, tick: Callable[[float], None] = lambda _: None) -> None:
        self._meter = meter
        self._tick = tick
        self._pieces: list[Samples] = []
        self._first_s = 0.0  # of the host's clock, when they began to come
        self._error: Exception | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)

    def __enter__(self) -> Recorder:
        self._meter.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._meter.stop()

    def _record(self) -> None:
        started = time.monotonic()
        try:
            while not self._is_over.is_set():
                piece = self._meter.read(READ_S)
                elapsed_s = time.monotonic() - started
                if len(piece):
                    self._first_s = self._first_s or time.monotonic()
                    self._pieces.append(piece)
                elif not self._pieces and elapsed_s > FIRST_SAMPLE_WAIT_S:
                    raise DeviceTimeout(f"the meter sent no sample within {FIRST_SAMPLE_WAIT_S:g} s")
                self._tick(elapsed_s)
        except Exception as error:  # it is raised where the samples are wanted
            self._error = error

    def wait(self, seconds: float) -> None:
        """Let time pass; raises what has befallen the meter, as soon as it does."""
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and (left_s := deadline - time.monotonic()) > 0:
            self._thread.join(min(left_s, READ_S))
        self.check()

    def wait_for_first(self) -> None:
        """Let time pass until samples come."""
        while not self._pieces and self._thread.is_alive():
            self._thread.join(READ_S)
        self.check()

    def catch_up(self) -> None:
        """Wait for the samples of what has happened until now: a meter may send them late."""
        if not self._pieces:
            return
        until_s = time.monotonic() - self._first_s + float(self._pieces[0].time_s[0])
        deadline = time.monotonic() + CATCH_UP_WAIT_S
        while self._pieces[-1].time_s[-1] < until_s and time.monotonic() < deadline:
            self.wait(READ_S)

    def check(self) -> None:
        """Raise what has befallen the meter."""
        if self._error is not None:
            raise self._error

    def samples(self) -> Samples:
        """All that was recorded; after the block."""
        self.check()
        return join_samples(self._pieces)
