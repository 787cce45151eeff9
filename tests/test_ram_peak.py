"""The RAM peak that the packager states is what the device package takes: measured on the block that it
allocates.
"""

from __future__ import annotations

import numpy as np
import pytest
import thimble

from model_packager import container, reference
from model_packager.format_table import ScheduleKind
from model_packager.model import Model
from model_packager.pack import pack
from model_packager.passes.kernel_scratch import ram_peak_bytes
from model_packager.passes.plan_memory import PlanOptions, plan_memory, verify_plan
from tests.random_networks import NetworkBuilder, random_inputs, random_network


def assert_runs_in_the_stated_ram(data: bytes, model: Model) -> None:
    """The outputs are the reference's, and arena and scratch together are as large as stated."""
    network = thimble.load(data)
    assert len(network.arena) == ram_peak_bytes(model)
    inputs = random_inputs(model, 1)
    flat = [array.tobytes() for array in inputs]
    given = network.run(flat if len(flat) > 1 else flat[0])
    outputs = given if len(model.outputs) > 1 else [given]
    for output, expected in zip(outputs, reference.run(model, inputs), strict=True):
        np.testing.assert_array_equal(np.frombuffer(output.tobytes(), np.int8), expected.ravel())


@pytest.mark.parametrize("seed", range(16))
def test_ram_peak_random_network_is_what_the_device_package_allocates(seed: int) -> None:
    model = random_network(seed, 3 + seed % 10)
    assert_runs_in_the_stated_ram(pack(model).data, model)


@pytest.mark.parametrize(
    "schedule", [s for s in ScheduleKind if s not in (ScheduleKind.WHOLE, ScheduleKind.BANDS)]
)
def test_ram_peak_forced_schedule_is_what_the_device_package_allocates(schedule: ScheduleKind) -> None:
    builder = NetworkBuilder(40)
    tensor = builder.conv(builder.input((1, 6, 6, 3)), 5, 3)
    between = builder.conv(tensor, 5)
    if schedule is ScheduleKind.FUSED_ADD:
        builder.output(builder.add(builder.conv(between, 5, 3), tensor))
    else:
        builder.output(builder.depthwise(between))
    model = pack(builder.model).model
    forced = 2 if schedule is ScheduleKind.FUSED_ADD else 1
    plan_memory(model, PlanOptions(force={forced: schedule}))
    assert model.operators[forced].schedule is schedule
    verify_plan(model)
    model.golden = None
    assert_runs_in_the_stated_ram(container.dump(model), model)
