"""What benchmarks/core_counts.py counts with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.core_build import CORE, FAST, build_objects, link_all, link_model, run_tool
from benchmarks.core_counts import DIGITS, count
from benchmarks.core_stack import ENTRIES, Graph, deepest, library_bytes, read_graph
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


def test_deepest_path_is_that_of_the_largest_sum_of_frames() -> None:
    graph = Graph({"a:top": 8, "a:left": 40, "b:right": 24, "b:below": 32})
    graph.calls = {"a:top": {"a:left", "b:right"}, "b:right": {"b:below"}}
    assert deepest(graph, "top").stack_bytes == 8 + 24 + 32
    assert deepest(graph, "top").path == ("a:top", "b:right", "b:below")


def test_deepest_path_of_a_function_that_reaches_itself_is_refused() -> None:
    graph = Graph({"a:top": 8, "a:left": 8}, {"a:top": {"a:left"}, "a:left": {"a:top"}})
    with pytest.raises(SystemExit, match="recursive: a:top -> a:left -> a:top"):
        deepest(graph, "top")


@pytest.mark.parametrize("core", ["m0", "m4"])
def test_stack_and_code_of_the_core_are_within_what_is_computed(
    core: str, require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    data = DIGITS.read_bytes()
    objects = build_objects(core, tmp_path)
    found = count(core, objects, data, tmp_path)
    everything = link_all(core, objects, tmp_path)
    graph, library = read_graph(objects), library_bytes(tmp_path / "linked.elf")
    worst = {entry: deepest(graph, function).stack_bytes + library for entry, function in ENTRIES.items()}
    assert 0 < found.load_stack_bytes <= worst["load"]
    assert 0 < found.stack_bytes <= worst["run"]
    alone = link_model(core, data, tmp_path)
    assert alone.core_bytes < everything.core_bytes
    assert {"interpreter", "conv_2d", "stream_range"} <= alone.objects.keys()
    assert not alone.objects.keys() & {"softmax", "arithmetic", "stream_huffman", "sha256", "registry_all"}


def test_core_takes_from_the_library_copies_and_division_alone(
    require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    require_tool("arm-none-eabi-gcc")
    listed = run_tool(["arm-none-eabi-nm", *build_objects("m0", tmp_path)])
    needed, defined = (set(re.findall(rf" [{kinds}] (\w+)$", listed, re.MULTILINE)) for kinds in ("U", "TRD"))
    # memmove: what compilers make of some loops
    others = {name for name in needed - defined if not name.startswith(("__aeabi_", "__gnu_thumb1_"))}
    assert others <= {"memcpy", "memset", "memmove"}
