"""Thimble files: ``load`` turns one into a ``Model``, ``dump`` a model into one, ``parse`` shows the raw
fields.

docs/FORMAT.md specifies every byte. ``parse`` runs all checks that a loader owes and is what ``thimble
inspect`` reads; ``load`` also decodes the weights. The parts are container_read.py, container_check.py and
container_write.py."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from model_packager.container_check import cross_check
from model_packager.container_read import (
    READER_FEATURES,
    READER_OPERATORS,
    Buffer,
    Header,
    ParsedConstant,
    ParsedFile,
    ParsedOperator,
    ProgramReader,
    SectionWalk,
    Span,
    fail,
    read_header,
    stream_descriptor,
)
from model_packager.container_write import RESERVED_METADATA, Signer, write
from model_packager.encoders import Encoding, Objective, Stream, decode
from model_packager.encoders.floats import unpack_floats
from model_packager.errors import FormatError, PackError
from model_packager.format_table import (
    FUNCTION_PARAMETERS,
    OPERATOR_ATTRIBUTES,
    SHA256_BYTES,
    ConstantKind,
    ErrorCode,
    FloatFormat,
    FloatFunction,
    Limit,
    OperatorKind,
    RequantForm,
    SectionKind,
)
from model_packager.model import SIGN, Array, Model, Operator, Port, Requant, Tensor, Weights

__all__ = ["ParsedFile", "Span", "byte_map", "dump", "load", "parse", "stream_of", "unpack_integers"]


def parse(data: Buffer, features: int = READER_FEATURES, operators: int = READER_OPERATORS) -> ParsedFile:
    """Check a whole file and return its raw content.

    ``features`` and ``operators`` are the bitmaps of the reader in whose name the file is checked: a deploy
    checks for a device with what the device's HELLO reported.

    Raises:
        FormatError: the first check of docs/FORMAT.md, section 7, that fails.
    """
    data = bytes(data)
    header = read_header(data)
    walk = SectionWalk(data, header)
    sha256 = data[walk.body_end : walk.body_end + SHA256_BYTES]
    if hashlib.sha256(data[: walk.body_end]).digest() != sha256:
        raise fail(ErrorCode.BAD_HASH, f"byte {walk.body_end}: the SHA-256 of the bytes before it differs")
    _check_requirements(header, features, operators)
    parsed = ParsedFile(header, walk.sections, data, golden=walk.golden, sha256=sha256)
    parsed.signature = data[walk.body_end + SHA256_BYTES :] or None
    for section in walk.sections:
        if section.kind == SectionKind.METADATA:
            parsed.metadata = data[section.offset : section.offset + section.length]
    program = ProgramReader(parsed)
    program.read()
    cross_check(parsed)
    inner = {"PROGRAM": program.spans, "DATA": program.data_spans}
    parsed.spans = list(walk.spans)
    for span in walk.outer:
        parsed.spans += inner.get(span[2], [span])
    parsed.spans = [span for span in parsed.spans if span[1]]
    return parsed


def _check_requirements(header: Header, features: int, operators: int) -> None:
    missing = header.required_features & ~features
    if missing:
        raise fail(ErrorCode.UNSUPPORTED_FEATURE, f"byte 12: the file needs features 0x{missing:x}")
    missing = header.required_operators & ~operators
    if missing:
        raise fail(ErrorCode.UNSUPPORTED_OPERATOR, f"byte 16: the file needs operators 0x{missing:x}")
    for offset, name in ((20, "arena_bytes"), (24, "scratch_bytes")):
        size = getattr(header, name)
        if size > Limit.TENSOR_BYTES:
            raise fail(ErrorCode.LIMIT_EXCEEDED, f"byte {offset}: {name} {size} > {Limit.TENSOR_BYTES}")


def byte_map(data: Buffer) -> list[Span]:
    """Every byte of a valid file as (offset, length, what), in order and without gaps.

    Raises:
        FormatError: as ``parse``.
    """
    return parse(data).spans


# -------------------------------------------------------------------------------------------------- dump


def dump(
    model: Model,
    objective: Objective = "size",
    encodings: Mapping[int, Encoding | Stream] | None = None,
    signer: Signer | None = None,
    keep_operator_names: bool = False,
) -> bytes:
    """The file of a model whose memory is planned; the model is not changed. A float model is stored where
    all its weights have a ``FloatFormat`` as encoding.

    ``arena_bytes`` of the file is the end of the last tensor, in whole words of 4 bytes.

    A weight matrix is stored as ``encodings`` says for its operator's index, else as its ``Weights.encoding``
    says (a ``Stream`` as it is, an ``Encoding`` or ``StreamDescriptor`` encoded anew), else as
    ``encoders.choose(values, objective)`` finds best. A bias of zeros is left out and requantisations that
    are equal for all channels are stored once: results do not change. ``signer`` takes all bytes before the
    trailer and gives an Ed25519 signature of 64 bytes.

    Raises:
        PackError: the model is not one that can be stored, or contradicts itself.
    """
    data = write(model, objective, encodings or {}, signer, keep_operator_names)
    try:
        parse(data)
    except FormatError as error:
        raise PackError(f"the model cannot be stored: {error.detail}") from None
    return data


# -------------------------------------------------------------------------------------------------- load


def load(data: Buffer) -> Model:
    """The model of a file, weights decoded: a ``Model`` equal to the one that was dumped, except for
    what a file does not keep (weight scales, scales of inner tensors, names that the metadata lacks).

    ``Weights.encoding`` is the ``StreamDescriptor`` in the file.

    Raises:
        FormatError: as ``parse``; ``bad_stream`` for weights that do not decode; ``bad_section`` for metadata
            that is not a JSON object in UTF-8.
    """
    parsed = parse(data)
    metadata = _metadata(parsed)
    model = Model(
        tensors=[
            Tensor(f"tensor{i}", t.shape, t.dtype, flags=t.flags, arena_offset=t.arena_offset)
            for i, t in enumerate(parsed.tensors)
        ],
        name=_text(metadata.get("name")),
        model_id=parsed.header.model_id,
        model_version=parsed.header.model_version,
        metadata={key: value for key, value in metadata.items() if key not in RESERVED_METADATA},
        golden=parsed.golden,
        arena_bytes=parsed.header.arena_bytes,
    )
    for ports, parsed_ports, key in (
        (model.inputs, parsed.inputs, "inputs"),
        (model.outputs, parsed.outputs, "outputs"),
    ):
        names = _names(metadata.get(key))
        for index, port in enumerate(parsed_ports):
            name = names[index] if index < len(names) else f"{key[:-1]}{index}"
            ports.append(Port(port.tensor, name, port.scale, port.zero_point, port.flags))
            tensor = model.tensors[port.tensor]
            tensor.name, tensor.scale, tensor.zero_point = name, port.scale, port.zero_point
    names = _names(metadata.get("operators"))
    for index, operator in enumerate(parsed.operators):
        model.operators.append(_operator(parsed, operator, index))
        if index < len(names):
            model.operators[index].name = names[index]
    return model


def _metadata(parsed: ParsedFile) -> dict[str, Any]:
    if parsed.metadata is None:
        return {}
    offset = parsed.section(SectionKind.METADATA).offset
    try:
        metadata = json.loads(parsed.metadata.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise fail(ErrorCode.BAD_SECTION, f"byte {offset}: the metadata is not JSON ({error})") from None
    if not isinstance(metadata, dict):
        raise fail(ErrorCode.BAD_SECTION, f"byte {offset}: the metadata is not a JSON object")
    return metadata


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _names(value: Any) -> list[str]:
    return [_text(item) for item in value] if isinstance(value, list) else []


def stream_of(parsed: ParsedFile, constant: ParsedConstant) -> Stream:
    """The stream of a WEIGHTS constant, not decoded."""
    return Stream(stream_descriptor(constant.fields), parsed.payload(constant))


def unpack_integers(payload: bytes, count: int, bits: int) -> Array:
    """``count`` two's-complement integers of ``bits`` (1 to 32) bits each, least significant bit first, as
    int32.
    """
    flat = np.unpackbits(np.frombuffer(payload, np.uint8), bitorder="little")[: count * bits]
    columns = flat.reshape(count, bits).astype(np.int64)
    powers = np.int64(1) << np.arange(bits, dtype=np.int64)
    powers[-1] = -powers[-1]
    return (columns @ powers).astype(np.int32)


def _unpack_requant(payload: bytes, fields: dict[str, int]) -> Requant:
    count = fields["count"]
    if fields["form"] == RequantForm.SIGN:
        return SIGN
    if fields["form"] == RequantForm.PACKED:
        words = np.frombuffer(payload, "<u4")
        multipliers = (words & 0x3FFFFFFF) + (1 << 30)
        shifts = (words >> 30).astype(np.int32) + fields["shift_base"]
        return Requant(multipliers.astype(np.int32), shifts.astype(np.int32))
    shifts = np.array(struct.unpack(f"<{count}b", payload[-count:]), np.int32)
    if fields["form"] == RequantForm.WIDE:
        return Requant(np.frombuffer(payload, "<i4", count).astype(np.int32), shifts)
    return Requant(np.zeros(count, np.int32), shifts, power_of_two=True)


def _operator(parsed: ParsedFile, operator: ParsedOperator, index: int) -> Operator:
    defaults = {item.name: item.default for item in OPERATOR_ATTRIBUTES[operator.kind]}
    result = Operator(
        operator.kind,
        list(operator.inputs),
        list(operator.outputs),
        {name: value for name, value in operator.attributes.items() if value != defaults[name]},
        schedule=operator.schedule,
        schedule_parameter=operator.schedule_parameter,
        name=f"operator{index}",
    )
    for reference in operator.constants:
        if reference is None:
            continue
        constant = parsed.constants[reference]
        fields, payload = constant.fields, parsed.payload(constant)
        if constant.kind is ConstantKind.FLOATS:
            _set_floats(result, fields, payload)
        elif constant.kind is ConstantKind.FUNCTION:
            result.options = _unpack_function(fields, payload)
        elif constant.kind is ConstantKind.REQUANT:
            result.requant = _unpack_requant(payload, fields)
        elif constant.kind is ConstantKind.WEIGHTS:
            result.weights = _decode_weights(parsed, constant, index)
        elif operator.kind is OperatorKind.LOOKUP:
            result.table = unpack_integers(payload, fields["count"], fields["bits"]).astype(np.int8)
        else:
            result.bias = unpack_integers(payload, fields["count"], fields["bits"])
    return result


def _set_floats(operator: Operator, fields: dict[str, int], payload: bytes) -> None:
    """Give an operator its weights, or after them its bias."""
    stored_as = FloatFormat(fields["format"])
    values = unpack_floats(payload, stored_as).reshape(fields["rows"], fields["cols"])
    if operator.weights is None:
        operator.weights = Weights(values, encoding=stored_as)
    else:
        operator.bias = values.ravel()


def _unpack_function(fields: dict[str, int], payload: bytes) -> dict[str, Any]:
    """The options of an operator with a function."""
    function = FloatFunction(fields["function"])
    values = unpack_floats(payload, FloatFormat.FP32).tolist()
    named = zip(FUNCTION_PARAMETERS.get(function, ()), values, strict=True)
    return {"function": function.name.lower(), **dict(named)}


def _decode_weights(parsed: ParsedFile, constant: ParsedConstant, index: int) -> Weights:
    stream = stream_of(parsed, constant)
    try:
        values = decode(stream)
    except FormatError as error:
        where = f"weights of operator {index} at byte {constant.offset}"
        raise fail(error.code, f"{where}: {error.detail}") from None
    return Weights(values, encoding=stream.descriptor)
