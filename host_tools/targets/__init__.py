"""What can execute a packed model: `open_target` takes a name and gives a `Target`; `thimble run` and eval
use it.

Known names are the keys of `TARGETS`; anything that looks like a serial port (`/dev/ttyACM0`, `COM3`, a path)
opens the device server behind it, and `qemu:m4` and its like that of an emulated board.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from model_packager.errors import UsageError

Array = npt.NDArray[Any]


class Target(Protocol):
    """Executes one model at a time."""

    def load(self, data: bytes) -> None:
        """Take a .thimble file; raises FormatError (or DeviceError) when it is refused."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Batches of port integers (N, *shape[1:]) in, batches out."""

    def close(self) -> None:
        """Give back what was opened."""


# Name -> module of this package that has a `create() -> Target`.
TARGETS = {
    "reference": "reference",
    "cpython": "cpython",
    "micropython": "micropython",
    "native": "native",
}
_SERIAL = re.compile(r"(/|\.{1,2}/|COM\d+$|[a-z0-9+]+://|qemu:)", re.IGNORECASE)


def open_target(name: str) -> Target:
    """The target of that name, or the device at that serial port or in that emulator.

    Raises:
        UsageError: no such target.
        DeviceError: no device answers at the port.
    """
    if name in TARGETS:
        return importlib.import_module(f"{__name__}.{TARGETS[name]}").create()
    if _SERIAL.match(name):
        return importlib.import_module(f"{__name__}.serial_port").create(name)
    raise UsageError(
        f"there is no target {name!r}; known are {', '.join(TARGETS)}, qemu:m4 and its "
        "like, or a serial port such as /dev/ttyACM0"
    )


def run_one_by_one(run_sample: Any, inputs: Sequence[Array]) -> list[Array]:
    """Batches through an executor that takes one sample at a time: `run_sample` gets a list of arrays (1,
    *shape[1:]) and gives such a list.
    """
    results = [run_sample([batch[i : i + 1] for batch in inputs]) for i in range(len(inputs[0]))]
    return [np.concatenate(samples) for samples in zip(*results, strict=True)]
