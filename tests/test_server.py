"""Both device servers behind a loopback: messages, refusals, power cuts, many faults.

Python is the device package's source on CPython, with two slots for models (thimble.slots) and with one
(thimble.server); C is firmware/server with sanitizers and emulated flash."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from host_tools.client import Client, trailer_sha256
from host_tools.codec import Frame, FrameReader, encode, pack
from host_tools.transports import LoopbackTransport
from model_packager import format_table as table
from model_packager.errors import DeviceError, DeviceRefused, DeviceTimeout
from model_packager.format_table import ErrorCode, Message, ModelState, ResetKind
from tests.device_models import bad_files, expected_outputs, packed_model, random_inputs, two_port_model
from tests.faulty_transport import FaultyTransport
from tests.server_devices import CDevice, Device, PythonDevice, SlotDevice

MAX_PAYLOAD = 256


@pytest.fixture(scope="module")
def model() -> bytes:
    return packed_model()


@pytest.fixture(scope="module")
def other_model() -> bytes:
    return packed_model(seed=2)


@pytest.fixture
def c_device(c_server: Path, tmp_path: Path) -> CDevice:
    return CDevice(c_server, tmp_path, page_bytes=2048, unit_bytes=32)


@pytest.fixture(params=["slots", "one_file", "c"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    """A device of each kind; its storage outlives its servers."""
    kinds: dict[str, Callable[[], Device]] = {
        "slots": lambda: SlotDevice(tmp_path),
        "one_file": lambda: PythonDevice(tmp_path),
        "c": lambda: request.getfixturevalue("c_device"),
    }
    return kinds[request.param]()


@pytest.fixture
def start(storage: Device) -> Iterator[Callable[[], Any]]:
    """Starts servers on the one storage; each start is what a device does after a power cut."""
    servers: list[Any] = []

    def start_one() -> Any:
        servers.append(storage.start(MAX_PAYLOAD))
        return servers[-1]

    yield start_one
    for server in servers:
        server.close()


@pytest.fixture
def client(start: Callable[[], Any]) -> Client:
    return connect(start())


def connect(server: Any) -> Client:
    return Client(LoopbackTransport(server.handle, server.limit_bytes), resend_s=0.01)


def refusal(client: Client, message: Message, payload: bytes = b"") -> ErrorCode:
    """The code of the error with which the device answers."""
    with pytest.raises(DeviceRefused) as refused:
        client.request(message, payload)
    return refused.value.code


def runs_exactly(client: Client, file: bytes, seed: int = 3) -> bool:
    """Whether the device, deployed or not just now, computes what the reference executor does."""
    inputs = random_inputs(file, seed)
    return client.infer(inputs)[0] == expected_outputs(file, inputs)


# ------------------------------------------------------------------------------------------ the whole path


def test_server_without_model_says_so(client: Client) -> None:
    assert client.hello.model_state == ModelState.NONE
    assert client.hello.model_sha256 == bytes(32)
    assert client.hello.max_payload == MAX_PAYLOAD
    assert client.info().input_bytes == ()
    for message, payload in (
        (Message.RUN, b"\0"),
        (Message.BENCH, bytes([1, 0, 0, 0])),
        (Message.PROFILE, bytes(4)),
        (Message.SET_INPUT, bytes(9)),
        (Message.GET_OUTPUT, bytes(8)),
        (Message.RESET, bytes([ResetKind.STATE])),
    ):
        assert refusal(client, message, payload) == ErrorCode.NO_MODEL


def test_server_deploy_and_run_equals_reference(client: Client, model: bytes) -> None:
    seen: list[tuple[int, int]] = []
    deployment = client.deploy(model, progress=lambda done, whole: seen.append((done, whole)))
    assert deployment.sent_bytes == len(model) and not deployment.skipped
    assert seen[-1] == (len(model), len(model)) and len(seen) > 10
    assert client.hello.model_sha256 == trailer_sha256(model)
    assert (client.hello.model_id, client.hello.model_version) == (7, 1)
    for seed in range(3):
        assert runs_exactly(client, model, seed)


def test_server_several_inputs_and_outputs_equal_reference(client: Client) -> None:
    file = two_port_model()
    client.deploy(file)
    info = client.info()
    assert (info.input_bytes, info.output_bytes) == ((32, 32), (48, 32))
    assert runs_exactly(client, file)


def test_server_info_reports_model_and_transfer(client: Client, model: bytes) -> None:
    client.deploy(model)
    info = client.info()
    arena, scratch = struct.unpack_from("<II", model, 20)
    assert (info.arena_bytes, info.scratch_bytes) == (arena, scratch)
    assert info.input_bytes == (8 * 8 * 3,) and info.output_bytes == (10,)
    assert info.operator_count == 5 and info.model_error is None
    client.begin(model)
    client.data(0, model[:100])
    assert client.info().received_bytes == 100


def test_server_bench_gives_each_run_and_profile_each_operator(client: Client) -> None:
    client.deploy(two_port_model())
    times = client.bench(70)  # more than the times that fit one payload
    assert len(times) == 70 and min(times) > 0
    layers = client.profile()
    assert len(layers) == client.info().operator_count
    # A profiled run is a run: its operators take together about what a run takes.
    assert 0.2 * min(times) < sum(layers) < 20 * max(times)


def test_server_same_model_again_is_skipped_unless_forced(client: Client, model: bytes) -> None:
    client.deploy(model)
    assert client.deploy(model).skipped
    assert not client.deploy(model, force=True).skipped


def test_server_damaged_copy_of_its_model_is_not_skipped(client: Client, model: bytes) -> None:
    client.deploy(model)
    with pytest.raises(DeviceRefused) as refused:
        client.deploy(model[:100] + b"X" + model[101:])
    assert refused.value.code in (ErrorCode.BAD_HEADER_CRC, ErrorCode.BAD_SECTION_CRC)
    assert runs_exactly(client, model)


def test_server_older_version_is_refused_unless_forced(client: Client, model: bytes) -> None:
    newer = packed_model(seed=4, model_version=2)
    client.deploy(newer)
    with pytest.raises(DeviceRefused) as refused:
        client.deploy(model)
    assert refused.value.code == ErrorCode.DOWNGRADE
    assert runs_exactly(client, newer)
    client.deploy(model, force=True)
    assert runs_exactly(client, model)
    another_id = packed_model(seed=5, model_id=8, model_version=0)
    client.deploy(another_id)
    assert client.hello.model_id == 8


def test_server_reset_of_the_server_loads_the_stored_model(client: Client, model: bytes) -> None:
    client.deploy(model)
    client.begin(model)
    client.reset(ResetKind.SERVER)
    assert client.info().received_bytes == 0
    assert runs_exactly(client, model)
    assert refusal(client, Message.RESET, b"\7") == ErrorCode.BAD_ARGUMENT


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("case", range(20))
def test_server_bad_file_is_refused_by_name_and_old_model_kept(
    client: Client, model: bytes, other_model: bytes, storage: Device, case: int
) -> None:
    name, file, code = list(bad_files(model))[case]
    client.deploy(other_model)
    with pytest.raises(DeviceRefused) as refused:
        client.deploy(file, force=True)
    assert refused.value.code == code, (name, refused.value.detail)
    assert runs_exactly(client, other_model)
    assert storage.stored() == other_model
    assert storage.is_clean()


def test_bad_files_are_all_tried(model: bytes) -> None:
    assert len(list(bad_files(model))) == 20


def test_server_wrong_sha256_is_refused_and_old_model_runs(
    client: Client, model: bytes, other_model: bytes
) -> None:
    client.deploy(other_model)
    offset = client.begin(model, sha256=bytes(32))
    while offset < len(model):
        offset = client.data(offset, model[offset : offset + 200])
    with pytest.raises(DeviceRefused) as refused:
        client.commit()
    assert refused.value.code == ErrorCode.BAD_HASH
    assert runs_exactly(client, other_model)
    assert refusal(client, Message.COMMIT, b"\0") == ErrorCode.BAD_STATE  # the transfer is over


def test_server_commit_before_all_bytes_is_truncated_and_goes_on(client: Client, model: bytes) -> None:
    client.begin(model)
    client.data(0, model[:200])
    assert refusal(client, Message.COMMIT, b"\0") == ErrorCode.TRUNCATED
    offset = client.begin(model)
    assert offset == 200
    while offset < len(model):
        offset = client.data(offset, model[offset : offset + 200])
    client.commit()
    assert runs_exactly(client, model)


def test_server_interrupted_transfer_resumes_in_a_new_session(start: Callable[[], Any], model: bytes) -> None:
    server = start()
    first = connect(server)
    first.begin(model)
    first.data(0, model[:252])
    second = connect(server)
    assert second.deploy(model).sent_bytes == len(model) - 252
    assert runs_exactly(second, model)


def test_server_other_file_does_not_resume(client: Client, model: bytes, other_model: bytes) -> None:
    client.begin(model)
    client.data(0, model[:252])
    assert client.begin(other_model) == 0
    assert client.deploy(other_model).sent_bytes == len(other_model)


def test_server_abort_forgets_the_transfer(client: Client, model: bytes, storage: Device) -> None:
    client.begin(model)
    client.data(0, model[:252])
    client.abort()
    assert storage.stored() is None and storage.is_clean()
    assert client.begin(model) == 0


def test_server_data_at_other_offsets_is_ignored(client: Client, model: bytes) -> None:
    client.begin(model)
    assert client.data(10, b"too early") == 0
    assert client.data(0, model[:50]) == 50
    assert client.data(0, b"something else") == 50
    assert client.data(50, model[50:100]) == 100


def test_server_data_without_begin_or_past_the_end_is_refused(client: Client, model: bytes) -> None:
    assert refusal(client, Message.DATA, bytes(10)) == ErrorCode.BAD_STATE
    client.begin(model[:100] + bytes(12))
    client.data(0, model[:100])
    assert (
        refusal(client, Message.DATA, pack(table.DATA_REQUEST, offset=100) + bytes(13))
        == ErrorCode.BAD_OFFSET
    )


def test_server_file_beyond_its_storage_is_refused_early(client: Client, model: bytes) -> None:
    payload = pack(table.BEGIN_REQUEST, file_bytes=client.hello.slot_bytes + 1, sha256=bytes(32)) + model[:40]
    assert refusal(client, Message.BEGIN, payload) == ErrorCode.NO_SPACE


def test_server_arena_beyond_its_heap_is_refused_early(client: Client, model: bytes) -> None:
    header = model[:20] + struct.pack("<I", 0xF0000000) + model[24:40]
    payload = pack(table.BEGIN_REQUEST, file_bytes=len(model), sha256=bytes(32)) + header
    assert refusal(client, Message.BEGIN, payload) == ErrorCode.OUT_OF_MEMORY


@pytest.mark.parametrize("storage", ["slots", "one_file"], indirect=True)
@pytest.mark.parametrize(("number", "code"), [(28, ErrorCode.NO_SPACE), (5, ErrorCode.WRITE_FAILED)])
def test_server_storage_that_fails_keeps_old_model(
    client: Client,
    model: bytes,
    other_model: bytes,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: ErrorCode,
) -> None:
    import thimble.server

    class FailingFile:
        """A file whose storage fails after 1000 bytes."""

        def __init__(self, path: str, mode: str) -> None:
            self.file = open(path, mode)
            self.left = 1000

        def write(self, data: bytes) -> int:
            self.left -= len(data)
            if self.left < 0:
                raise OSError(number, "storage")
            return self.file.write(data)

        def flush(self) -> None:
            self.file.flush()

        def close(self) -> None:
            self.file.close()

    client.deploy(other_model)
    with monkeypatch.context() as patch:
        patch.setattr(thimble.server, "open", FailingFile, raising=False)
        with pytest.raises(DeviceRefused) as refused:
            client.deploy(model)
    assert refused.value.code == code
    assert runs_exactly(client, other_model)
    assert client.deploy(model).sent_bytes == len(model)


def test_server_stored_file_that_is_bad_is_reported_and_replaced(
    start: Callable[[], Any], storage: Device, model: bytes
) -> None:
    storage.store(model[:-1] + b"?")
    client = connect(start())
    assert client.hello.model_state == ModelState.BAD
    assert client.info().model_error == ErrorCode.BAD_HASH
    client.deploy(model)
    assert runs_exactly(client, model)


def test_server_input_and_output_rules(client: Client, model: bytes) -> None:
    client.deploy(model)
    run = pack(table.RUN_REQUEST)
    output = pack(table.GET_OUTPUT_REQUEST, length=10)
    assert refusal(client, Message.GET_OUTPUT, output) == ErrorCode.BAD_STATE
    assert refusal(client, Message.RUN, run) == ErrorCode.BAD_INPUT
    client.set_input(0, bytes(100))
    assert refusal(client, Message.RUN, run) == ErrorCode.BAD_INPUT
    client.set_input(0, bytes(192))
    client.run()
    assert len(client.get_output(0)) == 10
    assert refusal(client, Message.RUN, run) == ErrorCode.BAD_INPUT  # the run used its input up
    assert len(client.get_output(0)) == 10
    far = pack(table.GET_OUTPUT_REQUEST, length=10, offset=11)
    assert refusal(client, Message.GET_OUTPUT, far) == ErrorCode.BAD_OFFSET
    client.set_input(0, bytes(10))
    assert refusal(client, Message.GET_OUTPUT, output) == ErrorCode.BAD_STATE
    long = pack(table.SET_INPUT_REQUEST) + bytes(193)
    assert refusal(client, Message.SET_INPUT, long) == ErrorCode.BAD_INPUT
    no_input = pack(table.SET_INPUT_REQUEST, input=1) + bytes(1)
    assert refusal(client, Message.SET_INPUT, no_input) == ErrorCode.BAD_ARGUMENT
    no_output = pack(table.GET_OUTPUT_REQUEST, output=1, length=1)
    assert refusal(client, Message.GET_OUTPUT, no_output) == ErrorCode.BAD_ARGUMENT


def test_server_payloads_of_wrong_length_are_refused(client: Client, model: bytes) -> None:
    client.deploy(model)
    for message in Message:
        if message in (Message.HELLO, Message.ERROR, Message.CONFIRM):
            continue
        payload = b"" if message not in (Message.ABORT, Message.INFO) else b"?"
        assert refusal(client, message, payload) == ErrorCode.BAD_ARGUMENT, message.name
    assert refusal(client, Message.RUN, bytes(2)) == ErrorCode.BAD_ARGUMENT
    assert refusal(client, Message.BENCH, pack(table.BENCH_REQUEST, runs=0)) == ErrorCode.BAD_ARGUMENT
    assert refusal(client, Message.BENCH, pack(table.BENCH_REQUEST, runs=65)) == ErrorCode.BAD_ARGUMENT


def test_server_reserved_fields_must_be_zero(client: Client, model: bytes) -> None:
    client.deploy(model)
    begin = {"file_bytes": len(model), "sha256": bytes(32)}
    for message, payload in (
        (Message.BEGIN, pack(table.BEGIN_REQUEST, **begin, flags=2) + model[:40]),
        (Message.BEGIN, pack(table.BEGIN_REQUEST, **begin, slot=1) + model[:40]),
        (Message.BEGIN, pack(table.BEGIN_REQUEST, **begin, reserved=1) + model[:40]),
        (Message.COMMIT, pack(table.COMMIT_REQUEST, flags=1)),
        (Message.SET_INPUT, pack(table.SET_INPUT_REQUEST, reserved=1)),
        (Message.SET_INPUT, pack(table.SET_INPUT_REQUEST, reserved2=1)),
        (Message.RUN, pack(table.RUN_REQUEST, flags=1)),
        (Message.GET_OUTPUT, pack(table.GET_OUTPUT_REQUEST, reserved=1)),
        (Message.BENCH, pack(table.BENCH_REQUEST, runs=1, flags=2)),
        (Message.BENCH, pack(table.BENCH_REQUEST, runs=1, reserved=1)),
        (Message.PROFILE, pack(table.PROFILE_REQUEST, reserved=1)),
    ):
        assert refusal(client, message, payload) == ErrorCode.RESERVED_BITS, (message.name, payload.hex())


# ------------------------------------------------------------------------------ sequence numbers and sessions


def exchange(server: Any, message: int, sequence: int, payload: bytes = b"") -> Frame | None:
    """One frame in, the frame that comes back."""
    reply = server.handle(encode(Frame(message, sequence, payload))[1:-1])
    if reply is None:
        return None
    (frame,) = FrameReader().feed(reply)
    return frame


def hello(session: int) -> bytes:
    return pack(table.HELLO_REQUEST, protocol_version=1, max_payload=4096, session=session)


def test_server_before_hello_refuses_with_bad_state(start: Callable[[], Any]) -> None:
    reply = exchange(start(), Message.INFO, 9)
    assert reply is not None and (reply.message, reply.sequence) == (255, 9)
    assert reply.payload[:2] == struct.pack("<bB", ErrorCode.BAD_STATE, Message.INFO)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", ErrorCode.BAD_ARGUMENT),
        (hello(1) + b"?", ErrorCode.BAD_ARGUMENT),
        (pack(table.HELLO_REQUEST, max_payload=MAX_PAYLOAD - 1, session=1), ErrorCode.BAD_ARGUMENT),
    ],
)
def test_server_bad_hello_opens_no_session(start: Callable[[], Any], payload: bytes, code: ErrorCode) -> None:
    server = start()
    reply = exchange(server, Message.HELLO, 3, payload)
    assert reply is not None and reply.payload[:2] == struct.pack("<bB", code, Message.HELLO)
    reply = exchange(server, Message.INFO, 4)
    assert reply is not None and reply.payload[:1] == struct.pack("<b", ErrorCode.BAD_STATE)


def test_server_unknown_and_reserved_messages_are_refused(start: Callable[[], Any]) -> None:
    server = start()
    exchange(server, Message.HELLO, 0, hello(1))
    for sequence, message in enumerate((0, 14, 100, Message.ERROR, 0x82), 1):
        reply = exchange(server, message, sequence)
        assert reply is not None and reply.message == 255
        assert reply.payload[:2] == struct.pack("<bB", ErrorCode.UNKNOWN_MESSAGE, message)


def test_server_repeated_request_is_answered_again_and_done_once(
    start: Callable[[], Any], model: bytes
) -> None:
    server = start()
    exchange(server, Message.HELLO, 100, hello(1))
    begin = pack(table.BEGIN_REQUEST, file_bytes=len(model), sha256=trailer_sha256(model)) + model[:40]
    exchange(server, Message.BEGIN, 101, begin)
    data = pack(table.DATA_REQUEST) + model[:50]
    first = exchange(server, Message.DATA, 102, data)
    assert exchange(server, Message.DATA, 102, data) == first
    assert exchange(server, Message.ABORT, 102) is None  # the number of another request
    assert exchange(server, Message.BEGIN, 101, begin) is None  # older than the newest
    info = exchange(server, Message.INFO, 103)
    assert info is not None and struct.unpack_from("<I", info.payload, 20) == (50,)
    aborted = exchange(server, Message.ABORT, 104)
    assert aborted == Frame(Message.ABORT | 128, 104, b"")
    assert exchange(server, Message.DATA, 102, data) is None


def test_server_sequence_numbers_wrap(start: Callable[[], Any]) -> None:
    server = start()
    exchange(server, Message.HELLO, 254, hello(1))
    for sequence in (255, 0, 1):
        reply = exchange(server, Message.INFO, sequence)
        assert reply is not None and reply.sequence == sequence


def test_server_repeated_hello_keeps_the_session_and_a_new_one_opens_another(
    start: Callable[[], Any],
) -> None:
    server = start()
    exchange(server, Message.HELLO, 10, hello(1))
    exchange(server, Message.INFO, 11)
    assert exchange(server, Message.HELLO, 10, hello(1)) is not None
    assert exchange(server, Message.INFO, 12) is not None
    exchange(server, Message.HELLO, 50, hello(2))
    assert exchange(server, Message.INFO, 13) is None
    assert exchange(server, Message.HELLO, 10, hello(1)) is not None  # held up since the first session
    assert exchange(server, Message.INFO, 51) is not None


def test_server_noise_is_complained_of_once_until_a_good_frame(start: Callable[[], Any]) -> None:
    server = start()
    complaint = encode(Frame(255, 0, struct.pack("<bB", ErrorCode.BAD_FRAME, 0)))
    assert server.handle(b"noise") == complaint
    assert server.handle(b"more noise") is None
    assert exchange(server, Message.HELLO, 0, hello(1)) is not None
    assert server.handle(b"noise") == complaint
    assert server.bad_frames == 3


def test_client_silence_raises_time_out_and_next_request_opens_a_session(start: Callable[[], Any]) -> None:
    server = start()
    transport = FaultyTransport(LoopbackTransport(server.handle), 0, seed=0)
    client = Client(transport, resend_s=0.01)
    lines: list[bytes] = []
    transport.inner = LoopbackTransport(lambda line: lines.append(line))  # type: ignore[arg-type, return-value]
    with pytest.raises(DeviceTimeout, match="INFO"):
        client.info()
    assert len(lines) > 3 and len(set(lines)) == 1
    transport.inner = LoopbackTransport(server.handle)
    assert client.info().bad_frames == 0


def test_client_other_protocol_version_is_refused(start: Callable[[], Any]) -> None:
    server = start()

    def newer(line: bytes) -> bytes:
        (frame,) = FrameReader().feed(server.handle(line))
        return encode(Frame(frame.message, frame.sequence, b"\x02" + frame.payload[1:]))

    with pytest.raises(DeviceError, match="version 2 of the protocol"):
        Client(LoopbackTransport(newer))


def test_client_device_that_takes_no_data_is_an_error(start: Callable[[], Any], model: bytes) -> None:
    server = start()

    def stubborn(line: bytes) -> bytes:
        (frame,) = FrameReader().feed(server.handle(line))
        taken = frame.message == Message.DATA | 128
        return encode(Frame(frame.message, frame.sequence, bytes(4) if taken else frame.payload))

    with pytest.raises(DeviceError, match="was sent offset 0 and asks for offset 0"):
        Client(LoopbackTransport(stubborn)).deploy(model)


# ------------------------------------------------------------------------------------------------- streams


class ScriptedStream:
    """A UART whose readline() gives one scripted piece after the other, or raises what the script holds."""

    def __init__(self, script: list[bytes | BaseException | None]) -> None:
        self.script = script
        self.written = b""

    def readline(self, limit: int) -> bytes | None:
        piece = self.script.pop(0) if self.script else b""
        if isinstance(piece, BaseException):
            raise piece
        assert piece is None or len(piece) <= limit
        return piece

    def write(self, data: bytes) -> None:
        self.written += data


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    return tmp_path / "model.thimble"


def served(script: list[bytes | BaseException | None], model_path: Path) -> list[Frame]:
    """The frames that the server's loop writes to a stream with this script."""
    from thimble.server import serve

    stream = ScriptedStream(script)
    serve(stream, str(model_path), 128)
    assert not stream.script
    return FrameReader().feed(stream.written)


def test_serve_pieces_and_time_outs_of_a_uart_join_to_frames(model_path: Path) -> None:
    line = encode(Frame(Message.HELLO, 5, hello(1)))[1:]
    script = [None, b"\n", line[:4], None, line[4:9], line[9:], None, b"\n"]
    (reply,) = served(script, model_path)
    assert (reply.message, reply.sequence) == (Message.HELLO | 128, 5)


def test_serve_oversized_line_is_dropped_to_its_end_and_complained_of(model_path: Path) -> None:
    line = encode(Frame(Message.HELLO, 5, hello(1)))[1:]
    full = bytes(2 * (6 + 128) + 1)
    replies = served([full, full, full[:10] + b"\n", line], model_path)
    assert [reply.message for reply in replies] == [255, Message.HELLO | 128]
    assert replies[0].payload[:1] == struct.pack("<b", ErrorCode.BAD_FRAME)


def test_serve_out_of_memory_while_reading_goes_on(model_path: Path) -> None:
    line = encode(Frame(Message.HELLO, 5, hello(1)))[1:]
    replies = served([line[:5], MemoryError(), line[5:], line], model_path)
    assert [reply.message for reply in replies] == [255, Message.HELLO | 128]


def test_serve_interrupt_ends_it_and_forgets_the_transfer(model_path: Path, model: bytes) -> None:
    begin = pack(table.BEGIN_REQUEST, file_bytes=len(model), sha256=trailer_sha256(model)) + model[:40]
    script = [
        encode(Frame(Message.HELLO, 0, hello(1)))[1:],
        encode(Frame(Message.BEGIN, 1, begin))[1:],
        KeyboardInterrupt(),
    ]
    replies = served(script, model_path)
    assert [reply.message for reply in replies] == [Message.HELLO | 128, Message.BEGIN | 128]
    assert not list(model_path.parent.iterdir())


# ------------------------------------------------------------------------------------------ cuts and faults


class CutTransport:
    """Passes on `left` bytes, then the cable is cut."""

    def __init__(self, server: Any, left: int) -> None:
        self.inner = LoopbackTransport(server.handle, server.limit_bytes)
        self.left = left

    def write(self, data: bytes) -> None:
        self.inner.write(data[: max(0, self.left)])
        self.left -= len(data)
        if self.left < 0:
            raise DeviceError("cut")

    def read(self, timeout_s: float) -> bytes:
        return self.inner.read(timeout_s)

    def close(self) -> None:
        self.inner.close()


def test_server_deployment_cut_anywhere_keeps_a_whole_model(
    start: Callable[[], Any],
    storage: Device,
    model: bytes,
    other_model: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The power fails after each of many byte counts; the next start finds the old or the new model."""
    # Random numbers may need escapes, and a busy machine resends: then the same byte count would be another
    # point of the deployment.
    monkeypatch.setattr(secrets, "randbits", lambda bits: 0x20212223)
    monkeypatch.setattr(secrets, "randbelow", lambda end: 1)
    storage.store(other_model)
    counting = CutTransport(start(), 1 << 30)
    Client(counting, resend_s=1).deploy(model)
    whole = (1 << 30) - counting.left
    found = []
    for length in [*range(30, whole, 331), *range(whole - 40, whole), whole + 50]:
        storage.store(other_model)
        with suppress(DeviceError):
            Client(CutTransport(start(), length), resend_s=1).deploy(model)
        hello = connect(start()).hello
        assert hello.model_state == ModelState.READY
        found.append(hello.model_sha256)
        assert storage.is_clean()
    assert found[0] == trailer_sha256(other_model) and found[-1] == trailer_sha256(model)
    assert found == sorted(found, key=lambda sha: sha == trailer_sha256(model))  # once new, always new


@pytest.mark.parametrize("seed", range(2))
def test_server_thousands_of_faults_do_no_harm(start: Callable[[], Any], seed: int) -> None:
    """A quarter of all that passes is damaged, both ways: every result is right all the same."""
    server = start()
    transport = FaultyTransport(LoopbackTransport(server.handle, server.limit_bytes), 0, seed)
    client = Client(transport, resend_s=0.001)
    models = [two_port_model(seed=5), two_port_model(seed=6)]
    transport.rate = 0.25
    for round_ in range(50):
        file = models[round_ % 2]
        client.deploy(file)
        assert client.hello.model_sha256 == trailer_sha256(file)
        for run in range(3):
            assert runs_exactly(client, file, seed=100 * round_ + run)
    assert transport.fault_count > 500
    assert client.resent_frames > 300
    assert server.bad_frames > 100
