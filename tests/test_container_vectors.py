"""The shared vectors of the file format, run against the packager's own loader and the reference executor."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from model_packager import container, reference
from model_packager.encoders.descriptor import Encoding
from model_packager.errors import FormatError
from model_packager.format_table import (
    Coder,
    ErrorCode,
    Layout,
    OperatorKind,
    RequantForm,
    ScheduleKind,
    ValueMap,
)
from model_packager.golden import golden_inputs, output_crc32
from tests.file_vectors import FOLDER, ValidVector, hostile_entries, hostile_vectors, valid_vectors
from tests.hostile_files import hostile_files
from tests.tiny_models import TINY_FILES, encodings

# Errors that no file alone can cause: buffers, keys, memory, and the wire.
NOT_OF_A_FILE = {
    ErrorCode.MISALIGNED,
    ErrorCode.BAD_INPUT,
    ErrorCode.OUT_OF_MEMORY,
    ErrorCode.BAD_SIGNATURE,
    ErrorCode.UNSIGNED,
    ErrorCode.GOLDEN_MISMATCH,
}
FIRST_WIRE_ERROR = -40


@pytest.mark.parametrize("vector", valid_vectors(), ids=lambda vector: vector.name)
def test_reference_on_valid_vector_gives_the_golden_outputs(vector: ValidVector) -> None:
    model = container.load(vector.data)
    inputs = [
        array if array.shape[:1] == (1,) else array[None] for array in golden_inputs(model, vector.seed)
    ]
    outputs = reference.run(model, inputs)
    assert [output.tobytes() for output in outputs] == list(vector.outputs)
    assert model.golden == (vector.seed, output_crc32(outputs))


def test_hostile_vectors_give_their_errors() -> None:
    wrong = []
    for vector in hostile_vectors():
        try:
            container.load(vector.data)
            found = None
        except FormatError as error:
            found = error.code.name.lower()
        if found != vector.error:
            wrong.append((vector.name, found, vector.error))
    assert wrong == []


def test_valid_vectors_cover_the_format_table() -> None:
    covered = {item for vector in valid_vectors() for item in vector.covers}
    groups = {"operator": OperatorKind, "coder": Coder, "layout": Layout, "map": ValueMap}
    groups |= {"schedule": ScheduleKind, "requant": RequantForm}
    missing = {f"{group}:{item.name}" for group, kind in groups.items() for item in kind} - covered
    assert missing == set()
    assert {f"encoding:{encoding.name}" for encoding in encodings()} <= covered


def test_hostile_vectors_cover_every_operator_coder_and_error_of_a_file() -> None:
    entries = hostile_entries()
    covered = {item for entry in entries for item in entry.get("covers", ())}
    groups = {"operator": OperatorKind, "coder": Coder, "layout": Layout, "map": ValueMap}
    missing = {f"{group}:{item.name}" for group, kind in groups.items() for item in kind} - covered
    assert missing == set()
    errors = {entry.get("error") for entry in entries}
    of_a_file = {code for code in ErrorCode if code > FIRST_WIRE_ERROR} - NOT_OF_A_FILE
    assert {code.name.lower() for code in of_a_file} - errors == set()


def test_hostile_encodings_each_have_several_vectors() -> None:
    counts = Counter(
        item
        for entry in hostile_entries()
        for item in entry.get("covers", ())
        if item.startswith("encoding:")
    )
    for encoding in encodings():
        assert isinstance(encoding, Encoding)
        assert counts[f"encoding:{encoding.name}"] >= 4, encoding.name


def test_vector_lists_name_every_model_and_case_of_their_sources() -> None:
    assert [vector.name for vector in valid_vectors()][: len(TINY_FILES)] == list(TINY_FILES)
    assert {path.stem for path in FOLDER.glob("*.thimble")} == {vector.name for vector in valid_vectors()}
    names = [entry["name"] for entry in hostile_entries()]
    assert len(set(names)) == len(names)
    assert {case.name for case in hostile_files()} <= set(names)


def test_valid_vectors_are_all_different_files() -> None:
    digests = {hashlib.sha256(vector.data).hexdigest() for vector in valid_vectors()}
    assert len(digests) == len(valid_vectors())
