"""Deployments that go wrong: in every case the device has its old or the new model afterwards, and runs it.

Power cuts at a write, an erase or a program of the storage, and bytes that are lost, changed, doubled, held
up or made up on the wire. tests/test_deploy_faults.py tries some of each, benchmarks/deploy_faults.py many.
"""

from __future__ import annotations

import builtins
import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from host_tools.client import Client, trailer_sha256
from host_tools.transports import LoopbackTransport
from model_packager.errors import DeviceError, DeviceTimeout
from model_packager.format_table import ModelState
from tests.device_models import expected_outputs, random_inputs
from tests.faulty_transport import FaultyTransport
from tests.server_devices import CDevice, CServer, SlotDevice

MAX_PAYLOAD = 256
EVERYTHING = 0xFFFFFFFF  # more operations than there are


def connect(server: Any, resend_s: float = 1.0) -> Client:
    """A client of a server behind a loopback, where no time passes while it waits."""
    return Client(LoopbackTransport(server.handle, server.limit_bytes), resend_s=resend_s)


def check_has_one_of(client: Client, files: tuple[bytes, ...], case: object) -> bytes:
    """The one of `files` that the device runs, by its name and by its results.

    Raises:
        AssertionError: it runs something else, or nothing.
    """
    hello = client.hello
    assert hello.model_state == ModelState.READY, (case, hello.model_state)
    found = [file for file in files if trailer_sha256(file) == hello.model_sha256]
    assert len(found) == 1, (case, hello.model_sha256)
    inputs = random_inputs(found[0], seed=3)
    assert client.infer(inputs)[0] == expected_outputs(found[0], inputs), case
    return found[0]


# ------------------------------------------------------------------------------------- power cuts: C, flash


class CutFlash:
    """firmware/server on flash whose power fails; `seed` decides what the operation leaves that is cut."""

    def __init__(self, device: CDevice) -> None:
        self._device = device
        self._server: CServer = device.start(MAX_PAYLOAD)

    def store(self, file: bytes, before: bytes) -> None:
        """Start with `file`, and `before` in the other half."""
        self._device.store(before)
        self._server.power_on()
        connect(self._server).deploy(file)

    def deploy(self, file: bytes, operations: int, seed: int) -> int:
        """Deploy until the power fails; the count of operations."""
        self._server.cut_after(operations, seed)
        deploy_if_possible(self._server, file)
        return self._server.operations

    def power_on(self) -> Any:
        self._server.power_on()
        return self._server

    def close(self) -> None:
        self._server.close()


def deploy_if_possible(server: Any, file: bytes) -> None:
    """Deploy; the device may fall silent at any moment."""
    with (
        mock.patch.object(secrets, "randbits", lambda bits: 7),
        mock.patch.object(secrets, "randbelow", lambda end: 1),
    ):  # the same frames in every case
        try:
            connect(server).deploy(file)
        except DeviceError:
            return


# --------------------------------------------------------------------------------- power cuts: Python, files


class PowerCut(BaseException):
    """The device stops here."""


class CutFiles:
    """A file system whose power fails. What a file holds that was being written then, by the kind of file
    system: what was written so far; what it held before (littlefs); the beginning of it (FAT)."""

    KINDS = 3

    def __init__(self) -> None:
        self.operations = 0
        self.until_cut = EVERYTHING
        self.random = random.Random(0)
        self.kind = 0
        self._open: list[CutFile] = []

    def set_cut(self, until_cut: int, seed: int) -> None:
        self.operations, self.until_cut = 0, until_cut
        self.random = random.Random(seed)
        self.kind = seed % self.KINDS
        self._open = []

    def operation(self) -> None:
        """Count one; fail in the one that is cut, and in all that come behind it."""
        self.operations += 1
        if self.operations == self.until_cut + 1:
            for file in self._open:
                file.cut()
        if self.operations > self.until_cut:
            raise PowerCut

    def open(self, path: str, mode: str = "r") -> Any:
        if "w" not in mode:
            return builtins.open(path, mode)
        self.operation()
        file = CutFile(self, Path(path))
        self._open.append(file)
        return file

    def forget(self, file: CutFile) -> None:
        self._open.remove(file)

    def remove(self, path: str) -> None:
        self.operation()
        os.remove(path)


class CutFile:
    """A file that is being written."""

    def __init__(self, files: CutFiles, path: Path) -> None:
        self._files = files
        self._path = path
        self._before = path.read_bytes() if path.exists() else None
        self._written = b""
        self._partly = b""  # what a write was about to add when the power failed
        self._keep()

    def _keep(self) -> None:
        if self._files.kind != 1:
            self._path.write_bytes(self._written)

    def cut(self) -> None:
        if self._files.kind == 1:
            if self._before is None:
                self._path.unlink(missing_ok=True)
            else:
                self._path.write_bytes(self._before)
            return
        whole = self._written + self._partly
        least = len(self._written) if self._files.kind == 0 else 0
        self._path.write_bytes(whole[: self._files.random.randint(least, len(whole))])

    def write(self, data: bytes) -> int:
        self._partly = bytes(data)
        self._files.operation()
        self._written += data
        self._partly = b""
        self._keep()
        return len(data)

    def flush(self) -> None:
        self._files.operation()
        self._before = self._written
        self._path.write_bytes(self._written)

    def close(self) -> None:
        if self in self._files._open:
            self._files.operation()
            self._path.write_bytes(self._written)
            self._files.forget(self)

    def __enter__(self) -> CutFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CutSlots:
    """firmware/thimble/slots.py on such a file system."""

    def __init__(self, device: SlotDevice) -> None:
        self._device = device
        self._files = CutFiles()

    @contextmanager
    def _on_its_files(self) -> Iterator[None]:
        import thimble.server
        import thimble.slots

        os_of_device = mock.Mock(wraps=os, remove=self._files.remove)
        with (
            mock.patch.object(thimble.server, "open", self._files.open, create=True),
            mock.patch.object(thimble.slots, "open", self._files.open, create=True),
            mock.patch.object(thimble.server, "os", os_of_device),
            mock.patch.object(thimble.slots, "os", os_of_device),
        ):
            yield

    def store(self, file: bytes, before: bytes) -> None:
        """Start with `file`, and `before` in the other slot."""
        self._device.store(before)
        server = self._device.start(MAX_PAYLOAD)
        connect(server).deploy(file)
        server.close()

    def deploy(self, file: bytes, operations: int, seed: int) -> int:
        """Deploy until the power fails; the count of operations."""
        self._files.set_cut(operations, seed)
        server = self._device.start(MAX_PAYLOAD)
        with self._on_its_files():
            try:
                deploy_if_possible(server, file)
            except PowerCut:
                return self._files.operations
        server.close()
        return self._files.operations

    def power_on(self) -> Any:
        return self._device.start(MAX_PAYLOAD)

    def close(self) -> None:
        """Nothing runs."""


Cut = CutFlash | CutSlots


def cut_at_every_operation(device: Cut, old: bytes, new: bytes, seeds: int) -> tuple[int, int]:
    """Cut the power in each operation of a deployment, in `seeds` ways, and let the device start again; then
    deploy once more, whole.

    Returns: how many cases were tried, and in how many of them the new model was there.
    """
    device.store(old, before=new)
    operations = device.deploy(new, EVERYTHING, 1)
    tried = came = 0
    for seed in range(1, seeds + 1):
        for operation in range(operations):
            device.store(old, before=new)
            device.deploy(new, operation, seed)
            server = device.power_on()
            case = (operation, seed)
            came += check_has_one_of(connect(server), (old, new), case) is new
            tried += 1
            if operation % 16 == seed % 16:
                client = connect(server)
                client.deploy(new)
                check_has_one_of(client, (new,), case)
            close_python(server)
    return tried, came


def cut_again_and_again(device: Cut, files: tuple[bytes, bytes], cases: int, seed: int) -> int:
    """Deploy alternately, each time cut somewhere: each case starts where the one before has ended."""
    source = random.Random(seed)
    device.store(files[0], before=files[1])
    operations = device.deploy(files[1], EVERYTHING, seed)
    has = files[1]
    for case in range(cases):
        wanted = files[1] if has is files[0] else files[0]
        device.deploy(wanted, source.randrange(operations + 1), source.randrange(1, 1 << 32))
        server = device.power_on()
        has = check_has_one_of(connect(server), (has, wanted), case)
        close_python(server)
    return cases


def close_python(server: Any) -> None:
    """The C server runs on in its process."""
    if not isinstance(server, CServer):
        server.close()


# ------------------------------------------------------------------------------------------------ the wire


def damage_the_wire(
    start: Callable[[], Any], files: tuple[bytes, bytes], faults: int, rate: float, seed: int
) -> tuple[int, int]:
    """Deploy alternately over a wire of which a share of `rate` of all pieces is damaged, until so many are.

    Returns: the faults that were injected, and the deployments.
    """
    server = start()
    transport = FaultyTransport(LoopbackTransport(server.handle, server.limit_bytes), 0, seed)
    client = Client(transport, resend_s=0.001)
    client.deploy(files[0])
    has, deployments = files[0], 0
    while transport.fault_count < faults:
        wanted = files[1] if has is files[0] else files[0]
        transport.rate = rate
        ended = True
        try:
            client.deploy(wanted)
        except DeviceTimeout:
            ended = False  # all repetitions of one request were damaged
        transport.rate = 0
        client.refresh()
        if client.hello.model_state == ModelState.TRIAL:
            client.abort()
            client.refresh()
        has = check_has_one_of(client, (wanted,) if ended else (has, wanted), deployments)
        deployments += 1
    server.close()
    return transport.fault_count, deployments
