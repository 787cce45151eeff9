"""Stream vectors as whole files, so that every executor can read them: a stream goes in, a .thimble file
comes out.

The file is one 1x1 convolution over two rows of pixels, a band each, so that the stream is read,
rewound and read again. Requantisation multiplies by exactly 1, and inputs are zero but for a 1 in one
column: the outputs are the weights themselves. A second kind of file is a fully connected layer, which
takes sparse streams as pairs.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from model_packager.container_read import aligned, stream_features
from model_packager.container_write import assemble, s_varint, u_varint
from model_packager.encoders import Stream, StreamDescriptor, stream_scratch_bytes
from model_packager.encoders.descriptor import check_descriptor
from model_packager.errors import FormatError
from model_packager.format_table import (
    CONSTANT_FIELDS,
    Coder,
    ConstantKind,
    DType,
    Feature,
    Layout,
    OperatorKind,
    RequantForm,
    ScheduleKind,
    SectionFlag,
    SectionKind,
    ValueMap,
)
from model_packager.model import Array

FOLDER = Path(__file__).resolve().parent / "vectors" / "streams"
ENUMERATIONS = {"layout": Layout, "coder": Coder, "value_map": ValueMap}
FIELDS = tuple(StreamDescriptor.__dataclass_fields__)
KINDS = (OperatorKind.CONV_2D, OperatorKind.FULLY_CONNECTED)
# A fully connected layer decodes all weights for each, a convolution once a band for all of them.
MOST_PROBES = {OperatorKind.CONV_2D: 64, OperatorKind.FULLY_CONNECTED: 8}
MOST_CHANNELS = 4096


# One multiplier of 2^30 with a shift of 1 to the left, which is exactly 1.
REQUANT_PAYLOAD = bytes(4)
REQUANT_BY_ONE = b"".join(
    [
        *(
            u_varint(value)
            for value in (ConstantKind.REQUANT, 0, len(REQUANT_PAYLOAD), 1, RequantForm.PACKED)
        ),
        s_varint(1),
    ]
)


def stream_vectors(name: str) -> list[dict[str, Any]]:
    """The entries of vectors/streams/NAME.json."""
    entries: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return entries


def stream_of(vector: dict[str, Any]) -> Stream:
    """The stream of one entry."""
    fields = {key: ENUMERATIONS[key][vector[key]] if key in ENUMERATIONS else vector[key] for key in FIELDS}
    return Stream(StreamDescriptor(**fields), bytes.fromhex(vector["payload"]))


def fits_file(stream: Stream) -> bool:
    """Whether `stream_file` can hold the stream: its tensors are not too large, or nobody looks at them."""
    descriptor = stream.descriptor
    return not is_legal(descriptor) or max(descriptor.rows, descriptor.cols) <= MOST_CHANNELS


def is_legal(descriptor: StreamDescriptor) -> bool:
    """Whether the fields of a descriptor agree with each other."""
    try:
        check_descriptor(descriptor)
    except FormatError:
        return False
    return True


def stream_file(stream: Stream, kind: OperatorKind) -> bytes:
    """A file whose only weights are `stream`, written without any check."""
    rows, cols = stream.descriptor.rows, stream.descriptor.cols
    # A descriptor that is refused is refused before its shape is compared with the tensors'.
    inputs, outputs = (min(max(size, 1), MOST_CHANNELS) for size in (cols, rows))
    height, width = (2, min(inputs, MOST_PROBES[kind])) if kind is OperatorKind.CONV_2D else (1, 1)
    features = stream_features(stream.descriptor)
    operator = u_varint(kind) + u_varint(ScheduleKind.WHOLE)
    if kind is OperatorKind.CONV_2D:
        features |= Feature.BANDS
        operator = u_varint(kind) + u_varint(ScheduleKind.BANDS) + u_varint(1)
    second = aligned(height * width * inputs)
    tensors = (((height, width, inputs), 0), ((height, width, outputs), second))
    operands = bytes([1, 0, 1, 1, 2, 2, 1, 0])  # input 0, output 1, constants 1 and 0, no attributes
    program = u_varint(len(tensors)) + b"".join(_tensor(*tensor) for tensor in tensors)
    program += u_varint(2) + REQUANT_BY_ONE + _weights(stream)
    program += u_varint(1) + operator + operands + _port(0) + _port(1)
    numbers = {
        "required_features": int(features),
        "required_operators": 1 << kind,
        "arena_bytes": aligned(second + height * width * outputs),
        "scratch_bytes": stream_scratch_bytes(stream.descriptor) if is_legal(stream.descriptor) else 0,
        "model_id": 0,
        "model_version": 0,
    }
    data = REQUANT_PAYLOAD + stream.payload
    sections = [
        (SectionKind.PROGRAM, SectionFlag.CRITICAL, program),
        (SectionKind.DATA, SectionFlag.CRITICAL, data),
    ]
    return assemble(numbers, sections, None)


def _tensor(shape: tuple[int, ...], offset: int) -> bytes:
    return b"".join(u_varint(value) for value in (DType.INT8, 0, 1 + len(shape), 1, *shape, offset))


def _weights(stream: Stream) -> bytes:
    """The WEIGHTS constant, behind the four bytes of the REQUANT constant."""
    values = {name: int(getattr(stream.descriptor, name)) for name in FIELDS}
    values |= {"data_offset": len(REQUANT_PAYLOAD), "data_bytes": len(stream.payload)}
    fields = CONSTANT_FIELDS[ConstantKind.WEIGHTS]
    return u_varint(ConstantKind.WEIGHTS) + b"".join(u_varint(values[name]) for name, _ in fields)


def _port(tensor: int) -> bytes:
    return u_varint(1) + u_varint(tensor) + u_varint(0) + s_varint(0) + struct.pack("<f", 1.0)


def unit_runs(cols: int, kind: OperatorKind) -> tuple[bytes, ...]:
    """Inputs that read a matrix out: for each i a 1 in column i, and in all that lie multiples of the number
    of probes behind it. A convolution takes them all in one run, as pixels, and again in reverse order
    in its second row. A fully connected layer takes one a run."""
    probes = _probes(cols, kind)
    if kind is OperatorKind.CONV_2D:
        return (np.concatenate([probes, probes[::-1]]).tobytes(),)
    return tuple(probe.tobytes() for probe in probes)


def unit_outputs(values: Array, kind: OperatorKind) -> bytes:
    """What they give for weights `values` (rows, cols): the columns, or sums of columns, as int8."""
    sums = _probes(values.shape[1], kind).astype(np.int64) @ values.T.astype(np.int64)
    outputs = np.clip(sums, -128, 127).astype(np.int8)
    return np.concatenate([outputs, outputs[::-1]] if kind is OperatorKind.CONV_2D else [outputs]).tobytes()


def _probes(cols: int, kind: OperatorKind) -> Array:
    count = min(cols, MOST_PROBES[kind])
    return (np.arange(cols) % count == np.arange(count)[:, np.newaxis]).astype(np.int8)
