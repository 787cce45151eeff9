"""Power cuts at every operation of a deployment, a damaged wire; benchmarks/deploy_faults.py tries more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy_faults import (
    Cut,
    CutFlash,
    CutSlots,
    cut_again_and_again,
    cut_at_every_operation,
    damage_the_wire,
)
from tests.device_models import two_port_model
from tests.server_devices import CDevice, Device, SlotDevice

OLD, NEW = two_port_model(seed=5), two_port_model(seed=6)


@pytest.fixture(params=["flash", "slots"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cut]:
    found: Cut
    if request.param == "flash":
        found = CutFlash(CDevice(request.getfixturevalue("c_server"), tmp_path, page_bytes=128, unit_bytes=8))
    else:
        found = CutSlots(SlotDevice(tmp_path))
    yield found
    found.close()


def test_power_cut_at_every_operation_leaves_the_old_or_the_new_model(device: Cut) -> None:
    tried, came = cut_at_every_operation(device, OLD, NEW, seeds=4 if isinstance(device, CutFlash) else 3)
    print(f"{tried} power cuts, the new model after {came}")
    assert tried >= 42
    assert 0 < came < tried / 4  # only the very last operations make it the stored one


def test_power_cuts_one_after_the_other_leave_the_old_or_the_new_model(device: Cut) -> None:
    cases = 200 if isinstance(device, CutFlash) else 50
    assert cut_again_and_again(device, (OLD, NEW), cases, seed=1) == cases


@pytest.mark.parametrize("kind", ["flash", "slots"])
def test_damaged_wire_leaves_the_old_or_the_new_model(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    is_flash = kind == "flash"
    storage: Device = (
        CDevice(request.getfixturevalue("c_server"), tmp_path) if is_flash else SlotDevice(tmp_path)
    )
    wanted = 1500 if is_flash else 400
    faults, deployments = damage_the_wire(lambda: storage.start(256), (OLD, NEW), wanted, rate=0.3, seed=1)
    print(f"{faults} faults in {deployments} deployments")
    assert faults >= wanted and deployments > 30
