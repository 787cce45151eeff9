"""The device package computes every operator as the arithmetic that is proven against TensorFlow Lite Micro,
and whole random networks as the reference: on CPython with strict 32-bit kernels, and on MicroPython both
with viper and with bytecode. Each executor runs all cases in one process.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numerics_cases import KINDS

from model_packager import container
from model_packager.format_table import ScheduleKind
from model_packager.importers.tflite import import_tflite
from model_packager.pack import pack
from model_packager.passes.plan_memory import PlanOptions, plan_memory
from model_packager.reference import run
from tests.conftest import require_tool
from tests.executors import EXECUTORS, Case, Result
from tests.random_networks import NetworkBuilder, random_inputs, random_network

LANES = ("cpython", "micropython", "micropython_bytecode", "micropython_file")
DRAWS = 6
SEEDS = range(24)
# Networks with 16-bit activations are refused by the importer.
INT8_KINDS = [kind for kind in KINDS if "int16" not in kind]


def run_lane(lane: str, cases: list[Case]) -> list[Result]:
    if lane != "cpython":
        require_tool("micropython")
    return EXECUTORS[lane](cases)


def _operator_cases(kind: str) -> Iterator[tuple[Case, bytes]]:
    """Packed one-operator models with an input each, and TFLM's outputs. Models are of one sample (batch
    1)."""
    for seed in range(DRAWS):
        case = KINDS[kind].draw(np.random.default_rng([seed, len(kind)]))
        for name in case.arrays.keys() & {"x", "x2"}:
            case.arrays[name] = np.ascontiguousarray(case.arrays[name][:1])
        data = pack(import_tflite(KINDS[kind].model(case))).data
        inputs = b"".join(array.tobytes() for array in case.inputs())
        yield Case(f"{kind} {seed}", data, (inputs,)), KINDS[kind].predict(case).tobytes()


@pytest.fixture(scope="module")
def operator_cases() -> list[tuple[Case, bytes]]:
    return [case for kind in INT8_KINDS for case in _operator_cases(kind)]


@pytest.fixture(scope="module")
def network_cases() -> list[tuple[Case, bytes]]:
    cases = []
    for seed in SEEDS:
        result = pack(random_network(seed, 2 + seed % 9), "size" if seed % 2 else "speed")
        inputs = random_inputs(result.model, 2, seed)
        runs = tuple(b"".join(array[index].tobytes() for array in inputs) for index in range(2))
        outputs = run(result.model, inputs)
        expected = b"".join(array[index].tobytes() for index in range(2) for array in outputs)
        cases.append((Case(f"network {seed}", result.data, runs), expected))
    return cases


@pytest.mark.parametrize("lane", LANES)
def test_operator_alone_equals_tflm(lane: str, operator_cases: list[tuple[Case, bytes]]) -> None:
    results = run_lane(lane, [case for case, _ in operator_cases])
    wrong = [
        (case.name, result.error)
        for (case, expected), result in zip(operator_cases, results, strict=True)
        if result.outputs != expected
    ]
    assert not wrong


@pytest.mark.parametrize("lane", LANES)
def test_random_network_equals_reference(lane: str, network_cases: list[tuple[Case, bytes]]) -> None:
    results = run_lane(lane, [case for case, _ in network_cases])
    wrong = [
        (case.name, result.error)
        for (case, expected), result in zip(network_cases, results, strict=True)
        if result.outputs != expected
    ]
    assert not wrong


@pytest.mark.parametrize("lane", [lane for lane in LANES if lane != "cpython"])
def test_model_larger_than_the_heap_is_out_of_memory_and_the_next_one_runs(lane: str) -> None:
    builder = NetworkBuilder(3)
    builder.output(builder.lookup(builder.input((1, 1 << 29))))
    large = container.dump(plan_memory(builder.model, PlanOptions(forbid=frozenset(ScheduleKind))))
    result = pack(random_network(1, 2))
    inputs = random_inputs(result.model, 1)
    expected = b"".join(output.tobytes() for output in run(result.model, inputs))
    good = Case("small", result.data, (b"".join(array.tobytes() for array in inputs),))
    assert run_lane(lane, [Case("large", large), good]) == [Result(error="out_of_memory"), Result(expected)]
