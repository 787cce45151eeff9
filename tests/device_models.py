"""Small packed models for the tests of server and client, and files that are damaged on purpose."""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from host_tools import serve
from model_packager import container, reference
from model_packager import format_table as table
from model_packager.errors import DeviceRefused
from model_packager.format_table import ErrorCode, ModelState
from model_packager.model import Model
from model_packager.pack import pack
from tests.random_networks import NetworkBuilder

HEADER_LAYOUT = table.struct_format(table.HEADER)
HEADER_BYTES = struct.calcsize(HEADER_LAYOUT)
ENTRY_LAYOUT = table.struct_format(table.SECTION_ENTRY)
ENTRY_BYTES = struct.calcsize(ENTRY_LAYOUT)


def packed_model(seed: int = 1, units: int = 40, model_id: int = 7, model_version: int = 1) -> bytes:
    """A packed network of a few operators; `units` sets its size (6 KB at 40)."""
    builder = NetworkBuilder(seed)
    source = builder.input((1, 8, 8, 3))
    hidden = builder.depthwise(builder.conv(source, 4, kernel=3))
    flat = builder.reshape(hidden, (1, 8 * 8 * 4))
    builder.output(builder.fully_connected(builder.fully_connected(flat, units), 10))
    for operator in builder.model.operators:
        if operator.weights is not None:
            operator.weights.values //= 16  # few different weights: the coders have something to do
    builder.model.model_id = model_id
    builder.model.model_version = model_version
    return pack(builder.model).data


def two_port_model(seed: int = 5) -> bytes:
    """A packed network with two inputs and two outputs."""
    builder = NetworkBuilder(seed)
    first, second = builder.input((1, 4, 4, 2)), builder.input((1, 4, 4, 2))
    total = builder.add(first, second)
    builder.output(builder.conv(total, 3))
    builder.output(builder.lookup(second))
    return pack(builder.model).data


@functools.lru_cache(maxsize=64)
def _loaded(file: bytes) -> Model:
    return container.load(file)


def random_inputs(file: bytes, seed: int) -> list[bytes]:
    """Random bytes for every input of a packed model."""
    model = _loaded(file)
    random = np.random.default_rng(seed)
    return [random.bytes(model.tensors[port.tensor].size_bytes) for port in model.inputs]


def expected_outputs(file: bytes, inputs: list[bytes]) -> list[bytes]:
    """What the reference executor gives for inputs as bytes."""
    model = _loaded(file)
    shapes = [model.tensors[port.tensor].shape for port in model.inputs]
    arrays = [np.frombuffer(data, np.int8).reshape(shape) for data, shape in zip(inputs, shapes, strict=True)]
    return [output.tobytes() for output in reference.run(model, arrays)]


def sealed(file: bytes | bytearray) -> bytes:
    """`file` with all its checksums made right again: sections, header, SHA-256."""
    data = bytearray(file)
    sections = struct.unpack_from(HEADER_LAYOUT, data)[3]
    for index in range(sections):
        at = HEADER_BYTES + index * ENTRY_BYTES
        kind, flags, reserved, offset, length, _ = struct.unpack_from(ENTRY_LAYOUT, data, at)
        crc = zlib.crc32(data[offset : offset + length])
        struct.pack_into(ENTRY_LAYOUT, data, at, kind, flags, reserved, offset, length, crc)
    covered = data[: HEADER_BYTES - 4] + data[HEADER_BYTES : HEADER_BYTES + sections * ENTRY_BYTES]
    struct.pack_into("<I", data, HEADER_BYTES - 4, zlib.crc32(covered))
    data[-table.SHA256_BYTES :] = hashlib.sha256(data[: -table.SHA256_BYTES]).digest()
    return bytes(data)


def _changed(file: bytes, offset: int, value: bytes) -> bytearray:
    data = bytearray(file)
    data[offset : offset + len(value)] = value
    return data


def _section(file: bytes, kind: table.SectionKind) -> tuple[int, int]:
    """Offset in the file of the table entry and of the content of a section."""
    for index in range(struct.unpack_from(HEADER_LAYOUT, file)[3]):
        at = HEADER_BYTES + index * ENTRY_BYTES
        found, _, _, offset, _, _ = struct.unpack_from(ENTRY_LAYOUT, file, at)
        if found == kind:
            return at, offset
    raise AssertionError(f"no section {kind}")


def bad_files(file: bytes) -> Iterator[tuple[str, bytes, ErrorCode]]:
    """Damaged copies of `file`: name, bytes, and the error that every loader owes for it."""
    entry, program = _section(file, table.SectionKind.PROGRAM)
    _, data = _section(file, table.SectionKind.DATA)
    yield "empty", b"", ErrorCode.TRUNCATED
    yield "header_only", file[:HEADER_BYTES], ErrorCode.TRUNCATED
    yield "last_byte_missing", file[:-1], ErrorCode.TRUNCATED
    yield "one_byte_too_many", file + b"\0", ErrorCode.BAD_SECTION
    yield "magic", bytes(_changed(file, 0, b"X")), ErrorCode.BAD_MAGIC
    yield "version", sealed(_changed(file, 4, b"\x02")), ErrorCode.UNSUPPORTED_VERSION
    yield "header_flag", sealed(_changed(file, 5, b"\x80")), ErrorCode.RESERVED_BITS
    yield "header_crc", bytes(_changed(file, HEADER_BYTES - 4, b"\0\0\0\0")), ErrorCode.BAD_HEADER_CRC
    yield "section_order", sealed(_changed(file, entry, b"\x02")), ErrorCode.BAD_SECTION
    yield "unknown_section", sealed(_changed(file, entry, b"\x63")), ErrorCode.UNSUPPORTED_SECTION
    yield "program_byte", bytes(_changed(file, program + 3, b"\xaa")), ErrorCode.BAD_SECTION_CRC
    yield "data_byte", bytes(_changed(file, data, bytes([file[data] ^ 1]))), ErrorCode.BAD_SECTION_CRC
    yield "trailer", bytes(_changed(file, len(file) - 5, b"hash!")), ErrorCode.BAD_HASH
    yield "feature", sealed(_changed(file, 15, b"\x80")), ErrorCode.UNSUPPORTED_FEATURE
    yield "operator", sealed(_changed(file, 19, b"\x80")), ErrorCode.UNSUPPORTED_OPERATOR
    yield "varint", sealed(_changed(file, program, b"\x80\0")), ErrorCode.BAD_VARINT
    yield "tensor_count", sealed(_changed(file, program, b"\xff\x7f")), ErrorCode.LIMIT_EXCEEDED
    yield "tensor_type", sealed(_changed(file, program + 1, b"\x09")), ErrorCode.BAD_TENSOR
    yield "arena", sealed(_changed(file, 20, b"\x01\0\0\0")), ErrorCode.ARENA_TOO_SMALL
    yield "scratch", sealed(_changed(file, 24, b"\0\0\0\0")), ErrorCode.SCRATCH_TOO_SMALL


def check_server_on_micropython() -> None:
    """What `thimble serve` starts on MicroPython deploys, runs, measures, and refuses by name."""
    model = packed_model()
    with serve.start("micropython") as server, server.connect() as client:
        client.deploy(model, force=True)
        for _, data, error in bad_files(model):
            with pytest.raises(DeviceRefused) as caught:
                client.deploy(data, force=True)
            assert caught.value.code == error
        assert client.hello.model_state == ModelState.READY
        for seed in range(3):
            inputs = random_inputs(model, seed)
            assert client.infer(inputs)[0] == expected_outputs(model, inputs)
        assert len(client.bench(3)) == 3 and client.profile()
