"""Files that a loader must refuse, each with the error it must give: the source of
vectors/files/hostile.json.

Most cases change one thing in a valid file and set the checksums right again, so that exactly one check can
catch it. What a released case gives never changes; new cases are added at the end of their group."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model_packager import container
from model_packager.container_write import assemble, write
from model_packager.encoders import Encoding, Stream, encode
from model_packager.encoders.bit_planes import BINARY
from model_packager.errors import FormatError
from model_packager.format_table import (
    HEADER,
    SECTION_ENTRY,
    Coder,
    ConstantKind,
    DType,
    Feature,
    Field,
    FloatFormat,
    Layout,
    OperatorKind,
    RequantForm,
    ScheduleKind,
    SectionFlag,
    SectionKind,
    TensorFlag,
    ValueMap,
)
from model_packager.model import SIGN, Model, Operator, Requant, Tensor, Weights
from tests.file_vectors import FOLDER
from tests.program_tokens import s, tokens, u
from tests.tiny_models import ENCODING_MODELS, TINY_MODELS, header_numbers


@dataclass(frozen=True)
class HostileFile:
    """``target`` is the file, or what it is before ``fix`` (see file_vectors) makes its checksums right."""

    name: str
    base: str
    target: bytes
    fix: str
    error: str | None
    covers: frozenset[str] = frozenset()


def covers_of(data: bytes) -> list[str]:
    """What a valid file exercises, as names of the format table: ``coder:CLASS``, ``operator:ADD``."""
    parsed = container.parse(data)
    found = {f"section:{SectionKind(x.kind).name}" for x in parsed.sections if x.kind in set(SectionKind)}
    for tensor in parsed.tensors:
        found.add(f"dtype:{tensor.dtype.name}")
    for operator in parsed.operators:
        found |= {f"operator:{operator.kind.name}", f"schedule:{operator.schedule.name}"}
    for constant in parsed.constants:
        found.add(f"constant:{constant.kind.name}")
        if constant.kind is ConstantKind.REQUANT:
            found.add(f"requant:{RequantForm(constant.fields['form']).name}")
        if constant.kind is ConstantKind.FLOATS:
            found.add(f"float:{FloatFormat(constant.fields['format']).name}")
        if constant.kind is ConstantKind.WEIGHTS:
            descriptor = container.stream_of(parsed, constant).descriptor
            found |= {f"coder:{descriptor.coder.name}", f"layout:{descriptor.layout.name}"}
            found |= {f"map:{descriptor.value_map.name}", f"encoding:{descriptor.encoding.name}"}
    return sorted(found)


def _base(name: str) -> bytes:
    return (FOLDER / f"{name}.thimble").read_bytes()


# ---------------------------------------------------------------------------------------------- envelope


def _field(fields: tuple[Field, ...], name: str) -> tuple[int, str]:
    offset = 0
    for item in fields:
        if item.name == name:
            return offset, "<" + item.code
        offset += struct.calcsize("<" + item.code)
    raise KeyError(name)


def _set(data: bytes, offset: int, code: str, value: Any) -> bytes:
    return data[:offset] + struct.pack(code, value) + data[offset + struct.calcsize(code) :]


def _header(name: str, value: Any, base: str = "fully_connected") -> bytes:
    return _set(_base(base), *_field(HEADER, name), value)


def _entry(index: int, name: str, value: int, base: str = "fully_connected") -> bytes:
    """The file with one field of a section table entry changed; entries: PROGRAM, DATA, METADATA, GOLDEN."""
    offset, code = _field(SECTION_ENTRY, name)
    return _set(_base(base), 40 + 16 * index + offset, code, value)


def _section(index: int, base: str = "fully_connected") -> container.Section:
    return container.parse(_base(base)).sections[index]


def _envelope() -> Iterator[HostileFile]:
    base = "fully_connected"
    data = _base(base)
    program, values, metadata, golden = container.parse(data).sections
    arena_bytes = container.parse(data).header.arena_bytes
    unfixed: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "truncated"),
        "shortest_less_one": (data[:71], "truncated"),
        "magic": (_header("magic", b"THMC"), "bad_magic"),
        "header_crc": (_header("header_crc32", 0), "bad_header_crc"),
        "section_crc": (_set(data, program.offset, "B", data[program.offset] ^ 1), "bad_section_crc"),
        "hash": (_set(data, len(data) - 1, "B", data[-1] ^ 0x80), "bad_hash"),
        "one_byte_less": (data[:-1], "truncated"),
        "one_byte_more": (data + b"\0", "bad_section"),
    }
    for name, (target, error) in unfixed.items():
        yield HostileFile(name, base, target, "none", error)
    padding = program.offset + program.length
    assert padding < values.offset
    tail = metadata.offset + metadata.length
    assert tail < golden.offset
    fixed: dict[str, tuple[bytes, str]] = {
        "version_0": (_header("version", 0), "unsupported_version"),
        "version_2": (_header("version", 2), "unsupported_version"),
        "header_flag_2": (_header("flags", 2), "reserved_bits"),
        "header_flag_128": (_header("flags", 128), "reserved_bits"),
        "signed_without_signature": (_header("flags", 1), "bad_section"),
        "file_bytes_over_limit": (_header("file_bytes", (1 << 30) + 4), "limit_exceeded"),
        "file_bytes_more": (_header("file_bytes", len(data) + 4), "truncated"),
        "file_bytes_less": (_header("file_bytes", len(data) - 4), "bad_section"),
        "section_count_0": (_header("section_count", 0), "bad_section"),
        "section_count_17": (_header("section_count", 17), "limit_exceeded"),
        "section_flag_2": (_entry(0, "flags", 3), "reserved_bits"),
        "section_reserved": (_entry(1, "reserved", 1), "reserved_bits"),
        "section_gap": (_entry(2, "offset", metadata.offset + 4), "bad_section"),
        "section_overlap": (_entry(1, "offset", program.offset), "bad_section"),
        "section_unaligned": (_entry(1, "offset", values.offset - 1), "bad_section"),
        "section_in_header": (_entry(0, "offset", 0), "bad_section"),
        "section_past_trailer": (_entry(3, "length", golden.length + 4), "bad_section"),
        "section_length_wraps": (_entry(0, "length", 0xFFFFFFFF), "bad_section"),
        "section_padding": (_set(data, padding, "B", 1), "bad_section"),
        "section_unknown_critical": (_entry(2, "kind", 77)[:73] + b"\x01" + _entry(2, "kind", 77)[74:],
                                     "unsupported_section"),
        "section_repeated": (_entry(1, "kind", SectionKind.PROGRAM), "bad_section"),
        "section_program_ancillary": (_entry(0, "flags", 0), "bad_section"),
        "section_data_ancillary": (_entry(1, "flags", 0), "bad_section"),
        "section_metadata_is_golden": (_entry(2, "kind", SectionKind.GOLDEN), "bad_section"),
        "golden_seed_0": (_set(data, golden.offset, "<I", 0), "bad_section"),
        "feature_31": (_header("required_features", 1 << 31), "unsupported_feature"),
        "operator_31": (_header("required_operators", 1 << 31), "unsupported_operator"),
        "operator_0": (_header("required_operators", 1), "unsupported_operator"),
        "feature_undeclared": (_header("required_features", 0), "unsupported_feature"),
        "operator_undeclared": (_header("required_operators", 1 << 4), "unsupported_operator"),
        "arena_over_limit": (_header("arena_bytes", (1 << 30) + 4), "limit_exceeded"),
        "scratch_over_limit": (_header("scratch_bytes", (1 << 30) + 4), "limit_exceeded"),
        "arena_less": (_header("arena_bytes", arena_bytes - 4), "arena_too_small"),
        "arena_0": (_header("arena_bytes", 0), "arena_too_small"),
        "arena_more": (_header("arena_bytes", arena_bytes + 4), "bad_tensor"),
        "scratch_more": (_header("scratch_bytes", 1), "bad_constant"),
    }  # fmt: skip
    for bit in (14, 15, 16):  # the features that version 1 reserves
        fixed[f"feature_{bit}"] = (_header("required_features", 1 | 1 << bit), "unsupported_feature")
    for name, (target, error) in fixed.items():
        yield HostileFile(name, base, target, "all", error)
    # BIT_ACTIVATIONS without a tensor of bits: a decoder does not look for what is not there.
    yield HostileFile("feature_12", base, _header("required_features", 1 | 1 << 12), "all", None)
    yield HostileFile("hash_of_other_file", base, _header("model_version", 9), "none", "bad_header_crc")
    many = _header("section_count", 16, "raw_2_bits")
    yield HostileFile("section_count_16", "raw_2_bits", many, "all", "truncated")
    scratch = container.parse(_base("dense_huffman_log2")).header.scratch_bytes
    less = _header("scratch_bytes", scratch - 1, "dense_huffman_log2")
    yield HostileFile("scratch_less", "dense_huffman_log2", less, "all", "scratch_too_small")
    yield from _assembled()


def _assembled() -> Iterator[HostileFile]:
    """Files with other sections."""
    base = "fully_connected"
    parsed = container.parse(_base(base))
    parts = {x.kind: (x.kind, x.flags, parsed.data[x.offset : x.offset + x.length]) for x in parsed.sections}
    program, values, metadata, golden = (parts[kind] for kind in SectionKind)
    padded = (1, SectionFlag.CRITICAL, program[2] + b"\0")
    cases: dict[str, tuple[list[tuple[int, SectionFlag, bytes]], str]] = {
        "no_data": ([program, metadata], "bad_section"),
        "no_program": ([values, golden], "bad_section"),
        "two_metadata": ([program, values, metadata, metadata], "bad_section"),
        "golden_of_4_bytes": ([program, values, (4, SectionFlag(0), golden[2][:4])], "bad_section"),
        "program_with_tail": ([padded, values], "bad_section"),
        "program_empty": ([(1, SectionFlag.CRITICAL, b""), values], "truncated"),
        "data_empty": ([program, (2, SectionFlag.CRITICAL, b"")], "bad_constant"),
        "data_with_tail": ([program, (2, SectionFlag.CRITICAL, values[2] + bytes(4))], "bad_constant"),
    }
    for name, (sections, error) in cases.items():
        yield HostileFile(name, base, assemble(header_numbers(parsed), sections, None), "all", error)
    for length in range(1, len(program[2])):
        sections = [(1, SectionFlag.CRITICAL, program[2][:length]), values]
        target = assemble(header_numbers(parsed), sections, None)
        yield HostileFile(f"program_cut_{length}", base, target, "all", "truncated")


# ----------------------------------------------------------------------------------------------- PROGRAM


def reprogram(
    base: str,
    edits: Mapping[str, bytes | None],
    header: Mapping[str, int] | None = None,
    data: Callable[[bytes], bytes] = lambda data: data,
) -> bytes:
    """The file with pieces of its PROGRAM section replaced by label (None: dropped), and header fields and
    the DATA section changed."""
    parsed = container.parse(_base(base))
    pieces = tokens(parsed)
    unknown = set(edits) - {label for label, _ in pieces}
    assert not unknown, unknown
    program = b"".join((edits[label] or b"") if label in edits else piece for label, piece in pieces)
    sections = []
    for section in parsed.sections:
        content = parsed.data[section.offset : section.offset + section.length]
        if section.kind == SectionKind.PROGRAM:
            content = program
        elif section.kind == SectionKind.DATA:
            content = data(content)
        sections.append((section.kind, section.flags, content))
    return assemble(header_numbers(parsed) | dict(header or {}), sections, None)


def _patched(offset: int, value: int) -> Callable[[bytes], bytes]:
    def patch(data: bytes) -> bytes:
        where = offset % len(data)
        return data[:where] + bytes([value]) + data[where + 1 :]

    return patch


_NAN, _INFINITY = struct.pack("<f", float("nan")), struct.pack("<f", float("inf"))

# name: (base, edits by label, error). In fully_connected, tensor 0 is 1 x 2 x 3 x 2, tensor 1 is 1 x 5;
# constants are 0 requant (5), 1 weights (5 x 12), 2 bias (5).
_PROGRAM_CASES: dict[str, tuple[str, dict[str, bytes | None], str]] = {
    "varint_not_minimal": ("fully_connected", {"tensor_count": b"\x82\x00"}, "bad_varint"),
    "varint_33_bits": ("fully_connected", {"tensor_count": b"\xff\xff\xff\xff\x10"}, "bad_varint"),
    "varint_6_bytes": ("fully_connected", {"tensor_count": b"\x82\x80\x80\x80\x80\x00"}, "bad_varint"),
    "varint_signed_33_bits": (
        "fully_connected",
        {"operator0.clamp_max": b"\xff\xff\xff\xff\x1f"},
        "bad_varint",
    ),
    "tensor_count_1025": ("fully_connected", {"tensor_count": u(1025)}, "limit_exceeded"),
    "tensor_count_0": ("fully_connected", {"tensor_count": u(0)}, "bad_constant"),
    "tensor_dtype_5": ("fully_connected", {"tensor0.dtype": u(5)}, "bad_tensor"),
    "tensor_dtype_int32": ("fully_connected", {"tensor0.dtype": u(2)}, "bad_tensor"),
    "tensor_dtype_bit": ("fully_connected", {"tensor0.dtype": u(3)}, "unsupported_feature"),
    "tensor_dtype_float32": ("fully_connected", {"tensor0.dtype": u(4)}, "unsupported_feature"),
    "tensor_int16_undeclared": ("fully_connected", {"tensor0.dtype": u(1)}, "unsupported_feature"),
    "tensor_flag_2": ("fully_connected", {"tensor0.flags": u(2)}, "reserved_bits"),
    "tensor_persistent_undeclared": ("fully_connected", {"tensor0.flags": u(1)}, "unsupported_feature"),
    "tensor_rank_7": ("fully_connected", {"tensor0.dimension_count": u(7)}, "limit_exceeded"),
    "tensor_dimension_0": ("fully_connected", {"tensor0.dimension1": u(0)}, "bad_tensor"),
    "tensor_dimension_2_31": ("fully_connected", {"tensor0.dimension1": u(1 << 31)}, "limit_exceeded"),
    "tensor_dimension_2_30": ("fully_connected", {"tensor0.dimension1": u(1 << 30)}, "limit_exceeded"),
    "tensor_size_wraps": (
        "fully_connected",
        {f"tensor0.dimension{axis}": u(1 << 16) for axis in range(4)},
        "limit_exceeded",
    ),
    "tensor_offset_large": ("fully_connected", {"tensor1.arena_offset": u(0xFFFFFFFF)}, "arena_too_small"),
    "constant_count_4097": ("fully_connected", {"constant_count": u(4097)}, "limit_exceeded"),
    "constant_kind_3": ("fully_connected", {"constant0.kind": u(3)}, "bad_constant"),
    "weights_layout_4": ("fully_connected", {"constant1.layout": u(4)}, "bad_constant"),
    "weights_coder_4": ("fully_connected", {"constant1.coder": u(4)}, "bad_constant"),
    "weights_map_5": ("fully_connected", {"constant1.value_map": u(5)}, "bad_constant"),
    "weights_rows_0": ("fully_connected", {"constant1.rows": u(0)}, "bad_stream"),
    "weights_cols_0": ("fully_connected", {"constant1.cols": u(0)}, "bad_stream"),
    "weights_cols_over_limit": ("fully_connected", {"constant1.cols": u((1 << 24) + 1)}, "limit_exceeded"),
    "weights_size_over_limit": (
        "fully_connected",
        {"constant1.rows": u(1 << 16), "constant1.cols": u(1 << 16)},
        "limit_exceeded",
    ),
    "weights_one_row_over_limit": (
        "fully_connected",
        {"constant1.rows": u((1 << 13) + 1), "constant1.cols": u(1 << 14)},
        "limit_exceeded",
    ),
    "weights_value_bits_9": ("fully_connected", {"constant1.value_bits": u(9)}, "bad_stream"),
    "weights_value_bits_0": ("fully_connected", {"constant1.value_bits": u(0)}, "bad_stream"),
    "weights_gap_bits_unused": ("fully_connected", {"constant1.gap_bits": u(1)}, "bad_stream"),
    "weights_entry_count_unused": ("fully_connected", {"constant1.entry_count": u(1)}, "bad_stream"),
    "weights_binary_not_bits": ("fully_connected", {"constant1.value_map": u(ValueMap.BINARY)}, "bad_stream"),
    "weights_bits_not_binary": (
        "bits_fixed_binary",
        {"constant0.value_map": u(ValueMap.IDENTITY)},
        "bad_stream",
    ),
    "weights_coder_undeclared": ("dense_class_log2", {"constant1.coder": u(1)}, "unsupported_feature"),
    "weights_layout_undeclared": (
        "dense_fixed_log2",
        {"constant1.layout": u(Layout.BITMAP)},
        "unsupported_feature",
    ),
    "integers_count_0": ("fully_connected", {"constant2.count": u(0)}, "bad_constant"),
    "integers_count_over_limit": ("fully_connected", {"constant2.count": u((1 << 24) + 1)}, "limit_exceeded"),
    "integers_bits_0": ("fully_connected", {"constant2.bits": u(0)}, "bad_constant"),
    "integers_bits_33": ("fully_connected", {"constant2.bits": u(33)}, "bad_constant"),
    "integers_data_bytes": ("fully_connected", {"constant2.data_bytes": u(8)}, "bad_constant"),
    "requant_count_0": ("fully_connected", {"constant0.count": u(0)}, "bad_constant"),
    "requant_form_3": ("fully_connected", {"constant0.form": u(3)}, "bad_constant"),
    "requant_shift_base_28": ("fully_connected", {"constant0.shift_base": s(28)}, "bad_constant"),
    "requant_shift_base_minus_32": ("fully_connected", {"constant0.shift_base": s(-32)}, "bad_constant"),
    "requant_data_bytes": ("fully_connected", {"constant0.data_bytes": u(19)}, "bad_constant"),
    "requant_wide_shift_base": ("requant_wide", {"constant0.shift_base": s(1)}, "bad_constant"),
    "constant_offset_more": ("fully_connected", {"constant1.data_offset": u(21)}, "bad_constant"),
    "constant_offset_less": ("fully_connected", {"constant1.data_offset": u(19)}, "bad_constant"),
    "constant_offset_huge": ("fully_connected", {"constant1.data_offset": u(0xFFFFFFFF)}, "bad_constant"),
    "constant_past_data": ("fully_connected", {"constant1.data_bytes": u(0xFFFFFFFF)}, "bad_constant"),
    "operator_count_1025": ("fully_connected", {"operator_count": u(1025)}, "limit_exceeded"),
    "operator_kind_0": ("fully_connected", {"operator0.kind": u(0)}, "unsupported_operator"),
    "operator_kind_32": ("fully_connected", {"operator0.kind": u(32)}, "unsupported_operator"),
    "operator_kind_35": ("fully_connected", {"operator0.kind": u(35)}, "unsupported_operator"),
    "operator_schedule_5": ("fully_connected", {"operator0.schedule": u(5)}, "bad_operator"),
    "operator_schedule_undeclared": (
        "fully_connected",
        {"operator0.schedule": u(ScheduleKind.BANDS) + u(1)},
        "unsupported_feature",
    ),
    "operator_inputs_17": ("fully_connected", {"operator0.input_count": u(17)}, "limit_exceeded"),
    "operator_inputs_0": (
        "fully_connected",
        {"operator0.input_count": u(0), "operator0.input0": None},
        "bad_operator",
    ),
    "operator_outputs_17": ("fully_connected", {"operator0.output_count": u(17)}, "limit_exceeded"),
    "operator_outputs_0": (
        "fully_connected",
        {"operator0.output_count": u(0), "operator0.output0": None},
        "bad_operator",
    ),
    "operator_input_unknown": ("fully_connected", {"operator0.input0": u(2)}, "bad_operator"),
    "operator_output_unknown": ("fully_connected", {"operator0.output0": u(0xFFFFFFFF)}, "bad_operator"),
    "operator_constants_5": ("fully_connected", {"operator0.constant_count": u(5)}, "limit_exceeded"),
    "operator_constant_unknown": ("fully_connected", {"operator0.constant0": u(4)}, "bad_operator"),
    "operator_constant_trailing_none": ("fully_connected", {"operator0.constant2": u(0)}, "bad_operator"),
    "operator_weights_none": ("fully_connected", {"operator0.constant0": u(0)}, "bad_operator"),
    "operator_requant_none": ("fully_connected", {"operator0.constant1": u(0)}, "bad_operator"),
    "operator_weights_are_requant": ("fully_connected", {"operator0.constant0": u(1)}, "bad_operator"),
    "operator_bias_is_weights": ("fully_connected", {"operator0.constant2": u(2)}, "bad_operator"),
    "operator_constants_too_many": (
        "fully_connected",
        {"operator0.constant_count": u(4), "operator0.constant2": u(3) + u(3)},
        "bad_operator",
    ),
    "operator_attributes_25": ("fully_connected", {"operator0.attribute_count": u(25)}, "limit_exceeded"),
    "operator_attributes_too_many": (
        "fully_connected",
        {"operator0.attribute_count": u(5), "operator0.clamp_max": s(90) + s(1)},
        "bad_operator",
    ),
    "operator_attribute_default_stored": ("fully_connected", {"operator0.clamp_max": s(127)}, "bad_operator"),
    "operator_output_is_model_input": (
        "fully_connected",
        {"operator0.output0": u(0)},
        "bad_operator",
    ),
    "inputs_0": ("fully_connected", {"input_count": u(0)}, "bad_port"),
    "inputs_17": ("fully_connected", {"input_count": u(17)}, "limit_exceeded"),
    "outputs_0": ("fully_connected", {"output_count": u(0)}, "bad_port"),
    "outputs_17": ("fully_connected", {"output_count": u(17)}, "limit_exceeded"),
    "port_tensor_unknown": ("fully_connected", {"output0.tensor": u(2)}, "bad_port"),
    "port_flag_2": ("fully_connected", {"input0.flags": u(2)}, "reserved_bits"),
    "port_zero_point_128": ("fully_connected", {"input0.zero_point": s(128)}, "bad_port"),
    "port_zero_point_minus_129": ("fully_connected", {"output0.zero_point": s(-129)}, "bad_port"),
    "port_scale_0": ("fully_connected", {"input0.scale": bytes(4)}, "bad_port"),
    "port_scale_negative": ("fully_connected", {"input0.scale": struct.pack("<f", -1.0)}, "bad_port"),
    "port_scale_nan": ("fully_connected", {"input0.scale": _NAN}, "bad_port"),
    "port_scale_infinite": ("fully_connected", {"output0.scale": _INFINITY}, "bad_port"),
    "port_input_repeated": ("add", {"input1.tensor": u(0)}, "bad_port"),
    "port_input_missing": (
        "add",
        {
            "input_count": u(1),
            **{f"input1.{name}": None for name in ("tensor", "flags", "zero_point", "scale")},
        },
        "bad_operator",
    ),
    "port_output_unwritten": ("fused_add", {"output0.tensor": u(2)}, "bad_operator"),
}


def _program() -> Iterator[HostileFile]:
    for name, (base, edits, error) in _PROGRAM_CASES.items():
        yield HostileFile(name, base, reprogram(base, edits), "all", error)
    base = "fully_connected"
    bias = container.parse(_base(base)).constants[2]
    assert bias.fields["count"] * bias.fields["bits"] % 8
    payloads: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "integers_leftover_bits": (base, lambda data: data[:-1] + bytes([data[-1] | 0x80])),
        "requant_wide_negative_multiplier": ("requant_wide", _patched(7, 0x80)),
        "requant_wide_shift_31": ("requant_wide", _patched(16, 31)),
        "requant_wide_shift_minus_32": ("requant_wide", _patched(19, 0xE0)),
    }
    for name, (file, change) in payloads.items():
        yield HostileFile(name, file, reprogram(file, {}, data=change), "all", "bad_constant")
    file = "requant_power_of_two"
    parsed = container.parse(_base(file))
    index = [constant.kind for constant in parsed.constants].index(ConstantKind.REQUANT)
    offset = parsed.constants[index].fields["data_offset"]
    for value in (32, 0xFF):
        target = reprogram(file, {}, data=_patched(offset, value))
        yield HostileFile(f"requant_power_of_two_shift_{value}", file, target, "all", "bad_constant")
    file = "constants_padded"
    first = container.parse(_base(file)).constants[0]
    target = reprogram(file, {}, data=_patched(first.fields["data_offset"] + first.length, 1))
    yield HostileFile("constant_padding", file, target, "all", "bad_constant")


# -------------------------------------------------------------------------------------------- cross checks

Change = Callable[[Model], None]


def _remodel(name: str, *changes: Change) -> bytes:
    """The file of a tiny model after changes that make it contradict itself."""
    model = TINY_MODELS[name]()
    model.golden = container.parse(_base(name)).golden
    for change in changes:
        change(model)
    return write(model, "size", {}, None, False)


def _by_sign(operator: int) -> Change:
    def change(model: Model) -> None:
        model.operators[operator].requant = SIGN

    return change


def _dtype(tensor: int, dtype: DType) -> Change:
    def change(model: Model) -> None:
        model.tensors[tensor].dtype = dtype

    return change


def _declare_bits(model: Model) -> None:
    """A tensor of bits that nothing touches, so that the header declares them."""
    model.tensors.append(Tensor("bits", (1,), DType.BIT))


def _inner_output(model: Model) -> None:
    """The model's output becomes a new tensor that an operator writes from the input, so that the tensor
    that was its output may be of any type."""
    source = model.tensors[model.inputs[0].tensor]
    end = max(tensor.arena_offset + tensor.size_bytes for tensor in model.tensors)
    model.tensors.append(replace(source, arena_offset=-(-end // 4) * 4))
    model.outputs[0].tensor = len(model.tensors) - 1
    table = np.zeros(256, np.int8)
    model.operators.append(
        Operator(OperatorKind.LOOKUP, [model.inputs[0].tensor], [len(model.tensors) - 1], table=table)
    )


def _second_of_bits(model: Model) -> None:
    """A convolution makes bits of the first input, which are then joined to others as if they were int8."""
    first = model.tensors[model.inputs[0].tensor]
    shape, channels = first.shape4, 4 * model.tensors[model.inputs[1].tensor].shape4[3]
    end = max(tensor.arena_offset + tensor.size_bytes for tensor in model.tensors)
    model.tensors.append(Tensor("bits", (*shape[:3], channels), DType.BIT, arena_offset=-(-end // 4) * 4))
    rows = np.ones((channels, shape[3]), np.int8)
    made = Operator(OperatorKind.CONV_2D, [0], [len(model.tensors) - 1], weights=Weights(rows), requant=SIGN)
    model.operators.insert(0, made)
    model.operators[1].inputs[1] = len(model.tensors) - 1


def _bit_columns(cols: int) -> Change:
    def change(model: Model) -> None:
        weights = model.operators[1].weights
        assert weights is not None
        weights.values = weights.values[:, :cols]

    return change


def _encode(operator: int, encoding: Encoding) -> Change:
    def change(model: Model) -> None:
        weights = model.operators[operator].weights
        assert weights is not None
        weights.encoding = encoding

    return change


def _place_like(tensor: int, other: int) -> Change:
    def change(model: Model) -> None:
        model.tensors[tensor].arena_offset = model.tensors[other].arena_offset

    return change


def _bit_maximum(model: Model) -> None:
    model.operators[2] = Operator(OperatorKind.MAXIMUM, [2, 2], [3])
    model.tensors[3].shape = model.tensors[2].shape


def _attributes(operator: int = 0, **attributes: int) -> Change:
    return lambda model: model.operators[operator].attributes.update(attributes)


def _shape(tensor: int, *shape: int) -> Change:
    def change(model: Model) -> None:
        model.tensors[tensor].shape = shape

    return change


def _place(tensor: int, offset: int) -> Change:
    def change(model: Model) -> None:
        model.tensors[tensor].arena_offset = offset

    return change


def _schedule(kind: ScheduleKind, parameter: int = 0, operator: int = 0) -> Change:
    def change(model: Model) -> None:
        model.operators[operator].schedule = kind
        model.operators[operator].schedule_parameter = parameter

    return change


def _operands(operator: int, inputs: list[int], outputs: list[int]) -> Change:
    def change(model: Model) -> None:
        model.operators[operator].inputs, model.operators[operator].outputs = inputs, outputs

    return change


def _requant_rows(count: int, operator: int = 0) -> Change:
    def change(model: Model) -> None:
        model.operators[operator].requant = Requant(
            np.arange(count, dtype=np.int32) + (1 << 30), np.zeros(count, np.int32)
        )

    return change


def _bias_rows(count: int, operator: int = 0) -> Change:
    def change(model: Model) -> None:
        model.operators[operator].bias = np.arange(count, dtype=np.int32) + 1

    return change


def _table_of(count: int) -> Change:
    def change(model: Model) -> None:
        model.operators[0].table = np.arange(count, dtype=np.int64).astype(np.int8)

    return change


def _kind(kind: OperatorKind, operator: int = 0) -> Change:
    def change(model: Model) -> None:
        model.operators[operator].kind = kind

    return change


def _repeat_operator(model: Model) -> None:
    model.operators.append(replace(model.operators[0]))


def _reverse_operators(model: Model) -> None:
    model.operators.reverse()


def _drop_tail(model: Model) -> None:
    model.operators.pop()


def _between_is_output(model: Model) -> None:
    model.outputs[0].tensor = model.operators[0].outputs[0]


def _persistent_between(model: Model) -> None:
    model.tensors[model.operators[0].outputs[0]].flags = TensorFlag.PERSISTENT


def _lookup_behind(model: Model) -> None:
    """A third operator that reads the tensor between two fused ones."""
    table = np.zeros(256, np.int8)
    between = model.operators[0].outputs[0]
    model.tensors.append(replace(model.tensors[between], arena_offset=256))
    model.operators.append(Operator(OperatorKind.LOOKUP, [between], [len(model.tensors) - 1], table=table))


def _bit_tensors() -> Iterator[HostileFile]:
    """What a loader refuses while it reads the program. In bit_fully_connected tensor 1 is of 70 bits, tensor
    2 of 40; constants are in the order of their payloads."""
    base = "bit_fully_connected"
    parsed = container.parse(_base(base))
    sign = next(
        f"constant{index}"
        for index, constant in enumerate(parsed.constants)
        if constant.fields.get("form") == RequantForm.SIGN
    )
    features = parsed.header.required_features
    persistent = {"required_features": features | Feature.PERSISTENT_TENSORS}
    undeclared = {"required_features": features & ~Feature.BIT_ACTIVATIONS}
    cases: dict[str, tuple[dict[str, bytes | None], dict[str, int], str]] = {
        "undeclared": ({}, undeclared, "unsupported_feature"),
        "persistent": ({"tensor1.flags": u(1)}, persistent, "bad_tensor"),
        "persistent_undeclared": ({"tensor1.flags": u(1)}, {}, "unsupported_feature"),
        "offset_2": ({"tensor1.arena_offset": u(34)}, {}, "bad_tensor"),
        "dimension_0": ({"tensor1.dimension1": u(0)}, {}, "bad_tensor"),
        "dimension_2_30": ({"tensor1.dimension0": u(1 << 30)}, {}, "limit_exceeded"),
        "words_over_limit": (
            {"tensor1.dimension0": u(1 << 29), "tensor1.dimension1": u(1)}, {}, "limit_exceeded",
        ),
        "words_at_limit": (
            {"tensor1.dimension0": u(1 << 28), "tensor1.dimension1": u(1)}, {}, "bad_operator",
        ),
        "sign_count_2": ({f"{sign}.count": u(2)}, {}, "bad_constant"),
        "sign_count_0": ({f"{sign}.count": u(0)}, {}, "bad_constant"),
        "sign_data_bytes": ({f"{sign}.data_bytes": u(1)}, {}, "bad_constant"),
        "sign_shift_base": ({f"{sign}.shift_base": s(1)}, {}, "bad_constant"),
        "form_4": ({f"{sign}.form": u(4)}, {}, "bad_constant"),
        "output_port": ({"output0.tensor": u(2)}, {}, "bad_port"),
        "input_port": ({"input0.tensor": u(1)}, {}, "bad_port"),
    }  # fmt: skip
    for name, (edits, header, error) in cases.items():
        yield HostileFile(f"bit_{name}", base, reprogram(base, edits, header), "all", error)
    for base in ("bit_fully_connected", "bit_conv_2d"):
        model = TINY_MODELS[base]()
        model.golden = container.parse(_base(base)).golden
        operator = model.operators[1]
        assert operator.weights is not None
        stream = encode(operator.weights.values, BINARY)
        for what, payload in (("less", stream.payload[:-4]), ("more", stream.payload + bytes(4))):
            target = write(model, "size", {1: replace(stream, payload=payload)}, None, False)
            yield HostileFile(f"{base}_words_{what}", base, target, "all", "bad_stream")


def _encode_all(encoding: Encoding) -> Change:
    def change(model: Model) -> None:
        for operator in model.operators:
            if operator.weights is not None:
                operator.weights.encoding = encoding

    return change


def _output_unwritten(model: Model) -> None:
    model.tensors.append(replace(model.tensors[-1], arena_offset=64))
    model.outputs[0].tensor = len(model.tensors) - 1


_DENSE = Encoding(Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY)
_TERNARY_BITS = Encoding(Layout.BITS, Coder.FIXED, ValueMap.TERNARY)
_IN_PLACE, _BANDS = ScheduleKind.IN_PLACE, ScheduleKind.BANDS
_FUSED_DEPTHWISE, _FUSED_ADD = ScheduleKind.FUSED_DEPTHWISE, ScheduleKind.FUSED_ADD

# name: (base, changes); all give bad_operator.
_CROSS_CASES: dict[str, tuple[str, tuple[Change, ...]]] = {
    "conv_height": ("conv_2d", (_shape(1, 1, 5, 5, 3),)),
    "conv_width": ("conv_2d", (_shape(1, 1, 4, 4, 3),)),
    "conv_channels": ("conv_2d", (_shape(1, 1, 4, 5, 2),)),
    "conv_batch": ("conv_2d", (_shape(0, 2, 4, 5, 2), _shape(1, 2, 4, 5, 3), _place(1, 80))),
    "conv_columns": ("conv_2d", (_shape(0, 1, 4, 5, 3), _place(1, 60))),
    "conv_window_too_large": ("conv_2d", (_attributes(kernel_h=9, kernel_w=1),)),
    "conv_kernel_0": ("conv_2d", (_attributes(kernel_h=0),)),
    "conv_stride_0": ("conv_2d", (_attributes(stride_w=0),)),
    "conv_dilation_0": ("conv_2d", (_attributes(dilation_h=0),)),
    "conv_dilation_huge": ("conv_2d", (_attributes(dilation_h=65536),)),
    "conv_pad_negative": ("conv_2d", (_attributes(pad_top=-1, pad_bottom=3),)),
    "conv_pad_huge": ("conv_2d", (_attributes(pad_top=65536),)),
    "conv_groups_0": ("conv_2d_grouped", (_attributes(groups=0),)),
    "conv_groups_3": ("conv_2d_grouped", (_attributes(groups=3),)),
    "conv_groups_rows": ("conv_2d_grouped", (_attributes(groups=4),)),
    "conv_zero_point": ("conv_2d", (_attributes(input_zero_point=-129),)),
    "conv_output_zero_point": ("conv_2d", (_attributes(output_zero_point=128),)),
    "conv_clamp_min": ("conv_2d", (_attributes(clamp_min=-129),)),
    "conv_clamp_order": ("conv_2d", (_attributes(clamp_min=5, clamp_max=4),)),
    "conv_requant_rows": ("conv_2d", (_requant_rows(2),)),
    "conv_bias_rows": ("conv_2d", (_bias_rows(4),)),
    "conv_two_inputs": ("conv_2d", (_operands(0, [0, 0], [1]),)),
    "conv_two_outputs": ("conv_2d", (_operands(0, [0], [1, 1]),)),
    "conv_reads_its_output": ("conv_2d", (_operands(0, [1], [1]),)),
    "depthwise_height": ("depthwise_conv_2d", (_shape(1, 1, 5, 4, 3),)),
    "depthwise_columns": ("depthwise_conv_2d", (_attributes(kernel_w=1, pad_left=0, pad_right=0),)),
    "depthwise_channels": ("depthwise_conv_2d", (_shape(0, 1, 4, 4, 2),)),
    "depthwise_groups": ("depthwise_conv_2d", (_attributes(groups=3),)),
    "fully_connected_columns": ("fully_connected", (_shape(0, 1, 2, 3, 1),)),
    "fully_connected_rows": ("fully_connected", (_shape(1, 1, 6),)),
    "fully_connected_requant_rows": ("fully_connected", (_requant_rows(6),)),
    "add_shapes": ("add", (_shape(2, 1, 3, 2, 5),)),
    "add_not_broadcast": ("add_broadcast", (_shape(1, 1, 1, 3, 1),)),
    "add_left_shift": ("add", (_attributes(left_shift=31),)),
    "add_multiplier": ("add", (_attributes(input1_multiplier=-1),)),
    "add_shift": ("add", (_attributes(output_shift=31),)),
    "add_one_input": ("add", (_operands(0, [0], [2]),)),
    "sub_shapes": ("sub", (_shape(2, 1, 3, 2, 5),)),
    "sub_zero_point": ("sub", (_attributes(input2_zero_point=200),)),
    "mul_shapes": ("mul", (_shape(2, 1, 3, 3, 4),)),
    "mul_multiplier": ("mul", (_attributes(multiplier=-5),)),
    "average_pool_shape": ("average_pool_2d", (_shape(1, 1, 2, 2, 2),)),
    "average_pool_channels": ("average_pool_2d", (_shape(1, 1, 2, 3, 1),)),
    "average_pool_empty_window": (
        "average_pool_2d",
        (_attributes(pad_top=2), _shape(1, 1, 3, 3, 2)),
    ),
    "max_pool_shape": ("max_pool_2d", (_shape(1, 1, 3, 4, 2),)),
    "max_pool_clamp": ("max_pool_2d", (_attributes(clamp_min=101),)),
    "max_pool_empty_window": ("max_pool_2d", (_attributes(pad_left=2), _shape(1, 1, 3, 5, 2))),
    "mean_shape": ("mean", (_shape(1, 1, 3),)),
    "mean_axes_0": ("mean", (_attributes(axes=0),)),
    "mean_axes_16": ("mean", (_attributes(axes=22),)),
    "mean_shift": ("mean", (_attributes(shift=-32),)),
    "softmax_shape": ("softmax", (_shape(1, 1, 5),)),
    "softmax_shift": ("softmax", (_attributes(shift=-1),)),
    "softmax_diff_min": ("softmax", (_attributes(diff_min=1),)),
    "lookup_shape": ("lookup", (_shape(1, 1, 8),)),
    "lookup_table_255": ("lookup", (_table_of(255),)),
    "concatenation_sum": ("concatenation", (_shape(3, 1, 2, 6, 3),)),
    "concatenation_other_axis": ("concatenation", (_shape(1, 1, 3, 1, 3),)),
    "concatenation_axis_4": ("concatenation", (_attributes(axis=4),)),
    "concatenation_no_inputs": ("concatenation", (_operands(0, [], [3]),)),
    "pad_shape": ("pad", (_shape(1, 1, 4, 5, 2),)),
    "pad_negative": ("pad", (_attributes(before_1=-1, after_1=3),)),
    "pad_value": ("pad", (_attributes(value=-129),)),
    "reshape_size": ("reshape", (_shape(1, 1, 13),)),
    "reshape_constants": ("lookup", (_kind(OperatorKind.RESHAPE),)),
    "transpose_shape": ("transpose", (_shape(1, 1, 2, 3, 4),)),
    "transpose_repeated_axis": ("transpose", (_attributes(axis_1=2, axis_2=2),)),
    "transpose_axis_4": ("transpose", (_attributes(axis_1=4),)),
    "slice_past_end": ("slice", (_attributes(begin_1=3),)),
    "slice_begin_negative": ("slice", (_attributes(begin_1=-1),)),
    "slice_stride_0": ("slice", (_attributes(stride_2=0),)),
    "slice_stride_too_large": ("slice", (_attributes(stride_2=3),)),
    "resize_channels": ("resize_nearest", (_shape(1, 1, 4, 6, 1),)),
    "resize_flag_2": ("resize_nearest", (_attributes(align_corners=2),)),
    "maximum_shapes": ("maximum", (_shape(2, 1, 3, 2, 5),)),
    "minimum_shapes": ("minimum", (_shape(2, 1, 3, 1, 4),)),
    "operator_repeated": ("fully_connected", (_repeat_operator,)),
    "operators_reversed": ("shared_constants", (_reverse_operators,)),
    "whole_overlap": ("fully_connected", (_place(1, 8),)),
    "whole_same_offset": ("lookup", (_place(1, 0),)),
    "reshape_overlap": ("in_place_reshape", (_place(1, 4),)),
    "in_place_elsewhere": ("in_place_lookup", (_place(1, 8),)),
    "in_place_parameter": ("in_place_lookup", (_schedule(_IN_PLACE, 1),)),
    "in_place_pool": ("max_pool_2d", (_schedule(_IN_PLACE), _place(1, 0))),
    "in_place_fully_connected": ("fully_connected", (_schedule(_IN_PLACE), _place(1, 0))),
    "in_place_add_other_overlaps": ("in_place_add", (_place(0, 8),)),
    "in_place_broadcast": ("add_broadcast", (_schedule(_IN_PLACE), _place(2, 24))),
    "in_place_pointwise_widens": ("conv_2d", (_schedule(_IN_PLACE, 1), _place(1, 0))),
    "in_place_pointwise_pads": ("in_place_pointwise_1", (_attributes(pad_top=1), _shape(1, 1, 6, 3, 3))),
    "in_place_pointwise_parameter_0": ("in_place_pointwise_1", (_schedule(_IN_PLACE, 0),)),
    "in_place_pointwise_parameter_6": ("in_place_pointwise_1", (_schedule(_IN_PLACE, 6),)),
    "in_place_pointwise_elsewhere": ("in_place_pointwise_1", (_place(1, 4),)),
    "in_place_depthwise_strided": ("depthwise_conv_2d_strided", (_schedule(_IN_PLACE), _place(1, 0))),
    "in_place_depthwise_parameter": ("in_place_depthwise", (_schedule(_IN_PLACE, 1),)),
    "bands_parameter_0": ("bands_conv_2d", (_schedule(_BANDS, 0),)),
    "bands_parameter_6": ("bands_conv_2d", (_schedule(_BANDS, 6),)),
    "bands_overlap": ("bands_conv_2d", (_place(1, 4),)),
    "bands_lookup": ("lookup", (_schedule(_BANDS, 1),)),
    "fused_depthwise_parameter": ("fused_depthwise", (_schedule(_FUSED_DEPTHWISE, 1),)),
    "fused_depthwise_overlap": ("fused_depthwise", (_place(2, 16),)),
    "fused_depthwise_tail_in_place": ("fused_depthwise", (_schedule(_IN_PLACE, 0, 1),)),
    "fused_depthwise_tail_fused": ("fused_depthwise", (_schedule(_FUSED_DEPTHWISE, 0, 1),)),
    "fused_depthwise_without_tail": ("fused_depthwise", (_drop_tail, _between_is_output)),
    "fused_depthwise_is_output": ("fused_depthwise", (_between_is_output,)),
    "fused_depthwise_persistent": ("fused_depthwise", (_persistent_between,)),
    "fused_depthwise_read_again": ("fused_depthwise", (_lookup_behind,)),
    "fused_depthwise_not_conv": ("in_place_lookup", (_schedule(_FUSED_DEPTHWISE),)),
    "fused_depthwise_on_add": ("fused_add", (_schedule(_FUSED_DEPTHWISE),)),
    "fused_add_on_depthwise": ("fused_depthwise", (_schedule(_FUSED_ADD),)),
    "fused_add_twice": ("fused_add", (_operands(1, [2, 2], [3]),)),
    "fused_add_not_read": ("fused_add", (_operands(1, [1, 1], [3]),)),
    "fused_add_broadcast": ("fused_add", (_shape(1, 1, 1, 1, 4),)),
    "fused_add_overlaps_source": ("fused_add_in_place", (_place(0, 24),)),
    "fused_add_overlaps_other": ("fused_add", (_place(3, 24),)),
    "fused_add_in_place_elsewhere": ("fused_add_in_place", (_place(3, 60),)),
    "fused_add_tail_parameter": ("fused_add_in_place", (_schedule(_IN_PLACE, 1, 1),)),
    "fused_add_tail_bands": ("fused_add", (_schedule(_BANDS, 1, 1),)),
    "bit_conv_zero_point": ("bit_conv_2d", (_attributes(1, input_zero_point=1),)),
    "bit_conv_output_zero_point": ("bit_conv_2d", (_attributes(1, output_zero_point=1),)),
    "bit_conv_clamp_min": ("bit_conv_2d", (_attributes(1, clamp_min=-127),)),
    "bit_conv_clamp_max": ("bit_conv_2d", (_attributes(1, clamp_max=0),)),
    "bit_conv_groups": ("bit_pointwise", (_attributes(2, groups=2),)),
    "bit_conv_dilation": ("bit_conv_2d", (_attributes(1, dilation_h=2, pad_top=2, pad_bottom=2),)),
    "bit_conv_columns": ("bit_conv_2d", (_bit_columns(35 * 9),)),
    "bit_conv_weights_int8": ("bit_conv_2d", (_encode(1, _DENSE),)),
    "bit_conv_weights_ternary": ("bit_conv_2d", (_encode(1, _TERNARY_BITS),)),
    "bit_conv_requantised": ("bit_conv_2d", (_requant_rows(33, 1),)),
    "bit_conv_to_int8_by_sign": ("bit_conv_2d", (_by_sign(2),)),
    "bit_conv_in_place": ("bit_pointwise", (_schedule(_IN_PLACE, 1, 1), _place_like(2, 1))),
    "bit_conv_bands": ("bit_conv_2d", (_schedule(_BANDS, 1, 1),)),
    "bit_conv_bands_from_int8": ("bit_conv_2d", (_schedule(_BANDS, 1),)),
    "bit_conv_fused": ("fused_add", (_by_sign(0), _dtype(2, DType.BIT))),
    "bit_conv_bias_rows": ("bit_conv_2d", (_bias_rows(34, 1),)),
    "conv_by_sign": ("conv_2d", (_by_sign(0), _declare_bits)),
    "depthwise_to_bits": ("depthwise_conv_2d", (_by_sign(0), _dtype(1, DType.BIT), _inner_output)),
    "depthwise_of_bits": ("bit_pointwise", (_kind(OperatorKind.DEPTHWISE_CONV_2D, 1),)),
    "bit_fully_connected_columns": ("bit_fully_connected", (_shape(1, 1, 64),)),
    "bit_fully_connected_rows": ("bit_fully_connected", (_shape(2, 1, 41),)),
    "bit_fully_connected_spread": ("bit_fully_connected", (_shape(2, 1, 4, 10),)),
    "bit_pool_clamp": ("bit_max_pool_2d", (_attributes(1, clamp_max=126),)),
    "bit_pool_channels": ("bit_max_pool_2d", (_shape(2, 1, 3, 2, 36),)),
    "bit_pool_average": ("bit_max_pool_2d", (_kind(OperatorKind.AVERAGE_POOL_2D, 1),)),
    "bit_pool_to_int8": ("bit_max_pool_2d", (_dtype(2, DType.INT8),)),
    "bit_pad_value": ("bit_moves", (_attributes(1, value=1),)),
    "bit_pad_channels": ("bit_moves", (_attributes(1, after_3=1), _shape(2, 1, 3, 4, 65))),
    "bit_reshape_words": ("bit_moves", (_shape(4, 20), _shape(5, 2, 10))),
    "bit_reshape_size": ("bit_moves", (_shape(3, 1, 800),)),
    "bit_reshape_from_int8": ("reshape", (_dtype(1, DType.BIT), _inner_output)),
    "bit_maximum": ("bit_moves", (_bit_maximum,)),
    "bit_softmax": ("bit_moves", (_kind(OperatorKind.SOFTMAX, 4),)),
    "bit_concatenation_second": ("concatenation", (_second_of_bits,)),
}


def _crossed() -> Iterator[HostileFile]:
    yield from _bit_tensors()
    for name, (base, changes) in _CROSS_CASES.items():
        yield HostileFile(name, base, _remodel(base, *changes), "all", "bad_operator", _covers(base))
    yield HostileFile("output_unwritten", "lookup", _remodel("lookup", _output_unwritten), "all", "bad_port")
    # Enough for either stream of the fused pair, not for both.
    target = _remodel("fused_depthwise", _encode_all(Encoding(Layout.DENSE, Coder.CLASS, ValueMap.IDENTITY)))
    scratch = _set(target, *_field(HEADER, "scratch_bytes"), 64 + 9)
    yield HostileFile("fused_scratch_less", "fused_depthwise", scratch, "all", "scratch_too_small")


def _covers(base: str) -> frozenset[str]:
    kinds = ("operator:", "schedule:")
    return frozenset(item for item in covers_of(_base(base)) if item.startswith(kinds))


# ----------------------------------------------------------------------------------------------- streams


def _floats() -> Iterator[HostileFile]:
    """Files of floats that contradict themselves; readers without FLOAT_TENSORS refuse all of them for that.
    In float_fp16, operator 0 is a convolution of 3 x 8, 1 a leaky relu, 2 fully connected."""
    base = "float_fp16"
    parsed = container.parse(_base(base))
    convolution, lookup = parsed.operators[:2]
    weights, function = convolution.constants[0], lookup.constants[0]
    bias = convolution.constants[2]
    assert weights is not None and function is not None and bias is not None
    undeclared = {"required_features": parsed.header.required_features & ~Feature.FLOAT_TENSORS}
    at = parsed.constants[weights].fields["data_offset"]
    alpha = parsed.constants[function].fields["data_offset"]
    kind = f"constant{weights}"
    cases: dict[str, tuple[dict[str, bytes | None], str]] = {
        "format_3": ({f"{kind}.format": u(3)}, "bad_constant"),
        "format_of_more_bytes": ({f"{kind}.format": u(0)}, "bad_constant"),
        "rows_0": ({f"{kind}.rows": u(0), f"{kind}.data_bytes": u(0)}, "bad_constant"),
        "rows_over_limit": ({f"{kind}.rows": u(1 << 30)}, "limit_exceeded"),
        "rows_and_cols_exchanged": ({f"{kind}.rows": u(8), f"{kind}.cols": u(3)}, "bad_operator"),
        "bias_in_a_row": ({f"constant{bias}.rows": u(1), f"constant{bias}.cols": u(3)}, "bad_operator"),
        "function_10": ({f"constant{function}.function": u(10)}, "bad_constant"),
        "function_without_its_parameter": ({f"constant{function}.function": u(3)}, "bad_constant"),
        "requantised": ({"operator0.constant1": u(weights + 1)}, "bad_operator"),
        "function_for_weights": ({"operator0.constant0": u(function + 1)}, "bad_operator"),
        "weights_missing": ({"operator0.constant0": u(0)}, "bad_operator"),
        "output_is_int8": ({"tensor3.dtype": u(0)}, "unsupported_feature"),
        "unaligned": ({"tensor1.arena_offset": u(98)}, "bad_tensor"),
        "zero_point": ({"input0.zero_point": s(1)}, "bad_port"),
        "scheduled": ({"operator1.schedule": u(1) + u(0)}, "unsupported_feature"),
    }
    for name, (edits, error) in cases.items():
        yield HostileFile(f"float_{name}", base, reprogram(base, edits), "all", error)
    target = reprogram(base, {}, header=undeclared)
    yield HostileFile("float_undeclared", base, target, "all", "unsupported_feature")
    for name, offset in (("weight", at), ("parameter", alpha + 2)):  # the upper half of a float32
        infinity = {"weight": b"\x00\x7c", "parameter": b"\x80\x7f"}[name]
        target = reprogram(base, {}, data=lambda d, o=offset, i=infinity: d[:o] + i + d[o + 2 :])
        yield HostileFile(f"float_infinite_{name}", base, target, "all", "bad_constant")
    model = TINY_MODELS[base]()
    model.operators[0].attributes["input_zero_point"] = 1
    target = write(model, "size", {}, None, False)
    yield HostileFile("float_operator_zero_point", base, target, "all", "bad_operator")
    model = TINY_MODELS[base]()
    model.operators[1].schedule = ScheduleKind.IN_PLACE
    model.tensors[2].arena_offset = model.tensors[1].arena_offset
    target = write(model, "size", {}, None, False)
    yield HostileFile("float_in_place", base, target, "all", "bad_operator")


def _stream_changes(stream: Stream) -> Iterable[tuple[str, Stream]]:
    descriptor, payload = stream.descriptor, stream.payload
    yield "payload_less", replace(stream, payload=payload[:-1])
    yield "payload_more", replace(stream, payload=payload + b"\0")
    yield "payload_4_less", replace(stream, payload=payload[:-4])
    yield "payload_empty", replace(stream, payload=b"")
    yield "first_byte", replace(stream, payload=bytes([payload[0] ^ 0xFF]) + payload[1:])
    yield "second_byte", replace(stream, payload=payload[:1] + bytes([payload[1] ^ 0xFF]) + payload[2:])
    yield "last_byte", replace(stream, payload=payload[:-1] + bytes([payload[-1] ^ 0x80]))
    yield "all_ones", replace(stream, payload=b"\xff" * len(payload))
    for name in ("entry_count", "max_row_entries", "value_count", "value_bits", "gap_bits"):
        value = getattr(descriptor, name)
        for what, changed in (("more", value + 1), ("less", value - 1)):
            if changed >= 0:
                yield f"{name}_{what}", Stream(replace(descriptor, **{name: changed}), payload)


def _streams() -> Iterator[HostileFile]:
    """For each encoding, every change of its descriptor or payload that a decoder must notice."""
    for base in ENCODING_MODELS:
        parsed = container.parse(_base(base))
        model = TINY_MODELS[base]()
        model.golden = parsed.golden
        constant = next(c for c in parsed.constants if c.kind is ConstantKind.WEIGHTS)
        stream = container.stream_of(parsed, constant)
        covers = frozenset(
            item
            for item in covers_of(_base(base))
            if item.startswith(("coder:", "layout:", "map:", "encoding:"))
        )
        for what, changed in _stream_changes(stream):
            target = write(model, "size", {0: changed}, None, False)
            try:
                container.load(target)
            except FormatError as error:
                name = error.code.name.lower()
                if name in ("bad_stream", "bad_constant"):
                    yield HostileFile(f"{base}_{what}", base, target, "all", name, covers)


def hostile_files() -> Iterator[HostileFile]:
    """Every single case; names are unique."""
    yield from _envelope()
    yield from _program()
    yield from _crossed()
    yield from _streams()
    yield from _floats()
