"""The four MLPerf Tiny networks, packed: sizes and RAM are those of docs/MEASURED.md, outputs are TFLM's.

This is the subset that CI runs; the bars' commands in benchmarks/ run the whole. Here every network is packed
once and runs on MicroPython on two inputs (of 10), ad and kws on the CPython shim on one; of the operators
alone (177 models) about half run, on every executor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from operators_alone import operator_models
from tflm_oracle import run_tflm

from benchmarks import bars, ram, sizes
from benchmarks.networks import NETWORKS, Network, inputs_of, packed, source_of
from model_packager.importers.tflite import import_tflite
from model_packager.pack import PackResult, pack
from model_packager.passes.kernel_scratch import ram_peak_bytes
from tests.executors import EXECUTORS, Case

BY_NAME = {network.name: network for network in NETWORKS}
BARS = {bar.name: bar for bar in bars.load()}
RANDOM_MODELS = 3  # of each kind of operator


@cache
def packed_once(name: str) -> PackResult:
    return packed(BY_NAME[name])


@pytest.fixture(params=BY_NAME)
def network(request: pytest.FixtureRequest, data_dir: Path) -> Network:
    """Each of the networks, where the data folder is."""
    return BY_NAME[request.param]


@pytest.fixture
def tflm(require_module: Callable[[str], ModuleType]) -> None:
    """Skip, or fail in CI, where TFLM is not installed."""
    require_module("tflite_micro")


def test_pack_network_size_is_the_recorded_one(network: Network) -> None:
    assert len(packed_once(network.name).data) == BARS[f"size_{network.name}"].figure


def test_pack_network_every_byte_is_accounted_for(network: Network) -> None:
    assert sizes.unaccounted_bytes(packed_once(network.name).data) == 0


def test_pack_network_is_smaller_than_with_raw_weights(network: Network) -> None:
    report = packed_once(network.name).report
    assert report.file_bytes < report.raw_file_bytes


def test_pack_network_ram_peak_is_the_recorded_one(network: Network) -> None:
    peak = ram_peak_bytes(packed_once(network.name).model, ram.EXECUTOR)
    assert round(peak / ram.TFLM_ARENA_BYTES[network.name], 4) == BARS[f"ram_{network.name}"].figure


@pytest.mark.parametrize(
    ("executor", "name", "count"),
    [
        *(("reference", name, 2) for name in BY_NAME),
        *(("micropython", name, 2) for name in BY_NAME),
        *(("micropython_file", name, 1) for name in BY_NAME),
        ("cpython", "ad", 1),
        ("cpython", "kws", 1),
    ],
)
def test_run_packed_network_equals_tflm(
    executor: str, name: str, count: int, data_dir: Path, micropython: Path, tflm: None
) -> None:
    inputs = inputs_of(BY_NAME[name], count)
    source = source_of(BY_NAME[name]).read_bytes()
    case = Case(name, packed_once(name).data, tuple(sample.tobytes() for sample in inputs))
    (result,) = EXECUTORS[executor]([case])
    expected = np.concatenate([run_tflm(source, sample[None])[0] for sample in inputs])
    assert result.error is None
    np.testing.assert_array_equal(
        np.frombuffer(result.outputs or b"", np.int8).reshape(expected.shape), expected
    )


@cache
def operators_alone() -> list[tuple[Case, bytes]]:
    """Every operator alone, packed, and what TFLM gives for it."""
    found = []
    for name, source, inputs in operator_models(RANDOM_MODELS):
        case = Case(name, pack(import_tflite(source)).data, (b"".join(x.tobytes() for x in inputs),))
        found.append((case, b"".join(output.tobytes() for output in run_tflm(source, *inputs))))
    return found


@pytest.mark.parametrize("executor", EXECUTORS)
def test_run_every_operator_alone_equals_tflm(executor: str, micropython: Path, tflm: None) -> None:
    results = EXECUTORS[executor]([case for case, _ in operators_alone()])
    pairs = zip(operators_alone(), results, strict=True)
    differing = [case.name for (case, expected), result in pairs if result.outputs != expected]
    assert not differing
