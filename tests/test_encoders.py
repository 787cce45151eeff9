"""Encoders against the reference decoders: every encoding, on matrices that hypothesis draws."""

from __future__ import annotations

import heapq
import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_packager.encoders import (
    Encoding,
    EncodingPattern,
    Stream,
    StreamDescriptor,
    candidates,
    check_descriptor,
    choose,
    choose_matching,
    cost,
    decode,
    encode,
    range_coder,
    stream_scratch_bytes,
)
from model_packager.encoders.bit_stream import BitReader, BitWriter
from model_packager.encoders.class_coder import gap_class, value_token
from model_packager.encoders.huffman import canonical_codes, code_lengths
from model_packager.encoders.range_coder import DIRECT, RangeDecoder, encode_decisions
from model_packager.encoders.relative_index import find_entries, insert_fillers
from model_packager.encoders.stream import Matrix, plan
from model_packager.errors import FormatError, PackError, UsageError
from model_packager.format_table import Coder, ErrorCode, Layout, Limit, ValueMap
from model_packager.importers.tflite import import_tflite

Weights = npt.NDArray[np.int8]

ALPHABETS = {
    "int8": st.integers(-128, 127),
    "small": st.integers(-3, 3),
    "sparse": st.one_of(st.just(0), st.just(0), st.just(0), st.just(0), st.integers(-128, 127)),
    "ternary": st.sampled_from([0, 0, 9, -128 + 1]),
    "binary": st.sampled_from([1, -1]),
    "log2": st.sampled_from([0, 1, -1, 2, 16, -64, 64, -128]),
    "zero": st.just(0),
}


@st.composite
def matrices(draw: st.DrawFn) -> Weights:
    """An int8 matrix of up to 5 x 40 from one of the alphabets."""
    rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    alphabet = ALPHABETS[draw(st.sampled_from(sorted(ALPHABETS)))]
    values = draw(st.lists(alphabet, min_size=rows * cols, max_size=rows * cols))
    return np.array(values, np.int8).reshape(rows, cols)


def gaussian(rows: int, cols: int, deviation: float, density: float = 1.0, seed: int = 0) -> Weights:
    random = np.random.default_rng(seed)
    values = np.clip(np.round(random.normal(0, deviation, (rows, cols))), -128, 127)
    return np.where(random.random((rows, cols)) < density, values, 0).astype(np.int8)


# ------------------------------------------------------------------------------------------- round trips


@settings(max_examples=60, deadline=None)
@given(matrices())
def test_encode_every_candidate_decodes_to_the_same_weights(values: Weights) -> None:
    for encoding in candidates(values):
        stream = encode(values, encoding)
        check_descriptor(stream.descriptor)
        assert stream.descriptor.encoding == encoding
        decoded = decode(stream)
        assert decoded.dtype == np.int8
        np.testing.assert_array_equal(decoded, values, err_msg=encoding.name)


@settings(max_examples=30, deadline=None)
@given(matrices())
def test_plan_of_a_bit_stream_coder_knows_the_size_before_writing(values: Weights) -> None:
    matrix = Matrix(values)
    for encoding in candidates(values):
        if encoding.coder is not Coder.RANGE and encoding.layout is not Layout.BITS:
            planned = plan(matrix, encoding)
            assert planned.stored_bytes == planned.write().stored_bytes, encoding.name


def test_candidates_of_every_alphabet_together_are_every_encoding() -> None:
    random = np.random.default_rng(5)
    found = set()
    for alphabet in ([0, 5, -5], [1, -1], [0, 2, -4]):
        found |= set(candidates(random.choice(alphabet, (4, 9)).astype(np.int8)))
    coded = itertools.product(
        (Layout.DENSE, Layout.SPARSE, Layout.BITMAP), Coder, set(ValueMap) - {ValueMap.BINARY}
    )
    bits = {Encoding(Layout.BITS, Coder.FIXED, kind) for kind in (ValueMap.BINARY, ValueMap.TERNARY)}
    assert found == {Encoding(*parts) for parts in coded} | bits


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        ([[3, 5]], Encoding(Layout.DENSE, Coder.FIXED, ValueMap.TERNARY)),
        ([[-128, 0]], Encoding(Layout.BITS, Coder.FIXED, ValueMap.TERNARY)),
        ([[3, 0]], Encoding(Layout.DENSE, Coder.HUFFMAN, ValueMap.LOG2)),
        ([[1, 0]], Encoding(Layout.BITS, Coder.FIXED, ValueMap.BINARY)),
        ([[1, -1]], Encoding(Layout.DENSE, Coder.FIXED, ValueMap.BINARY)),
        ([[0, 0]], Encoding(Layout.SPARSE, Coder.CLASS, ValueMap.IDENTITY)),
        ([[0, 0]], Encoding(Layout.BITMAP, Coder.FIXED, ValueMap.CODEBOOK)),
    ],
)
def test_encode_values_that_do_not_fit_is_refused(values: list[list[int]], encoding: Encoding) -> None:
    matrix = np.array(values, np.int8)
    assert encoding not in candidates(matrix)
    with pytest.raises(PackError):
        encode(matrix, encoding)


@pytest.mark.parametrize(
    "values", [np.zeros((2, 2), np.int16), np.zeros(4, np.int8), np.zeros((0, 4), np.int8)]
)
def test_choose_something_else_than_an_int8_matrix_is_refused(values: npt.NDArray[np.generic]) -> None:
    with pytest.raises(PackError, match="matrix of int8"):
        choose(values)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- choosing


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_choose_size_is_never_larger_than_any_bit_stream_or_raw(values: Weights) -> None:
    best = choose(values, "size")
    np.testing.assert_array_equal(decode(best), values)
    assert len(best.payload) <= values.size
    for encoding in candidates(values):
        if encoding.coder is not Coder.RANGE:
            assert best.stored_bytes <= encode(values, encoding).stored_bytes, encoding.name


@pytest.mark.parametrize("density", [1.0, 0.5, 0.08])
def test_choose_size_on_large_tensors_misses_no_range_coder_that_wins(density: float) -> None:
    values = gaussian(60, 70, 25, density)
    best = choose(values, "size")
    assert best.stored_bytes == min(encode(values, item).stored_bytes for item in candidates(values))


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_choose_speed_is_neither_larger_nor_slower_than_raw(values: Weights) -> None:
    best = choose(values, "speed")
    np.testing.assert_array_equal(decode(best), values)
    raw = StreamDescriptor(*values.shape, Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY, 8)
    assert best.stored_bytes <= values.size + raw.stored_bytes
    assert cost(best.descriptor, 1) <= cost(raw, 1)


@pytest.mark.parametrize(
    ("values", "uses", "expected"),
    [
        (gaussian(8, 64, 40), 1, "dense-fixed-identity"),
        (gaussian(20, 100, 40, density=0.02), 1, "sparse-class-identity"),
        (gaussian(20, 100, 40, density=0.05), 1, "dense-fixed-identity"),
        (gaussian(20, 100, 40, density=0.05), 100, "sparse-class-identity"),
        (np.where(gaussian(8, 64, 1) > 0, 1, -1).astype(np.int8), 1, "dense-fixed-identity"),
    ],
)
def test_choose_speed_takes_the_expected_encoding(values: Weights, uses: float, expected: str) -> None:
    assert choose(values, "speed", uses=uses).descriptor.encoding.name == expected


def test_choose_size_takes_the_range_coder_only_where_its_weights_are_used_often() -> None:
    values = gaussian(60, 70, 25)
    coders = [choose(values, "size", uses=uses).descriptor.coder for uses in (1, 100, 1000, None)]
    assert Coder.RANGE not in coders[:2]
    assert coders[2:] == [Coder.RANGE, Coder.RANGE]


def test_choose_matching_takes_the_smallest_of_the_encodings_that_match() -> None:
    values = gaussian(60, 70, 25, density=0.1)
    for pattern in (EncodingPattern(None, Coder.CLASS, None), EncodingPattern(Layout.SPARSE, None, None)):
        found = choose_matching(values, pattern)
        np.testing.assert_array_equal(decode(found), values)
        streams = [encode(values, item) for item in candidates(values) if pattern.matches(item)]
        assert found.stored_bytes == min(stream.stored_bytes for stream in streams)
    anything = choose_matching(values, EncodingPattern(None, None, None))
    assert anything.stored_bytes == choose(values, "size").stored_bytes


@pytest.mark.parametrize("objective", ["size", "speed"])
@pytest.mark.parametrize("density", [1.0, 0.05])
def test_choose_with_a_scratch_limit_keeps_it_and_raw_always_fits(
    objective: Literal["size", "speed"], density: float
) -> None:
    values = gaussian(40, 90, 20, density)
    sizes = []
    for limit_bytes in (0, 100, 300, 1000):
        stream = choose(values, objective, limit_bytes)
        np.testing.assert_array_equal(decode(stream), values)
        assert stream_scratch_bytes(stream.descriptor) <= limit_bytes
        sizes.append(stream.stored_bytes)
    assert sizes == sorted(sizes, reverse=True) or objective == "speed"
    assert sizes[-1] == choose(values, objective).stored_bytes


def test_choose_unknown_objective_is_refused() -> None:
    with pytest.raises(UsageError, match="smallest"):
        choose(np.ones((1, 1), np.int8), "smallest")  # type: ignore[arg-type]


def test_choose_repeating_rows_finds_the_context_distance() -> None:
    """A pattern that repeats every 24 weights costs much less when the coder looks 24 weights back."""
    random = np.random.default_rng(2)
    pattern = np.where(random.random(24) < 0.5, 60, -60)
    values = (np.tile(pattern, 40).reshape(8, 120) + random.integers(-30, 31, (8, 120))).astype(np.int8)
    stream = choose(values, "size")
    assert stream.descriptor.coder is Coder.RANGE
    assert stream.descriptor.context_distance % 24 == 0 < stream.descriptor.context_distance
    shuffled = random.permutation(values.ravel()).reshape(values.shape)
    assert len(stream.payload) < 0.95 * len(choose(shuffled, "size").payload)


@pytest.mark.parametrize(
    ("model", "raw_bytes", "chosen_bytes"),
    [
        ("kws_ref_model_int8", 22_016, 21_199),
        ("ic_pretrainedResnet_int8", 77_360, 70_961),
        ("vww_96_int8", 208_112, 37_208),
        ("ad01_int8", 264_192, 163_595),
    ],
)
def test_choose_size_on_published_models_is_as_small_as_measured(
    data_dir: Path, model: str, raw_bytes: int, chosen_bytes: int
) -> None:
    """`python benchmarks/coders.py --models` prints the same sums beside those of the other coders."""
    imported = import_tflite(data_dir / "mlperf_tiny" / "models" / f"{model}.tflite")
    layers = [operator.weights.values for operator in imported.operators if operator.weights is not None]
    streams = [choose(layer, "size") for layer in layers]
    assert sum(layer.size for layer in layers) == raw_bytes
    assert sum(len(stream.payload) for stream in streams) <= chosen_bytes
    for layer, stream in zip(layers, streams, strict=True):
        np.testing.assert_array_equal(decode(stream), layer)


# ------------------------------------------------------------------------------------------------- parts


@given(
    st.lists(
        st.integers(0, 32).flatmap(lambda width: st.tuples(st.integers(0, (1 << width) - 1), st.just(width)))
    )
)
def test_bit_stream_any_fields_read_back(fields: list[tuple[int, int]]) -> None:
    writer = BitWriter()
    for value, width in fields:
        writer.write(value, width)
    data = writer.to_bytes()
    assert len(data) == (sum(width for _, width in fields) + 7) // 8
    reader = BitReader(data)
    assert [reader.read(width) for _, width in fields] == [value for value, _ in fields]
    reader.finish()


def huffman_cost(counts: list[int]) -> int:
    """Total bits of an unlimited Huffman code, by the textbook algorithm."""
    heap = [count for count in counts if count]
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        pair = heapq.heappop(heap) + heapq.heappop(heap)
        total += pair
        heapq.heappush(heap, pair)
    return total


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60).filter(any))
def test_code_lengths_with_room_cost_what_huffman_costs(counts: list[int]) -> None:
    lengths = code_lengths(np.array(counts), 15)
    assert (np.array(counts) > 0).tolist() == (lengths > 0).tolist()
    assert int(np.array(counts) @ lengths) == huffman_cost(counts)


def cheapest_limited(counts: list[int], limit: int) -> int:
    """Least cost over all length assignments that fit Kraft's inequality."""
    options = itertools.product(range(1, limit + 1), repeat=len(counts))
    fitting = (item for item in options if sum(2.0**-length for length in item) <= 1)
    return min(sum(count * length for count, length in zip(counts, item, strict=True)) for item in fitting)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=6))
def test_code_lengths_under_a_tight_limit_are_optimal(counts: list[int]) -> None:
    lengths = code_lengths(np.array(counts), 3)
    assert lengths.max() <= 3
    assert sum(2.0**-length for length in lengths.tolist()) == 1
    assert int(np.array(counts) @ lengths) == cheapest_limited(counts, 3)


def test_canonical_codes_of_the_rfc_1951_example() -> None:
    """RFC 1951, section 3.2.2: lengths (3, 3, 3, 3, 3, 2, 4, 4) for A to H."""
    codes = canonical_codes(np.array([3, 3, 3, 3, 3, 2, 4, 4]))
    expected = ["010", "011", "100", "101", "110", "00", "1110", "1111"]
    assert codes.tolist() == [int(code[::-1], 2) for code in expected]


def test_gap_class_at_powers_of_two_is_exact() -> None:
    gaps = np.array([0, 1, 2, 3, 6, 7, (1 << 24) - 2, (1 << 24) - 1, (1 << 30) - 2, (1 << 30) - 1])
    assert gap_class(gaps).tolist() == [0, 1, 1, 2, 2, 3, 23, 24, 29, 30]


def test_value_token_of_every_index_is_unique_with_its_mantissa() -> None:
    indexes = np.arange(256)
    tokens, raw_bits = value_token(indexes)
    assert tokens[:17].tolist() == list(range(17))
    assert (tokens[255], raw_bits[255]) == (31, 5)
    assert (
        len(
            {
                (token, index & ((1 << bits) - 1))
                for index, token, bits in zip(indexes, tokens, raw_bits, strict=True)
            }
        )
        == 256
    )


def test_insert_fillers_bridges_gaps_as_deep_compression_figure_3() -> None:
    """Figure 3: a span of 2^3 needs a filler; the gaps there count the step, ours the zeros between."""
    values = np.zeros((1, 16), np.int64)
    values[0, [1, 4, 15]] = [34, 9, 17]
    entries = insert_fillers(find_entries(values), 3)
    assert entries.gaps.tolist() == [1, 2, 7, 2]
    assert entries.weights.tolist() == [34, 9, 0, 17]
    assert entries.max_row_entries == 3


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(DIRECT, 3), st.integers(0, 1)), min_size=1, max_size=400),
    st.integers(4, 7),
    st.integers(0, 3),
)
def test_range_coder_any_decisions_read_back(decisions: list[tuple[int, int]], shift: int, skew: int) -> None:
    """``skew`` repeats the decisions, so that probabilities reach their ends and carries run far."""
    repeated = [item for item in decisions for _ in range(1 << (2 * skew))][:2000]
    contexts, bits = np.array(repeated).T
    payload = encode_decisions((contexts, bits), shift)
    decoder = RangeDecoder(payload, 4, shift)
    read = [decoder.direct() if context == DIRECT else decoder.bit(context) for context, _ in repeated]
    assert read == bits.tolist()
    decoder.finish()


def test_range_coder_a_carry_through_a_full_byte_reads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even chances for long enough: a carry meets a byte of 255, which must become 0 and pass it on."""
    full_bytes = []
    carry = range_coder._carry

    def counted_carry(out: bytearray) -> None:
        full_bytes.append(len(out) - len(out.rstrip(b"\xff")))
        carry(out)

    monkeypatch.setattr(range_coder, "_carry", counted_carry)
    bits = np.random.default_rng(45).integers(0, 2, 20000)
    payload = encode_decisions((np.zeros_like(bits), bits), 4)
    assert max(full_bytes) > 0
    decoder = RangeDecoder(payload, 1, 4)
    assert [decoder.bit(0) for _ in range(len(bits))] == bits.tolist()
    decoder.finish()


# ----------------------------------------------------------------------------------------------- scratch


@pytest.mark.parametrize(
    ("descriptor", "expected"),
    [
        (StreamDescriptor(4, 50, Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY, 8), 0),
        (StreamDescriptor(4, 50, Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY, 4), 50),
        (StreamDescriptor(4, 50, Layout.DENSE, Coder.FIXED, ValueMap.CODEBOOK, 8, 0, 256), 50),
        (StreamDescriptor(4, 50, Layout.BITS, Coder.FIXED, ValueMap.TERNARY, 2), 0),
        (StreamDescriptor(4, 50, Layout.SPARSE, Coder.FIXED, ValueMap.IDENTITY, 8, 5, 0, 30, 9), 27),
        (StreamDescriptor(4, 50, Layout.DENSE, Coder.HUFFMAN, ValueMap.IDENTITY, 0, 0, 200), 392 + 50),
        (
            StreamDescriptor(4, 50, Layout.SPARSE, Coder.HUFFMAN, ValueMap.IDENTITY, 0, 5, 8, 30, 9),
            200 + 224 + 27,
        ),
        (StreamDescriptor(4, 50, Layout.SPARSE, Coder.CLASS, ValueMap.IDENTITY, 0, 0, 8, 30, 9), 128 + 27),
        (StreamDescriptor(4, 50, Layout.BITMAP, Coder.CLASS, ValueMap.IDENTITY, 0, 0, 8), 64 + 50),
        (StreamDescriptor(4, 50, Layout.DENSE, Coder.RANGE, ValueMap.IDENTITY, 8, 5), 2 * 265 + 50),
        (StreamDescriptor(4, 50, Layout.BITMAP, Coder.RANGE, ValueMap.IDENTITY, 8, 5), 2 * 269 + 50),
        (
            StreamDescriptor(4, 50, Layout.SPARSE, Coder.RANGE, ValueMap.IDENTITY, 8, 5, 0, 30, 9),
            2 * 320 + 27,
        ),
    ],
)
def test_stream_scratch_bytes_of_each_coder(descriptor: StreamDescriptor, expected: int) -> None:
    check_descriptor(descriptor)
    assert stream_scratch_bytes(descriptor) == expected


# ------------------------------------------------------------------------------------------ broken input


def broken(stream: Stream, change: Callable[[bytes], bytes]) -> Stream:
    return Stream(stream.descriptor, change(stream.payload))


@settings(max_examples=25, deadline=None)
@given(matrices(), st.data())
def test_decode_truncated_bit_stream_is_refused(values: Weights, data: st.DataObject) -> None:
    for encoding in candidates(values):
        stream = encode(values, encoding)
        if encoding.coder is not Coder.RANGE and stream.payload:
            cut = data.draw(st.integers(0, len(stream.payload) - 1))
            with pytest.raises(FormatError) as caught:
                decode(broken(stream, lambda payload, cut=cut: payload[:cut]))
            assert caught.value.code is ErrorCode.BAD_STREAM


@settings(max_examples=40, deadline=None)
@given(matrices(), st.data())
def test_decode_flipped_payload_gives_weights_or_bad_stream(values: Weights, data: st.DataObject) -> None:
    for encoding in candidates(values):
        stream = encode(values, encoding)
        if not stream.payload:
            continue
        place = data.draw(st.integers(0, 8 * len(stream.payload) - 1))
        changed = bytearray(stream.payload)
        changed[place >> 3] ^= 1 << (place & 7)
        try:
            decoded = decode(Stream(stream.descriptor, bytes(changed)))
        except FormatError as error:
            assert error.code is ErrorCode.BAD_STREAM
        else:
            assert decoded.shape == values.shape


def test_decode_longer_payload_is_refused() -> None:
    for values in (gaussian(3, 20, 30, 0.3), np.where(gaussian(3, 20, 9) > 0, 1, -1).astype(np.int8)):
        for encoding in candidates(values):
            stream = encode(values, encoding)
            with pytest.raises(FormatError, match="bad_stream"):
                decode(broken(stream, lambda payload: payload + bytes(5)))


def test_decode_largest_matrix_of_zeros_takes_a_byte_per_weight() -> None:
    """208 bytes of file can ask for it, so it must cost no more than the matrix itself."""
    rows = 1 << 14
    descriptor = StreamDescriptor(
        rows, Limit.WEIGHTS // rows, Layout.SPARSE, Coder.FIXED, ValueMap.IDENTITY, value_bits=8, gap_bits=8
    )
    tracemalloc.start()
    try:
        values = decode(Stream(descriptor, b""))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert values.shape == (rows, Limit.WEIGHTS // rows)
    assert peak_bytes < 1.01 * Limit.WEIGHTS


def test_encode_raw_weights_takes_a_few_bytes_per_weight() -> None:
    """A network of 10^8 weights that keeps them raw must not need 64 bits for each on the way."""
    values = np.full((1 << 10, 1 << 10), -128, np.int8)
    tracemalloc.start()
    try:
        stream = encode(values, Encoding(Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stream.payload == values.tobytes()
    assert peak_bytes < 4 * values.size


@pytest.mark.parametrize("density", [0, 1e-4])
def test_encode_sparse_rows_beyond_16_bit_positions_are_refused(density: float) -> None:
    random = np.random.default_rng(3)
    for cols, fits in ((Limit.SPARSE_ROW_LENGTH, True), (Limit.SPARSE_ROW_LENGTH + 1, False)):
        values = (random.random((2, cols)) < density).astype(np.int8)
        values[:, -1] = 5 if density else 0
        assert any(encoding.layout is Layout.SPARSE for encoding in candidates(values)) is fits
        np.testing.assert_array_equal(decode(choose(values)), values)
        encoding = Encoding(Layout.SPARSE, Coder.FIXED, ValueMap.IDENTITY)
        if fits:
            np.testing.assert_array_equal(decode(encode(values, encoding)), values)
        else:
            with pytest.raises(PackError, match="too long for a sparse-fixed-identity stream"):
                encode(values, encoding)
