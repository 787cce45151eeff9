"""Which port a command takes, and which exit code each error gives."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from host_tools.devices import only_serial_port
from host_tools.exit_codes import DAMAGED, ExitCode, exit_code
from host_tools.transports import SerialTransport
from model_packager.errors import (
    DeviceError,
    DeviceRefused,
    DeviceTimeout,
    FormatError,
    ImportRefused,
    NoDeviceError,
    RolledBackError,
    ThimbleError,
    UsageError,
    VerificationError,
)
from model_packager.format_table import ErrorCode


def plugged_in(monkeypatch: pytest.MonkeyPatch, *ports: tuple[str, int | None]) -> None:
    """Let the operating system list these serial ports (name, USB vendor id)."""
    listed = [SimpleNamespace(device=device, vid=vid) for device, vid in ports]
    monkeypatch.setattr(list_ports, "comports", lambda: listed)


def test_only_serial_port_one_usb_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in(monkeypatch, ("/dev/ttyS0", None), ("/dev/ttyACM0", 0x2E8A))
    assert only_serial_port() == "/dev/ttyACM0"


def test_only_serial_port_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in(monkeypatch, ("/dev/ttyS0", None))
    with pytest.raises(NoDeviceError, match="no serial device is plugged in"):
        only_serial_port()


def test_only_serial_port_several_are_not_guessed_between(monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in(monkeypatch, ("/dev/ttyACM1", 1), ("/dev/ttyACM0", 2))
    with pytest.raises(NoDeviceError, match=r"2 serial devices.*ttyACM0 or /dev/ttyACM1"):
        only_serial_port()


def test_serial_transport_missing_port_says_which(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(NoDeviceError, match=r"cannot open .*none: No such file or directory"):
        SerialTransport(os.path.join(tmp_path, "none"))


def test_serial_transport_read_without_data_times_out_empty() -> None:
    master, slave = os.openpty()
    try:
        transport = SerialTransport(os.ttyname(slave))
        assert transport.read(0.05) == b""
        os.write(master, b"hello")
        assert transport.read(1.0) == b"hello"
        transport.close()
    finally:
        os.close(slave)
        os.close(master)


def test_serial_transport_second_client_of_a_port_is_refused() -> None:
    master, slave = os.openpty()
    try:
        first = SerialTransport(os.ttyname(slave))
        with pytest.raises(NoDeviceError, match="cannot open"):
            SerialTransport(os.ttyname(slave))
        first.close()
    finally:
        os.close(slave)
        os.close(master)


def test_serial_transport_pulled_cable_raises_device_error() -> None:
    master, slave = os.openpty()
    transport = SerialTransport(os.ttyname(slave))
    os.close(slave)
    os.close(master)
    with pytest.raises(DeviceError):
        for _ in range(3):
            transport.read(0.1)
    transport.close()


def test_error_without_a_detail_is_its_name_alone() -> None:
    assert str(DeviceRefused(ErrorCode.TRUNCATED, "")) == "truncated"
    assert str(DeviceRefused(ErrorCode.NO_SPACE, "9 bytes")) == "no_space: 9 bytes"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ThimbleError("x"), ExitCode.ERROR),
        (ImportRefused("x"), ExitCode.ERROR),
        (FormatError(ErrorCode.BAD_HASH, "a local file"), ExitCode.ERROR),
        (DeviceError("x"), ExitCode.ERROR),
        (OSError(2, "x"), ExitCode.ERROR),
        (UsageError("x"), ExitCode.USAGE),
        (NoDeviceError("x"), ExitCode.NO_DEVICE),
        (RolledBackError("x"), ExitCode.ROLLED_BACK),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (DeviceRefused(ErrorCode.NO_SPACE, "x"), ExitCode.REFUSED),
        (DeviceRefused(ErrorCode.INTERNAL, "x"), ExitCode.ERROR),
        (VerificationError("x"), ExitCode.VERIFICATION_FAILED),
        (DeviceTimeout("x"), ExitCode.TIME_OUT),
        *((DeviceRefused(code, "x"), ExitCode.VERIFICATION_FAILED) for code in DAMAGED),
    ],
)
def test_exit_code_of_each_error(error: BaseException, code: ExitCode) -> None:
    assert exit_code(error) is code
