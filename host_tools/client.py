"""The host's side of a session with a device server (docs/PROTOCOL.md), over any transport.

Every request waits for its reply with a time-out and is sent again with the same sequence number when none
came; the server answers a repetition from memory, so nothing is done twice. Refusals of the device are raised
as `DeviceRefused` with the device's own error code, silence as `DeviceTimeout`.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from host_tools.codec import Frame, FrameReader, encode, pack, unpack
from host_tools.transports import Transport
from model_packager import format_table as table
from model_packager.errors import (
    DeviceError,
    DeviceRefused,
    DeviceTimeout,
    RolledBackError,
    VerificationError,
)
from model_packager.format_table import Capability, ErrorCode, Message, ModelState

REPLY_WAIT_S = 10.0  # for requests that a device answers at once
LOAD_WAIT_S = 120.0  # RESET: a slow board reads, hashes and checks the whole file
RUN_WAIT_S = 600.0  # RUN: the largest networks take minutes in bytecode
COMMIT_WAIT_S = LOAD_WAIT_S + RUN_WAIT_S  # the golden test is a run
RESTARTS = 3  # of a device while it receives one file
BENCH_BATCH_S = 2.0  # a BENCH request asks for as many runs as take about this long
MOST_COMPLAINTS = 100  # that a device may answer one request with

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Hello:
    """What a device says of itself; the fields of the HELLO reply in the format table."""

    protocol_version: int
    format_version: int
    architecture: int
    model_state: table.ModelState
    max_payload: int
    slot_count: int
    active_slot: int
    capabilities: table.Capability
    features: table.Feature
    operators: int
    heap_free_bytes: int
    slot_bytes: int
    model_id: int
    model_version: int
    model_sha256: bytes
    board: str


@dataclass(frozen=True)
class Info:
    """Counters and sizes of a device; the fields of the INFO reply in the format table."""

    heap_free_bytes: int
    heap_bytes: int
    storage_free_bytes: int
    arena_bytes: int
    scratch_bytes: int
    received_bytes: int
    bad_frames: int
    uptime_ms: int
    operator_count: int
    model_error: ErrorCode | None
    input_bytes: tuple[int, ...]
    output_bytes: tuple[int, ...]


@dataclass(frozen=True)
class Deployment:
    """What `Client.deploy` did.

    `sent_bytes` and `seconds` are those of the transfer, `load_us` the device's time (in `Client.time_unit`)
    to verify and load the file; `skipped` says that the device ran it already.
    """

    sent_bytes: int
    seconds: float
    load_us: int
    skipped: bool = False


def _trailer_offset(file: bytes) -> int:
    signed = len(file) > 5 and file[5] & table.HeaderFlag.SIGNED
    return max(0, len(file) - table.SHA256_BYTES - (table.SIGNATURE_BYTES if signed else 0))


def signature(file: bytes) -> bytes:
    """The Ed25519 signature (64 bytes) of a signed model file; b"" of any other."""
    return file[_trailer_offset(file) + table.SHA256_BYTES :]


def trailer_sha256(file: bytes) -> bytes:
    """The SHA-256 (32 bytes) that a model file carries in its trailer; it names the model on the wire."""
    offset = _trailer_offset(file)
    return file[offset : offset + table.SHA256_BYTES].ljust(table.SHA256_BYTES, b"\0")


def is_whole(file: bytes) -> bool:
    """Whether the SHA-256 in a file's trailer is that of its other bytes."""
    return hashlib.sha256(file[: _trailer_offset(file)]).digest() == trailer_sha256(file)


class _Resend(Enum):
    """Why a request is sent again: no reply in time, or the device could not read a frame."""

    SILENCE = auto()
    COMPLAINT = auto()


class Client:
    """One session with a device server.

    Args:
        transport: an open transport; the client closes it.
        resend_s: the time without a reply after which a request is sent again; doubled each time.

    Raises:
        DeviceTimeout: nothing answers.
        DeviceError: it speaks another version of the protocol.
    """

    def __init__(self, transport: Transport, resend_s: float = 0.5, connect_wait_s: float = 5.0) -> None:
        self._transport = transport
        self._resend_s = resend_s
        self._reader = FrameReader()
        self._session, self._sequence = 0, 0
        self._out_of_step = False
        self.resent_frames = 0
        self.hello = self._open_session(connect_wait_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()

    # ------------------------------------------------------------------------------------- the exchange

    def request(
        self, message: Message, payload: bytes = b"", wait_s: float = REPLY_WAIT_S, quiet_s: float = 0.0
    ) -> bytes:
        """Send a request and give the payload of its reply. Without one it is sent again, but not within the
        first `quiet_s` seconds.

        Raises:
            DeviceRefused: the device answered with an error.
            DeviceTimeout: no answer within `wait_s`, however often it was sent.
            DeviceError: the connection broke.
        """
        if self._out_of_step:
            self._open_session()
        self._sequence = (self._sequence + 1) % 256
        return self._exchange(message, payload, wait_s, quiet_s)

    def _exchange(self, message: Message, payload: bytes, wait_s: float, quiet_s: float = 0.0) -> bytes:
        """`request` with the sequence number as it is."""
        frame = encode(Frame(message, self._sequence, payload))
        waited_s, resend_s = 0.0, max(self._resend_s, quiet_s)
        while waited_s < wait_s:
            self.resent_frames += waited_s > 0
            self._transport.write(frame)
            pause_s = min(resend_s, wait_s - waited_s)
            reply = self._wait_for_reply(message, pause_s)
            if isinstance(reply, bytes):
                self._out_of_step = False
                return reply
            if reply is _Resend.COMPLAINT:
                # Counted although no time has passed: a device that only complains must not keep us here for
                # ever. Not counted as silence: a slow device may still complain of what came long before.
                waited_s += wait_s / MOST_COMPLAINTS
                continue
            waited_s += pause_s
            resend_s *= 2
        # Whether the device has seen this sequence number is unknown: the next request opens a new session.
        self._out_of_step = True
        raise DeviceTimeout(f"the device did not answer {message.name} within {wait_s:g} s")

    def _wait_for_reply(self, message: Message, pause_s: float) -> bytes | _Resend:
        """The reply's payload, or why it is time to send the request again."""
        deadline = time.monotonic() + pause_s
        while (left_s := deadline - time.monotonic()) > 0:
            data = self._transport.read(left_s)
            if not data:
                return _Resend.SILENCE
            has_complained = False
            for frame in self._reader.feed(data):
                complaint = self._complaint(frame)
                if complaint is not None and complaint[1] == 0:
                    has_complained = True  # of a frame that may have been this one; its reply may come behind
                    continue
                if frame.sequence != self._sequence:
                    continue  # answer to an earlier repetition
                if complaint is not None and complaint[1] == message:
                    raise DeviceRefused(complaint[0], complaint[2])
                if frame.message == message | table.WIRE_REPLY_BIT:
                    return frame.payload
            if has_complained:
                return _Resend.COMPLAINT
        return _Resend.SILENCE

    @staticmethod
    def _complaint(frame: Frame) -> tuple[ErrorCode, int, str] | None:
        """Code, id of the request and detail of an ERROR reply; None for any other frame."""
        if frame.message != Message.ERROR | table.WIRE_REPLY_BIT:
            return None
        numbers, _, detail = _parsed(table.ERROR_REPLY, frame.payload)
        try:
            code = ErrorCode(numbers["code"])
        except ValueError as error:
            raise DeviceError(f"the device gave the unknown error code {numbers['code']}") from error
        return code, numbers["message"], detail.decode("utf-8", "replace")

    # ------------------------------------------------------------------------------------- the messages

    def _open_session(self, wait_s: float = REPLY_WAIT_S) -> Hello:
        self._session = secrets.randbits(32)
        self._sequence = secrets.randbelow(256)
        return self._say_hello(wait_s)

    def _say_hello(self, wait_s: float) -> Hello:
        payload = pack(
            table.HELLO_REQUEST,
            protocol_version=table.PROTOCOL_VERSION,
            max_payload=table.WIRE_MAX_PAYLOAD_BYTES,
            session=self._session,
        )
        reply = self._exchange(Message.HELLO, payload, wait_s)
        numbers, strings, board = _parsed(table.HELLO_REPLY, reply)
        if numbers["protocol_version"] != table.PROTOCOL_VERSION:
            raise DeviceError(
                f"the device speaks version {numbers['protocol_version']} of the protocol, "
                f"this program version {table.PROTOCOL_VERSION}"
            )
        if not table.WIRE_MIN_PAYLOAD_BYTES <= numbers["max_payload"] <= table.WIRE_MAX_PAYLOAD_BYTES:
            raise DeviceError(f"the device says that it takes payloads of {numbers['max_payload']} bytes")
        return Hello(
            protocol_version=numbers["protocol_version"],
            format_version=numbers["format_version"],
            architecture=numbers["architecture"],
            model_state=_model_state(numbers["model_state"]),
            max_payload=numbers["max_payload"],
            slot_count=numbers["slot_count"],
            active_slot=numbers["active_slot"],
            capabilities=table.Capability(numbers["capabilities"]),
            features=table.Feature(numbers["features"]),
            operators=numbers["operators"],
            heap_free_bytes=numbers["heap_free_bytes"],
            slot_bytes=numbers["slot_bytes"],
            model_id=numbers["model_id"],
            model_version=numbers["model_version"],
            model_sha256=strings["model_sha256"],
            board=board.decode("utf-8", "replace"),
        )

    def wait_until_idle(self, wait_s: float) -> None:
        """After a request that was interrupted: return when the device answers again.

        Raises:
            DeviceTimeout: it does not within `wait_s`.
        """
        self._out_of_step = True
        self.hello = self._open_session(wait_s)
        self._out_of_step = False

    def refresh(self) -> Hello:
        """Ask again what the device is and runs; also kept in `hello`. A HELLO moves no sequence number."""
        self.hello = self._open_session() if self._out_of_step else self._say_hello(REPLY_WAIT_S)
        return self.hello

    def info(self) -> Info:
        """Counters, memory, and the lengths of the model's inputs and outputs."""
        numbers, _, tail = _parsed(table.INFO_REPLY, self.request(Message.INFO))
        inputs, outputs = numbers.pop("input_count"), numbers.pop("output_count")
        if len(tail) != 4 * (inputs + outputs):
            raise DeviceError(f"INFO lists {len(tail)} bytes for {inputs} inputs and {outputs} outputs")
        sizes = struct.unpack(f"<{inputs + outputs}I", tail)
        error = numbers.pop("model_error")
        return Info(
            **{name: value for name, value in numbers.items() if not name.startswith("reserved")},
            model_error=ErrorCode(error) if error else None,
            input_bytes=sizes[:inputs],
            output_bytes=sizes[inputs:],
        )

    def begin(self, file: bytes, sha256: bytes | None = None, force: bool = False) -> int:
        """Announce `file`; the offset to send from, above 0 when the device has a part of this very file."""
        payload = pack(
            table.BEGIN_REQUEST,
            file_bytes=len(file),
            flags=table.BeginFlag.FORCE if force else 0,
            sha256=trailer_sha256(file) if sha256 is None else sha256,
        )
        payload += file[: struct.calcsize(table.struct_format(table.HEADER))]
        if self.hello.capabilities & Capability.SIGNATURES:
            payload += signature(file)
        return _next_offset(self.request(Message.BEGIN, payload))

    def data(self, offset: int, chunk: bytes) -> int:
        """Send a piece of the file; the offset of the byte that the device wants next."""
        return _next_offset(self.request(Message.DATA, pack(table.DATA_REQUEST, offset=offset) + chunk))

    def commit(self) -> int:
        """Have the device verify, load, try and run the file; the time (in `time_unit`) that it took."""
        reply = self.request(Message.COMMIT, pack(table.COMMIT_REQUEST), COMMIT_WAIT_S)
        return _parsed(table.COMMIT_REPLY, reply)[0]["load_us"]

    def confirm(self) -> None:
        """Have the device keep the model that it runs on trial."""
        self.request(Message.CONFIRM)

    def abort(self) -> None:
        """Have the device forget the transfer, and a model on trial."""
        self.request(Message.ABORT, wait_s=COMMIT_WAIT_S)

    def reset(self, kind: table.ResetKind) -> None:
        """Clear the model's persistent tensors, or have the server load its stored model again."""
        self.request(Message.RESET, pack(table.RESET_REQUEST, kind=kind), LOAD_WAIT_S)

    def deploy(
        self,
        file: bytes,
        force: bool = False,
        progress: Progress | None = None,
        verifying: Callable[[], None] = lambda: None,
    ) -> Deployment:
        """Replace the device's model by `file`, unless it runs that model already.

        Args:
            force: replace also a newer version, and send even what the device has already.
            progress: called after each piece with bytes done and bytes in all.
            verifying: called when all pieces are sent, before the device verifies, loads and tries them.

        Raises:
            DeviceRefused: the device refused the file and keeps its model.
            RolledBackError: the device started again before the new model was confirmed.
            VerificationError: the device names another model afterwards.
        """
        sha256 = trailer_sha256(file)
        # A damaged copy still names the model that it was.
        if self.hello.model_sha256 == sha256 and is_whole(file) and not force:
            if self.hello.model_state == ModelState.TRIAL:
                self.confirm()  # whoever sent it was cut off before
                self.refresh()
            if self.hello.model_state == ModelState.READY:
                return Deployment(0, 0.0, 0, skipped=True)
        started = time.monotonic()
        sent_bytes = self._send(file, force, progress)
        sent_s = time.monotonic() - started
        verifying()
        try:
            load_us = self._commit(sha256)
        except KeyboardInterrupt:
            self._out_of_step = True
            self.abort()  # a model on trial gives way to the one before it
            raise
        return Deployment(sent_bytes, sent_s, load_us)

    def _send(self, file: bytes, force: bool, progress: Progress | None) -> int:
        """Send what the device does not have of `file`; the bytes that were sent. A device that starts again
        meanwhile has forgotten the transfer, and the session: it gets both once more."""
        chunk_bytes = self.hello.max_payload - struct.calcsize(table.struct_format(table.DATA_REQUEST))
        sent_bytes = restarts = 0
        offset = self.begin(file, force=force)
        while offset < len(file):
            chunk = file[offset : offset + chunk_bytes]
            try:
                offset = _advanced(offset, self.data(offset, chunk))
            except DeviceRefused as error:
                restarts += 1
                if error.code != ErrorCode.BAD_STATE or restarts > RESTARTS:
                    raise
                self.hello = self._open_session()
                offset = self.begin(file, force=force)
            sent_bytes += len(chunk)
            if progress is not None:
                progress(offset, len(file))
        return sent_bytes

    def _commit(self, sha256: bytes) -> int:
        """COMMIT and, where it runs on trial, CONFIRM; the device's time for the former."""
        before = self.hello.model_sha256
        try:
            load_us = self.commit()
            self.refresh()
            if (self.hello.model_sha256, self.hello.model_state) == (sha256, ModelState.TRIAL):
                self.confirm()
                self.refresh()
        except DeviceRefused as error:
            if error.code != ErrorCode.BAD_STATE:
                raise
            raise RolledBackError("the device started again, and runs the model before") from error
        if (self.hello.model_sha256, self.hello.model_state) == (sha256, ModelState.READY):
            return load_us
        if self.hello.model_sha256 == before:
            raise RolledBackError("the device had taken the file, and runs the model before again")
        raise VerificationError("the device took the file, and now runs another model")

    def set_input(self, index: int, data: bytes) -> None:
        """Fill an input tensor."""
        room = self.hello.max_payload - struct.calcsize(table.struct_format(table.SET_INPUT_REQUEST))
        offset = 0
        while offset < len(data):
            fixed = pack(table.SET_INPUT_REQUEST, offset=offset, input=index)
            reply = self.request(Message.SET_INPUT, fixed + data[offset : offset + room])
            offset = _advanced(offset, _next_offset(reply))

    def run(self) -> int:
        """One inference on the inputs that were set; its time (in `time_unit`) by the device's clock."""
        reply = self.request(Message.RUN, pack(table.RUN_REQUEST), RUN_WAIT_S)
        return _parsed(table.RUN_REPLY, reply)[0]["run_us"]

    def get_output(self, index: int) -> bytes:
        """The bytes of an output tensor."""
        room = self.hello.max_payload - struct.calcsize(table.struct_format(table.GET_OUTPUT_REPLY))
        output = b""
        while True:
            fixed = pack(table.GET_OUTPUT_REQUEST, offset=len(output), length=room, output=index)
            numbers, _, piece = _parsed(table.GET_OUTPUT_REPLY, self.request(Message.GET_OUTPUT, fixed))
            output += piece
            if len(output) >= numbers["output_bytes"]:
                return output
            if not piece:
                size = numbers["output_bytes"]
                raise DeviceError(f"output {index} ends after {len(output)} of {size} bytes")

    @property
    def time_unit(self) -> str:
        """What the device's clock counts: "us", or "instructions" in an emulator."""
        return "instructions" if self.hello.capabilities & table.Capability.INSTRUCTIONS else "us"

    def _set_inputs(self, inputs: Sequence[bytes]) -> None:
        for index, data in enumerate(inputs):
            self.set_input(index, data)

    def infer(self, inputs: Sequence[bytes]) -> tuple[list[bytes], int]:
        """One inference: all inputs in, all outputs and the time it took (in `time_unit`) out."""
        self._set_inputs(inputs)
        run_us = self.run()
        return [self.get_output(index) for index in range(len(self.info().output_bytes))], run_us

    def bench(
        self, runs: int, progress: Progress | None = None, inputs: Sequence[bytes] | None = None
    ) -> list[int]:
        """The time (in `time_unit`) of each of `runs` inferences by the device's clock.

        Args:
            inputs: set before each run; without them a run takes whatever its inputs hold.
        """
        times: list[int] = []
        batch = 1
        while len(times) < runs:
            count = 1 if inputs else min(batch, runs - len(times), self.hello.max_payload // 4)
            self._set_inputs(inputs or ())
            reply = self.request(Message.BENCH, pack(table.BENCH_REQUEST, runs=count), RUN_WAIT_S)
            if len(reply) != 4 * count:
                raise DeviceError(f"BENCH gave {len(reply)} bytes for {count} runs")
            times += struct.unpack(f"<{count}I", reply)
            batch = max(1, int(BENCH_BATCH_S * 1e6 / max(1, max(times))))
            if progress is not None:
                progress(len(times), runs)
        return times

    def bench_window(self, runs: int, quiet_s: float = 0.0) -> int:
        """Microseconds of `runs` inferences (at most 65,535) without a break, by the device's clock; its
        trigger pin is on for as long. The line stays quiet for `quiet_s`.

        Raises:
            DeviceRefused: the device has no trigger pin.
        """
        payload = pack(table.BENCH_REQUEST, runs=runs, flags=table.BenchFlag.WINDOW)
        reply = self.request(Message.BENCH, payload, RUN_WAIT_S, quiet_s)
        return _parsed(table.BENCH_WINDOW_REPLY, reply)[0]["window_us"]

    def profile(self, inputs: Sequence[bytes] = ()) -> list[int]:
        """The time (in `time_unit`) of each operator of one inference on `inputs`, or on what is there."""
        times: list[int] = []
        while True:
            self._set_inputs(inputs)
            fixed = pack(table.PROFILE_REQUEST, first=len(times))
            reply = self.request(Message.PROFILE, fixed, RUN_WAIT_S)
            numbers, _, tail = _parsed(table.PROFILE_REPLY, reply)
            times += struct.unpack(f"<{len(tail) // 4}I", tail[: len(tail) // 4 * 4])
            if len(times) >= numbers["operator_count"]:
                return times
            if not tail:
                raise DeviceError(f"PROFILE ends after {len(times)} of {numbers['operator_count']} operators")


def _parsed(
    fields: tuple[table.Field, ...], payload: bytes
) -> tuple[dict[str, int], dict[str, bytes], bytes]:
    try:
        return unpack(fields, payload)
    except ValueError as error:
        raise DeviceError(f"the device sent a reply that is too short: {error}") from error


def _model_state(value: int) -> table.ModelState:
    try:
        return table.ModelState(value)
    except ValueError as error:
        raise DeviceError(f"the device gave the unknown model state {value}") from error


def _advanced(before: int, after: int) -> int:
    """`after`, which must lie behind `before`: a device that takes nothing would keep us here for ever."""
    if after <= before:
        raise DeviceError(f"the device was sent offset {before} and asks for offset {after}")
    return after


def _next_offset(reply: bytes) -> int:
    return _parsed(table.OFFSET_REPLY, reply)[0]["next_offset"]
