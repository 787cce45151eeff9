"""Emulated boards as targets: kws bit-identical on each core, counts repeat, two compilers, no orphans."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from host_tools import cli, firmware_image, serve
from host_tools.boards import load_board
from host_tools.client import Client
from host_tools.exit_codes import ExitCode
from host_tools.firmware_image import Image, cached_image, firmware_boards
from model_packager import container
from model_packager.errors import UsageError
from model_packager.format_table import WIRE_MAX_PAYLOAD_BYTES, Capability
from model_packager.golden import golden_inputs, output_crc32
from model_packager.pack import pack
from tests.conftest import require_tool
from tests.device_models import expected_outputs, packed_model, random_inputs

TARGETS = [target for target in serve.TARGETS if target.startswith(serve.QEMU_TARGET)]


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")


@pytest.fixture(scope="module")
def keyword_network(data_dir: Path) -> bytes:
    return pack(data_dir / "mlperf_tiny/models/kws_ref_model_int8.tflite", "speed").data


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "network.thimble"
    path.write_bytes(packed_model())
    return path


def golden_passes(client: Client, file: bytes) -> bool:
    """Whether the device computes what the packager did on the inputs of the golden test."""
    model = container.load(file)
    assert model.golden is not None
    inputs = [array.tobytes() for array in golden_inputs(model, model.golden[0])]
    outputs, _ = client.infer(inputs)
    return output_crc32([np.frombuffer(output, np.int8) for output in outputs]) == model.golden[1]


@pytest.mark.parametrize("target", TARGETS)
def test_emulated_board_keyword_network_equals_its_golden_outputs(
    target: str, keyword_network: bytes, data_dir: Path
) -> None:
    golden = np.load(data_dir / "mlperf_tiny/golden/kws_ref_model_int8.npz")
    board = serve.emulated_board(target)
    assert board is not None and board.firmware is not None
    with serve.start(target) as server, server.connect() as client:
        hello = client.hello
        assert hello.board == board.description
        assert hello.max_payload == board.firmware.max_payload
        assert hello.heap_free_bytes >= board.heap_bytes
        assert hello.slot_bytes == board.model.flash_store_bytes
        assert Capability.INSTRUCTIONS in hello.capabilities
        client.deploy(keyword_network)
        for sample, expected in list(zip(golden["in0"], golden["out0_tflm"], strict=True))[:2]:
            assert client.infer([sample.tobytes()])[0] == [expected.tobytes()]


def test_emulated_board_image_of_zig_equals_its_golden_outputs(
    keyword_network: bytes, monkeypatch: pytest.MonkeyPatch, require_module: Callable[[str], ModuleType]
) -> None:
    require_module("ziglang")
    monkeypatch.setattr(serve, "cached_image", partial(cached_image, toolchain_name="zig"))
    for target in ("qemu:m4", "qemu:m3", "qemu:m0"):
        with serve.start(target) as server, server.connect() as client:
            client.deploy(keyword_network)
            assert golden_passes(client, keyword_network)


def test_emulated_board_small_one_refuses_what_does_not_fit() -> None:
    file = packed_model()
    with serve.start("qemu:microbit") as server, server.connect() as client:
        client.deploy(file)
        inputs = random_inputs(file, 1)
        assert client.infer(inputs)[0] == expected_outputs(file, inputs)
        huge = file[:20] + (20_000).to_bytes(4, "little") + file[24:]
        with pytest.raises(Exception, match="out_of_memory"):
            client.deploy(huge, force=True)
        with pytest.raises(Exception, match="no_space"):
            client.begin(file[:40] + bytes(client.hello.slot_bytes))
        assert client.infer(inputs)[0] == expected_outputs(file, inputs)


@pytest.mark.parametrize("target", ["qemu:m3", "qemu:microbit"])
def test_emulated_board_clock_goes_on_while_runs_are_timed(target: str) -> None:
    """The stopwatch starts again for each run; the uptime must neither do so nor leap."""
    with serve.start(target) as server, server.connect() as client:
        client.deploy(packed_model())
        before_ms = client.info().uptime_ms
        instructions = sum(client.bench(40))  # a nanosecond of the emulated clock each
        assert instructions > 2_000_000
        assert instructions // 1_000_000 <= client.info().uptime_ms - before_ms < 60_000


# ----------------------------------------------------------------------------------------------- commands


def thimble(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "host_tools.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("target", ["qemu:m3", "qemu:microbit"])
def test_bench_on_an_emulated_board_repeats_to_the_instruction(target: str, model_path: Path) -> None:
    runs = [thimble("bench", model_path, "--target", target, "--runs", "4", "--json") for _ in range(2)]
    assert all(done.returncode == 0 for done in runs), runs
    first, second = (json.loads(done.stdout) for done in runs)
    assert first == second
    assert first["min_instructions"] == first["p95_instructions"] > 100_000
    layers = sum(operator["instructions"] for operator in first["operators"])
    # Each step's count is cut to whole ticks of 40 or 62.5 instructions.
    assert abs(layers - first["min_instructions"]) < 500
    assert not any(key.endswith("_us") for key in first)


def test_bench_and_deploy_on_an_emulated_board_say_instructions(model_path: Path) -> None:
    shown = thimble("bench", model_path, "--target", "qemu:m4", "--runs", "1").stdout
    assert "no milliseconds" in shown and re.search(r"min [\d,]+ instructions", shown) and " us" not in shown
    shown = thimble("deploy", model_path, "--target", "qemu:m4").stdout
    assert re.search(r"verified and loaded in [\d,]+ instructions", shown)


def emulators_below(process: int) -> list[int]:
    """Processes of an emulator that this process has started."""
    done = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(process)], capture_output=True, text=True)
    return [int(line.split()[0]) for line in done.stdout.splitlines() if "qemu-system-arm" in line]


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_serve_of_an_emulated_board_leaves_no_emulator_behind(
    ending: signal.Signals, code: int, model_path: Path
) -> None:
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-m", "host_tools.cli", "serve", "--target", "qemu:m4"]
    process = subprocess.Popen(
        command, text=True, preexec_fn=heard, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    assert thimble("deploy", model_path, "--port", port).returncode == 0
    (emulator,) = emulators_below(process.pid)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (code, "")
    deadline = time.monotonic() + 10
    while is_alive(emulator) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(emulator)


def test_serve_keeps_the_model_of_an_emulated_board_in_its_folder(model_path: Path, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    for skipped in (False, True):
        with serve.start("qemu:m0", storage) as server, server.connect() as client:
            assert client.deploy(model_path.read_bytes()).skipped == skipped


def test_commands_without_emulator_or_compiler_say_what_to_install(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def sentence(*arguments: str) -> str:
        assert cli.main([*arguments]) == ExitCode.USAGE
        (line,) = capsys.readouterr().err.splitlines()
        return line

    storage = str(tmp_path)
    assert "qemu:m9" in sentence("run", str(model_path), "--golden", "--target", "qemu:m9")
    assert "forgets its model" in sentence("serve", "--target", "qemu:microbit", "--storage", storage)
    assert "--heap is for MicroPython" in sentence("serve", "--target", "qemu:m4", "--heap", "100000")
    bench = ("bench", str(model_path), "--target", "qemu:m4")
    image = cached_image(load_board("qemu_m4"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(serve, "cached_image", lambda board, **options: image)
        assert "install qemu-system-arm" in sentence(*bench)
    monkeypatch.setattr(firmware_image, "find_spec", lambda name: None)
    assert "install gcc-arm-none-eabi" in sentence(*bench)


# ------------------------------------------------------------------------------------------------- images


def test_images_of_every_board_are_built_and_their_sizes_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert firmware_image.main(["--output", str(tmp_path), "qemu_m0", "qemu_microbit"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("bytes of flash" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qemu_m0.elf", "qemu_microbit.elf"]
    assert firmware_image.main(["--output", str(tmp_path), "unix"]) == ExitCode.USAGE
    assert {"qemu_m0", "qemu_m3", "qemu_m4", "qemu_m7", "qemu_microbit"} <= set(firmware_boards())


def test_image_is_built_once_and_leaves_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = cached_image(load_board("qemu_microbit"))
    stamp = first.stat().st_mtime_ns
    assert cached_image(load_board("qemu_microbit")) == first and first.stat().st_mtime_ns == stamp
    assert os.listdir(first.parent) == [first.name]


def test_image_that_does_not_compile_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(firmware_image, "FLAGS", (*firmware_image.FLAGS, "-fno-such-flag"))
    with pytest.raises(UsageError, match=r"does not compile: .*no-such-flag"):
        cached_image(load_board("qemu_microbit"))
    assert os.listdir(tmp_path / "thimble") == []


def test_image_server_takes_two_chunks_and_512_bytes_of_ram_at_most() -> None:
    """Everything that is linked, but for the stack and the memory of models."""
    for name in firmware_boards():
        board = load_board(name)
        assert board.firmware is not None
        image = Image(cached_image(board))
        assert image.size(".data", ".bss") <= 2 * board.firmware.max_payload + 512
        assert board.firmware.max_payload <= WIRE_MAX_PAYLOAD_BYTES
