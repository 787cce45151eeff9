"""Every shared vector as a case with the one right result: what tests/test_conformance.py and
benchmarks/conformance.py run every executor on.

A vector *covers* names of the format table, for example ``coder:RANGE``; the tables of the tests are
filled with them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import thimble

from model_packager import container
from model_packager.encoders import Stream
from model_packager.errors import FormatError
from model_packager.format_table import HEADER, ErrorCode, struct_format
from model_packager.golden import golden_inputs
from tests.executors import EXECUTORS, Case, Result
from tests.file_vectors import HostileVector, hostile_vectors, valid_vectors
from tests.stream_files import (
    KINDS,
    fits_file,
    stream_file,
    stream_of,
    stream_vectors,
    unit_outputs,
    unit_runs,
)

HEADER_BYTES = struct.calcsize(struct_format(HEADER))
REQUIRED_FEATURES_OFFSET = struct.calcsize(struct_format(HEADER[:5]))  # the features, then the operators


@dataclass(frozen=True)
class Vector:
    """`expected` None: a file that was changed and is valid all the same; the reference's result counts."""

    case: Case
    expected: Result | None
    covers: frozenset[str]


def _valid_files() -> list[Vector]:
    vectors = []
    for valid in valid_vectors():
        inputs = b"".join(array.tobytes() for array in golden_inputs(container.load(valid.data), valid.seed))
        case = Case(f"files/{valid.name}", valid.data, (inputs,))
        vectors.append(Vector(case, Result(b"".join(valid.outputs)), valid.covers))
    return vectors


def _stream_covers(stream: Stream) -> frozenset[str]:
    descriptor = stream.descriptor
    names = {f"coder:{descriptor.coder.name}", f"layout:{descriptor.layout.name}"}
    return frozenset(names | {f"map:{descriptor.value_map.name}", f"encoding:{descriptor.encoding.name}"})


def _valid_streams() -> list[Vector]:
    """The annotated streams, and what the encoders write: every encoder against every decoder."""
    vectors = []
    for entry in stream_vectors("annotated") + stream_vectors("encoded"):
        stream = stream_of(entry)
        values = np.array(entry["values"], np.int8).reshape(entry["rows"], entry["cols"])
        for kind in KINDS:
            name = f"streams/{entry['name']}, {kind.name}"
            case = Case(name, stream_file(stream, kind), unit_runs(entry["cols"], kind))
            vectors.append(Vector(case, Result(unit_outputs(values, kind)), _stream_covers(stream)))
    return vectors


def _hostile_streams() -> list[Vector]:
    vectors = []
    for entry in stream_vectors("hostile"):
        stream = stream_of(entry)
        if not fits_file(stream):
            continue
        covers = _stream_covers(stream) | {f"error:{entry['error'].upper()}"}
        for kind in KINDS:
            case = Case(f"streams/{entry['name']}, {kind.name}", stream_file(stream, kind))
            vectors.append(Vector(case, Result(error=entry["error"]), covers))
    return vectors


def _hostile_files() -> list[Vector]:
    return [_hostile_file(hostile) for hostile in hostile_vectors()]


def _hostile_file(hostile: HostileVector) -> Vector:
    case = Case(f"files/{hostile.name}", hostile.data)
    if hostile.error is None:
        return Vector(case, None, hostile.covers)
    covers = hostile.covers | {f"error:{hostile.error.upper()}"}
    return Vector(case, Result(error=hostile.error), covers)


SETS: dict[str, Callable[[], list[Vector]]] = {
    "valid files": _valid_files,
    "valid streams": _valid_streams,
    "hostile files": _hostile_files,
    "hostile streams": _hostile_streams,
}


@cache
def vectors_of(name: str) -> list[Vector]:
    """The vectors of one of the `SETS`."""
    return SETS[name]()


@cache
def results_of(name: str, executor: str) -> list[Result]:
    """What an executor gives for each vector of a set."""
    return EXECUTORS[executor]([vector.case for vector in vectors_of(name)])


def expected_of(name: str, executor: str) -> list[Result]:
    """The right result for each vector of a set."""
    expected = []
    for index, vector in enumerate(vectors_of(name)):
        lacking = None if executor == "reference" else _lacking(vector.case.data)
        expected.append(lacking or vector.expected or results_of(name, "reference")[index])
    return expected


def _lacking(data: bytes) -> Result | None:
    """The refusal of a file that needs what the firmware lacks, where that check is the first to fail."""
    if len(data) < HEADER_BYTES:
        return None
    features, operators = struct.unpack_from("<II", data, REQUIRED_FEATURES_OFFSET)
    if features & ~thimble.FEATURES or operators & ~thimble.OPERATORS:
        try:
            container.parse(data, thimble.FEATURES, thimble.OPERATORS)
        except FormatError as error:
            if error.code in (ErrorCode.UNSUPPORTED_FEATURE, ErrorCode.UNSUPPORTED_OPERATOR):
                return Result(error=error.code.name.lower())
    return None


def failures(name: str, executor: str) -> list[str]:
    """One sentence for each vector of a set with which an executor does something else than it should."""
    found = []
    for vector, expected, result in zip(
        vectors_of(name), expected_of(name, executor), results_of(name, executor), strict=True
    ):
        if result != expected or (result.error or "").startswith("crash"):
            found.append(f"{vector.case.name}: {_words(result)}, not {_words(expected)}")
    return found


def _words(result: Result) -> str:
    if result.error is not None:
        return result.error
    assert result.outputs is not None
    return f"outputs {result.outputs[:24].hex()}{'...' if len(result.outputs) > 24 else ''}"


def covered(name: str, executor: str) -> set[str]:
    """What the vectors of a set cover that the executor gets right."""
    expected, results = expected_of(name, executor), results_of(name, executor)
    vectors = enumerate(vectors_of(name))
    return {item for index, vector in vectors if results[index] == expected[index] for item in vector.covers}
