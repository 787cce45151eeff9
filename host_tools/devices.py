"""From the name that a user gives to a client: a serial port, or a server that is started for the occasion.

Used by the commands that talk to a device server. Without a name the only serial device that is plugged in is
taken; with several there is no guessing. Every command's parser needs this module, so that what only a device
needs is imported where it is used.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from host_tools import serve
from model_packager.errors import DeviceRefused, DeviceTimeout, NoDeviceError
from model_packager.format_table import ErrorCode

if TYPE_CHECKING:
    from host_tools.client import Client, Deployment


def add_device_option(parser: argparse.ArgumentParser, other: str = "") -> None:
    """Declare --target and its alias --port for a command that needs a device server. `other`: what else the
    command takes, for the help."""
    parser.add_argument(
        "--target",
        "--port",
        metavar="T",
        default=os.environ.get("THIMBLE_PORT") or os.environ.get("THIMBLE_TARGET"),
        help=f"serial port of the device, or {', '.join(serve.TARGETS)}, for which a server is started"
        f"{other and ', or ' + other} "
        "(default: $THIMBLE_PORT, $THIMBLE_TARGET, else the only serial device that is plugged in)",
    )


def only_serial_port() -> str:
    """The port of the only USB serial device.

    Raises:
        NoDeviceError: there is none, or there are several.
    """
    from serial.tools import list_ports

    ports = sorted(port.device for port in list_ports.comports() if port.vid is not None)
    if not ports:
        raise NoDeviceError(
            "no serial device is plugged in: give its port with --port, or --target micropython to do without"
        )
    if len(ports) > 1:
        raise NoDeviceError(f"there are {len(ports)} serial devices: choose with --port {' or '.join(ports)}")
    return ports[0]


@contextlib.contextmanager
def open_device(name: str | None) -> Iterator[Client]:
    """A client of the device called `name`, for the length of a `with` block.

    Args:
        name: one of `serve.TARGETS`, for which a server is started; a serial port; None for the only serial
            device.

    Raises:
        UsageError: there is no such emulated board, or what it needs is not installed.
        NoDeviceError: there is no such port.
        DeviceTimeout: nothing that speaks the protocol answers there.
    """
    from host_tools.client import Client
    from host_tools.transports import SerialTransport

    if name is not None and (name in serve.TARGETS or name.startswith(serve.QEMU_TARGET)):
        with serve.start(name) as server, server.connect() as client:
            yield client
        return
    port = only_serial_port() if name is None else name
    transport = SerialTransport(port)
    try:
        try:
            client = Client(transport)
        except DeviceTimeout as error:
            raise DeviceTimeout(f"no Thimble device server answers at {port}") from error
        yield client
    finally:
        transport.close()


def deploy_with_bar(client: Client, file: bytes, force: bool = False, title: str = "deploy") -> Deployment:
    """`Client.deploy` with a progress bar, which also moves while the device verifies the file."""
    from host_tools.packed_file import missing_features
    from host_tools.progress import progress_bar

    try:
        with progress_bar(title) as progress:
            return client.deploy(file, force, progress, lambda: progress.wait("verify"))
    except DeviceRefused as error:
        if error.code is not ErrorCode.UNSUPPORTED_FEATURE:
            raise
        detail = missing_features(file, client.hello.features, "the device") or error.detail
        raise DeviceRefused(error.code, detail) from error
