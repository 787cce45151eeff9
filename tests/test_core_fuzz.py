"""The fuzz target of the C core: what past runs found interesting, and a short run. benchmarks/fuzz_core.py
runs it for long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.fuzz_core import WAYS, FuzzerMissing, build_fuzzer, fuzz
from tests.conftest import skip_or_fail

SECONDS = 10


@pytest.mark.parametrize("way", WAYS)
def test_fuzzing_for_a_short_time_finds_nothing(
    way: str, require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    try:
        program = build_fuzzer(require_tool("clang"), way, tmp_path)
    except FuzzerMissing as missing:
        skip_or_fail(str(missing))
    done = fuzz(program, corpus, SECONDS, seed=1)
    assert not done.found, done.report
    # Valid files load and run: far more code is reached than by refusing headers.
    assert done.executions > 1000 and done.edges > 1000, done
