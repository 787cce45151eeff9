"""Target `native`: the C core compiled on this machine, behind the same functions as every other target."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from host_tools.targets import native, open_target
from model_packager.errors import FormatError, UsageError
from model_packager.format_table import ErrorCode
from model_packager.model import Model
from model_packager.pack import pack
from model_packager.passes.kernel_scratch import ram_peak_bytes
from tests.random_networks import NetworkBuilder, random_inputs


@pytest.fixture(autouse=True)
def compiler(require_tool: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_tool("gcc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._library.cache_clear()


def two_port_network() -> Model:
    builder = NetworkBuilder(30)
    total = builder.add(builder.input((1, 4, 4, 2)), builder.input((1, 4, 4, 2)))
    builder.output(builder.lookup(builder.depthwise(total)))
    builder.output(builder.fully_connected(builder.global_pool(total), 3))
    return builder.model


def test_native_target_batch_of_two_ports_equals_the_reference_in_the_planned_memory() -> None:
    packed = pack(two_port_network())
    inputs = random_inputs(two_port_network(), 3)
    target, judge = open_target("native"), open_target("reference")
    target.load(packed.data)
    judge.load(packed.data)
    assert target.memory_bytes == ram_peak_bytes(packed.model, "c")
    for expected, actual in zip(judge.run(inputs), target.run(inputs), strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(actual, expected)
    with pytest.raises(FormatError) as caught:
        target.run([array[:, :2] for array in inputs])
    assert caught.value.code is ErrorCode.BAD_INPUT


def test_native_target_damaged_file_is_refused_by_name() -> None:
    data = bytearray(pack(two_port_network()).data)
    data[-1] ^= 1
    target = open_target("native")
    with pytest.raises(FormatError) as caught:
        target.load(bytes(data))
    assert caught.value.code is ErrorCode.BAD_HASH
    with pytest.raises(UsageError, match="no model is loaded"):
        target.run(random_inputs(two_port_network(), 1))
    target.close()


def test_native_target_opened_twice_compiles_once(tmp_path: Path) -> None:
    open_target("native")
    (built,) = (tmp_path / "thimble").iterdir()
    stamp = built.stat().st_mtime_ns
    native._library.cache_clear()
    open_target("native")
    assert [path.stat().st_mtime_ns for path in (tmp_path / "thimble").iterdir()] == [stamp]


def test_native_target_without_a_compiler_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="install gcc or clang, or set CC"):
        open_target("native")


def test_native_target_with_a_failing_compiler_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(UsageError, match="does not compile"):
        open_target("native")
    assert os.listdir(tmp_path / "thimble") == []


def test_core_memory_that_is_short_or_misaligned_is_refused_by_name() -> None:
    target = native.NativeTarget()
    target.load(pack(two_port_network()).data)
    run, handle, memory = target._library.thimble_run, target._handle, ctypes.addressof(target._memory)
    assert run(handle, memory, target.memory_bytes) == 0
    assert run(handle, memory, target.memory_bytes - 1) == ErrorCode.ARENA_TOO_SMALL
    assert run(handle, memory + 2, target.memory_bytes) == ErrorCode.MISALIGNED
    sizes = (ctypes.c_uint32 * 2)()
    address = ctypes.addressof(target._file)
    assert target._library.thimble_native_load(handle, address + 1, 100, sizes) == ErrorCode.MISALIGNED
