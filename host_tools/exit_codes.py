"""Exit codes of the `thimble` command, and which error gives which; docs/PROTOCOL.md lists them for users."""

from __future__ import annotations

import enum

from model_packager.errors import (
    DeviceRefused,
    DeviceTimeout,
    MeasurementError,
    NoDeviceError,
    RolledBackError,
    UsageError,
    VerificationError,
)
from model_packager.format_table import ErrorCode


class ExitCode(enum.IntEnum):
    OK = 0
    ERROR = 1  # anything that has no code of its own
    USAGE = 2  # arguments or input files that do not fit each other, or need what is not installed
    NO_DEVICE = 3  # no such port, or it cannot be opened
    REFUSED = 4  # the device refused the model or the request, and said why
    VERIFICATION_FAILED = 5  # the device found the file damaged, or runs something else afterwards
    TIME_OUT = 6  # the device did not answer
    ROLLED_BACK = 7  # the device had taken the model and runs its old one again
    MEASUREMENT_FAILED = 8  # a power meter's recording from which no energy follows
    INTERRUPTED = 130  # Ctrl-C, as shells count it


# What a device says when the bytes that reached it are not the ones that were packed.
DAMAGED = {
    ErrorCode.BAD_HEADER_CRC,
    ErrorCode.BAD_SECTION_CRC,
    ErrorCode.BAD_HASH,
    ErrorCode.BAD_SIGNATURE,
    ErrorCode.GOLDEN_MISMATCH,
}


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of the command that `error` ended."""
    if isinstance(error, DeviceRefused) and error.code != ErrorCode.INTERNAL:
        return ExitCode.VERIFICATION_FAILED if error.code in DAMAGED else ExitCode.REFUSED
    for kind, code in (
        (NoDeviceError, ExitCode.NO_DEVICE),
        (DeviceTimeout, ExitCode.TIME_OUT),
        (RolledBackError, ExitCode.ROLLED_BACK),
        (VerificationError, ExitCode.VERIFICATION_FAILED),
        (MeasurementError, ExitCode.MEASUREMENT_FAILED),
        (UsageError, ExitCode.USAGE),
    ):
        if isinstance(error, kind):
            return code
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.ERROR
