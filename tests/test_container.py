"""Thimble files: what dump writes, what load gives back, which bytes are what, and what parse refuses."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from model_packager import container
from model_packager.container_write import assemble, pack_integers, s_varint, u_varint
from model_packager.encoders import encode
from model_packager.encoders.choose import raw
from model_packager.errors import FormatError, PackError
from model_packager.format_table import (
    Coder,
    ConstantKind,
    DType,
    ErrorCode,
    Feature,
    HeaderFlag,
    Layout,
    OperatorKind,
    RequantForm,
    ScheduleKind,
    SectionKind,
    TensorFlag,
    ValueMap,
)
from model_packager.golden import golden_inputs, output_crc32, xorshift32
from model_packager.model import Model, Requant
from tests.file_vectors import fixed
from tests.hostile_files import covers_of, reprogram
from tests.program_tokens import s, tokens, u
from tests.tiny_models import RAW, TINY_FILES, TINY_MODELS, header_numbers


def model_of(name: str) -> Model:
    return TINY_MODELS[name]()


def constants_of(data: bytes, kind: ConstantKind) -> list[container.ParsedConstant]:
    return [constant for constant in container.parse(data).constants if constant.kind is kind]


# ------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", TINY_MODELS)
def test_load_of_dump_gives_an_equal_model(name: str) -> None:
    model = model_of(name)
    loaded = container.load(container.dump(model))
    assert [(t.shape, t.dtype, t.flags) for t in loaded.tensors] == [
        (t.shape, t.dtype, t.flags) for t in model.tensors
    ]
    for before, after in zip(model.operators, loaded.operators, strict=True):
        assert (after.kind, after.inputs, after.outputs) == (before.kind, before.inputs, before.outputs)
        assert (after.schedule, after.schedule_parameter) == (before.schedule, before.schedule_parameter)
        assert {**before.attributes, **after.attributes} == before.attributes
        if before.weights is not None:
            assert after.weights is not None and (before.requant is None) == (after.requant is None)
            np.testing.assert_array_equal(after.weights.values, before.weights.values)
            rows = len(before.weights.values)
            for which in ("multipliers", "shifts") if before.requant is not None else ():
                expected = np.broadcast_to(getattr(before.requant, which), rows)
                np.testing.assert_array_equal(np.broadcast_to(getattr(after.requant, which), rows), expected)
            bias = before.bias if before.bias is not None else np.zeros(rows)
            np.testing.assert_array_equal(after.bias if after.bias is not None else np.zeros(rows), bias)
        if before.table is not None:
            assert after.table is not None
            np.testing.assert_array_equal(after.table, before.table)
        assert before.table is not None or after.options == before.options
    for ports in ("inputs", "outputs"):
        assert getattr(loaded, ports) == getattr(model, ports)
    assert (loaded.name, loaded.metadata) == (model.name, model.metadata)
    assert (loaded.model_id, loaded.model_version) == (model.model_id, model.model_version)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_dump_of_load_gives_the_same_bytes(name: str) -> None:
    data = container.dump(model_of(name))
    assert container.dump(container.load(data)) == data


@pytest.mark.parametrize("name", TINY_FILES)
def test_byte_map_accounts_for_every_byte(name: str) -> None:
    model, finish = TINY_FILES[name]()
    data = finish(model)
    end = 0
    for offset, length, what in container.byte_map(data):
        assert offset == end and length > 0 and what
        end += length
    assert end == len(data)


@pytest.mark.parametrize("name", TINY_FILES)
def test_program_written_apart_from_the_specification_is_the_same(name: str) -> None:
    model, finish = TINY_FILES[name]()
    parsed = container.parse(finish(model))
    section = parsed.section(SectionKind.PROGRAM)
    program = parsed.data[section.offset : section.offset + section.length]
    assert b"".join(piece for _, piece in tokens(parsed)) == program


def test_tiny_models_cover_every_operator_layout_coder_map_schedule_and_form() -> None:
    covered = {item for name in TINY_MODELS for item in covers_of(container.dump(model_of(name)))}
    groups = {"operator": OperatorKind, "requant": RequantForm, "coder": Coder, "layout": Layout}
    groups |= {"map": ValueMap, "schedule": ScheduleKind, "constant": ConstantKind}
    assert {f"{group}:{item.name}" for group, kind in groups.items() for item in kind} - covered == set()


def test_int16_and_persistent_tensors_round_trip_with_their_features() -> None:
    model = model_of("maximum")
    for tensor in model.tensors:
        tensor.dtype, tensor.arena_offset = DType.INT16, 2 * tensor.arena_offset
    model.tensors[1].flags = TensorFlag.PERSISTENT
    model.inputs.pop()
    model.inputs[0].zero_point = 300
    data = container.dump(model)
    loaded = container.load(data)
    assert [tensor.dtype for tensor in loaded.tensors] == [DType.INT16] * 3
    assert loaded.tensors[1].flags == TensorFlag.PERSISTENT
    assert loaded.inputs[0].zero_point == 300
    features = Feature.INT16_ACTIVATIONS | Feature.PERSISTENT_TENSORS
    assert container.parse(data).header.required_features == features
    with pytest.raises(FormatError, match="unsupported_feature"):
        container.parse(data, features=int(Feature.FIXED))


# ---------------------------------------------------------------------------------------- what dump writes


def test_dump_with_equal_constants_stores_them_once() -> None:
    kinds = [
        constant.kind for constant in container.parse(container.dump(model_of("shared_constants"))).constants
    ]
    assert sorted(kinds) == [ConstantKind.WEIGHTS, ConstantKind.INTEGERS, ConstantKind.REQUANT]


def test_dump_with_uniform_requantisation_stores_one_value() -> None:
    model = model_of("fully_connected")
    model.operators[0].requant = Requant(np.full(5, 1 << 30, np.int32), np.full(5, -4, np.int32))
    (requant,) = constants_of(container.dump(model), ConstantKind.REQUANT)
    assert (requant.fields["count"], requant.fields["form"], requant.length) == (1, RequantForm.PACKED, 4)


@pytest.mark.parametrize(
    ("multipliers", "shifts", "form", "shift_base"),
    [
        ([1 << 30, (1 << 31) - 1], [-5, -2], RequantForm.PACKED, -5),
        ([1 << 30, (1 << 31) - 1], [-6, -2], RequantForm.WIDE, 0),
        ([(1 << 30) - 1, (1 << 31) - 1], [-5, -2], RequantForm.WIDE, 0),
        ([1 << 30, (1 << 31) - 1], [30, 29], RequantForm.PACKED, 27),
        ([1 << 30, (1 << 31) - 1], [-31, -28], RequantForm.PACKED, -31),
    ],
)
def test_dump_takes_the_smallest_requantisation_form(
    multipliers: list[int], shifts: list[int], form: RequantForm, shift_base: int
) -> None:
    model = model_of("requant_wide")
    multipliers, shifts = multipliers * 2, shifts * 2
    model.operators[0].requant = Requant(np.array(multipliers, np.int32), np.array(shifts, np.int32))
    data = container.dump(model)
    (constant,) = constants_of(data, ConstantKind.REQUANT)
    assert (constant.fields["form"], constant.fields["shift_base"]) == (form, shift_base)
    loaded = container.load(data).operators[0].requant
    assert loaded is not None
    assert (loaded.multipliers.tolist(), loaded.shifts.tolist()) == (multipliers, shifts)


@pytest.mark.parametrize(
    ("values", "bits", "payload"),
    [
        ([0, -1, -1], 1, b"\x06"),  # 0, 1, 1
        ([1, -2], 2, b"\x09"),  # 01, 10
        ([2, -1], 3, b"\x3a"),  # 010, 111
        ([-4, 3, 0], 3, b"\x1c\x00"),  # 100, 011, 000
        ([127, -128], 8, b"\x7f\x80"),
        ([(1 << 31) - 1, -(1 << 31)], 32, b"\xff\xff\xff\x7f\x00\x00\x00\x80"),
    ],
)
def test_integers_are_packed_in_the_fewest_bits_and_unpacked(
    values: list[int], bits: int, payload: bytes
) -> None:
    assert pack_integers(np.array(values, np.int64)) == (bits, payload)
    assert container.unpack_integers(payload, len(values), bits).tolist() == values


def test_dump_with_bias_of_zeros_leaves_it_out() -> None:
    model = model_of("fully_connected")
    model.operators[0].bias = np.zeros(5, np.int32)
    data = container.dump(model)
    assert constants_of(data, ConstantKind.INTEGERS) == []
    assert container.load(data).operators[0].bias is None


def test_dump_with_a_stream_stores_its_payload() -> None:
    model = model_of("dense_huffman_ternary")
    weights = model.operators[0].weights
    assert weights is not None
    stream = encode(weights.values, RAW)
    data = container.dump(model, encodings={0: stream})
    parsed = container.parse(data)
    (constant,) = constants_of(data, ConstantKind.WEIGHTS)
    assert container.stream_of(parsed, constant) == stream
    assert parsed.header.required_features == Feature.FIXED


def test_dump_of_loaded_8_bit_weights_keeps_them_readable_in_place() -> None:
    model = model_of("raw_2_bits")
    weights = model.operators[0].weights
    assert weights is not None
    data = container.dump(model, encodings={0: raw(weights.values)})
    assert container.parse(data).header.scratch_bytes == 0
    assert container.dump(container.load(data)) == data


def test_dump_without_encoding_is_never_larger_than_raw() -> None:
    for name in ("conv_2d", "sparse_class_identity", "bits_fixed_binary", "dense_fixed_identity"):
        model = model_of(name)
        plain = container.dump(model, encodings={0: RAW})
        weights = model.operators[0].weights
        assert weights is not None
        weights.encoding = None
        assert len(container.dump(model)) <= len(plain)


def test_dump_with_signer_signs_all_bytes_before_the_trailer() -> None:
    seen: list[bytes] = []

    def sign(message: bytes) -> bytes:
        seen.append(message)
        return bytes(range(64))

    data = container.dump(model_of("fully_connected"), signer=sign)
    parsed = container.parse(data)
    assert parsed.header.flags == HeaderFlag.SIGNED
    assert seen == [data[:-96]]
    assert parsed.signature == bytes(range(64)) == data[-64:]
    assert container.byte_map(data)[-1] == (len(data) - 64, 64, "signature")


def test_dump_with_operator_names_gives_them_back() -> None:
    model = model_of("shared_constants")
    for index, operator in enumerate(model.operators):
        operator.name = f"layer {index}"
    loaded = container.load(container.dump(model, keep_operator_names=True))
    assert [operator.name for operator in loaded.operators] == ["layer 0", "layer 1"]
    assert [operator.name for operator in container.load(container.dump(model)).operators] == [
        "operator0",
        "operator1",
    ]


def _float_model(model: Model) -> None:
    model.tensors[0].dtype = DType.FLOAT32


def _wide_weights(model: Model) -> None:
    weights = model.operators[0].weights
    assert weights is not None
    weights.values = weights.values.astype(np.int16)


def _no_requant(model: Model) -> None:
    model.operators[0].requant = None


def _negative_multiplier(model: Model) -> None:
    model.operators[0].requant = Requant(np.array([-1]), np.array([0]))


def _large_shift(model: Model) -> None:
    model.operators[0].requant = Requant(np.array([1 << 30]), np.array([31]))


def _unknown_attribute(model: Model) -> None:
    model.operators[0].attributes["kernel_h"] = 1


def _reserved_metadata(model: Model) -> None:
    model.metadata["inputs"] = ["a"]


def _unserialisable_metadata(model: Model) -> None:
    model.metadata["labels"] = {1, 2}


def _contradiction(model: Model) -> None:
    model.tensors[1].shape = (1, 6)


def _wide_bias(model: Model) -> None:
    model.operators[0].bias = np.full(5, 1 << 40)


def _large_attribute(model: Model) -> None:
    model.operators[0].attributes["clamp_max"] = 1 << 33


def _large_id(model: Model) -> None:
    model.model_id = 1 << 32


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_float_model, "float"),
        (_wide_weights, "int16"),
        (_no_requant, r"operator 0 \(FULLY_CONNECTED\) has weights and no requantisation"),
        (_negative_multiplier, "negative"),
        (_large_shift, "31"),
        (_unknown_attribute, "kernel_h"),
        (_reserved_metadata, "inputs"),
        (_unserialisable_metadata, "JSON"),
        (_contradiction, "5 rows for 6 outputs"),
        (_wide_bias, "32 bits"),
        (_large_attribute, "32 bits"),
        (_large_id, "model_id"),
    ],
)
def test_dump_of_a_model_that_cannot_be_stored_is_refused(
    change: Callable[[Model], None], sentence: str
) -> None:
    model = model_of("fully_connected")
    change(model)
    with pytest.raises(PackError, match=sentence):
        container.dump(model)


def test_dump_with_a_stream_of_another_shape_is_refused() -> None:
    stream = encode(np.zeros((2, 2), np.int8), RAW)
    with pytest.raises(PackError, match=r"\(2, 2\)"):
        container.dump(model_of("fully_connected"), encodings={0: stream})


def test_dump_with_a_short_signature_is_refused() -> None:
    with pytest.raises(PackError, match="3 bytes"):
        container.dump(model_of("fully_connected"), signer=lambda message: b"abc")


# ------------------------------------------------------------------------------------------------- load


def with_metadata(metadata: bytes) -> bytes:
    """A file whose METADATA section has this content."""
    parsed = container.parse(container.dump(model_of("fully_connected")))
    sections = [(x.kind, x.flags, parsed.data[x.offset : x.offset + x.length]) for x in parsed.sections]
    sections[2] = (*sections[2][:2], metadata)
    return assemble(header_numbers(parsed), sections, None)


@pytest.mark.parametrize(
    "metadata",
    [b"\xff\xfe", b"{", b"[]", b"[" * 100_000, b'{"a": 1e}'],
    ids=["utf8", "open", "list", "deep", "number"],
)
def test_load_with_metadata_that_is_no_json_object_is_bad_section(metadata: bytes) -> None:
    data = with_metadata(metadata)
    assert container.parse(data).metadata == metadata
    with pytest.raises(FormatError, match="metadata") as caught:
        container.load(data)
    assert caught.value.code is ErrorCode.BAD_SECTION


@pytest.mark.parametrize("metadata", [{"name": 3}, {"inputs": "x"}, {"outputs": [1]}, {"operators": {}}])
def test_load_with_names_of_wrong_types_falls_back(metadata: dict[str, object]) -> None:
    loaded = container.load(with_metadata(json.dumps(metadata).encode()))
    assert loaded.name == ""
    assert loaded.inputs[0].name == "input0"
    assert loaded.outputs[0].name in ("output0", "")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_parse_takes_any_buffer(kind: Callable[[bytes], bytes]) -> None:
    data = container.dump(model_of("add"))
    assert container.parse(kind(data)).data == data


def test_parse_error_names_code_and_place() -> None:
    data = bytearray(container.dump(model_of("fully_connected")))
    data[5] = 0x40
    with pytest.raises(FormatError) as caught:
        container.parse(data)
    assert caught.value.code is ErrorCode.RESERVED_BITS
    assert str(caught.value) == "reserved_bits: byte 5: reserved header flags 0x40"


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, (1 << 14) - 1, 1 << 14, (1 << 32) - 1])
def test_varints_of_the_writer_and_of_the_specification_agree(value: int) -> None:
    assert u_varint(value) == u(value)
    for signed in (value >> 1, -(value >> 1), -(value >> 1) - 1):
        assert s_varint(signed) == s(signed)


@pytest.mark.parametrize("name", ["two_inputs_two_outputs", "sparse_class_codebook", "fused_add_in_place"])
def test_load_of_random_mutations_gives_only_format_errors(name: str) -> None:
    """1,000 mutations of each file: bytes changed, removed, inserted, repeated; half with checksums set
    right.
    """
    source = random.Random(name)
    data = container.dump(model_of(name))
    refused = 0
    for _ in range(1000):
        mutated = bytearray(data)
        for _ in range(source.randint(1, 4)):
            start = source.randrange(len(mutated))
            length = source.choice((0, 1, 1, 1, 4))
            mutated[start : start + length] = source.randbytes(source.choice((1, 1, 1, 0, 4)))
        candidate = bytes(mutated)
        if len(candidate) == len(data) and source.random() < 0.8:
            candidate = fixed(candidate, "all")
        try:
            container.load(candidate)
        except FormatError as error:
            assert str(error).startswith(error.code.name.lower())
            refused += 1
    assert refused > 500


def test_parse_of_int16_tensor_at_odd_offset_is_bad_tensor() -> None:
    edits = {"tensor1.dtype": u(DType.INT16), "tensor1.arena_offset": u(13)}
    data = reprogram("fully_connected", edits, {"required_features": 1 | Feature.INT16_ACTIVATIONS})
    with pytest.raises(FormatError, match="unaligned arena offset") as caught:
        container.parse(data)
    assert caught.value.code is ErrorCode.BAD_TENSOR


def test_parse_of_operator_with_two_dtypes_is_bad_operator() -> None:
    numbers = {"required_features": 1 | Feature.INT16_ACTIVATIONS, "arena_bytes": 24}
    data = reprogram("fully_connected", {"tensor1.dtype": u(DType.INT16)}, numbers)
    with pytest.raises(FormatError, match="dtype") as caught:
        container.parse(data)
    assert caught.value.code is ErrorCode.BAD_OPERATOR


# ----------------------------------------------------------------------------------------------- golden


def test_xorshift32_from_seed_1_gives_marsaglias_sequence() -> None:
    state, found = 1, []
    for _ in range(5):
        state = xorshift32(state)
        found.append(state)
    assert found == [270369, 67634689, 2647435461, 307599695, 2398689233]


def test_golden_inputs_run_on_from_input_to_input() -> None:
    model = model_of("two_inputs_two_outputs")
    first, second = golden_inputs(model, 1)
    assert first.shape == second.shape == (1, 6) and first.dtype == np.int8
    assert first.tobytes()[:5] == bytes([0x21, 0x01, 0xC5, 0x4F, 0xD1])
    model.inputs.reverse()
    again = golden_inputs(model, 1)
    np.testing.assert_array_equal(again[1], second)


def test_golden_inputs_of_int16_take_two_bytes_low_byte_first() -> None:
    model = model_of("softmax")
    model.tensors[0].dtype = DType.INT16
    (values,) = golden_inputs(model, 1)
    assert values.dtype == np.int16 and values[0, 0] == 0x0121


@pytest.mark.parametrize("seed", [0, -1, 1 << 32])
def test_golden_inputs_with_seed_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        golden_inputs(model_of("add"), seed)


def test_output_crc32_covers_all_outputs_in_order() -> None:
    outputs = [np.array([[1, -1]], np.int8), np.array([0x0102], np.int16)]
    assert output_crc32(outputs) == zlib.crc32(struct.pack("<bbh", 1, -1, 0x0102))
    assert output_crc32(outputs) != output_crc32(outputs[::-1])
