"""A seeded slice of benchmarks/differential.py: random networks out of the whole format give the reference's
bits in every executor."""

from __future__ import annotations

import pytest

from model_packager.format_table import Coder, Layout, OperatorKind, ScheduleKind, ValueMap
from tests.conftest import require_tool
from tests.differential import Network, differences, make_network
from tests.executors import EXECUTORS

SEEDS = range(160)


@pytest.fixture(scope="module")
def networks() -> list[Network]:
    return [network for seed in SEEDS if (network := make_network(seed)) is not None]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_random_graph_equals_the_reference(executor: str, networks: list[Network]) -> None:
    if executor.startswith("micropython"):
        require_tool("micropython")
    assert differences(networks, [executor]) == {executor: []}


def test_random_graphs_cover_operators_schedules_coders_layouts_and_maps(networks: list[Network]) -> None:
    covered = frozenset().union(*(network.covers for network in networks))
    assert {kind.name for kind in OperatorKind} <= covered
    assert {kind.name for kind in ScheduleKind} <= covered
    parts = {part for name in covered for part in name.upper().split("-")}
    assert {member.name for kind in (Coder, Layout, ValueMap) for member in kind} <= parts
    assert len(networks) > 0.9 * len(SEEDS)
