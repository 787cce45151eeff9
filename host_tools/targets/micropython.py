"""Target `micropython`: the firmware on MicroPython's unix port, behind a device server of its own."""

from __future__ import annotations

from host_tools.targets import Target
from host_tools.targets.serial_port import DeviceTarget


def create() -> Target:
    """A server that lives as long as the target."""
    return DeviceTarget("micropython")
