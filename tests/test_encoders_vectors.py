"""The shared stream vectors: the script reproduces them, and the reference decoder reads or refuses each."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from model_packager.encoders import Stream, StreamDescriptor, decode
from model_packager.errors import FormatError
from model_packager.format_table import Coder, ErrorCode, Layout, ValueMap

FOLDER = Path(__file__).resolve().parent / "vectors"
ENUMERATIONS = {"layout": Layout, "coder": Coder, "value_map": ValueMap}
FIELDS = tuple(StreamDescriptor.__dataclass_fields__)


def load(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / "streams" / f"{name}.json").read_text())


def stream_of(vector: dict[str, Any]) -> Stream:
    fields = {key: ENUMERATIONS[key][vector[key]] if key in ENUMERATIONS else vector[key] for key in FIELDS}
    return Stream(StreamDescriptor(**fields), bytes.fromhex(vector["payload"]))


def make_streams() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_streams", FOLDER / "make_streams.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VALID = load("annotated") + load("encoded")
HOSTILE = load("hostile")


@pytest.mark.parametrize("vector", VALID, ids=lambda vector: vector["name"])
def test_decode_valid_vector_gives_its_values(vector: dict[str, Any]) -> None:
    expected = np.array(vector["values"], np.int8).reshape(vector["rows"], vector["cols"])
    np.testing.assert_array_equal(decode(stream_of(vector)), expected)


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda vector: vector["name"])
def test_decode_hostile_vector_gives_its_error(vector: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        decode(stream_of(vector))
    assert caught.value.code is ErrorCode[vector["error"].upper()]


def test_make_streams_reproduces_the_committed_files() -> None:
    for name, text in make_streams().files().items():
        assert (FOLDER / "streams" / name).read_text() == text, f"{name} is stale"


def test_vectors_have_unique_names() -> None:
    names = [vector["name"] for vector in VALID + HOSTILE]
    assert sorted(set(names)) == sorted(names)


def test_vectors_cover_every_encoding_and_explain_every_coder_in_every_layout() -> None:
    coded = set(itertools.product(("DENSE", "SPARSE", "BITMAP"), Coder.__members__))
    maps = set(ValueMap.__members__) - {"BINARY"}
    bits = {("BITS", "FIXED", "BINARY"), ("BITS", "FIXED", "TERNARY")}
    held = {(vector["layout"], vector["coder"], vector["value_map"]) for vector in VALID}
    assert held == {(*pair, value_map) for pair in coded for value_map in maps} | bits
    explained = {(vector["layout"], vector["coder"]) for vector in VALID if "explanation" in vector}
    assert explained == coded | {("BITS", "FIXED")}


def test_hostile_vectors_reach_every_coder() -> None:
    assert {vector["coder"] for vector in HOSTILE} == set(Coder.__members__)
    assert {vector["layout"] for vector in HOSTILE} == set(Layout.__members__)


def test_format_document_works_the_annotated_vectors_through() -> None:
    """The payloads of FORMAT.md, section 5.12, are those of two annotated vectors."""
    text = (FOLDER.parents[1] / "docs" / "FORMAT.md").read_text()
    section = text[text.index("### 5.12") : text.index("## 6.")].replace("\n", " ")
    payloads = {vector["name"]: bytes.fromhex(vector["payload"]).hex(" ") for vector in load("annotated")}
    for name in ("fixed sparse with a filler", "class sparse"):
        assert f"payload `{payloads[name]}`" in section, name
