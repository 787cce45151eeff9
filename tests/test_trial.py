"""A new model runs on trial until CONFIRM, or gives way to the one before it: both servers with two slots."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.client import Client, trailer_sha256
from host_tools.codec import pack
from host_tools.transports import LoopbackTransport
from model_packager import container
from model_packager import format_table as table
from model_packager.errors import DeviceRefused, RolledBackError
from model_packager.format_table import Capability, ErrorCode, Message, ModelState, ResetKind
from tests.device_models import expected_outputs, packed_model, random_inputs, sealed
from tests.server_devices import CDevice, Device, SlotDevice

MAX_PAYLOAD = 256


@pytest.fixture(scope="module")
def old() -> bytes:
    return packed_model(seed=2, units=10)


@pytest.fixture(scope="module")
def new() -> bytes:
    return packed_model(seed=3, units=10)


@pytest.fixture(params=["slots", "c"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    if request.param == "slots":
        return SlotDevice(tmp_path)
    return CDevice(request.getfixturevalue("c_server"), tmp_path)


@pytest.fixture
def switch_on(storage: Device) -> Iterator[Callable[[], LoopbackTransport]]:
    """What a device does after a power cut; the line to it."""
    servers: list[Any] = []

    def switch_on_one() -> LoopbackTransport:
        servers.append(storage.start(MAX_PAYLOAD))
        return LoopbackTransport(servers[-1].handle, servers[-1].limit_bytes)

    yield switch_on_one
    for server in servers:
        server.close()


@pytest.fixture
def start(switch_on: Callable[[], LoopbackTransport]) -> Callable[[], Client]:
    """A client of a device that has just been switched on."""
    return lambda: Client(switch_on(), resend_s=1)


def put_on_trial(client: Client, file: bytes) -> None:
    """A deployment without its CONFIRM."""
    send(client, file)
    client.commit()


def send(client: Client, file: bytes, **announced: Any) -> None:
    """Everything before COMMIT."""
    offset = client.begin(file, **announced)
    while offset < len(file):
        offset = client.data(offset, file[offset : offset + MAX_PAYLOAD - 4])


def runs(client: Client, file: bytes) -> bool:
    inputs = random_inputs(file, 1)
    named = client.refresh().model_sha256 == trailer_sha256(file)
    return named and client.infer(inputs)[0] == expected_outputs(file, inputs)


def golden_changed(file: bytes) -> bytes:
    """`file` with another CRC-32 of its golden outputs, and all checksums right."""
    parsed = container.parse(file)
    (section,) = [section for section in parsed.sections if section.kind == table.SectionKind.GOLDEN]
    changed = bytearray(file)
    changed[section.offset + 4] ^= 1
    return sealed(changed)


def test_device_says_that_it_has_slots_and_trials(start: Callable[[], Client]) -> None:
    hello = start().hello
    assert hello.slot_count == 2
    assert {Capability.SLOTS, Capability.TRIAL} <= set(hello.capabilities)
    assert Capability.SIGNATURES not in hello.capabilities


def test_trial_runs_the_new_model_until_a_power_cut(
    start: Callable[[], Client], storage: Device, old: bytes, new: bytes
) -> None:
    client = start()
    client.deploy(old)
    first_slot = client.hello.active_slot
    put_on_trial(client, new)
    assert runs(client, new)
    assert (client.hello.model_state, client.hello.active_slot) == (ModelState.TRIAL, 1 - first_slot)
    assert storage.stored() == old
    client = start()
    assert runs(client, old)
    assert (client.hello.model_state, client.hello.active_slot) == (ModelState.READY, first_slot)


def test_confirm_makes_the_trial_the_stored_model(
    start: Callable[[], Client], storage: Device, old: bytes, new: bytes
) -> None:
    client = start()
    client.deploy(old)
    put_on_trial(client, new)
    client.confirm()
    assert client.refresh().model_state == ModelState.READY
    assert storage.stored() == new
    assert runs(start(), new)


def test_confirm_without_a_trial_is_refused(start: Callable[[], Client], old: bytes) -> None:
    client = start()
    for _ in range(2):
        with pytest.raises(DeviceRefused) as refused:
            client.confirm()
        assert refused.value.code == ErrorCode.BAD_STATE
        client.deploy(old)


def test_first_model_is_not_on_trial_as_there_is_nothing_to_go_back_to(
    start: Callable[[], Client], old: bytes
) -> None:
    client = start()
    put_on_trial(client, old)
    assert client.refresh().model_state == ModelState.READY
    assert runs(start(), old)


@pytest.mark.parametrize("how", ["abort", "reset", "begin"])
def test_trial_ends_with_abort_reset_and_begin(
    start: Callable[[], Client], storage: Device, old: bytes, new: bytes, how: str
) -> None:
    client = start()
    client.deploy(old)
    put_on_trial(client, new)
    if how == "abort":
        client.abort()
    elif how == "reset":
        client.reset(ResetKind.SERVER)
    else:
        client.begin(packed_model(seed=4, units=10))
    assert runs(client, old) and client.hello.model_state == ModelState.READY
    client.deploy(new)
    assert runs(start(), new) and storage.stored() == new


def test_deploy_confirms_what_another_host_has_left_on_trial(
    start: Callable[[], Client], old: bytes, new: bytes
) -> None:
    client = start()
    client.deploy(old)
    put_on_trial(client, new)
    client.refresh()
    assert client.deploy(new).skipped
    assert runs(start(), new)


def test_golden_mismatch_is_refused_and_the_old_model_kept(
    start: Callable[[], Client], storage: Device, old: bytes, new: bytes
) -> None:
    client = start()
    client.deploy(old)
    with pytest.raises(DeviceRefused) as refused:
        client.deploy(golden_changed(new))
    assert refused.value.code == ErrorCode.GOLDEN_MISMATCH
    assert runs(client, old) and storage.stored() == old
    client.deploy(new)
    assert runs(client, new)


def test_file_without_golden_test_is_taken(start: Callable[[], Client], old: bytes) -> None:
    model = container.load(old)
    model.golden = None
    file = container.dump(model)
    client = start()
    client.deploy(file)
    assert runs(client, file)


def test_older_version_behind_a_newer_header_is_refused_at_commit(
    start: Callable[[], Client], new: bytes
) -> None:
    newest = packed_model(seed=5, units=10, model_version=9)
    client = start()
    client.deploy(newest)
    header = bytearray(new[:40])
    struct.pack_into("<I", header, 32, 10)
    struct.pack_into("<I", header, 36, zlib.crc32(header[:36]))
    announced = pack(table.BEGIN_REQUEST, file_bytes=len(new), sha256=trailer_sha256(new))
    client.request(Message.BEGIN, announced + header)
    for offset in range(0, len(new), MAX_PAYLOAD - 4):
        client.data(offset, new[offset : offset + MAX_PAYLOAD - 4])
    with pytest.raises(DeviceRefused) as refused:
        client.commit()
    assert refused.value.code == ErrorCode.DOWNGRADE
    assert runs(client, newest)
    client.deploy(new, force=True)
    assert runs(start(), new)


def test_device_that_starts_again_before_confirm_is_reported_as_rolled_back(
    start: Callable[[], Client],
    switch_on: Callable[[], LoopbackTransport],
    old: bytes,
    new: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = start()
    client.deploy(old)
    commit = client.commit

    def commit_and_restart() -> int:
        time = commit()
        client._transport = switch_on()  # the same storage, without what was in RAM
        return time

    monkeypatch.setattr(client, "commit", commit_and_restart)
    with pytest.raises(RolledBackError):
        client.deploy(new)
    assert runs(start(), old)


def test_device_that_starts_again_while_it_receives_gets_the_file_once_more(
    start: Callable[[], Client], switch_on: Callable[[], LoopbackTransport], old: bytes, new: bytes
) -> None:
    client = start()
    client.deploy(old)
    restarted: list[int] = []

    def restart_once(done: int, whole: int) -> None:
        if not restarted and done > whole // 2:
            restarted.append(done)
            client._transport = switch_on()

    deployment = client.deploy(new, progress=restart_once)
    assert restarted and deployment.sent_bytes > len(new)
    assert runs(start(), new)
