"""The frames of the wire protocol: the host's codec and the device's against the same bytes and noise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zlib
from pathlib import Path

import pytest
from frame_vectors import FrameRecord, received_streams, valid_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools import codec
from host_tools.exit_codes import ExitCode
from model_packager import format_table as table

VALID = valid_frames()
RECEIVED = received_streams()

DEVICE_PROGRAM = """
import json
from binascii import hexlify, unhexlify
from thimble.wire import decode, encode

def frames(wire):
    return [decode(unhexlify(line)) for line in wire]

with open("vectors.json") as file:
    vectors = json.load(file)
result = {
    "encoded": [hexlify(encode(m, s, unhexlify(p))).decode() for m, s, p in vectors["frames"]],
    "decoded": [f and (f[0], f[1], hexlify(f[2]).decode()) for f in frames(vectors["lines"])],
}
print(json.dumps(result))
"""


def received(data: bytes) -> tuple[list[tuple[int, int, bytes]], int]:
    """Frames and number of damaged pieces that the host's reader finds in `data`."""
    reader = codec.FrameReader()
    frames = reader.feed(data)
    return [(frame.message, frame.sequence, frame.payload) for frame in frames], reader.bad_frames


def lines(data: bytes) -> list[bytes]:
    """What a device's readline() gives for `data`, unfinished and empty lines left out."""
    return [line for line in data.split(b"\n")[:-1] if line]


def escaped(content: bytes) -> bytes:
    """Escaping as docs/PROTOCOL.md words it, byte by byte."""
    return b"".join(bytes([27, byte ^ 64]) if byte in (3, 10, 13, 27) else bytes([byte]) for byte in content)


def unescaped(line: bytes) -> bytes:
    """Unescaping as docs/PROTOCOL.md words it, byte by byte."""
    content, rest = bytearray(), list(line.replace(b"\r", b""))
    while rest:
        byte = rest.pop(0)
        if byte == 27 and rest and rest[0] ^ 64 in (3, 10, 13, 27):
            byte = rest.pop(0) ^ 64
        content.append(byte)
    return bytes(content)


@pytest.mark.parametrize("record", VALID, ids=lambda record: record.name)
def test_host_codec_valid_record_encodes_to_its_bytes(record: FrameRecord) -> None:
    message, sequence, payload = record.frames[0]
    assert codec.encode(codec.Frame(message, sequence, payload)).hex(" ") == record.wire.hex(" ")


@pytest.mark.parametrize("record", VALID + RECEIVED, ids=lambda record: record.name)
def test_host_codec_record_decodes_to_its_frames(record: FrameRecord) -> None:
    assert received(record.wire) == (record.frames, record.bad)


@pytest.mark.parametrize("record", VALID + RECEIVED, ids=lambda record: record.name)
def test_host_codec_record_byte_by_byte_decodes_to_its_frames(record: FrameRecord) -> None:
    reader = codec.FrameReader()
    frames = [frame for byte in record.wire for frame in reader.feed(bytes([byte]))]
    assert [(frame.message, frame.sequence, frame.payload) for frame in frames] == record.frames
    assert reader.bad_frames == record.bad


def test_device_codec_on_cpython_all_records_agree() -> None:
    from thimble import wire

    for record in VALID:
        assert wire.encode(*record.frames[0]).hex(" ") == record.wire.hex(" "), record.name
    for record in VALID + RECEIVED:
        decoded = [wire.decode(line) for line in lines(record.wire)]
        assert [frame for frame in decoded if frame] == record.frames, record.name
        assert decoded.count(None) == record.bad, record.name


def test_device_codec_on_micropython_all_records_agree(
    micropython: Path, repository: Path, tmp_path: Path
) -> None:
    every_line = [line for record in VALID + RECEIVED for line in lines(record.wire)]
    vectors = {
        "frames": [(*frame[:2], frame[2].hex()) for record in VALID for frame in record.frames],
        "lines": [line.hex() for line in every_line],
    }
    (tmp_path / "vectors.json").write_text(json.dumps(vectors))
    environment = {**os.environ, "MICROPYPATH": f"{repository / 'firmware'}:.frozen"}
    done = subprocess.run(
        [micropython, "-c", DEVICE_PROGRAM],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["encoded"] == [record.wire.hex() for record in VALID]
    host = [codec.decode(line) for line in every_line]
    expected = [frame and [frame.message, frame.sequence, frame.payload.hex()] for frame in host]
    assert result["decoded"] == expected


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=300))
def test_codecs_any_frame_encode_alike_and_read_each_other(
    message: int, sequence: int, payload: bytes
) -> None:
    from thimble import wire

    frame = codec.Frame(message, sequence, payload)
    on_wire = codec.encode(frame)
    assert wire.encode(message, sequence, payload) == on_wire
    assert wire.decode(on_wire[1:-1]) == (message, sequence, payload)
    assert not set(on_wire[1:-1]) & {table.WIRE_DELIMITER, table.WIRE_RETURN, table.WIRE_INTERRUPT}


@given(st.lists(st.sampled_from(list(b"\x1b\x0a\x0d\x03\x4a\x4d\x43\x5b\x00")), max_size=40).map(bytes))
@settings(max_examples=500)
def test_codecs_any_line_of_special_bytes_decode_alike(content: bytes) -> None:
    """The device replaces escapes one kind after the other, the host all in one pass; results are equal."""
    from thimble import wire

    frame = codec.decode(content)
    assert wire.decode(content) == (frame and (frame.message, frame.sequence, frame.payload))


@given(st.lists(st.sampled_from(list(b"\x1b\x0d\x4a\x4d\x43\x5b")), max_size=12).map(bytes))
def test_codecs_stray_escapes_and_returns_with_a_good_crc_give_the_specified_content(stray: bytes) -> None:
    """Nobody encodes like this, but whoever receives it must see what docs/PROTOCOL.md says."""
    from thimble import wire

    line = b"\x06\x07" + stray + b"\0"  # the zero keeps a last escape away from the CRC-32
    content = unescaped(line)
    line += escaped(zlib.crc32(content).to_bytes(4, "little"))
    assert codec.decode(line) == codec.Frame(6, 7, content[2:])
    assert wire.decode(line) == (6, 7, content[2:])


@given(st.binary(max_size=200))
def test_frame_reader_noise_before_a_frame_loses_only_the_noise(noise: bytes) -> None:
    frame = codec.Frame(table.Message.ABORT, 7, b"after the noise")
    frames = codec.FrameReader().feed(noise + codec.encode(frame))
    assert frames[-1] == frame
    assert len(frames) == 1  # 32 bits of CRC: noise of 200 bytes does not pass for a frame


@pytest.mark.parametrize("record", VALID, ids=lambda record: record.name)
def test_codecs_every_flipped_bit_is_noticed(record: FrameRecord) -> None:
    from thimble import wire

    for position in range(len(record.wire)):
        for bit in range(8):
            damaged = bytearray(record.wire)
            damaged[position] ^= 1 << bit
            assert received(bytes(damaged))[0] == []
            assert [wire.decode(line) for line in lines(damaged)].count(None) == len(lines(damaged))


@pytest.mark.parametrize("record", VALID, ids=lambda record: record.name)
def test_frame_reader_every_cut_then_a_good_frame_gives_the_good_frame(record: FrameRecord) -> None:
    for length in range(1, len(record.wire) - 1):
        frames, _ = received(record.wire[:length] + record.wire)
        assert frames == record.frames


def test_frame_reader_endless_line_holds_little_and_recovers() -> None:
    reader = codec.FrameReader()
    for _ in range(100):
        assert reader.feed(bytes(1000)) == []
        assert len(reader._line) <= codec.MAX_FRAME_BYTES
    frame = codec.Frame(1, 2, bytes(table.WIRE_MAX_PAYLOAD_BYTES))
    assert reader.feed(codec.encode(frame)) == [frame]
    assert reader.bad_frames == 1


def test_frame_reader_largest_frame_with_every_byte_escaped_arrives() -> None:
    frame = codec.Frame(0x0A, 0x0A, b"\x0a" * table.WIRE_MAX_PAYLOAD_BYTES)
    on_wire = codec.encode(frame)
    assert codec.MAX_FRAME_BYTES - 8 <= len(on_wire) <= codec.MAX_FRAME_BYTES
    assert codec.FrameReader().feed(on_wire) == [frame]


def test_protocol_document_example_is_the_frame_that_it_explains(repository: Path) -> None:
    text = (repository / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    block = next(part for part in text.split("```")[1::2] if "message id: HELLO" in part)
    shown = bytes.fromhex("".join(line.split("  ")[0] for line in block.strip().splitlines()))
    payload = codec.pack(table.HELLO_REQUEST, protocol_version=1, max_payload=4096, session=0x12345678)
    assert shown == codec.encode(codec.Frame(table.Message.HELLO, 0, payload))


def test_protocol_document_lists_the_exit_codes(repository: Path) -> None:
    text = (repository / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|", text.partition("## 5.")[2], re.MULTILINE)
    assert [int(row) for row in rows] == [int(code) for code in ExitCode]


def test_encode_payload_too_long_raises() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        codec.encode(codec.Frame(1, 0, bytes(table.WIRE_MAX_PAYLOAD_BYTES + 1)))


def test_pack_and_unpack_structs_of_the_table_round_trip() -> None:
    payload = codec.pack(table.SET_INPUT_REQUEST, offset=0x01020304, input=5) + b"rest"
    assert payload == bytes.fromhex("04030201 05 00 0000") + b"rest"
    numbers, strings, rest = codec.unpack(table.SET_INPUT_REQUEST, payload)
    assert (numbers, strings, rest) == (
        {"offset": 0x01020304, "input": 5, "reserved": 0, "reserved2": 0}, {}, b"rest",
    )  # fmt: skip


def test_pack_unknown_field_or_too_large_value_raises() -> None:
    with pytest.raises(ValueError, match="no field speed"):
        codec.pack(table.RUN_REQUEST, speed=1)
    with pytest.raises(ValueError, match="flags"):
        codec.pack(table.RUN_REQUEST, flags=256)


def test_unpack_short_payload_raises() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        codec.unpack(table.OFFSET_REPLY, b"123")
