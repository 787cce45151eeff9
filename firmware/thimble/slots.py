"""Two slots for models: a device server for boards with room for two models, and whose power may fail.

On a board: ``from thimble.slots import serve; serve()``. A new model is written into the slot that is not
active, and runs on trial after it has passed every check and its golden test. Only CONFIRM makes it the
stored one: after a power cut before that, the old model is back. Files, for the path "model.thimble":

    model.thimble, model.thimble.b      the slots; the first also takes a model that was copied there by hand
    model.thimble.0, model.thimble.1    records of which slot counts: the newer one whose CRC-32 is right
    model.thimble.key                   the Ed25519 public key (32 bytes), if models must be signed

A record is written into the file of the older one, so that there is always a whole one, whatever a cut leaves
of the other. No file is renamed: FAT cannot rename over another file. flush() comes before close(): on a file
system of the operating system (the unix port) only that goes down to the disk.
"""

import gc
import os
import struct
from binascii import crc32
from time import ticks_diff, ticks_us

from micropython import const

from thimble import load
from thimble import server
from thimble.errors import ThimbleError

# generated:begin Message:COMMIT,BEGIN,CONFIRM,ABORT Capability:SLOTS,SIGNATURES,TRIAL ModelState:TRIAL
# generated:also Value:WIRE_CRC_RESIDUE,WIRE_OVERHEAD_BYTES,SIGNATURE_BYTES Limit:FILE_BYTES
# generated:also ErrorCode:TRUNCATED,BAD_HASH,BAD_STATE,UNSIGNED,BAD_SIGNATURE,GOLDEN_MISMATCH
# generated:also HeaderFlag:SIGNED SectionKind:GOLDEN Struct:HEADER.FORMAT,HEADER.BYTES,HEADER.FLAGS
# generated:also Struct:SECTION_ENTRY.FORMAT,SECTION_ENTRY.BYTES,GOLDEN.FORMAT,GOLDEN.BYTES
# generated:also Struct:BEGIN_REQUEST.FORMAT,BEGIN_REQUEST.BYTES,COMMIT_REQUEST.FORMAT,COMMIT_REPLY.FORMAT
# generated:also Struct:HELLO_REPLY.MODEL_STATE,HELLO_REPLY.SLOT_COUNT,HELLO_REPLY.ACTIVE_SLOT
# generated:also Struct:HELLO_REPLY.CAPABILITIES
_MESSAGE_COMMIT = const(4)
_MESSAGE_BEGIN = const(2)
_MESSAGE_CONFIRM = const(5)
_MESSAGE_ABORT = const(6)
_CAPABILITY_SLOTS = const(2)
_CAPABILITY_SIGNATURES = const(4)
_CAPABILITY_TRIAL = const(8)
_MODEL_STATE_TRIAL = const(3)
_WIRE_CRC_RESIDUE = const(558161692)
_WIRE_OVERHEAD_BYTES = const(6)
_SIGNATURE_BYTES = const(64)
_MAX_FILE_BYTES = const(1073741824)
_ERROR_TRUNCATED = const(-1)
_ERROR_BAD_HASH = const(-9)
_ERROR_BAD_STATE = const(-42)
_ERROR_UNSIGNED = const(-25)
_ERROR_BAD_SIGNATURE = const(-24)
_ERROR_GOLDEN_MISMATCH = const(-26)
_HEADER_FLAG_SIGNED = const(1)
_SECTION_GOLDEN = const(4)
_HEADER_FORMAT = const("<4sBBHIIIIIIII")
_HEADER_BYTES = const(40)
_HEADER_FLAGS_OFFSET = const(5)
_SECTION_ENTRY_FORMAT = const("<BBHIII")
_SECTION_ENTRY_BYTES = const(16)
_GOLDEN_FORMAT = const("<II")
_GOLDEN_BYTES = const(8)
_BEGIN_REQUEST_FORMAT = const("<I32sBBH")
_BEGIN_REQUEST_BYTES = const(40)
_COMMIT_REQUEST_FORMAT = const("<B")
_COMMIT_REPLY_FORMAT = const("<I")
_HELLO_REPLY_MODEL_STATE_OFFSET = const(3)
_HELLO_REPLY_SLOT_COUNT_OFFSET = const(6)
_HELLO_REPLY_ACTIVE_SLOT_OFFSET = const(7)
_HELLO_REPLY_CAPABILITIES_OFFSET = const(8)
# generated:end

_RECORD_FORMAT = const("<IBBH")  # generation, slot, whether it is on trial, 0; behind it a CRC-32
_RECORD_BYTES = const(12)


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _golden_test(path, model):
    """Compare the outputs for the golden inputs (docs/FORMAT.md, section 2.4), if the file has some."""
    with open(path, "rb") as file:
        for _ in range(struct.unpack(_HEADER_FORMAT, file.read(_HEADER_BYTES))[3]):
            kind, _, _, offset, _, _ = struct.unpack(_SECTION_ENTRY_FORMAT, file.read(_SECTION_ENTRY_BYTES))
            if kind == _SECTION_GOLDEN:
                file.seek(offset)
                state, expected = struct.unpack(_GOLDEN_FORMAT, file.read(_GOLDEN_BYTES))
                break
        else:
            return
    for tensor in model.inputs:
        for index in range(len(tensor)):
            state ^= state << 13 & 0xFFFFFFFF
            state ^= state >> 17
            state ^= state << 5 & 0xFFFFFFFF
            tensor[index] = state & 0xFF
    gc.collect()
    model.invoke()
    crc = 0
    for tensor in model.outputs:
        crc = crc32(tensor, crc)
    if crc != expected:
        raise ThimbleError(_ERROR_GOLDEN_MISMATCH, "0x%08x" % crc)
    model.reset()


class SlotServer(server.Server):
    """A Server with two slots.

    Args:
        path: file of the first slot; the others lie beside it.
        max_payload: as of Server; more with a key, so that BEGIN takes a signature.
    """

    def __init__(self, path="model.thimble", max_payload=0):
        self._slots = (path, path + ".b")
        self._on_trial = 0
        self._flags = 0
        self._claim = (b"", b"")  # the SHA-256 of a new model, and what is said to be its signature
        self._key = _read(path + ".key")
        if self._key:
            from thimble.ed25519 import verify

            self._verify = verify
        server.Server.__init__(self, path, max_payload)
        if self._key:
            least = _BEGIN_REQUEST_BYTES + _HEADER_BYTES + _SIGNATURE_BYTES
            self.max_payload = max(self.max_payload, least)
            self.limit_bytes = 2 * (_WIRE_OVERHEAD_BYTES + self.max_payload) + 1

    # ------------------------------------------------------------------------------------- which slot counts

    def _newest(self):
        """(generation, slot, whether it is on trial) of the newer record; generation 0 without any."""
        newest = (0, 0, 0)
        for number in range(2):
            record = _read(self._slots[0] + ".%d" % number)
            if len(record) == _RECORD_BYTES and crc32(record) == _WIRE_CRC_RESIDUE:
                newest = max(newest, struct.unpack_from(_RECORD_FORMAT, record)[:3])
        return newest

    def _record(self, slot, on_trial):
        generation = self._newest()[0] + 1
        record = struct.pack(_RECORD_FORMAT, generation, slot, on_trial, 0)
        with open(self._slots[0] + ".%d" % (generation & 1), "wb") as file:
            file.write(record + struct.pack("<I", crc32(record)))
            file.flush()

    def _use(self, slot, on_trial):
        self._slot = slot
        self._on_trial = on_trial
        self._path = self._slots[slot]
        self._new_path = self._slots[1 - slot]

    def _load_stored(self):
        _, slot, on_trial = self._newest()
        self._use(slot ^ on_trial, 0)  # what was not confirmed gives way to the one before
        server.Server._load_stored(self)

    # ------------------------------------------------------------------------------------- messages

    def _hello(self, sequence, version, max_payload, session):
        reply = bytearray(server.Server._hello(self, sequence, version, max_payload, session))
        reply[_HELLO_REPLY_SLOT_COUNT_OFFSET] = 2
        reply[_HELLO_REPLY_ACTIVE_SLOT_OFFSET] = self._slot
        reply[_HELLO_REPLY_CAPABILITIES_OFFSET] |= _CAPABILITY_SLOTS | _CAPABILITY_TRIAL
        if self._key:
            reply[_HELLO_REPLY_CAPABILITIES_OFFSET] |= _CAPABILITY_SIGNATURES
        if self._on_trial:
            reply[_HELLO_REPLY_MODEL_STATE_OFFSET] = _MODEL_STATE_TRIAL
        return bytes(reply)

    def _space(self):
        space = server.Server._space(self)
        try:
            space += os.stat(self._new_path)[6]  # it will be overwritten
        except OSError:
            return space
        return min(space, _MAX_FILE_BYTES)

    def _begin(self, file_bytes, sha256, flags, header):
        self._claim = (sha256, bytes(header[_HEADER_BYTES:]))
        if self._key and len(header) >= _HEADER_BYTES and header[_HEADER_FLAGS_OFFSET] & _HEADER_FLAG_SIGNED:
            is_whole = len(header) == _HEADER_BYTES + _SIGNATURE_BYTES
            header = header[:_HEADER_BYTES] if is_whole else b""
        self._flags = flags
        return server.Server._begin(self, file_bytes, sha256, flags, header)

    def _check_header(self, header, file_bytes, flags):
        server.Server._check_header(self, header, file_bytes, flags)
        if self._key:
            if not header[_HEADER_FLAGS_OFFSET] & _HEADER_FLAG_SIGNED:
                raise ThimbleError(_ERROR_UNSIGNED, "a key is provisioned")
            if not self._verify(self._key, *self._claim):
                raise ThimbleError(_ERROR_BAD_SIGNATURE)

    def _commit(self):
        file = self._receiving()
        file_bytes, sha256 = self._announced
        if self._received != file_bytes:
            raise ThimbleError(_ERROR_TRUNCATED, self._received)
        started = ticks_us()
        try:
            file.flush()
            file.close()
            with open(self._new_path, "rb") as file:
                header = file.read(_HEADER_BYTES)
                file.seek(max(0, file_bytes - _SIGNATURE_BYTES))
                self._claim = (sha256, file.read())
            # Again, as BEGIN may have been shown the header and signature of another file.
            self._check_header(header, file_bytes, self._flags)
            on_trial = 1 if self._model else 0  # unless there is nothing to go back to
            self._close_model()  # both at once may not fit into the heap
            self._model = load(self._new_path)
            if self._model.sha256 != sha256:
                raise ThimbleError(_ERROR_BAD_HASH, "announced")
            _golden_test(self._new_path, self._model)
            self._record(1 - self._slot, on_trial)
        except BaseException:
            server.Server._forget_transfer(self)
            server.Server._load_stored(self)
            raise
        self._file = None  # it is no transfer any more, but the model
        self._announced = (0, b"")
        self._received = 0
        self._use(1 - self._slot, on_trial)
        self._model_error = 0
        self._forget_tensors()
        return struct.pack(_COMMIT_REPLY_FORMAT, ticks_diff(ticks_us(), started))

    def _confirm(self):
        if not self._on_trial:
            raise ThimbleError(_ERROR_BAD_STATE, "nothing is on trial")
        self._record(self._slot, 0)
        self._on_trial = 0
        return b""

    def _forget_transfer(self):
        if self._file:
            server.Server._forget_transfer(self)
        if self._on_trial:
            self._load_stored()
        return b""


SlotServer._actions = dict(server.Server._actions)
SlotServer._actions.update(
    {
        _MESSAGE_BEGIN: (SlotServer._begin, _BEGIN_REQUEST_FORMAT, 3, True),
        _MESSAGE_COMMIT: (SlotServer._commit, _COMMIT_REQUEST_FORMAT, 0, False),
        _MESSAGE_CONFIRM: (SlotServer._confirm, "<", 0, False),
        _MESSAGE_ABORT: (SlotServer._forget_transfer, "<", 0, False),
    }
)


def serve(stream=None, path="model.thimble", max_payload=0):
    """As thimble.server.serve, with two slots."""
    server.serve(stream, path, max_payload, SlotServer)
