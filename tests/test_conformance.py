"""Every shared vector through every executor, and the format table as tables of cells, none of which may be
empty.

A cell is filled by a vector that covers its row and that its executor gets right: a coder that no decoder
reads, an operator that an executor lacks, or an error that no file provokes is an empty cell. The vectors
are in tests/vectors/{streams,files}; tests/conformance.py says how they become cases.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model_packager.format_table import (
    Coder,
    ConstantKind,
    DType,
    ErrorCode,
    FloatFormat,
    Layout,
    OperatorKind,
    RequantForm,
    ScheduleKind,
    SectionKind,
    ValueMap,
)
from tests.conformance import SETS, covered, failures, vectors_of
from tests.executors import EXECUTORS, Case, Result, run_firmware

VALID = ("valid files", "valid streams")
HOSTILE = ("hostile files", "hostile streams")
MAPS_OF_BITS = (ValueMap.BINARY, ValueMap.TERNARY)

# What a loader finds in a file ends with SCRATCH_TOO_SMALL. Of the rest, some do not come from a file's bytes
# (BAD_INPUT, OUT_OF_MEMORY), some need a key, which no executor has yet (BAD_SIGNATURE, UNSIGNED), one is for
# whoever runs the golden test (GOLDEN_MISMATCH), some are the wire's (tests/test_server.py). MISALIGNED is
# for loaders that read words in place; these read bytes.
LOADER_ERRORS = [code for code in ErrorCode if code >= ErrorCode.SCRATCH_TOO_SMALL]

ENCODINGS = [
    *((layout, coder, value_map) for layout in Layout for coder in Coder for value_map in ValueMap
      if layout is not Layout.BITS and value_map is not ValueMap.BINARY),
    *((Layout.BITS, Coder.FIXED, value_map) for value_map in MAPS_OF_BITS),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _micropython_is_here(micropython: Path) -> None:
    """Skip, or fail in CI, where there is no MicroPython: the cells of its executors would be empty."""


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("name", SETS)
def test_every_vector_gives_its_result(name: str, executor: str) -> None:
    found = failures(name, executor)
    shown = "\n".join(found[:20])
    assert not found, f"{len(found)} of {len(vectors_of(name))} vectors:\n{shown}"


@pytest.mark.parametrize("name", SETS)
def test_vectors_are_many_and_named_once(name: str) -> None:
    names = [vector.case.name for vector in vectors_of(name)]
    assert len(names) > 50 and len(set(names)) == len(names)


# -------------------------------------------------------------------------------- the tables and their cells


def cell(sets: tuple[str, ...], executor: str) -> set[str]:
    """What the executor is proven to do by the sets."""
    return set().union(*(covered(name, executor) for name in sets))


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("sets", [VALID, HOSTILE], ids=["valid", "hostile"])
@pytest.mark.parametrize("coder", Coder, ids=lambda coder: coder.name)
def test_table_coder_by_executor_has_no_empty_cell(
    coder: Coder, sets: tuple[str, ...], executor: str
) -> None:
    assert f"coder:{coder.name}" in cell(sets, executor)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: "-".join(part.name.lower() for part in e))
@pytest.mark.parametrize("sets", VALID)
def test_table_encoding_by_executor_has_no_empty_cell(
    sets: str, encoding: tuple[Layout, Coder, ValueMap], executor: str
) -> None:
    name = "-".join(part.name.lower() for part in encoding)
    assert f"encoding:{name}" in cell((sets,), executor)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("kind", OperatorKind, ids=lambda kind: kind.name)
def test_table_operator_by_executor_has_no_empty_cell(kind: OperatorKind, executor: str) -> None:
    assert f"operator:{kind.name}" in cell(VALID, executor)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("code", LOADER_ERRORS, ids=lambda code: code.name)
def test_table_error_by_executor_has_no_empty_cell(code: ErrorCode, executor: str) -> None:
    assert f"error:{code.name}" in cell(HOSTILE, executor)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_table_other_parts_by_executor_have_no_empty_cell(executor: str) -> None:
    rows = {f"schedule:{kind.name}" for kind in ScheduleKind}
    rows |= {f"requant:{form.name}" for form in RequantForm}
    rows |= {f"dtype:{dtype.name}" for dtype in (DType.INT8, DType.BIT, DType.FLOAT32)}
    rows |= {f"float:{kind.name}" for kind in FloatFormat}  # right is, for devices, to refuse them
    rows |= {f"constant:{kind.name}" for kind in ConstantKind}
    rows |= {f"section:{kind.name}" for kind in SectionKind}
    assert rows <= cell(VALID, executor)


# ----------------------------------------------------------------------------------------- the harness itself


def _first(name: str) -> Case:
    return vectors_of(name)[0].case


@pytest.mark.parametrize("interpreter", ["cpython", "micropython"])
def test_run_firmware_no_end_in_time_is_a_failure(interpreter: str) -> None:
    results = run_firmware([_first("valid files")] * 2, interpreter, timeout_s=0.001)
    assert [result.error for result in results] == ["crash: no end after 0.001 s", "crash: not reached"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_executors_wrong_input_bytes_are_noticed(executor: str) -> None:
    case = _first("valid files")
    other = Case(case.name, case.data, (bytes(byte ^ 0x55 for byte in case.runs[0]),))
    run: Callable[[list[Case]], list[Result]] = EXECUTORS[executor]
    first, second = run([case, other])
    assert first.outputs != second.outputs
