"""The same random network in every executor: seeds go in, what differs from the NumPy reference comes out.

A network of tests/random_graphs.py gets a plan with schedules that the seed chooses, is written with the
encodings that it asks for, and runs on random inputs. Callers: tests/test_differential.py with a few seeds,
benchmarks/differential.py with as many as the time allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from model_packager import container, reference
from model_packager.encoders import encode
from model_packager.errors import PackError
from model_packager.format_table import DType, OperatorKind, ScheduleKind
from model_packager.model import Model
from model_packager.passes.lifetimes import FUSED
from model_packager.passes.plan_memory import PlanOptions, plan_memory, verify_plan
from tests.executors import EXECUTORS, Case
from tests.random_graphs import random_graph
from tests.random_networks import random_inputs

RUNS = 2
FORCED = (ScheduleKind.IN_PLACE, ScheduleKind.FUSED_DEPTHWISE, ScheduleKind.FUSED_ADD)


@dataclass(frozen=True)
class Network:
    """A file with inputs, the outputs that the reference gives for the model before it was written, and what
    of the format is in it (names of operators, schedules and encodings)."""

    case: Case
    expected: bytes
    covers: frozenset[str]


def plan_at_random(model: Model, seed: int) -> None:
    """A legal plan with schedules that the seed chooses, whether or not they save memory."""
    random = np.random.default_rng([seed, 1])
    force: dict[int, ScheduleKind] = {}
    plan_memory(model)
    for index in random.permutation(len(model.operators))[:4]:
        for kind in random.permutation(len(FORCED)):
            try:
                attempt = force | {int(index): FORCED[int(kind)]}
                plan_memory(model, PlanOptions(force=attempt))
            except PackError:
                continue
            force = attempt
            break
    plan_memory(model, PlanOptions(force=force, band_slack=float(random.choice([0, 0.1, 1]))))
    before = ScheduleKind.WHOLE
    for operator in model.operators:
        in_bands = operator.kind in (OperatorKind.CONV_2D, OperatorKind.DEPTHWISE_CONV_2D)
        in_bands &= all(
            model.tensors[t].dtype is not DType.BIT for t in (operator.inputs[0], operator.outputs[0])
        )
        alone = operator.schedule is ScheduleKind.WHOLE and before not in FUSED
        if in_bands and alone and random.random() < 0.4:
            operator.schedule = ScheduleKind.BANDS
            height = model.tensors[operator.outputs[0]].shape4[1]
            operator.schedule_parameter = 1 + int(random.integers(height))
        before = operator.schedule
    verify_plan(model)


def make_network(seed: int) -> Network | None:
    """The network of a seed; None where its accumulators could overflow, which the packer refuses."""
    model = random_graph(seed)
    try:
        reference.accumulator_bounds(model)
    except PackError:
        return None
    streams = {
        index: encode(operator.weights.values, operator.weights.encoding)
        for index, operator in enumerate(model.operators)
        if operator.weights is not None
    }
    for index, stream in streams.items():
        weights = model.operators[index].weights
        assert weights is not None
        weights.encoding = stream.descriptor
    plan_at_random(model, seed)
    inputs = random_inputs(model, RUNS, seed)
    outputs = reference.run(model, inputs)
    data = container.dump(model, encodings=streams)
    runs = tuple(b"".join(array[run].tobytes() for array in inputs) for run in range(RUNS))
    expected = b"".join(array[run].tobytes() for run in range(RUNS) for array in outputs)
    covers = {operator.kind.name for operator in model.operators}
    covers |= {tensor.dtype.name for tensor in model.tensors}
    covers |= {operator.schedule.name for operator in model.operators}
    covers |= {stream.descriptor.encoding.name for stream in streams.values()}
    return Network(Case(f"seed {seed}", data, runs), expected, frozenset(covers))


def differences(networks: Iterable[Network], executors: Sequence[str]) -> dict[str, list[str]]:
    """Executor -> one line for each network that it does not compute as the reference did."""
    networks = list(networks)
    found: dict[str, list[str]] = {}
    for name in executors:
        results = EXECUTORS[name]([network.case for network in networks])
        found[name] = [
            f"{network.case.name}: {result.error or 'other outputs'} ({', '.join(sorted(network.covers))})"
            for network, result in zip(networks, results, strict=True)
            if result.outputs != network.expected
        ]
    return found
