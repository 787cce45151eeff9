"""Device server of the serial protocol (docs/PROTOCOL.md): keeps one model in a file, and runs it when asked.

On a board: ``from thimble.server import serve; serve()`` answers on the console (USB or UART) until Ctrl-C,
which is never part of a frame; ``serve(machine.UART(1, 921600))`` answers on any other stream. A new model is
written to a file beside the stored one, checked by the loader, and only then renamed over it: whatever fails
before that leaves the old model stored and loaded. thimble.slots does more, where a board has room for it.
"""

import gc
import os
import struct
import sys
from time import ticks_diff, ticks_ms, ticks_us

from micropython import const

from thimble import FEATURES, OPERATORS, load
from thimble.errors import ThimbleError
from thimble.wire import decode, encode

# generated:begin Message Value:FORMAT_VERSION,PROTOCOL_VERSION,MAGIC
# generated:also Value:WIRE_DELIMITER,WIRE_OVERHEAD_BYTES,WIRE_MIN_PAYLOAD_BYTES,WIRE_MAX_PAYLOAD_BYTES
# generated:also Value:WIRE_REPLY_BIT
# generated:also ModelState ResetKind BeginFlag:FORCE Capability:PROFILE Limit:FILE_BYTES
# generated:also ErrorCode:TRUNCATED,BAD_MAGIC,UNSUPPORTED_VERSION,RESERVED_BITS,BAD_HASH,UNSUPPORTED_FEATURE
# generated:also ErrorCode:UNSUPPORTED_OPERATOR,BAD_INPUT,OUT_OF_MEMORY,BAD_FRAME,UNKNOWN_MESSAGE,BAD_STATE
# generated:also ErrorCode:BAD_OFFSET,NO_MODEL,NO_SPACE,WRITE_FAILED,DOWNGRADE,BAD_ARGUMENT,INTERNAL
# generated:also Struct:HEADER.FORMAT,HEADER.BYTES
# generated:also Struct:HELLO_REQUEST.FORMAT,HELLO_REPLY.FORMAT,BEGIN_REQUEST.FORMAT,DATA_REQUEST.FORMAT
# generated:also Struct:OFFSET_REPLY.FORMAT,COMMIT_REQUEST.FORMAT,COMMIT_REPLY.FORMAT,INFO_REPLY.FORMAT
# generated:also Struct:SET_INPUT_REQUEST.FORMAT,RUN_REQUEST.FORMAT,RUN_REPLY.FORMAT,GET_OUTPUT_REQUEST.FORMAT
# generated:also Struct:GET_OUTPUT_REPLY.FORMAT,GET_OUTPUT_REPLY.BYTES,BENCH_REQUEST.FORMAT
# generated:also Struct:PROFILE_REQUEST.FORMAT,PROFILE_REPLY.FORMAT,PROFILE_REPLY.BYTES,RESET_REQUEST.FORMAT
# generated:also Struct:ERROR_REPLY.FORMAT
_MESSAGE_HELLO = const(1)
_MESSAGE_BEGIN = const(2)
_MESSAGE_DATA = const(3)
_MESSAGE_COMMIT = const(4)
_MESSAGE_CONFIRM = const(5)
_MESSAGE_ABORT = const(6)
_MESSAGE_INFO = const(7)
_MESSAGE_SET_INPUT = const(8)
_MESSAGE_RUN = const(9)
_MESSAGE_GET_OUTPUT = const(10)
_MESSAGE_BENCH = const(11)
_MESSAGE_PROFILE = const(12)
_MESSAGE_RESET = const(13)
_MESSAGE_ERROR = const(127)
_FORMAT_VERSION = const(1)
_PROTOCOL_VERSION = const(1)
_MAGIC = const(b"THMB")
_WIRE_DELIMITER = const(10)
_WIRE_OVERHEAD_BYTES = const(6)
_WIRE_MIN_PAYLOAD_BYTES = const(128)
_WIRE_MAX_PAYLOAD_BYTES = const(4096)
_WIRE_REPLY_BIT = const(128)
_MODEL_STATE_NONE = const(0)
_MODEL_STATE_READY = const(1)
_MODEL_STATE_BAD = const(2)
_MODEL_STATE_TRIAL = const(3)
_RESET_KIND_STATE = const(0)
_RESET_KIND_SERVER = const(1)
_BEGIN_FLAG_FORCE = const(1)
_CAPABILITY_PROFILE = const(1)
_MAX_FILE_BYTES = const(1073741824)
_ERROR_TRUNCATED = const(-1)
_ERROR_BAD_MAGIC = const(-2)
_ERROR_UNSUPPORTED_VERSION = const(-3)
_ERROR_RESERVED_BITS = const(-4)
_ERROR_BAD_HASH = const(-9)
_ERROR_UNSUPPORTED_FEATURE = const(-10)
_ERROR_UNSUPPORTED_OPERATOR = const(-11)
_ERROR_BAD_INPUT = const(-22)
_ERROR_OUT_OF_MEMORY = const(-23)
_ERROR_BAD_FRAME = const(-40)
_ERROR_UNKNOWN_MESSAGE = const(-41)
_ERROR_BAD_STATE = const(-42)
_ERROR_BAD_OFFSET = const(-43)
_ERROR_NO_MODEL = const(-44)
_ERROR_NO_SPACE = const(-45)
_ERROR_WRITE_FAILED = const(-46)
_ERROR_DOWNGRADE = const(-47)
_ERROR_BAD_ARGUMENT = const(-49)
_ERROR_INTERNAL = const(-50)
_HEADER_FORMAT = const("<4sBBHIIIIIIII")
_HEADER_BYTES = const(40)
_HELLO_REQUEST_FORMAT = const("<HHI")
_HELLO_REPLY_FORMAT = const("<BBBBHBBIIIIIII32s")
_BEGIN_REQUEST_FORMAT = const("<I32sBBH")
_DATA_REQUEST_FORMAT = const("<I")
_OFFSET_REPLY_FORMAT = const("<I")
_COMMIT_REQUEST_FORMAT = const("<B")
_COMMIT_REPLY_FORMAT = const("<I")
_INFO_REPLY_FORMAT = const("<IIIIIIIIHBBbBH")
_SET_INPUT_REQUEST_FORMAT = const("<IBBH")
_RUN_REQUEST_FORMAT = const("<B")
_RUN_REPLY_FORMAT = const("<I")
_GET_OUTPUT_REQUEST_FORMAT = const("<IHBB")
_GET_OUTPUT_REPLY_FORMAT = const("<I")
_GET_OUTPUT_REPLY_BYTES = const(4)
_BENCH_REQUEST_FORMAT = const("<HBB")
_PROFILE_REQUEST_FORMAT = const("<HH")
_PROFILE_REPLY_FORMAT = const("<HH")
_PROFILE_REPLY_BYTES = const(4)
_RESET_REQUEST_FORMAT = const("<B")
_ERROR_REPLY_FORMAT = const("<bB")
# generated:end

_TIME_BYTES = const(4)
_SESSIONS = const(4)
_ENOSPC = const(28)
_DETAIL_CHARACTERS = const(80)


def _require(condition, code, detail):
    if not condition:
        raise ThimbleError(code, detail)


def _offset(value):
    return struct.pack(_OFFSET_REPLY_FORMAT, value)


class Server:
    """Answers frames; knows no port. `handle` is all that a transport needs.

    Args:
        path: file that holds the model; beside it, with ".new" behind its name, the one being transferred.
        max_payload: bytes; by default a 128th of the free heap, within what the protocol allows.
    """

    _actions: dict

    def __init__(self, path="model.thimble", max_payload=0):
        self._path = path
        self._new_path = path + ".new"
        self._started_ms = ticks_ms()
        self.bad_frames = 0
        self._complained = False
        self._sessions = []  # the newest first
        self._sequence = 0
        self._last = None  # id and reply of the newest request: a repetition is answered from here
        self._file = None
        gc.collect()
        chosen = max_payload or gc.mem_free() >> 7
        self.max_payload = max(_WIRE_MIN_PAYLOAD_BYTES, min(_WIRE_MAX_PAYLOAD_BYTES, chosen))
        self.limit_bytes = 2 * (_WIRE_OVERHEAD_BYTES + self.max_payload) + 1
        self._model = None
        self._announced = (0, b"")  # length and SHA-256 of the file that is being transferred
        self._received = 0
        self._forget_transfer()
        self._load_stored()

    # ------------------------------------------------------------------------------------- frames

    def handle(self, line):
        """The reply frame to what came between two line feeds, or None when there is nothing to say."""
        frame = decode(line)
        if frame is None:
            self.bad_frames += 1
            if self._complained:
                return None  # one complaint until a good frame: noise is not answered with more traffic
            self._complained = True
            return encode(
                _MESSAGE_ERROR | _WIRE_REPLY_BIT, 0, struct.pack(_ERROR_REPLY_FORMAT, _ERROR_BAD_FRAME, 0)
            )
        self._complained = False
        message, sequence, payload = frame
        if message == _MESSAGE_HELLO:
            return self._answer(message, sequence, payload)
        if self._sessions:
            if sequence == self._sequence:
                return self._last[1] if self._last and self._last[0] == message else None
            if sequence != (self._sequence + 1) & 0xFF:
                return None  # an older frame that was held up somewhere
            self._sequence = sequence
            self._last = None  # frees its memory before the next reply is made
        reply = self._answer(message, sequence, payload)
        self._last = (message, reply)
        return reply

    def _answer(self, message, sequence, payload):
        try:
            return encode(message | _WIRE_REPLY_BIT, sequence, self._act(message, sequence, payload))
        except ThimbleError as error:
            code, detail = error.code, error.detail
        except MemoryError:
            code, detail = _ERROR_OUT_OF_MEMORY, ""
        except OSError as error:
            code = _ERROR_NO_SPACE if error.errno == _ENOSPC else _ERROR_WRITE_FAILED
            detail = repr(error)
        except Exception as error:  # a server that dies could not say why
            code, detail = _ERROR_INTERNAL, repr(error)
        reply = struct.pack(_ERROR_REPLY_FORMAT, code, message) + str(detail)[:_DETAIL_CHARACTERS].encode()
        return encode(_MESSAGE_ERROR | _WIRE_REPLY_BIT, sequence, reply)

    def _act(self, message, sequence, payload):
        _require(message in self._actions, _ERROR_UNKNOWN_MESSAGE, message)
        action, layout, used, takes_rest = self._actions[message]
        size = struct.calcsize(layout)
        fits = size <= len(payload) <= self.max_payload if takes_rest else size == len(payload)
        _require(fits, _ERROR_BAD_ARGUMENT, "length")
        fields = struct.unpack_from(layout, payload)
        if message == _MESSAGE_HELLO:
            return self._hello(sequence, *fields)
        _require(self._sessions, _ERROR_BAD_STATE, "no HELLO")
        _require(not any(fields[used:]), _ERROR_RESERVED_BITS, "")
        rest = (memoryview(payload)[size:],) if takes_rest else ()
        return action(self, *fields[:used], *rest)  # type: ignore[operator]

    # ------------------------------------------------------------------------------------- the device

    def _hello(self, sequence, version, max_payload, session):
        _require(max_payload >= self.max_payload, _ERROR_BAD_ARGUMENT, "max_payload")
        # A HELLO that was held up, also one of a session before this one, must not put the host out of step.
        if session not in self._sessions:
            self._sessions = [session] + self._sessions[: _SESSIONS - 1]
            self._sequence = sequence
            self._last = None
        gc.collect()
        model = self._model
        reply = struct.pack(
            _HELLO_REPLY_FORMAT,
            _PROTOCOL_VERSION,
            _FORMAT_VERSION,
            getattr(sys.implementation, "_mpy", 0) >> 10 & 15,
            _MODEL_STATE_READY if model else _MODEL_STATE_BAD if self._model_error else _MODEL_STATE_NONE,
            self.max_payload,
            1,
            0,
            _CAPABILITY_PROFILE,
            FEATURES,
            OPERATORS,
            gc.mem_free(),
            self._space(),
            model.model_id if model else 0,
            model.model_version if model else 0,
            model.sha256 if model else b"",
        )
        return reply + getattr(sys.implementation, "_machine", sys.platform)[:56].encode()

    def _info(self):
        model = self._model
        ports = (model.inputs + model.outputs) if model else []
        gc.collect()
        reply = struct.pack(
            _INFO_REPLY_FORMAT,
            gc.mem_free(),
            gc.mem_free() + gc.mem_alloc(),
            self._space(),
            model.arena_bytes if model else 0,
            model.scratch_bytes if model else 0,
            self._received,
            self.bad_frames,
            ticks_diff(ticks_ms(), self._started_ms) & 0x3FFFFFFF,
            model.operator_count if model else 0,
            len(model.inputs) if model else 0,
            len(model.outputs) if model else 0,
            self._model_error,
            0,
            0,
        )
        for port in ports:
            reply += struct.pack("<I", len(port))
        return reply

    def _reset(self, kind):
        if kind == _RESET_KIND_STATE:
            self._running().reset()
            self._forget_tensors()
        else:
            _require(kind == _RESET_KIND_SERVER, _ERROR_BAD_ARGUMENT, kind)
            self._forget_transfer()
            self._load_stored()
        return b""

    def _space(self):
        folder = self._path.rpartition("/")[0] or "."
        space = os.statvfs(folder)
        return min(space[1] * space[4], _MAX_FILE_BYTES)

    # ------------------------------------------------------------------------------------- a new model

    def _begin(self, file_bytes, sha256, flags, header):
        _require(not flags & ~_BEGIN_FLAG_FORCE, _ERROR_RESERVED_BITS, "")
        if self._file and self._announced == (file_bytes, sha256):
            return _offset(self._received)
        self._forget_transfer()
        self._check_header(header, file_bytes, flags)
        space = self._space()
        _require(file_bytes <= space, _ERROR_NO_SPACE, "room for %d" % space)
        self._file = open(self._new_path, "wb")
        self._announced = (file_bytes, sha256)
        return _offset(0)

    def _check_header(self, header, file_bytes, flags):
        """Refuse what cannot fit before it is sent; the loader checks everything again, in its own order."""
        _require(len(header) == _HEADER_BYTES < file_bytes, _ERROR_TRUNCATED, "header")
        fields = struct.unpack(_HEADER_FORMAT, header)
        magic, version, _, _, _, features, operators, arena, scratch, model_id, model_version, _ = fields
        _require(magic == _MAGIC, _ERROR_BAD_MAGIC, magic)
        _require(version == _FORMAT_VERSION, _ERROR_UNSUPPORTED_VERSION, version)
        missing = features & ~FEATURES
        _require(not missing, _ERROR_UNSUPPORTED_FEATURE, "bits 0x%x" % missing)
        missing = operators & ~OPERATORS
        _require(not missing, _ERROR_UNSUPPORTED_OPERATOR, "bits 0x%x" % missing)
        heap = gc.mem_free() + gc.mem_alloc()
        _require(arena + scratch < heap, _ERROR_OUT_OF_MEMORY, "heap of %d" % heap)
        model = self._model
        if model and model_id and model_id == model.model_id and not flags:
            newest = model.model_version
            _require(model_version >= newest, _ERROR_DOWNGRADE, "running %d" % newest)

    def _receiving(self):
        if not self._file:
            raise ThimbleError(_ERROR_BAD_STATE, "no BEGIN")
        return self._file

    def _data(self, offset, chunk):
        file = self._receiving()
        # A piece at any other place is left alone: the reply says which one is wanted.
        if offset == self._received:
            _require(offset + len(chunk) <= self._announced[0], _ERROR_BAD_OFFSET, offset)
            try:
                written = file.write(chunk)
                _require(written == len(chunk), _ERROR_NO_SPACE, offset)
            except (OSError, ThimbleError):
                self._forget_transfer()
                raise
            self._received += len(chunk)
        return _offset(self._received)

    def _commit(self):
        file = self._receiving()
        file_bytes, sha256 = self._announced
        _require(self._received == file_bytes, _ERROR_TRUNCATED, self._received)
        file.close()
        self._file = None
        started = ticks_us()
        try:
            self._close_model()  # both at once may not fit into the heap
            model = load(self._new_path)
            model.close()
            _require(model.sha256 == sha256, _ERROR_BAD_HASH, "announced")
            model = None
            os.rename(self._new_path, self._path)
        finally:
            self._forget_transfer()
            self._load_stored()
        self._running()
        return struct.pack(_COMMIT_REPLY_FORMAT, ticks_diff(ticks_us(), started))

    def _forget_transfer(self):
        if self._file:
            self._file.close()
        self._file = None
        self._announced = (0, b"")
        self._received = 0
        try:
            os.remove(self._new_path)
        except OSError:
            return b""  # there is none: nothing was being transferred, or it has become the model
        return b""

    def _load_stored(self):
        self._close_model()
        self._model_error = 0
        try:
            self._model = load(self._path)
        except OSError:
            self._model_error = 0  # no model is stored
        except ThimbleError as error:
            self._model_error = error.code
        except MemoryError:
            self._model_error = _ERROR_OUT_OF_MEMORY
        self._forget_tensors()

    def _close_model(self):
        if self._model:
            self._model.close()
        self._model = None
        gc.collect()

    # ------------------------------------------------------------------------------------- the model

    def _running(self):
        if not self._model:
            raise ThimbleError(_ERROR_NO_MODEL)
        return self._model

    def _forget_tensors(self):
        """Inputs and outputs share the arena: a run uses up the inputs, a new input spoils the outputs."""
        self._filled = [0] * (len(self._model.inputs) if self._model else 0)
        self._has_output = False
        self._times = []

    def _port(self, ports, index):
        _require(index < len(ports), _ERROR_BAD_ARGUMENT, index)
        return ports[index]

    def _set_input(self, offset, index, data):
        tensor = self._port(self._running().inputs, index)
        if offset in (0, self._filled[index]):
            end = offset + len(data)
            _require(end <= len(tensor), _ERROR_BAD_INPUT, "input %d" % index)
            tensor[offset:end] = data
            self._filled[index] = end
            self._has_output = False
        return _offset(self._filled[index])

    def _run(self):
        model = self._running()
        for index, filled in enumerate(self._filled):
            _require(filled == len(model.inputs[index]), _ERROR_BAD_INPUT, "input %d" % index)
        elapsed = self._time()
        self._has_output = True
        return struct.pack(_RUN_REPLY_FORMAT, elapsed)

    def _time(self):
        self._forget_tensors()
        gc.collect()
        started = ticks_us()
        self._running().invoke()
        return ticks_diff(ticks_us(), started)

    def _get_output(self, offset, length, index):
        tensor = self._port(self._running().outputs, index)
        _require(self._has_output, _ERROR_BAD_STATE, "no RUN")
        _require(offset <= len(tensor), _ERROR_BAD_OFFSET, offset)
        length = min(length, self.max_payload - _GET_OUTPUT_REPLY_BYTES)
        return struct.pack(_GET_OUTPUT_REPLY_FORMAT, len(tensor)) + tensor[offset : offset + length]

    def _bench(self, runs):
        self._running()
        _require(0 < runs <= self.max_payload // _TIME_BYTES, _ERROR_BAD_ARGUMENT, runs)
        reply = bytearray(runs * _TIME_BYTES)
        for index in range(runs):
            struct.pack_into("<I", reply, index * _TIME_BYTES, self._time())
        return reply

    def _profile(self, first):
        model = self._running()
        if first == 0:
            self._forget_tensors()
            gc.collect()
            model.invoke(self._times)
        reply = struct.pack(_PROFILE_REPLY_FORMAT, len(self._times), 0)
        room = (self.max_payload - _PROFILE_REPLY_BYTES) // _TIME_BYTES
        for time_us in self._times[first : first + room]:
            reply += struct.pack("<I", time_us)
        return reply

    def close(self):
        """Give back the files; a transfer that is under way is forgotten."""
        self._forget_transfer()
        self._close_model()


# Message id: function, layout of the payload's fixed part, how many of its fields the function takes (those
# behind them are reserved), whether it takes the bytes that follow.
Server._actions = {
    _MESSAGE_HELLO: (Server._hello, _HELLO_REQUEST_FORMAT, 3, False),
    _MESSAGE_BEGIN: (Server._begin, _BEGIN_REQUEST_FORMAT, 3, True),
    _MESSAGE_DATA: (Server._data, _DATA_REQUEST_FORMAT, 1, True),
    _MESSAGE_COMMIT: (Server._commit, _COMMIT_REQUEST_FORMAT, 0, False),
    _MESSAGE_ABORT: (Server._forget_transfer, "<", 0, False),
    _MESSAGE_INFO: (Server._info, "<", 0, False),
    _MESSAGE_SET_INPUT: (Server._set_input, _SET_INPUT_REQUEST_FORMAT, 2, True),
    _MESSAGE_RUN: (Server._run, _RUN_REQUEST_FORMAT, 0, False),
    _MESSAGE_GET_OUTPUT: (Server._get_output, _GET_OUTPUT_REQUEST_FORMAT, 3, False),
    _MESSAGE_BENCH: (Server._bench, _BENCH_REQUEST_FORMAT, 1, False),
    _MESSAGE_PROFILE: (Server._profile, _PROFILE_REQUEST_FORMAT, 1, False),
    _MESSAGE_RESET: (Server._reset, _RESET_REQUEST_FORMAT, 1, False),
}


def serve(stream=None, path="model.thimble", max_payload=0, kind=Server):
    """Answer frames until the stream ends or Ctrl-C.

    Args:
        stream: an object with readline(limit) and write(bytes), such as a machine.UART; None is the console.
        kind: the class that answers.
    """
    server = kind(path, max_payload)
    source, sink = (stream, stream) if stream else (sys.stdin.buffer, sys.stdout.buffer)
    line = b""
    oversized = False
    try:
        while True:
            try:
                piece = source.readline(server.limit_bytes)
                if piece is None:
                    continue  # a UART's own time-out
                if not piece:
                    return
                line += piece
                if piece[-1] == _WIRE_DELIMITER:
                    reply = server.handle(line[:-1]) if len(line) > 1 or oversized else None
                    if reply:
                        sink.write(reply)
                    line = b""
                    oversized = False
                elif len(line) >= server.limit_bytes:
                    line = b""  # the rest of an oversized frame is read and dropped up to its end
                    oversized = True
            except MemoryError:
                line = b""  # the host asks again
                gc.collect()
    except KeyboardInterrupt:
        return
    finally:
        server.close()
