"""The four MLPerf Tiny networks, packed: sizes, RAM and packing time meet their bars, outputs are TFLM's.

This is the subset that CI runs; the bars' commands in benchmarks/ run the whole. Here every network is packed
once and runs on MicroPython on two inputs (of 10), ad and kws on the CPython shim on one; of the operators
alone (177 models) about half run, on every executor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Packed:
    result: PackResult
    seconds: float


@cache
def packed_once(name: str) -> Packed:
    start = time.perf_counter()
    result = packed(BY_NAME[name])
    return Packed(result, time.perf_counter() - start)


@pytest.fixture(params=BY_NAME)
def network(request: pytest.FixtureRequest, data_dir: Path) -> Network:
    """Each of the networks, where the data folder is."""
    return BY_NAME[request.param]


@pytest.fixture
def tflm(require_module: Callable[[str], ModuleType]) -> None:
    """Skip, or fail in CI, where TFLM is not installed."""
    require_module("tflite_micro")


def meets(name: str, figure: float) -> bool:
    """Whether a figure is on the right side of its bar."""
    bar = BARS[name]
    return bars.COMPARISONS[bar.comparison](figure, bar.bar)


def test_pack_network_size_meets_its_bar(network: Network) -> None:
    assert meets(f"size_{network.name}", len(packed_once(network.name).result.data))


def test_pack_network_every_byte_is_accounted_for(network: Network) -> None:
    assert sizes.unaccounted_bytes(packed_once(network.name).result.data) == 0


def test_pack_network_is_smaller_than_with_raw_weights(network: Network) -> None:
    report = packed_once(network.name).result.report
    assert report.file_bytes < report.raw_file_bytes


def test_pack_network_ram_peak_meets_its_bar(network: Network) -> None:
    peak = ram_peak_bytes(packed_once(network.name).result.model, ram.EXECUTOR)
    assert meets(f"ram_{network.name}", peak / ram.TFLM_ARENA_BYTES[network.name])


def test_pack_network_time_meets_its_bar(network: Network) -> None:
    assert meets(f"pack_seconds_{network.name}", packed_once(network.name).seconds)


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
    case = Case(name, packed_once(name).result.data, tuple(sample.tobytes() for sample in inputs))
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
