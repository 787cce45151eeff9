"""Both device servers mark their inferences on a trigger pin, and a window of many without a break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from host_tools import cli, serve
from host_tools.client import Client
from host_tools.codec import pack
from host_tools.device_package import build_device_package
from host_tools.exit_codes import ExitCode
from host_tools.install_package import SERVE_WITH_PIN, install, install_main, trigger_pin
from host_tools.micropython_board import MicroPythonBoard
from host_tools.transports import LoopbackTransport
from model_packager import format_table as table
from model_packager.errors import DeviceRefused, UsageError
from model_packager.format_table import Capability, ErrorCode, Message
from tests.conftest import require_module
from tests.device_models import expected_outputs, packed_model, random_inputs
from tests.micropython_prompt import micropython_prompt
from tests.server_devices import CDevice, PythonDevice

PAYLOAD = 256  # room for the times of 64 runs
RUNS = 65  # more than that

Pins = Callable[[], int]


@pytest.fixture(params=["python", "c"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Client, Pins]:
    """A client of a server with a pin, and how often the pin was set on; it is off now."""
    if request.param == "python":
        from thimble.trigger import TriggerServer

        levels: list[int] = []
        server = TriggerServer(levels.append, str(tmp_path / "model.thimble"), PAYLOAD)

        def pulses() -> int:
            assert levels[::2] == [0] * len(levels[::2]) and levels[1::2] == [1] * len(levels[1::2])
            assert levels[-1] == 0
            return levels.count(1)

        return Client(LoopbackTransport(server.handle, server.limit_bytes), resend_s=0.01), pulses
    c_server = CDevice(request.getfixturevalue("c_server"), tmp_path).start(PAYLOAD)
    request.addfinalizer(c_server.close)
    client = Client(LoopbackTransport(c_server.handle, c_server.limit_bytes), resend_s=0.01)
    return client, lambda: c_server.trigger_count


def bench_refusal(client: Client, **fields: int) -> ErrorCode:
    with pytest.raises(DeviceRefused) as refused:
        client.request(Message.BENCH, pack(table.BENCH_REQUEST, **fields))
    return refused.value.code


def test_window_is_one_pulse_of_all_runs(device: tuple[Client, Pins]) -> None:
    client, pulses = device
    assert Capability.TRIGGER in client.hello.capabilities
    assert bench_refusal(client, runs=1, flags=1) == ErrorCode.NO_MODEL
    file = packed_model(units=10)
    client.deploy(file)
    before = pulses()
    window_us = client.bench_window(RUNS)
    assert pulses() == before + 1
    single_us = min(client.bench(9))
    assert pulses() == before + 10  # each run of a BENCH without the flag
    assert window_us > 0.5 * RUNS * single_us
    assert client.infer(random_inputs(file, 4))[0] == expected_outputs(file, random_inputs(file, 4))
    assert pulses() == before + 11


def test_window_of_no_runs_and_unknown_flags_are_refused(device: tuple[Client, Pins]) -> None:
    client, pulses = device
    client.deploy(packed_model(units=10))
    assert bench_refusal(client, runs=0, flags=1) == ErrorCode.BAD_ARGUMENT
    assert bench_refusal(client, runs=1, flags=2) == ErrorCode.RESERVED_BITS
    assert bench_refusal(client, runs=1, flags=3) == ErrorCode.RESERVED_BITS
    assert bench_refusal(client, runs=1, flags=1, reserved=1) == ErrorCode.RESERVED_BITS
    assert pulses() <= 1  # C marks no refusal; deploying runs nothing with the pin


def test_device_without_a_pin_says_so_and_refuses_the_window(c_server: Path, tmp_path: Path) -> None:
    server = CDevice(c_server, tmp_path).start(PAYLOAD)
    server.remove_trigger()
    python = PythonDevice(tmp_path).start(PAYLOAD)
    for one in (server, python):
        client = Client(LoopbackTransport(one.handle, one.limit_bytes), resend_s=0.01)
        assert Capability.TRIGGER not in client.hello.capabilities
        client.deploy(packed_model(units=10))
        assert len(client.bench(3)) == 3 and len(client.profile()) > 0
        assert bench_refusal(client, runs=1, flags=1) == ErrorCode.RESERVED_BITS
        one.close()


def test_pin_goes_off_when_a_run_fails(tmp_path: Path) -> None:
    from thimble.trigger import TriggerServer

    levels: list[int] = []
    server = TriggerServer(levels.append, str(tmp_path / "model.thimble"), PAYLOAD)
    client = Client(LoopbackTransport(server.handle, server.limit_bytes), resend_s=0.01)
    client.deploy(packed_model(units=10))

    def fail() -> None:
        raise MemoryError

    server._model.invoke = fail
    for flags in (0, 1):
        assert bench_refusal(client, runs=2, flags=flags) == ErrorCode.OUT_OF_MEMORY
    assert levels == [0, 1, 0, 1, 0]


def test_built_package_serves_with_a_pin_on_micropython(
    micropython: Path, mpy_cross: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = build_device_package("x64", tmp_path / "thimble", trigger=True)
    assert sizes["trigger"] < 1024 and "slots" in sizes
    (tmp_path / "pinned.py").write_text(
        "from thimble import trigger\n"
        "def serve(max_payload=0):\n"
        "    with open('pin', 'w') as file:\n"
        "        trigger.serve(lambda on: (file.write('%d' % on), file.flush()), max_payload=max_payload)\n"
    )
    monkeypatch.setattr(serve, "SERVER_MODULE", "pinned")
    monkeypatch.setattr(serve, "device_package_folder", lambda: tmp_path / "thimble")
    with serve.start("micropython", tmp_path) as server, server.connect() as client:
        assert Capability.TRIGGER in client.hello.capabilities
        client.deploy(packed_model(units=10))
        assert client.bench_window(50, quiet_s=0.1) > 0
        client.bench(2)
        assert (tmp_path / "pin").read_text() == "0101010"


def test_trigger_pin_is_the_board_files() -> None:
    assert trigger_pin("Raspberry Pi Pico with RP2040") == "GP15"
    with pytest.raises(UsageError, match="no trigger pin of a toaster"):
        trigger_pin("a toaster")
    program = SERVE_WITH_PIN.format(pin=4)
    assert "serve(Pin(4, Pin.OUT, value=0))" in program
    compile(program, "main.py", "exec")


def test_flash_with_trigger_needs_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["flash", "--trigger", "--board", "pico", "--dry-run"]) == ExitCode.USAGE
    assert capsys.readouterr().err == "thimble: --trigger needs --package\n"


def test_install_with_trigger_brings_its_module(micropython: Path, mpy_cross: Path, tmp_path: Path) -> None:
    require_module("mpremote")
    (tmp_path / "lib").mkdir()
    with micropython_prompt(micropython, tmp_path) as port, MicroPythonBoard(port) as board:
        done = install(board, trigger=True)
        assert f"{done.folder}/trigger.mpy" in done.written
        assert install_main(board, pin="GP15") and not install_main(board, pin="GP15")
        again = install(board)
        assert f"{done.folder}/trigger.mpy" in again.kept and not again.removed
    assert "Pin('GP15', Pin.OUT, value=0)" in (tmp_path / "main.py").read_text()
