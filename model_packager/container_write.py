"""Writes a Thimble file: a ``Model`` goes in, the bytes of docs/FORMAT.md come out.

Weights become streams (the one given, or the one that ``encoders.choose`` finds), biases and tables take the
fewest bits that hold them, requantisations the smallest form, and identical constants are stored once. The
only caller is ``container.dump``, which reads the result back before it returns it."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model_packager.container_read import (
    DTYPE_FEATURES,
    SCHEDULE_FEATURES,
    SHIFT_MAX,
    SHIFT_MIN,
    STREAM_COUNTS,
    ParsedConstant,
    aligned,
    is_word_aligned,
    stream_features,
    trailer_bytes,
)
from model_packager.encoders import (
    Encoding,
    EncodingPattern,
    Objective,
    Stream,
    StreamDescriptor,
    choose,
    choose_matching,
    encode,
)
from model_packager.encoders.bit_planes import BINARY
from model_packager.encoders.floats import pack_floats
from model_packager.encoders.scratch import is_raw, stream_scratch_bytes
from model_packager.encoders.stream import raw
from model_packager.errors import PackError
from model_packager.format_table import (
    CONSTANT_FIELDS,
    FORMAT_VERSION,
    FUNCTION_PARAMETERS,
    GOLDEN,
    HEADER,
    MAGIC,
    OPERATOR_ATTRIBUTES,
    SECTION_ENTRY,
    SIGNATURE_BYTES,
    ConstantKind,
    DType,
    Feature,
    FloatFormat,
    FloatFunction,
    HeaderFlag,
    OperatorKind,
    RequantForm,
    ScheduleKind,
    SectionFlag,
    SectionKind,
    TensorFlag,
    struct_format,
)
from model_packager.model import Array, Model, Operator, Port, Requant, Weights

FUSED = (ScheduleKind.FUSED_DEPTHWISE, ScheduleKind.FUSED_ADD)

Signer = Callable[[bytes], bytes]

# Keys of the METADATA object that hold names of the model's own parts; the others are the user's.
RESERVED_METADATA = ("name", "inputs", "outputs", "operators")


def u_varint(value: int) -> bytes:
    """``value`` (0 to 2^32 - 1) as unsigned LEB128 in its shortest form."""
    if not 0 <= value < 1 << 32:
        raise PackError(f"{value} does not fit an unsigned field of 32 bits")
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def s_varint(value: int) -> bytes:
    """``value`` (int32) as a zigzag varint."""
    if not -(1 << 31) <= value < 1 << 31:
        raise PackError(f"{value} does not fit a signed field of 32 bits")
    return u_varint(value << 1 ^ value >> 31)


def _u_list(values: Iterable[int]) -> bytes:
    listed = [u_varint(int(value)) for value in values]
    return u_varint(len(listed)) + b"".join(listed)


# --------------------------------------------------------------------------------------------- constants


def pack_integers(values: Array) -> tuple[int, bytes]:
    """(bits, payload) of integers in the fewest bits, 1 to 32, that hold all of them; see
    ``unpack_integers``.
    """
    wide = values.astype(np.int64).ravel()
    low, high = int(wide.min()), int(wide.max())
    bits = 1 + max((~low if low < 0 else low).bit_length(), high.bit_length() if high > 0 else 0)
    bits = 1 if low >= -1 and high <= 0 else bits
    if bits > 32:
        raise PackError(f"integers from {low} to {high} do not fit 32 bits")
    planes = wide[:, np.newaxis] >> np.arange(bits, dtype=np.int64) & 1
    return bits, np.packbits(planes.astype(np.uint8).ravel(), bitorder="little").tobytes()


@dataclass
class _ConstantPool:
    """Constants in the order of their first use, each distinct one once; ``place`` gives them their final
    order.
    """

    entries: list[tuple[ConstantKind, dict[str, int], bytes]] = field(default_factory=list)

    def add(self, kind: ConstantKind, fields: dict[str, int], payload: bytes) -> int:
        entry = (kind, fields, payload)
        if entry not in self.entries:
            self.entries.append(entry)
        return self.entries.index(entry)

    def place(self) -> tuple[list[int], bytes, bytes]:
        """(final index of each constant, their part of PROGRAM, the DATA section).

        Constants that are read in words come first, so that hardly any of them needs padding before it.
        """

        def rank(number: int) -> int:
            kind, fields, payload = self.entries[number]
            return 2 if not is_word_aligned(ParsedConstant(kind, fields, 0)) else len(payload) % 4 != 0

        order = sorted(range(len(self.entries)), key=rank)
        program, data = u_varint(len(order)), b""
        for number in order:
            kind, fields, payload = self.entries[number]
            if is_word_aligned(ParsedConstant(kind, fields, 0)):
                data += bytes(aligned(len(data)) - len(data))
            placed = fields | {"data_offset": len(data), "data_bytes": len(payload)}
            program += u_varint(kind)
            for name, code in CONSTANT_FIELDS[kind]:
                program += s_varint(placed[name]) if code == "s" else u_varint(placed[name])
            data += payload
        return [order.index(number) for number in range(len(order))], program, data


def _add_weights(pool: _ConstantPool, stream: Stream) -> int:
    descriptor = stream.descriptor
    fields = {"rows": descriptor.rows, "cols": descriptor.cols, "layout": int(descriptor.layout)}
    fields |= {"coder": int(descriptor.coder), "value_map": int(descriptor.value_map)}
    fields |= {name: getattr(descriptor, name) for name in STREAM_COUNTS}
    return pool.add(ConstantKind.WEIGHTS, fields, stream.payload)


def _add_floats(pool: _ConstantPool, values: Array, stored_as: FloatFormat) -> int:
    rows, cols = values.shape
    fields = {"rows": rows, "cols": cols, "format": int(stored_as)}
    return pool.add(ConstantKind.FLOATS, fields, pack_floats(values, stored_as))


def _add_function(pool: _ConstantPool, options: dict[str, Any], what: str) -> int:
    function = FloatFunction.__members__.get(str(options.get("function")).upper())
    if function is None:
        raise PackError(f"{what} has the function {options.get('function')}, which cannot be stored")
    parameters = np.array([options[name] for name in FUNCTION_PARAMETERS.get(function, ())], np.float32)
    payload = pack_floats(parameters, FloatFormat.FP32) if parameters.size else b""
    return pool.add(ConstantKind.FUNCTION, {"function": int(function)}, payload)


def _add_integers(pool: _ConstantPool, values: Array) -> int:
    bits, payload = pack_integers(values)
    return pool.add(ConstantKind.INTEGERS, {"count": values.size, "bits": bits}, payload)


def _add_table(pool: _ConstantPool, table: Array) -> int:
    """A lookup table always has 8 bits, so that kernels index its bytes."""
    return pool.add(ConstantKind.INTEGERS, {"count": table.size, "bits": 8}, table.astype(np.int8).tobytes())


def _add_requant(pool: _ConstantPool, requant: Requant) -> int:
    if requant.sign:
        fields = {"count": 1, "form": int(RequantForm.SIGN), "shift_base": 0}
        return pool.add(ConstantKind.REQUANT, fields, b"")
    multipliers, shifts = requant.multipliers.astype(np.int64), requant.shifts.astype(np.int64)
    low, high = (0, 31) if requant.power_of_two else (SHIFT_MIN, SHIFT_MAX)
    if shifts.min() < low or shifts.max() > high:
        raise PackError(f"requantisation shifts {shifts.min()} to {shifts.max()}, outside {low} to {high}")
    if requant.power_of_two:
        shifts = shifts[:1] if len(set(shifts.tolist())) == 1 else shifts
        fields = {"count": shifts.size, "form": int(RequantForm.POWER_OF_TWO), "shift_base": 0}
        return pool.add(ConstantKind.REQUANT, fields, shifts.astype(np.int8).tobytes())
    multipliers, shifts = np.broadcast_arrays(multipliers, shifts)
    if multipliers.min() < 0:
        raise PackError("a requantisation multiplier is negative")
    if np.all(multipliers == multipliers[0]) and np.all(shifts == shifts[0]):
        multipliers, shifts = multipliers[:1], shifts[:1]
    base = min(int(shifts.min()), SHIFT_MAX - 3)
    fields = {"count": multipliers.size, "form": int(RequantForm.WIDE), "shift_base": 0}
    if multipliers.min() >= 1 << 30 and shifts.max() - base <= 3:
        fields |= {"form": int(RequantForm.PACKED), "shift_base": base}
        words = multipliers - (1 << 30) | shifts - base << 30
        return pool.add(ConstantKind.REQUANT, fields, words.astype("<u4").tobytes())
    payload = multipliers.astype("<i4").tobytes() + shifts.astype(np.int8).tobytes()
    return pool.add(ConstantKind.REQUANT, fields, payload)


# --------------------------------------------------------------------------------------------- operators


def _stream(weights: Weights, asked: Any, objective: Objective, reads_bits: bool) -> Stream:
    """The stream of a weight matrix: as asked for, as the weights say, or the best under the objective; with
    a BIT input there is one kind only."""
    wanted = asked if asked is not None else weights.encoding
    if reads_bits and wanted is None:
        wanted = BINARY
    if isinstance(wanted, Stream):
        shape = wanted.descriptor.rows, wanted.descriptor.cols
        if shape != weights.values.shape:
            raise PackError(f"a stream of shape {shape} for weights of shape {weights.values.shape}")
        return wanted
    if weights.values.dtype != np.int8:
        raise PackError(f"weights of dtype {weights.values.dtype}; only int8 weights can be stored")
    if isinstance(wanted, StreamDescriptor):
        # 8-bit raw rows are read in place; fewer bits would be smaller and need a row of scratch.
        if is_raw(wanted):
            return raw(weights.values)
        wanted = wanted.encoding
    if isinstance(wanted, EncodingPattern):
        return choose_matching(weights.values, wanted)
    return (
        encode(weights.values, wanted) if isinstance(wanted, Encoding) else choose(weights.values, objective)
    )


def _operator_constants(
    pool: _ConstantPool, operator: Operator, stream: Stream | None, what: str
) -> list[int | None]:
    """Numbers in the pool for the operator's constants, in file order, trailing none dropped."""
    if operator.table is not None:
        return [_add_table(pool, operator.table)]
    if stream is None:
        return []
    if operator.requant is None:
        raise PackError(f"{what} has weights and no requantisation")
    numbers: list[int | None] = [_add_weights(pool, stream), _add_requant(pool, operator.requant)]
    if operator.bias is not None and np.any(operator.bias):
        numbers.append(_add_integers(pool, operator.bias))
    return numbers


def _float_constants(pool: _ConstantPool, operator: Operator, what: str) -> list[int | None]:
    """Numbers in the pool of a float operator's weights and bias, or of its function."""
    if operator.options.get("activation", "none") != "none":
        raise PackError(f"{what} has a fused activation; floats are stored without (split_activations)")
    if operator.options.get("value", 0.0) != 0.0 or operator.options.get("beta", 1.0) != 1.0:
        raise PackError(f"{what} has the options {operator.options}, which cannot be stored as floats")
    if operator.kind is OperatorKind.LOOKUP:
        return [_add_function(pool, operator.options, what)]
    if operator.weights is None:
        return []
    stored_as = operator.weights.encoding
    if not isinstance(stored_as, FloatFormat):
        raise PackError("a float model is stored with a float format for its weights; or quantise it first")
    numbers: list[int | None] = [_add_floats(pool, operator.weights.values, stored_as)]
    if operator.bias is not None and np.any(operator.bias):
        numbers += [None, _add_floats(pool, operator.bias.reshape(-1, 1), stored_as)]
    return numbers


def _attributes(operator: Operator, what: str) -> bytes:
    known = OPERATOR_ATTRIBUTES[operator.kind]
    unknown = set(operator.attributes) - {item.name for item in known}
    if unknown:
        raise PackError(f"{what} has unknown attributes {', '.join(sorted(unknown))}")
    values = [int(operator.attributes.get(item.name, item.default)) for item in known]
    while values and values[-1] == known[len(values) - 1].default:
        values.pop()
    return u_varint(len(values)) + b"".join(s_varint(value) for value in values)


def _operator_program(operator: Operator, constants: list[int | None], placed: list[int], what: str) -> bytes:
    program = u_varint(operator.kind) + u_varint(operator.schedule)
    if operator.schedule:
        program += u_varint(operator.schedule_parameter)
    program += _u_list(operator.inputs) + _u_list(operator.outputs)
    program += _u_list(0 if number is None else placed[number] + 1 for number in constants)
    return program + _attributes(operator, what)


def _tensors_program(model: Model) -> bytes:
    program = u_varint(len(model.tensors))
    for tensor in model.tensors:
        program += u_varint(tensor.dtype) + u_varint(tensor.flags) + _u_list(tensor.shape)
        program += u_varint(tensor.arena_offset)
    return program


def _ports_program(ports: list[Port]) -> bytes:
    program = u_varint(len(ports))
    for port in ports:
        program += u_varint(port.tensor) + u_varint(port.flags) + s_varint(port.zero_point)
        program += struct.pack("<f", port.scale)
    return program


def _features(model: Model, streams: Mapping[int, Stream]) -> Feature:
    features = Feature(0)
    for tensor in model.tensors:
        features |= DTYPE_FEATURES.get(tensor.dtype, Feature(0))
        if tensor.flags & TensorFlag.PERSISTENT:
            features |= Feature.PERSISTENT_TENSORS
    for operator in model.operators:
        features |= SCHEDULE_FEATURES.get(operator.schedule, Feature(0))
    for stream in streams.values():
        features |= stream_features(stream.descriptor)
    return features


def _scratch_bytes(model: Model, streams: Mapping[int, Stream]) -> int:
    """The largest stream scratch of any operator; in a fused pair both streams are open at once."""
    own = {index: stream_scratch_bytes(stream.descriptor) for index, stream in streams.items()}
    needed = [0]
    for index, operator in enumerate(model.operators):
        fused = operator.schedule in FUSED
        needed.append(own.get(index, 0) + (own.get(index + 1, 0) if fused else 0))
    return max(needed)


def _arena_bytes(model: Model) -> int:
    """The end of the last tensor, in whole words; tensors between fused operators have no place."""
    heads = (operator for operator in model.operators if operator.schedule in FUSED)
    between = {tensor for operator in heads for tensor in operator.outputs}
    ends = (t.arena_offset + t.size_bytes for index, t in enumerate(model.tensors) if index not in between)
    return aligned(max(ends, default=0))


# ------------------------------------------------------------------------------------------------- file


def _metadata(model: Model, keep_operator_names: bool) -> bytes:
    clashes = set(model.metadata) & set(RESERVED_METADATA)
    if clashes:
        raise PackError(f"metadata keys {', '.join(sorted(clashes))} are reserved")
    found: dict[str, Any] = {"name": model.name} if model.name else {}
    for key, ports in (("inputs", model.inputs), ("outputs", model.outputs)):
        names = [port.name for port in ports]
        if names != [f"{key[:-1]}{index}" for index in range(len(names))]:
            found[key] = names
    if keep_operator_names:
        found["operators"] = [operator.name for operator in model.operators]
    found |= model.metadata
    try:
        text = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PackError(f"the metadata cannot be written as JSON: {error}") from None
    return text.encode("utf-8") if found else b""


def assemble(
    numbers: Mapping[str, int], sections: Iterable[tuple[int, SectionFlag, bytes]], signer: Signer | None
) -> bytes:
    """Header, section table, sections and trailer. ``numbers`` holds the header's fields from
    required_features to model_version, a section is (kind, flags, content)."""
    listed = list(sections)
    header_bytes = struct.calcsize(struct_format(HEADER))
    offset = header_bytes + len(listed) * struct.calcsize(struct_format(SECTION_ENTRY))
    table, body = b"", b""
    for kind, flags, content in listed:
        place = offset + len(body), len(content), zlib.crc32(content)
        table += struct.pack(struct_format(SECTION_ENTRY), kind, flags, 0, *place)
        body += content + bytes(aligned(len(content)) - len(content))
    flags_of_file = HeaderFlag.SIGNED if signer else HeaderFlag(0)
    file_bytes = offset + len(body) + trailer_bytes(flags_of_file)
    header = struct.pack(
        struct_format(HEADER)[:-1],
        MAGIC, FORMAT_VERSION, flags_of_file, len(listed), file_bytes, *numbers.values(),
    )  # fmt: skip
    before_trailer = header + struct.pack("<I", zlib.crc32(header + table)) + table + body
    signature = signer(before_trailer) if signer else b""
    if signer and len(signature) != SIGNATURE_BYTES:
        raise PackError(f"the signer gave {len(signature)} bytes, not {SIGNATURE_BYTES}")
    return before_trailer + hashlib.sha256(before_trailer).digest() + signature


def write(
    model: Model,
    objective: Objective,
    encodings: Mapping[int, Encoding | Stream],
    signer: Signer | None,
    keep_operator_names: bool,
) -> bytes:
    """The bytes of a file; see ``container.dump``."""
    dtypes = {tensor.dtype for tensor in model.tensors}
    is_float = dtypes == {DType.FLOAT32}
    if not is_float and not dtypes <= {DType.INT8, DType.INT16, DType.BIT}:
        raise PackError("only tensors of int8, int16 and bits can be stored, or float32 for all")
    pool, streams = _ConstantPool(), {}
    constants: list[list[int | None]] = []
    for index, operator in enumerate(model.operators):
        what = f"operator {index} ({operator.kind.name})"
        if is_float:
            constants.append(_float_constants(pool, operator, what))
            continue
        if operator.weights is not None:
            reads_bits = model.reads_bits(operator)
            streams[index] = _stream(operator.weights, encodings.get(index), objective, reads_bits)
        constants.append(_operator_constants(pool, operator, streams.get(index), what))
    placed, constants_program, data = pool.place()
    program = _tensors_program(model) + constants_program + u_varint(len(model.operators))
    for index, operator in enumerate(model.operators):
        what = f"operator {index} ({operator.kind.name})"
        program += _operator_program(operator, constants[index], placed, what)
    program += _ports_program(model.inputs) + _ports_program(model.outputs)
    critical, ancillary = SectionFlag.CRITICAL, SectionFlag(0)
    sections = [(SectionKind.PROGRAM, critical, program), (SectionKind.DATA, critical, data)]
    metadata = _metadata(model, keep_operator_names)
    if metadata:
        sections.append((SectionKind.METADATA, ancillary, metadata))
    if model.golden is not None:
        golden = struct.pack(struct_format(GOLDEN), *model.golden)
        sections.append((SectionKind.GOLDEN, ancillary, golden))
    operators = {1 << operator.kind for operator in model.operators}
    numbers = {
        "required_features": int(_features(model, streams)),
        "required_operators": sum(operators),
        "arena_bytes": _arena_bytes(model),
        "scratch_bytes": _scratch_bytes(model, streams),
        "model_id": model.model_id,
        "model_version": model.model_version,
    }
    for name, number in numbers.items():
        if not 0 <= number < 1 << 32:
            raise PackError(f"{name} is {number}, which does not fit 32 bits")
    return assemble(numbers, sections, signer)
