"""What `thimble devices` says of a port: a server's board, MicroPython at its prompt, or silence.

Two boards that share a USB id are told apart by their own words alone."""

from __future__ import annotations

import json
import os
import tty
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from host_tools import cli, identify, serve
from host_tools.boards import all_boards
from host_tools.exit_codes import ExitCode
from host_tools.identify import Device, State, board_of, candidates
from tests.conftest import require_tool
from tests.device_models import packed_model
from tests.micropython_prompt import evaluated, micropython_prompt

PICO_USB = "2e8a:0005"


@pytest.fixture
def silent_port() -> Iterator[str]:
    """A serial port behind which nothing answers."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


def devices(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["devices", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def plugged_in(monkeypatch: pytest.MonkeyPatch, *ports: tuple[str, int | None, int | None]) -> None:
    """Let the operating system list these serial ports (name, USB vendor and product id)."""
    listed = [SimpleNamespace(device=device, vid=vid, pid=pid) for device, vid, pid in ports]
    monkeypatch.setattr(list_ports, "comports", lambda: listed)


def test_board_of_knows_each_board_by_its_own_words_and_no_other_words() -> None:
    named = {board.name: board.micropython.machine for board in all_boards() if board.micropython}
    for name, machine in named.items():
        if machine:
            found = board_of(machine)
            assert found is not None and found.name == name
    assert any(named.values()) and board_of("a board of nobody") is None


def test_candidates_of_a_shared_usb_id_are_all_boards_that_have_it() -> None:
    assert candidates(PICO_USB, None, all_boards()) == ("pico", "pico2")
    assert candidates("ffff:ffff", None, all_boards()) == ()
    assert candidates(None, None, all_boards()) == ()


def test_candidates_of_a_boards_own_words_are_that_board_alone() -> None:
    assert candidates(PICO_USB, "Raspberry Pi Pico2 with RP2350", all_boards()) == ("pico2",)
    assert candidates(None, "QEMU mps2-an386, Cortex-M4", all_boards()) == ("qemu_m4",)
    assert candidates("0d28:0204", "BBC micro:bit v1", all_boards()) == ("microbit_v1",)
    # Words that no board has, such as those of a board with its own name, decide nothing.
    assert candidates(PICO_USB, "A friend's Pico", all_boards()) == ("pico", "pico2")


def test_identify_micropython_at_its_prompt_asks_it_and_leaves_it_as_it_was(
    micropython: Path, tmp_path: Path
) -> None:
    with micropython_prompt(micropython, tmp_path) as port:
        for _ in range(2):
            device = identify.identify(port)
            assert device.state is State.PROMPT
            assert device.says is not None and device.says.startswith("linux")
            assert evaluated(port, "6 * 7") == b"42"


def test_identify_emulated_board_is_known_by_its_hello() -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    with serve.start("qemu:m4") as server:
        device = identify.identify(server.port)
    assert (device.state, device.boards) == (State.SERVER, ("qemu_m4",))
    assert device.hello is not None and device.says == device.hello.board


def test_identify_silent_port_and_one_that_another_program_has(silent_port: str) -> None:
    assert identify.identify(silent_port, PICO_USB) == Device(
        silent_port, PICO_USB, State.SILENT, ("pico", "pico2")
    )
    assert identify.identify(silent_port + "9", "f055:9800") == Device(
        silent_port + "9", "f055:9800", State.CLOSED, ("pyboard",)
    )


def test_devices_of_a_server_names_its_model(
    micropython: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = packed_model()
    with serve.start("micropython") as server:
        with server.connect() as client:
            client.deploy(file)
            sha256 = client.hello.model_sha256.hex()
        monkeypatch.setenv("THIMBLE_PORT", server.port)
        code, out, err = devices(capsys)
        assert (code, err) == (0, "")
        assert server.port in out and "device server" in out and sha256[:12] in out
        code, out, err = devices(capsys, "--json")
    (found,) = json.loads(out)
    assert (code, err, found["state"], found["server"]["model_sha256"]) == (0, "", "server", sha256)


def test_devices_between_two_boards_names_both(
    silent_port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugged_in(monkeypatch, (silent_port, 0x2E8A, 5), ("/dev/ttyS0", None, None))
    code, out, _ = devices(capsys)
    assert code == 0
    assert "pico or pico2" in out and "no answer" in out and "ttyS0" not in out
    assert json.loads(devices(capsys, "--json")[1])[0]["boards"] == ["pico", "pico2"]


def test_devices_without_a_device_is_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plugged_in(monkeypatch)
    assert devices(capsys) == (ExitCode.NO_DEVICE, "", "thimble: no serial device is plugged in\n")
    assert devices(capsys, "--json")[:2] == (ExitCode.NO_DEVICE, "[]\n")
    code, _, err = devices(capsys, "--port", str(tmp_path / "none"))
    assert code == ExitCode.NO_DEVICE and "cannot be opened" in err
