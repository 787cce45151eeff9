"""Target `native`: the C core compiled on this machine, behind the same functions as every other target."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from host_tools import cli, native_extension
from host_tools.targets import open_target
from host_tools.targets.native import NativeTarget
from model_packager import container
from model_packager.errors import FormatError, UsageError
from model_packager.format_table import ErrorCode, OperatorKind, TensorFlag
from model_packager.model import Model, Operator, Tensor
from model_packager.pack import pack
from model_packager.passes.kernel_scratch import ram_peak_bytes
from model_packager.passes.plan_memory import plan_memory
from tests.random_networks import NetworkBuilder, random_inputs
from tests.stream_files import stream_file, stream_of, stream_vectors


@pytest.fixture(autouse=True)
def compiler(
    require_tool: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled once for all tests but those that take `empty_cache`."""
    require_tool("gcc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    native_extension.load.cache_clear()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for what is compiled, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "thimble"


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


def test_native_target_opened_twice_compiles_once(empty_cache: Path) -> None:
    open_target("native")
    (built,) = empty_cache.iterdir()
    stamp = built.stat().st_mtime_ns
    native_extension.load.cache_clear()
    open_target("native")
    assert [path.stat().st_mtime_ns for path in empty_cache.iterdir()] == [stamp]


def test_native_target_without_a_compiler_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="install gcc or clang, or set CC"):
        open_target("native")


def test_native_target_with_a_failing_compiler_leaves_nothing_behind(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(UsageError, match="does not compile"):
        open_target("native")
    assert os.listdir(empty_cache) == []


def test_native_target_without_python_headers_says_what_to_install(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_extension.sysconfig, "get_path", lambda name: str(tmp_path / name))
    with pytest.raises(UsageError, match=r"Python's C headers.*no .*Python\.h; install python3-dev"):
        open_target("native")
    assert not empty_cache.exists()


def test_core_memory_that_is_short_or_misaligned_is_refused_by_name() -> None:
    target = NativeTarget(threads=1)
    target.load(pack(two_port_network()).data)
    ffi, lib = target._ffi, target._lib
    ((handle, memory),) = target._workers
    run = lib.thimble_run
    assert run(handle, memory, target.memory_bytes) == 0
    assert run(handle, memory, target.memory_bytes - 1) == ErrorCode.ARENA_TOO_SMALL
    assert run(handle, ffi.cast("char *", memory) + 2, target.memory_bytes) == ErrorCode.MISALIGNED
    misaligned = ffi.cast("char *", target._file) + 1
    assert lib.thimble_native_load(handle, misaligned, 100) == ErrorCode.MISALIGNED


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_native_target_spreads_any_number_of_samples_over_threads(count: int) -> None:
    data = pack(two_port_network()).data
    inputs = random_inputs(two_port_network(), 10)
    results = []
    for threads in (1, 3, 4):
        target = NativeTarget(threads)
        target.load(data)
        results.append(target.run([array[:count] for array in inputs]))
    for outputs in results:
        assert [len(output) for output in outputs] == [count, count]
        for first, other in zip(results[0], outputs, strict=True):
            np.testing.assert_array_equal(first, other)


def test_native_target_state_goes_from_sample_to_sample_through_one_thread() -> None:
    """Each output is what the input before it was."""
    builder = NetworkBuilder(31)
    model = builder.model
    given = builder.input((1, 4))
    model.tensors.append(Tensor("kept", (1, 4), flags=TensorFlag.PERSISTENT))
    kept, shown = len(model.tensors) - 1, len(model.tensors)
    model.tensors.append(Tensor("shown", (1, 4)))
    model.operators = [
        Operator(OperatorKind.CONCATENATION, [kept], [shown]),
        Operator(OperatorKind.CONCATENATION, [given], [kept]),
    ]
    builder.output(shown)
    target = NativeTarget(threads=4)
    target.load(container.dump(plan_memory(model)))
    inputs = np.arange(24, dtype=np.int8).reshape(6, 4)
    (outputs,) = target.run([inputs])
    np.testing.assert_array_equal(outputs, np.concatenate([np.zeros((1, 4), np.int8), inputs[:-1]]))
    (outputs,) = target.run([inputs[:1]])
    np.testing.assert_array_equal(outputs, inputs[-1:])


def test_native_target_weights_that_do_not_decode_are_refused_by_name() -> None:
    entry = next(entry for entry in stream_vectors("hostile") if entry["name"] == "fixed: padding bit set")
    data = stream_file(stream_of(entry), OperatorKind.FULLY_CONNECTED)
    ffi, lib = NativeTarget()._ffi, NativeTarget()._lib
    file, memory = ffi.new("uint32_t[]", 256), ffi.new("uint32_t[]", 256)
    ffi.memmove(file, data, len(data))
    model = ffi.new("thimble_model *")
    assert lib.thimble_native_load(model, file, len(data)) == 0 and model.memory_bytes <= 1024
    rows = [ffi.new("uint8_t[]", 3 * 64)]
    ports = ffi.new("uint8_t *[]", rows)
    assert lib.thimble_native_run(model, memory, 1024, ports, ports, 3) == ErrorCode.BAD_STREAM


def test_bench_command_native_shows_time_and_products_of_each_operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.thimble"
    packed = pack(two_port_network())
    path.write_bytes(packed.data)
    arguments = ["bench", str(path), "--target", "native", "--runs", "7"]
    assert cli.main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert len(figures["times_us"]) == 7 and 0 < figures["min_us"] <= figures["median_us"]
    kinds = [operator.kind.name for operator in packed.model.operators]
    assert [operator["kind"] for operator in figures["operators"]] == kinds
    macs = {operator["kind"]: operator["macs"] for operator in figures["operators"]}
    assert macs["FULLY_CONNECTED"] == 2 * 3 and macs["ADD"] == 0
    assert sum(operator["us"] for operator in figures["operators"]) > 0
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "MACs" in shown and "DEPTHWISE_CONV_2D" in shown
