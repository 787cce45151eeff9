"""Named errors: one class per error code of the format table, and the packager's own refusals.

Everything a user can cause raises a subclass of ``ThimbleError``; the command line prints its sentence on
stderr and exits non-zero. Errors of a file or of a device carry the ``ErrorCode`` that C, MicroPython and
the wire use for the same cause.
"""

from __future__ import annotations

from model_packager.format_table import ErrorCode


class ThimbleError(Exception):
    """Base of everything that Thimble raises on purpose; ``str()`` is one plain sentence."""


class FormatError(ThimbleError):
    """A file, or a reply of a device, failed a check; ``code`` says which."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code.name.lower()}: {detail}" if detail else code.name.lower())
        self.code = code
        self.detail = detail


class ImportRefused(ThimbleError):
    """An original model uses something that Thimble does not support."""


class PackError(ThimbleError):
    """A model cannot be packed as asked."""


class UsageError(ThimbleError):
    """Arguments or input files that do not fit each other, or that need what is not installed."""


class DeviceError(ThimbleError):
    """No device, no answer, or a transport that broke."""


class NoDeviceError(DeviceError):
    """There is no such port, or it cannot be opened."""


class DeviceTimeout(DeviceError):
    """A device did not answer in time."""


class VerificationError(DeviceError):
    """What a device runs is not what was sent."""


class RolledBackError(VerificationError):
    """A device had taken a model, and runs the one before it again."""


class DeviceRefused(FormatError):
    """A device refused a request; ``code`` and ``detail`` are its own words."""


class MeasurementError(ThimbleError):
    """A power meter's recording from which no energy follows."""


class LostSamples(MeasurementError):
    """Samples are missing in a trigger window."""


class ClippedSamples(MeasurementError):
    """The current was higher than the meter measures."""


class MissingTrigger(MeasurementError):
    """The recording does not show the trigger windows that the device has marked."""


class ShortWindow(MeasurementError):
    """A trigger window, or the idle time beside it, holds too few samples."""
