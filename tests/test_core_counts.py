"""What benchmarks/core_counts.py counts with."""

from __future__ import annotations

from benchmarks.core_counts import CORE, FAST
from tests.random_networks import NetworkBuilder


def test_mac_count_of_each_weighted_operator_is_weights_times_positions() -> None:
    builder = NetworkBuilder(1)
    image = builder.conv(builder.input((1, 4, 6, 2)), 3, kernel=3)  # 3 x 3 x 2 weights for each of 3 channels
    image = builder.depthwise(image, 3, stride=2)  # 2 x 3 positions
    builder.output(builder.fully_connected(builder.lookup(image), 5))
    model = builder.model
    assert [model.mac_count(operator) for operator in model.operators] == [24 * 3 * 18, 6 * 3 * 9, 0, 18 * 5]


def test_sources_for_speed_are_those_that_ask_for_it_themselves() -> None:
    asking = {path.stem for path in (CORE / "src").glob("*.c") if '#include "fast.h"' in path.read_text()}
    assert asking == set(FAST)
