"""Write tests/vectors/streams/*.json: weight streams with what every decoder must make of them.

Usage: python tests/vectors/make_streams.py. Deterministic: a second run writes the same bytes, and
tests/test_encoders_vectors.py compares. Vectors are append-only: a decoder of any version must go on reading
them, so add new ones at the end of a list and never change one.

- ``annotated.json``: small streams written here bit by bit from docs/FORMAT.md, without the encoders. Each
field
  is given as its bits in stream order and its meaning; the payload is made of them, so they cannot disagree.
  The range coder's are traced decision by decision instead.
- ``encoded.json``: every encoding of the format, by the encoders, on matrices that reach their corners.
- ``hostile.json``: streams that must be refused, with the error's name.

A vector has the descriptor's fields (enumerations by name), ``payload`` in hexadecimal, and ``values``, row
by row, or ``error``.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent / "streams"

sys.path.insert(0, str(FOLDER.parents[2]))

from model_packager.encoders import (  # noqa: E402
    Encoding,
    Stream,
    StreamDescriptor,
    candidates,
    encode,
    range_coder,
)
from model_packager.encoders.bit_stream import BitWriter  # noqa: E402
from model_packager.encoders.stream import Matrix, plan_range  # noqa: E402
from model_packager.format_table import Coder, Layout, ValueMap  # noqa: E402

Vector = dict[str, Any]
Bits = list[tuple[str, str]]  # (bits in stream order, meaning)


def vector(name: str, stream: Stream, **outcome: Any) -> Vector:
    """One vector; ``outcome`` is ``values`` or ``error``, and perhaps ``explanation``."""
    fields = dataclasses.asdict(stream.descriptor)
    named = {
        key: field.name if key in ("layout", "coder", "value_map") else int(field)
        for key, field in fields.items()
    }
    return {"name": name, **named, "payload": stream.payload.hex(), **outcome}


def stream(
    shape: tuple[int, int], encoding: tuple[Layout, Coder, ValueMap], payload: bytes, **fields: int
) -> Stream:
    return Stream(StreamDescriptor(*shape, *encoding, **fields), payload)


def pack(bits: Bits) -> bytes:
    writer = BitWriter()
    for digit in "".join(text for text, _ in bits).replace(" ", ""):
        writer.write(int(digit), 1)
    return writer.to_bytes()


def annotated(
    name: str,
    shape: tuple[int, int],
    encoding: tuple[Layout, Coder, ValueMap],
    head: list[tuple[str, str]],
    bits: Bits,
    values: list[int],
    **fields: int,
) -> Vector:
    """A vector made of ``head`` (bytes in hexadecimal and their meaning) and ``bits``."""
    payload = bytes.fromhex("".join(text for text, _ in head)) + pack(bits)
    explanation = [f"0x{text}: {meaning}" for text, meaning in head]
    explanation += [f"0b{text} (first bit first): {meaning}" for text, meaning in bits]
    return vector(name, stream(shape, encoding, payload, **fields), values=values, explanation=explanation)


# -------------------------------------------------------------------------------------------- annotated


def annotated_fixed() -> Iterable[Vector]:
    yield annotated(
        "fixed dense, 3-bit two's complement",
        (2, 2),
        (Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY),
        [],
        [("110", "3"), ("101", "-3"), ("000", "0"), ("001", "-4"), ("0000", "padding")],
        [3, -3, 0, -4],
        value_bits=3,
    )
    yield annotated(
        "fixed sparse with a filler",
        (2, 5),
        (Layout.SPARSE, Coder.FIXED, ValueMap.CODEBOOK),
        [("f6", "codebook entry 0 is -10"), ("00", "entry 1 is 0"), ("07", "entry 2 is 7")],
        [
            ("10", "gap 1: position 1"),
            ("00", "entry 0: weight -10"),
            ("11", "gap 3: position 5"),
            ("10", "entry 1: weight 0, a filler, which is the zero at position 5 of row 1"),
            ("10", "gap 1: position 7"),
            ("01", "entry 2: weight 7"),
            ("0000", "padding"),
        ],
        [0, -10, 0, 0, 0, 0, 0, 7, 0, 0],
        value_bits=2,
        gap_bits=2,
        value_count=3,
        entry_count=3,
        max_row_entries=1,
    )
    yield annotated(
        "fixed bitmap, log2",
        (1, 4),
        (Layout.BITMAP, Coder.FIXED, ValueMap.LOG2),
        [],
        [
            ("0", "0"),
            ("1", "not 0"),
            ("1010", "index 5: +2^2"),
            ("1", "not 0"),
            ("1111", "index 15: -128"),
            ("0", "0"),
            ("0000", "padding"),
        ],
        [0, 4, -128, 0],
        value_bits=4,
    )


def annotated_huffman() -> Iterable[Vector]:
    yield annotated(
        "huffman dense, zigzag",
        (1, 6),
        (Layout.DENSE, Coder.HUFFMAN, ValueMap.IDENTITY),
        [
            ("21", "code lengths: 1 for index 0 (weight 0), 2 for index 1 (-1)"),
            ("02", "2 for index 2 (1), padding"),
        ],
        [
            ("0", "code 0: weight 0"),
            ("10", "code 10: -1"),
            ("11", "code 11: 1"),
            ("0", "0"),
            ("0", "0"),
            ("10", "-1"),
            ("0000000", "padding"),
        ],
        [0, -1, 1, 0, 0, -1],
        value_count=3,
    )
    yield annotated(
        "huffman sparse, single value",
        (2, 4),
        (Layout.SPARSE, Coder.HUFFMAN, ValueMap.CODEBOOK),
        [
            ("05", "codebook entry 0 is 5"),
            ("21", "gap code lengths: 1 for gap 0, 2 for gap 1"),
            ("20", "0 (unused) for gap 2, 2 for gap 3"),
            ("01", "value code length: 1 for entry 0, the only symbol; padding"),
        ],
        [
            ("10", "code 10: gap 1, position 1"),
            ("0", "entry 0: 5"),
            ("11", "code 11: gap 3, position 5"),
            ("0", "5"),
            ("0", "code 0: gap 0, position 6"),
            ("0", "5"),
        ],
        [0, 5, 0, 0, 0, 5, 5, 0],
        gap_bits=2,
        value_count=1,
        entry_count=3,
        max_row_entries=2,
    )
    yield annotated(
        "huffman bitmap, ternary",
        (1, 5),
        (Layout.BITMAP, Coder.HUFFMAN, ValueMap.TERNARY),
        [
            ("09", "positive magnitude 9"),
            ("02", "negative magnitude 2"),
            ("10", "lengths: 0, 1"),
            ("01", "1, padding"),
        ],
        [
            ("1", "not 0"),
            ("0", "code 0: index 1, +9"),
            ("0", "0"),
            ("0", "0"),
            ("1", "not 0"),
            ("1", "code 1: index 2, -2"),
            ("0", "0"),
            ("0", "padding"),
        ],
        [9, 0, 0, -2, 0],
        value_count=3,
    )


def annotated_class() -> Iterable[Vector]:
    yield annotated(
        "class dense, value tokens with mantissas",
        (1, 4),
        (Layout.DENSE, Coder.CLASS, ValueMap.IDENTITY),
        [
            ("20", "32 value tokens"),
            (
                "000001000000000000000000000000" + "22",
                "code lengths: token 4: 1, token 30: 2, token 31: 2, others 0",
            ),
        ],
        [
            ("0", "code 0: token 4 = index 4, weight 2"),
            ("11", "code 11: token 31, index 111xxxxx"),
            ("11111", "xxxxx = 31: index 255, weight -128"),
            ("10", "code 10: token 30, index 110xxxxx"),
            ("01000", "xxxxx = 2: index 194, weight 97"),
            ("0", "token 4: weight 2"),
        ],
        [2, -128, 97, 2],
        value_count=256,
    )
    yield annotated(
        "class sparse",
        (2, 6),
        (Layout.SPARSE, Coder.CLASS, ValueMap.IDENTITY),
        [
            ("03", "3 gap tokens"),
            ("21", "code lengths: class 0: 1, class 1: 2"),
            ("02", "class 2: 2, padding"),
            ("03", "3 value tokens"),
            ("10", "code lengths: token 0: 0, token 1: 1"),
            ("01", "token 2: 1, padding"),
        ],
        [
            ("0", "code 0: class 0, gap + 1 = 1, position 0"),
            ("0", "code 0: token 1 = index 1, weight -1"),
            ("11", "code 11: class 2, gap + 1 = 4 + xx"),
            ("01", "xx = 2: gap + 1 = 6, position 6"),
            ("1", "code 1: token 2 = index 2, weight 1"),
            ("10", "code 10: class 1, gap + 1 = 2 + x"),
            ("1", "x = 1: gap + 1 = 3, position 9"),
            ("1", "weight 1"),
            ("00000", "padding"),
        ],
        [-1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0],
        value_count=3,
        entry_count=3,
        max_row_entries=2,
    )
    yield annotated(
        "class bitmap, codebook",
        (1, 3),
        (Layout.BITMAP, Coder.CLASS, ValueMap.CODEBOOK),
        [("8064", "entries -128 and 100"), ("02", "2 value tokens"), ("11", "code lengths 1 and 1")],
        [
            ("1", "not 0"),
            ("1", "entry 1: 100"),
            ("0", "0"),
            ("1", "not 0"),
            ("0", "entry 0: -128"),
            ("000", "padding"),
        ],
        [100, 0, -128],
        value_count=2,
    )


def annotated_bits() -> Iterable[Vector]:
    yield annotated(
        "bits, binary",
        (2, 3),
        (Layout.BITS, Coder.FIXED, ValueMap.BINARY),
        [],
        [
            ("101" + "0" * 29, "row 0: +1 -1 +1, 29 unused bits"),
            ("001" + "0" * 29, "row 1: -1 -1 +1, 29 unused bits"),
        ],
        [1, -1, 1, -1, -1, 1],
        value_bits=1,
    )
    yield annotated(
        "bits, ternary",
        (1, 4),
        (Layout.BITS, Coder.FIXED, ValueMap.TERNARY),
        [("03", "positive magnitude 3"), ("7f", "negative magnitude 127"), ("0000", "padding to a word")],
        [
            ("1011" + "0" * 28, "non-zero plane: columns 0, 2 and 3"),
            ("0010" + "0" * 28, "sign plane: column 2 is negative"),
        ],
        [3, 0, -127, 3],
        value_bits=2,
    )


class TracedDecoder(range_coder.RangeDecoder):
    """Notes every decision of the range decoder."""

    def __init__(self, *arguments: Any) -> None:
        self.trace: list[str] = []
        super().__init__(*arguments)

    def bit(self, context: int) -> int:
        probability, code, span = self._probabilities[context], self._code, self._range
        bit = super().bit(context)
        bound = (span >> 12) * probability
        self.trace.append(
            f"context {context}, p = {probability}: range {span}, bound {bound}, code {code}: bit {bit}"
        )
        return bit

    def direct(self) -> int:
        code, span = self._code, self._range
        bit = super().direct()
        self.trace.append(f"direct: range {span}, bound {span >> 1}, code {code}: bit {bit}")
        return bit


def traced(name: str, layout: Layout, rows: list[list[int]]) -> Vector:
    """A RANGE vector with the decoder's steps; contexts are numbered as in docs/FORMAT.md."""
    from unittest.mock import patch

    from model_packager.encoders import decode

    matrix = np.array(rows, np.int8)
    result = encode(matrix, Encoding(layout, Coder.RANGE, ValueMap.IDENTITY))
    decoders: list[TracedDecoder] = []

    def open_decoder(*arguments: Any) -> TracedDecoder:
        decoders.append(TracedDecoder(*arguments))
        return decoders[-1]

    with patch.object(range_coder, "RangeDecoder", open_decoder):
        decode(result)
    return vector(name, result, values=matrix.ravel().tolist(), explanation=decoders[0].trace)


def annotated_range() -> Iterable[Vector]:
    yield traced("range dense", Layout.DENSE, [[1, -2], [0, 3]])
    yield traced("range sparse", Layout.SPARSE, [[0, 1, 0, 0], [0, 0, -2, 0]])
    yield traced("range bitmap", Layout.BITMAP, [[0, 2], [-1, 0]])


# ---------------------------------------------------------------------------------------------- encoded


def matrices() -> dict[str, np.ndarray]:
    """Small matrices by name; together they can be held by every encoding."""
    random = np.random.default_rng(7)

    def thinned(values: np.ndarray, density: float) -> np.ndarray:
        return np.where(random.random(values.shape) < density, values, 0)

    powers = np.array([1, -1, 2, -2, 4, -8, 16, -32, 64, -64, -128])
    found = {
        "gaussian": np.clip(np.round(random.normal(0, 40, (4, 9))), -128, 127),
        "thin": thinned(random.integers(-128, 128, (5, 23)), 0.12),
        "ternary": thinned(random.choice([11, -3], (3, 33)), 0.4),
        "binary": random.choice([1, -1], (2, 65)),
        "log2": thinned(random.choice(powers, (4, 10)), 0.6),
    }
    return {name: values.astype(np.int8) for name, values in found.items()}


def special_matrices() -> dict[str, tuple[np.ndarray, list[Encoding]]]:
    """Corners: (matrix, encodings) by name."""

    def encodings(*texts: str) -> list[Encoding]:
        parts = [text.upper().split("-") for text in texts]
        return [
            Encoding(Layout[layout], Coder[coder], ValueMap[value_map]) for layout, coder, value_map in parts
        ]

    every = np.arange(-128, 128)
    far = np.zeros((3, 700), np.int64)
    far[0, 0], far[1, 600], far[2, 699] = 1, -1, 1
    fibonacci = [1, 1]
    while len(fibonacci) < 12:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    deep = np.repeat(np.arange(len(fibonacci)), fibonacci)
    wave = np.tile(np.repeat([30, -30], 8), 8) + np.random.default_rng(3).integers(-9, 10, 128)
    found = {
        "zeros": (
            np.zeros((3, 5)),
            encodings("dense-fixed-identity", "sparse-fixed-identity", "dense-huffman-identity"),
        ),
        "one weight": (np.full((1, 1), -128), encodings("dense-fixed-identity", "sparse-class-identity")),
        "all weights": (
            every.reshape(16, 16),
            encodings(
                "dense-fixed-identity",
                "dense-fixed-codebook",
                "dense-class-codebook",
                "dense-huffman-identity",
            ),
        ),
        "far apart": (
            far,
            encodings(
                "sparse-fixed-identity",
                "sparse-huffman-identity",
                "sparse-class-identity",
                "sparse-range-identity",
            ),
        ),
        "deep code": (deep.reshape(8, -1), encodings("dense-huffman-identity", "dense-class-identity")),
        "wave": (wave.reshape(4, 32), encodings("dense-range-identity", "bitmap-range-identity")),
        "constant": (np.full((2, 9), 5), encodings("dense-huffman-codebook", "dense-range-codebook")),
    }
    return {name: (values.astype(np.int8), wanted) for name, (values, wanted) in found.items()}


def encoded() -> Iterable[Vector]:
    for name, values in matrices().items():
        for encoding in candidates(values):
            large_map = name in ("ternary", "binary", "log2") and encoding.value_map in (
                ValueMap.IDENTITY,
                ValueMap.CODEBOOK,
            )
            if not large_map:
                yield vector(
                    f"{encoding.name} {name}", encode(values, encoding), values=values.ravel().tolist()
                )
    for name, (values, wanted) in special_matrices().items():
        for encoding in wanted:
            yield vector(f"{encoding.name} {name}", encode(values, encoding), values=values.ravel().tolist())
    yield from range_parameters()


def range_parameters() -> Iterable[Vector]:
    """Every adaptation shift, with context distances from none to a whole row."""
    values = matrices()["gaussian"]
    matrix = Matrix(values)
    for shift, distance in ((4, 0), (5, 2), (6, 5), (7, values.shape[1])):
        matrix.context_distance = distance
        encoding = Encoding(Layout.DENSE, Coder.RANGE, ValueMap.IDENTITY)
        result = plan_range(matrix, encoding).write_with(shift)
        yield vector(f"range shift {shift}, distance {distance}", result, values=values.ravel().tolist())


# ---------------------------------------------------------------------------------------------- hostile

FIXED_DENSE = (Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY)
FIXED_SPARSE = (Layout.SPARSE, Coder.FIXED, ValueMap.IDENTITY)
FIXED_CODEBOOK = (Layout.DENSE, Coder.FIXED, ValueMap.CODEBOOK)
HUFFMAN_DENSE = (Layout.DENSE, Coder.HUFFMAN, ValueMap.IDENTITY)
HUFFMAN_SPARSE = (Layout.SPARSE, Coder.HUFFMAN, ValueMap.IDENTITY)
CLASS_DENSE = (Layout.DENSE, Coder.CLASS, ValueMap.IDENTITY)
CLASS_SPARSE = (Layout.SPARSE, Coder.CLASS, ValueMap.IDENTITY)
RANGE_DENSE = (Layout.DENSE, Coder.RANGE, ValueMap.IDENTITY)
RANGE_SPARSE = (Layout.SPARSE, Coder.RANGE, ValueMap.IDENTITY)
RANGE_CODEBOOK = (Layout.DENSE, Coder.RANGE, ValueMap.CODEBOOK)
BINARY = (Layout.BITS, Coder.FIXED, ValueMap.BINARY)
TERNARY = (Layout.BITS, Coder.FIXED, ValueMap.TERNARY)


def refused(name: str, item: Stream, error: str = "bad_stream") -> Vector:
    return vector(name, item, error=error)


def hostile_fixed() -> Iterable[Vector]:
    def dense(payload: str, **fields: int) -> Stream:
        return stream((2, 3), FIXED_DENSE, bytes.fromhex(payload), **{"value_bits": 4, **fields})

    def sparse(payload: str, entries: int, most: int = 2) -> Stream:
        counts = {"entry_count": entries, "max_row_entries": most}
        return stream((2, 4), FIXED_SPARSE, bytes.fromhex(payload), value_bits=2, gap_bits=2, **counts)

    codebook = stream((1, 4), FIXED_CODEBOOK, bytes.fromhex("0507091b"), value_bits=2, value_count=3)
    yield refused("fixed: payload one byte short", dense("2143"))
    yield refused("fixed: payload empty", dense(""))
    yield refused("fixed: one byte left", dense("21436500"))
    yield refused("fixed: padding bit set", stream((1, 3), FIXED_DENSE, b"\x21\x13", value_bits=4))
    yield refused("fixed: codebook index beyond the codebook", codebook)
    yield refused(
        "fixed: payload ends inside the codebook",
        stream((1, 1), FIXED_CODEBOOK, b"\5", value_bits=1, value_count=2),
    )
    for name, payload in (("0", "0005"), ("above 127", "8005")):
        ternary = (Layout.DENSE, Coder.FIXED, ValueMap.TERNARY)
        yield refused(
            f"fixed: ternary magnitude {name}",
            stream((1, 4), ternary, bytes.fromhex(payload + "00"), value_bits=2),
        )
    ternary = (Layout.DENSE, Coder.FIXED, ValueMap.TERNARY)
    yield refused("fixed: ternary index 3", stream((1, 4), ternary, b"\1\1\x30", value_bits=2))
    yield refused("fixed: payload ends inside the magnitudes", stream((1, 4), ternary, b"\1", value_bits=2))
    yield refused("fixed sparse: entry_count too small", sparse("5555", 3))
    yield refused("fixed sparse: entry_count too large", sparse("55", 3))
    yield refused("fixed sparse: an entry behind the last weight", sparse("7707", 3))
    yield refused("fixed sparse: more entries in a row than max_row_entries", sparse("44", 2, 1))


def hostile_huffman() -> Iterable[Vector]:
    def dense(payload: str, count: int = 4) -> Stream:
        return stream((1, 4), HUFFMAN_DENSE, bytes.fromhex(payload), value_count=count)

    def sparse(payload: str, entries: int = 2, most: int = 2) -> Stream:
        counts = {"value_count": 3, "entry_count": entries, "max_row_entries": most}
        return stream((2, 4), HUFFMAN_SPARSE, bytes.fromhex(payload), gap_bits=1, **counts)

    yield refused("huffman: over-subscribed code", dense("111100"))
    yield refused("huffman: incomplete code", dense("210000"))
    yield refused("huffman: no code", dense("000000"))
    yield refused("huffman: single symbol of length 2", dense("020000"))
    yield refused("huffman: the unused bit of a single symbol", dense("010002"))
    yield refused("huffman: payload ends inside the code lengths", dense("22"))
    yield refused("huffman: padding nibble set", dense("211200", 3))
    yield refused("huffman: payload ends inside a code", dense("2222", 4))
    yield refused("huffman: one byte left", dense("22220000"))
    yield refused("huffman: padding bit set", dense("1110", 2))
    yield refused(
        "huffman sparse: over-subscribed gap code",
        stream(
            (2, 4),
            HUFFMAN_SPARSE,
            bytes.fromhex("1111110100"),
            gap_bits=2,
            value_count=3,
            entry_count=1,
            max_row_entries=1,
        ),
    )
    yield refused("huffman sparse: an entry behind the last weight", sparse("111001" + "ff03", 5, 4))
    yield refused("huffman sparse: more entries in a row than max_row_entries", sparse("111001" + "00", 2, 1))
    yield refused("huffman sparse: entry_count too large", sparse("111001" + "00", 5, 4))


def hostile_class() -> Iterable[Vector]:
    def dense(payload: str, count: int = 2) -> Stream:
        return stream((1, 4), CLASS_DENSE, bytes.fromhex(payload), value_count=count)

    def sparse(payload: str, entries: int, most: int) -> Stream:
        counts = {"value_count": 3, "entry_count": entries, "max_row_entries": most}
        return stream((2, 4), CLASS_SPARSE, bytes.fromhex(payload), **counts)

    yield refused("class: no tokens", dense("0000"))
    yield refused("class: 33 value tokens", dense("21" + "11" + "00" * 16 + "00"))
    yield refused("class: a code length of 7", dense("0871656443" + "00", 8))
    yield refused("class: over-subscribed code", dense("03110100", 3))
    yield refused("class: incomplete code", dense("032100" + "00", 3))
    yield refused("class: value index not below value_count", dense("021104", 1))
    yield refused("class: payload empty", dense(""))
    yield refused("class: payload ends inside the code lengths", dense("0411"))
    # Token 31 alone: five raw bits follow each one-bit code, 24 bits in all.
    yield refused("class: payload ends inside a mantissa", dense("20" + "00" * 15 + "10" + "0000", 256))
    yield refused("class sparse: 26 gap tokens", sparse("1a" + "11" + "00" * 12 + "031001" + "00", 1, 1))
    yield refused(
        "class sparse: an entry behind the last weight", sparse("0400" + "10" + "031001" + "0e", 1, 1)
    )
    yield refused(
        "class sparse: more entries in a row than max_row_entries", sparse("0101" + "031001" + "00", 2, 1)
    )
    yield refused("class sparse: entry_count too small", sparse("0101" + "031001" + "0000", 2, 2))


def hostile_range() -> Iterable[Vector]:
    values = matrices()["gaussian"]
    good = encode(values, Encoding(*RANGE_DENSE))
    sparse = encode(matrices()["thin"], Encoding(*RANGE_SPARSE))

    def changed(item: Stream, payload: bytes | None = None, **fields: int) -> Stream:
        descriptor = dataclasses.replace(item.descriptor, **fields)
        return Stream(descriptor, item.payload if payload is None else payload)

    rest = good.payload[4:]
    yield refused(
        "range: the first bit is 1", changed(good, bytes([good.payload[0] | 128]) + good.payload[1:])
    )
    yield refused("range: the first bytes lie outside the range", changed(good, b"\x7f\xff\xff\xff" + rest))
    yield refused("range: payload empty", changed(good, b""))
    yield refused("range: payload five bytes short", changed(good, good.payload[:-5]))
    yield refused("range: one byte left", changed(good, good.payload + bytes(5)))
    yield refused("range: adaptation shift 3", changed(good, gap_bits=3))
    yield refused("range: no adaptation shift", changed(good, gap_bits=0))
    yield refused(
        "range: context distance beyond a row", changed(good, gap_bits=5 | (values.shape[1] + 1) << 3)
    )
    yield refused("range sparse: a context distance", changed(sparse, gap_bits=5 | 1 << 3))
    few = {"value_count": 2, "value_bits": 2, "gap_bits": 5}
    weights, indexes = np.array([5, 7, 0]), np.array([0, 1, 2])
    decisions = range_coder.dense_decisions(weights, indexes, 2, 0)
    payload = b"\5\7" + range_coder.encode_decisions(decisions, 5)
    yield refused("range: index beyond the codebook", stream((1, 3), RANGE_CODEBOOK, payload, **few))
    entries = sparse.descriptor.entry_count
    yield refused("range sparse: entry_count too small", changed(sparse, entry_count=entries // 2))
    yield refused(
        "range sparse: more entries in a row than max_row_entries",
        changed(sparse, max_row_entries=sparse.descriptor.max_row_entries - 1),
    )
    one = {"value_bits": 2, "gap_bits": 5, "entry_count": 1, "max_row_entries": 1}
    behind = range_coder.encode_decisions(range_coder.sparse_decisions(np.array([9]), np.array([1]), 2), 5)
    yield refused(
        "range sparse: an entry behind the last weight", stream((3, 3), RANGE_SPARSE, behind, **one)
    )
    decisions = range_coder.sparse_decisions(np.array([(1 << 25) - 1]), np.array([1]), 2)
    far = range_coder.encode_decisions(decisions, 5)
    yield refused("range sparse: gap class 25", stream((1 << 11, 1 << 16), RANGE_SPARSE, far, **one))


def hostile_bits() -> Iterable[Vector]:
    yield refused("bits: one byte short", stream((1, 3), BINARY, b"\5\0\0", value_bits=1))
    yield refused("bits: one byte left", stream((1, 3), BINARY, b"\5\0\0\0\0", value_bits=1))
    yield refused("bits: unused bit set", stream((1, 3), BINARY, b"\x0d\0\0\0", value_bits=1))
    planes = bytes.fromhex("0500000004000000")
    yield refused(
        "bits: sign of a zero weight",
        stream((1, 3), TERNARY, b"\1\1\0\0" + bytes.fromhex("0500000002000000"), value_bits=2),
    )
    yield refused(
        "bits: padding behind the magnitudes", stream((1, 3), TERNARY, b"\1\1\0\1" + planes, value_bits=2)
    )
    yield refused("bits: magnitude 0", stream((1, 3), TERNARY, b"\0\1\0\0" + planes, value_bits=2))
    yield refused("bits: only one plane", stream((1, 3), TERNARY, b"\1\1\0\0" + planes[:4], value_bits=2))


def hostile_descriptors() -> Iterable[Vector]:
    """Fields that contradict each other; the payloads do not matter."""
    eight = {"value_bits": 8}
    yield refused("descriptor: no rows", stream((0, 3), FIXED_DENSE, b"", **eight))
    yield refused("descriptor: no columns", stream((3, 0), FIXED_DENSE, b"", **eight))
    yield refused("descriptor: value_bits 9", stream((1, 1), FIXED_DENSE, b"\0\0", value_bits=9))
    yield refused("descriptor: value_bits 1 with identity", stream((1, 1), FIXED_DENSE, b"\0", value_bits=1))
    yield refused(
        "descriptor: gap_bits in a dense stream", stream((1, 1), FIXED_DENSE, b"\0", gap_bits=2, **eight)
    )
    yield refused(
        "descriptor: value_count without a use", stream((1, 1), FIXED_DENSE, b"\0", value_count=2, **eight)
    )
    yield refused(
        "descriptor: entry_count in a dense stream",
        stream((1, 1), FIXED_DENSE, b"\0", entry_count=1, **eight),
    )
    yield refused("descriptor: empty codebook", stream((1, 1), FIXED_CODEBOOK, b"\0", value_bits=1))
    yield refused(
        "descriptor: codebook of 257", stream((1, 1), FIXED_CODEBOOK, bytes(258), value_count=257, **eight)
    )
    yield refused(
        "descriptor: huffman with value_bits",
        stream((1, 1), HUFFMAN_DENSE, b"\1\0", value_count=1, value_bits=1),
    )
    log2 = (Layout.DENSE, Coder.HUFFMAN, ValueMap.LOG2)
    yield refused("descriptor: 17 log2 values", stream((1, 1), log2, b"\1" + bytes(9), value_count=17))
    sparse = {"value_bits": 2, "gap_bits": 2}
    yield refused(
        "descriptor: gap_bits 9",
        stream((1, 4), FIXED_SPARSE, bytes(2), value_bits=2, gap_bits=9, entry_count=1),
    )
    yield refused(
        "descriptor: gap_bits 0 in a sparse stream",
        stream((1, 4), FIXED_SPARSE, b"\0", value_bits=2, entry_count=1),
    )
    yield refused(
        "descriptor: more entries than weights",
        stream((1, 2), FIXED_SPARSE, bytes(2), entry_count=3, **sparse),
    )
    yield refused(
        "descriptor: max_row_entries above the columns",
        stream((4, 2), FIXED_SPARSE, bytes(2), entry_count=4, max_row_entries=3, **sparse),
    )
    yield refused(
        "descriptor: max_row_entries above entry_count",
        stream((4, 4), FIXED_SPARSE, bytes(1), entry_count=1, max_row_entries=2, **sparse),
    )
    yield refused(
        "descriptor: class sparse without entries", stream((1, 2), CLASS_SPARSE, b"\1\1\1\1", value_count=1)
    )
    bitmap = (Layout.BITMAP, Coder.FIXED, ValueMap.IDENTITY)
    yield refused(
        "descriptor: entry_count in a bitmap", stream((1, 1), bitmap, b"\0", entry_count=1, **eight)
    )
    yield refused(
        "descriptor: binary outside bits",
        stream((1, 1), (Layout.DENSE, Coder.FIXED, ValueMap.BINARY), b"\1", value_bits=1),
    )
    yield refused(
        "descriptor: bits with another coder",
        stream((1, 1), (Layout.BITS, Coder.RANGE, ValueMap.BINARY), bytes(4), value_bits=1, gap_bits=5),
    )
    yield refused(
        "descriptor: bits with a codebook",
        stream((1, 1), (Layout.BITS, Coder.FIXED, ValueMap.CODEBOOK), bytes(5), value_bits=1, value_count=1),
    )
    yield refused(
        "descriptor: row too long", stream((1, (1 << 24) + 1), FIXED_SPARSE, b"", **sparse), "limit_exceeded"
    )
    yield refused(
        "descriptor: matrix too large",
        stream((1 << 20, 1 << 20), FIXED_SPARSE, b"", **sparse),
        "limit_exceeded",
    )
    yield refused(
        "descriptor: sparse row too long",
        stream((1, (1 << 16) + 1), FIXED_SPARSE, b"", **sparse),
        "limit_exceeded",
    )
    yield refused(
        "descriptor: matrix one row too large",
        stream(((1 << 13) + 1, 1 << 14), FIXED_SPARSE, b"", **sparse),
        "limit_exceeded",
    )


def files() -> dict[str, str]:
    """The JSON text of every file by name: one vector a line."""
    groups = {
        "annotated": [annotated_fixed, annotated_huffman, annotated_class, annotated_bits, annotated_range],
        "encoded": [encoded],
        "hostile": [
            hostile_fixed,
            hostile_huffman,
            hostile_class,
            hostile_range,
            hostile_bits,
            hostile_descriptors,
        ],
    }
    texts = {}
    for name, makers in groups.items():
        lines = [json.dumps(item) for maker in makers for item in maker()]
        texts[f"{name}.json"] = "[\n" + ",\n".join(lines) + "\n]\n"
    return texts


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
