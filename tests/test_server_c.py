"""What only the device server in C has: its codec, flash and its rules, small buffers, bytes one by one.

The messages are tested in test_server.py, together with those of the server in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from frame_vectors import FrameRecord, received_streams, valid_frames

from host_tools.client import Client, trailer_sha256
from host_tools.codec import Frame, FrameReader, encode, pack
from host_tools.transports import LoopbackTransport
from model_packager import format_table as table
from model_packager.errors import DeviceRefused
from model_packager.format_table import ErrorCode, Message, ModelState
from tests.device_models import expected_outputs, packed_model, random_inputs
from tests.server_devices import HALF_BYTES, CDevice, CServer

PAGE_BYTES, UNIT_BYTES = 1024, 8


@pytest.fixture(scope="module")
def model() -> bytes:
    return packed_model()


@pytest.fixture(scope="module")
def other_model() -> bytes:
    return packed_model(seed=2)


@pytest.fixture
def device(c_server: Path, tmp_path: Path) -> CDevice:
    return CDevice(c_server, tmp_path, PAGE_BYTES, UNIT_BYTES)


@pytest.fixture
def start(device: CDevice) -> Iterator[Callable[[int], CServer]]:
    servers: list[CServer] = []

    def start_one(max_payload: int = 128) -> CServer:
        servers.append(device.start(max_payload))
        return servers[-1]

    yield start_one
    for server in servers:
        server.close()


def connect(server: CServer) -> Client:
    return Client(LoopbackTransport(server.handle, server.limit_bytes), resend_s=0.01)


def runs_exactly(client: Client, file: bytes) -> bool:
    inputs = random_inputs(file, 3)
    return client.infer(inputs)[0] == expected_outputs(file, inputs)


def hello(session: int = 1) -> bytes:
    return encode(
        Frame(
            Message.HELLO, 0, pack(table.HELLO_REQUEST, protocol_version=1, max_payload=4096, session=session)
        )
    )


# ------------------------------------------------------------------------------------------------- the codec


def content(frame: tuple[int, int, bytes]) -> bytes:
    return bytes(frame[:2]) + frame[2]


@pytest.mark.parametrize("record", valid_frames(), ids=lambda record: record.name)
def test_c_codec_frame_vector_is_encoded_and_decoded(
    record: FrameRecord, start: Callable[[int], CServer]
) -> None:
    server = start(128)
    (frame,) = record.frames
    assert server.frame(content(frame)) == record.wire
    assert server.cut(record.wire) == ([content(frame)], 0)


@pytest.mark.parametrize("record", received_streams(), ids=lambda record: record.name)
def test_c_codec_received_vector_gives_its_frames_and_damage(
    record: FrameRecord, start: Callable[[int], CServer]
) -> None:
    assert start(128).cut(record.wire) == ([content(frame) for frame in record.frames], record.bad)


# ------------------------------------------------------------------------------------------------- the line


def test_c_server_line_in_single_bytes_is_answered_at_its_end(start: Callable[[int], CServer]) -> None:
    server = start(128)
    line = hello()
    assert [server.receive(line[i : i + 1]) for i in range(len(line) - 1)] == [b""] * (len(line) - 1)
    (reply,) = FrameReader().feed(server.receive(line[-1:]))
    assert reply.message == Message.HELLO | table.WIRE_REPLY_BIT


def test_c_server_endless_line_is_dropped_to_its_end_and_complained_of(
    start: Callable[[int], CServer],
) -> None:
    server = start(128)
    assert server.receive(b"\n" + bytes(100_000)) == b""
    replies = FrameReader().feed(server.receive(b"\n" + hello()))
    assert [reply.message for reply in replies] == [255, Message.HELLO | table.WIRE_REPLY_BIT]
    assert server.bad_frames == 1


def test_c_server_payload_beyond_its_buffer_is_refused_by_name(start: Callable[[int], CServer]) -> None:
    server = start(128)
    server.receive(hello())
    # Without escapes the frame is no longer on the wire than the largest that the server takes.
    for length in (129, 200, 256):
        (reply,) = FrameReader().feed(server.receive(encode(Frame(Message.DATA, 1, b"x" * length))))
        assert reply.payload[:2] == bytes([ErrorCode.BAD_ARGUMENT & 255, Message.DATA])
        server.receive(hello(length))  # the next session


@pytest.mark.parametrize("max_payload", [128, 1000, 4096])
def test_c_server_of_any_payload_deploys_and_runs(
    max_payload: int, start: Callable[[int], CServer], model: bytes
) -> None:
    client = connect(start(max_payload))
    assert client.hello.max_payload == max_payload
    client.deploy(model)
    assert runs_exactly(client, model)
    assert len(client.profile()) == 5 and len(client.bench(40)) == 40


def test_c_server_profile_in_pieces_is_whole(c_server: Path, start: Callable[[int], CServer]) -> None:
    client = connect(start(128))
    client.deploy(packed_model())
    layers = client.profile()
    # From the second operator on, as a client asks that could not get all at once.
    reply = client.request(Message.PROFILE, pack(table.PROFILE_REQUEST, first=2))
    assert (reply[:2], len(reply)) == (bytes([5, 0]), 4 + 3 * 4) and len(layers) == 5
    client.set_input(0, bytes(192))
    client.run()  # forgets the profile
    assert client.request(Message.PROFILE, pack(table.PROFILE_REQUEST, first=2)) == bytes(4)


# ------------------------------------------------------------------------------------------------- flash


def test_emulated_flash_refuses_what_flash_cannot_do(start: Callable[[int], CServer]) -> None:
    server = start(128)
    wrong = ErrorCode.WRITE_FAILED
    assert server.erase(PAGE_BYTES) == 0
    assert server.program(PAGE_BYTES, b"\x0f" * UNIT_BYTES) == 0
    assert server.program(PAGE_BYTES, b"\x0e" * UNIT_BYTES) == 0  # clears bits
    assert server.program(PAGE_BYTES, b"\x1e" * UNIT_BYTES) == wrong  # would set one
    assert server.program(PAGE_BYTES, b"\x0e" * UNIT_BYTES) == 0  # and has changed nothing
    assert server.program(PAGE_BYTES + 4, bytes(UNIT_BYTES)) == wrong
    assert server.program(PAGE_BYTES + UNIT_BYTES, bytes(UNIT_BYTES + 1)) == wrong
    assert server.program(2 * HALF_BYTES - UNIT_BYTES, bytes(2 * UNIT_BYTES)) == wrong
    assert server.erase(PAGE_BYTES + UNIT_BYTES) == wrong
    assert server.erase(2 * HALF_BYTES) == wrong


@pytest.mark.parametrize(
    ("page_bytes", "unit_bytes"), [(256, 4), (1024, 4), (4096, 8), (2048, 16), (32768, 32)]
)
def test_c_server_models_of_any_length_are_stored_in_any_flash(
    c_server: Path, tmp_path: Path, page_bytes: int, unit_bytes: int
) -> None:
    device = CDevice(c_server, tmp_path, page_bytes, unit_bytes)
    server = device.start(128)
    client = connect(server)
    for seed, units in enumerate((20, 33, 7, 46)):
        file = packed_model(seed=seed + 1, units=units)
        client.deploy(file)
        assert runs_exactly(client, file)
        assert device.stored() == file
        server.close()
        server = device.start(128)
        client = connect(server)
        assert client.hello.model_sha256 == trailer_sha256(file)
    server.close()


def test_c_server_flash_that_fails_at_any_write_keeps_the_old_model(
    device: CDevice, start: Callable[[int], CServer], model: bytes, other_model: bytes
) -> None:
    """Every length after which programming may fail, the record of the new model's included."""
    whole = -(-len(model) // UNIT_BYTES) * UNIT_BYTES
    server = start(1000)
    client = connect(server)
    client.deploy(other_model)
    for length in (0, UNIT_BYTES, 1000, whole - UNIT_BYTES, whole - 1, whole, whole + 8):
        server.fail_after(length)
        with pytest.raises(DeviceRefused) as refused:
            client.deploy(model)
        assert refused.value.code == ErrorCode.WRITE_FAILED
        assert runs_exactly(client, other_model)
        assert device.stored() == other_model
    server.fail_after(0xFFFFFFFF)
    assert client.deploy(model).sent_bytes == len(model)
    assert device.stored() == model


def test_c_server_largest_file_leaves_room_for_its_record(start: Callable[[int], CServer]) -> None:
    client = connect(start(4096))
    assert client.hello.slot_bytes == HALF_BYTES - 16 - UNIT_BYTES
    file = packed_model().ljust(client.hello.slot_bytes, b"\0")
    offset = client.begin(file)
    while offset < len(file):
        offset = client.data(offset, file[offset : offset + 4000])
    with pytest.raises(DeviceRefused) as refused:
        client.commit()
    assert refused.value.code == ErrorCode.BAD_SECTION  # one model, and zeros behind it


def test_c_server_flash_never_erased_holds_no_model(start: Callable[[int], CServer], device: CDevice) -> None:
    assert connect(start(128)).hello.model_state == ModelState.NONE
    device.store(b"")
    assert connect(start(128)).hello.model_state == ModelState.NONE
