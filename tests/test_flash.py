"""`thimble flash`: the command for every board, UF2 drives, and the package installed on a real MicroPython.

Installation runs against MicroPython's unix port at its prompt, through mpremote, with a folder as the
board's file system. The tools that write flash need a board: what is run is checked, and a script in their
place shows that their exit code counts.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serial.tools import list_ports

from host_tools import cli, flash_firmware
from host_tools.boards import all_boards, load_board
from host_tools.device_package import BYTECODE
from host_tools.exit_codes import ExitCode
from host_tools.flash_firmware import Command, plan
from host_tools.install_package import Runtime, build, check_compatible, install
from host_tools.micropython_board import MicroPythonBoard
from host_tools.serve import start
from model_packager.errors import DeviceError, NoDeviceError, UsageError
from tests.conftest import require_module, require_tool
from tests.device_models import packed_model
from tests.micropython_prompt import evaluated, micropython_prompt
from tests.mlperf_runner import Runner, SerialLine

Capture = pytest.CaptureFixture[str]
FLASHABLE = [board.name for board in all_boards() if board.flash]


def flash(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main(["flash", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ----------------------------------------------------------------------------------------------- firmware


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """What the boot loader of a Pico shows."""
    folder = tmp_path / "media" / "RPI-RP2"
    folder.mkdir(parents=True)
    info = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"
    (folder / "INFO_UF2.TXT").write_text(info)
    return folder


@pytest.mark.parametrize("name", FLASHABLE)
def test_flash_dry_run_prints_the_command_of_every_board(
    name: str, tmp_path: Path, drive: Path, capsys: Capture
) -> None:
    board = load_board(name)
    assert board.flash is not None
    image = tmp_path / f"firmware{board.flash.image}"
    image.write_bytes(b"firmware")
    arguments = ("--board", name, "--image", image, "--port", "/dev/ttyACM7", "--dry-run", "--drive", drive)
    code, out, err = flash(capsys, *arguments)
    assert (code, err) == (0, "")
    assert str(image) in out and "{" not in out and len(out.splitlines()) == 1
    assert out.split()[0] in ("cp", *flash_firmware.HINTS)
    assert ("/dev/ttyACM7" in out) == ("{port}" in " ".join(board.flash.command))


def test_flash_without_an_image_fetches_micropython_or_says_where_it_is(capsys: Capture) -> None:
    code, out, _ = flash(capsys, "--board", "pico", "--port", "/dev/ttyACM7", "--dry-run")
    assert (code, out) == (0, "mpflash flash --board RPI_PICO --serial /dev/ttyACM7\n")
    code, _, err = flash(capsys, "--board", "teensy41", "--dry-run")
    assert code == ExitCode.USAGE and "https://micropython.org/download/TEENSY41/" in err
    assert flash(capsys, "--board", "unix", "--dry-run")[0] == ExitCode.USAGE


def test_flash_of_a_board_with_c_firmware_builds_it(capsys: Capture) -> None:
    require_tool("arm-none-eabi-gcc")
    code, out, _ = flash(capsys, "--board", "microbit_v1", "--dry-run", "--json")
    assert code == 0
    words = json.loads(out)["command"].split()
    assert words[:5] == ["pyocd", "load", "--no-wait", "--target", "nrf51"]
    assert Path(words[5]).read_bytes().startswith(b"\x7fELF")


def test_flash_onto_a_uf2_drive_copies_the_image(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    image = tmp_path / "firmware.uf2"
    image.write_bytes(b"UF2\n" * 1000)
    mounted = tmp_path / "media"
    monkeypatch.setattr(flash_firmware, "_mounted_drives", lambda: sorted(mounted.glob("*")))
    assert flash(capsys, "--board", "pico", "--image", image)[0] == 0
    assert (drive / "firmware.uf2").read_bytes() == image.read_bytes()
    # That of a Pico 2 is another board's; two of a kind are not guessed between.
    code, _, err = flash(capsys, "--board", "pico2", "--image", image)
    assert code == ExitCode.NO_DEVICE and "no drive of Raspberry Pi Pico 2's boot loader" in err
    shutil.copytree(drive, mounted / "second")
    code, _, err = flash(capsys, "--board", "pico", "--image", image)
    assert code == ExitCode.NO_DEVICE and "there are 2 drives: choose with --drive" in err


def test_flash_refuses_what_the_board_does_not_take(tmp_path: Path, capsys: Capture) -> None:
    image = tmp_path / "firmware.hex"
    code, _, err = flash(capsys, "--board", "esp32", "--image", image, "--port", "/dev/ttyUSB0")
    assert code == ExitCode.USAGE and "takes .bin files" in err
    code, _, err = flash(capsys, "--board", "teensy41", "--image", image)
    assert code == ExitCode.USAGE and "no such file" in err
    assert flash(capsys, "--serve")[0] == ExitCode.USAGE
    assert flash(capsys, "--mip", tmp_path / "mip")[0] == ExitCode.USAGE
    assert flash(capsys, "--mlperf")[0] == ExitCode.USAGE
    assert flash(capsys, "--package", "--mlperf", "--trigger")[0] == ExitCode.USAGE
    with pytest.raises(NoDeviceError, match="esptool needs the port"):
        (tmp_path / "firmware.bin").touch()
        plan(load_board("esp32"), tmp_path / "firmware.bin", None)


def test_flash_tool_that_is_missing_or_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no `dfu-util` here: install dfu-util"):
        Command(("dfu-util", "-D", "x.dfu")).do()
    tool = tmp_path / "dfu-util"
    tool.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\nsys.exit(len(sys.argv) - 3)\n")
    tool.chmod(0o755)
    Command(("dfu-util", "-D", "x.dfu")).do()
    with pytest.raises(DeviceError, match="dfu-util failed with exit code 1"):
        Command(("dfu-util", "-D", "x.dfu", "y")).do()
    captured = capfd.readouterr()
    assert captured.out == "" and "['-D', 'x.dfu']" in captured.err


def test_flash_without_a_board_asks_the_port_and_does_not_guess(
    micropython: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    assert flash(capsys, "--dry-run")[0] == ExitCode.NO_DEVICE
    with micropython_prompt(micropython, tmp_path) as port:
        code, _, err = flash(capsys, "--port", port, "--dry-run")
    assert code == ExitCode.USAGE and "is not known: say which it is with --board" in err


# ------------------------------------------------------------------------------------------- the package


@pytest.fixture
def board_folder(tmp_path: Path) -> Path:
    """What is on the board."""
    require_module("mpremote")
    require_tool("mpy-cross")
    folder = tmp_path / "board"
    folder.mkdir()
    return folder


def test_install_on_a_real_micropython_then_only_what_changed(
    micropython: Path, board_folder: Path, capsys: Capture
) -> None:
    (board_folder / "lib" / "thimble").mkdir(parents=True)
    (board_folder / "lib" / "thimble" / "kernels.py").write_text("what was there before")
    (board_folder / "lib" / "thimble" / "notes.txt").write_text("the user's own")
    files = build("x64")
    with micropython_prompt(micropython, board_folder) as port:
        code, out, _ = flash(capsys, "--package", "--port", port, "--dry-run")
        assert code == 0 and "would write" in out and "would remove" in out
        assert not (board_folder / "lib" / "thimble" / "kernels.mpy").exists()

        first = json.loads(flash(capsys, "--package", "--port", port, "--json")[1])
        assert first["architecture"] == "x64"
        assert len(first["written"]) == len(files) and first["kept"] == []
        assert first["sent_bytes"] == sum(map(len, files.values()))
        assert [Path(path).name for path in first["removed"]] == ["kernels.py"]
        for name, data in files.items():
            assert (board_folder / "lib" / name).read_bytes() == data
        assert (board_folder / "lib" / "thimble" / "notes.txt").exists()

        (board_folder / "lib" / "thimble" / "kernels.mpy").write_bytes(b"damaged")
        second = json.loads(flash(capsys, "--package", "--port", port, "--json")[1])
        assert [Path(path).name for path in second["written"]] == ["kernels.mpy"]
        third = json.loads(flash(capsys, "--package", "--port", port, "--json")[1])
        assert third["written"] == [] and third["sent_bytes"] == 0

        assert evaluated(port, "import thimble; thimble.__file__").endswith(b"lib/thimble/__init__.mpy'")
        assert evaluated(port, "from thimble import kernels; kernels.__name__") == b"'thimble.kernels'"


def test_install_with_serve_is_a_board_that_takes_models(
    micropython: Path, board_folder: Path, capsys: Capture
) -> None:
    # A board runs main.py when it starts, and shows its prompt where that ends; after a reset it starts anew.
    # Unlike a board, the unix port takes no Ctrl-C from a pseudo-terminal, so that it serves until its end.
    loop = board_folder / "board.sh"
    loop.write_text(f"while :; do [ -f main.py ] && {micropython} main.py; {micropython}; done\n")
    with micropython_prompt(Path("/bin/sh"), board_folder, str(loop)) as port:
        code, out, err = flash(capsys, "--package", "--serve", "--port", port)
        assert (code, err) == (0, "") and "it serves now" in out
        file = packed_model()
        (board_folder / "host.thimble").write_bytes(file)
        assert cli.main(["deploy", str(board_folder / "host.thimble"), "--port", port]) == 0
        assert "verified" in capsys.readouterr().out
        assert cli.main(["devices", "--port", port, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["server"]["model_state"] == "READY"


def test_install_for_mlperf_answers_its_runner_and_takes_models(
    micropython: Path, board_folder: Path, capsys: Capture
) -> None:
    loop = board_folder / "board.sh"
    loop.write_text(f"while :; do [ -f main.py ] && {micropython} main.py; {micropython}; done\n")
    with micropython_prompt(Path("/bin/sh"), board_folder, str(loop)) as port:
        code, out, err = flash(capsys, "--package", "--serve", "--mlperf", "--port", port)
        assert (code, err) == (0, "") and "it serves now" in out
        (board_folder / "host.thimble").write_bytes(packed_model())
        assert cli.main(["deploy", str(board_folder / "host.thimble"), "--port", port]) == 0
        line = SerialLine(port)
        assert Runner(line).value("profile", "model") == "random1"
        line.close()


def test_install_does_not_replace_a_main_program_of_the_users(
    micropython: Path, board_folder: Path, capsys: Capture
) -> None:
    (board_folder / "main.py").write_text("print('mine')\n")
    with micropython_prompt(micropython, board_folder) as port:
        code, _, err = flash(capsys, "--package", "--serve", "--port", port)
        assert code == ExitCode.ERROR and "a main.py of its own" in err
        assert (board_folder / "main.py").read_text() == "print('mine')\n"
        assert evaluated(port, "6 * 7") == b"42"


def test_install_that_is_interrupted_leaves_whole_files_and_the_prompt(
    micropython: Path, board_folder: Path
) -> None:
    files = build("x64")

    def interrupt(done: int, whole: int) -> None:
        if done > whole // 2:
            raise KeyboardInterrupt

    with micropython_prompt(micropython, board_folder) as port:
        with MicroPythonBoard(port) as board, pytest.raises(KeyboardInterrupt):
            install(board, progress=interrupt)
        assert evaluated(port, "6 * 7") == b"42"
        for path in (board_folder / "lib" / "thimble").glob("*.mpy"):
            assert path.read_bytes() == files[f"thimble/{path.name}"]
        with MicroPythonBoard(port) as board:
            done = install(board)
        assert [Path(path).suffix for path in done.removed] == [".new"]
    assert len(list((board_folder / "lib" / "thimble").iterdir())) == len(files)


def test_install_where_there_is_no_room_leaves_what_was_there(
    micropython: Path, board_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with micropython_prompt(micropython, board_folder) as port, MicroPythonBoard(port) as board:
        real = board.evaluate

        def crowded(expression: str, statements: str = "") -> object:
            return 1000 if "statvfs" in expression else real(expression, statements)

        monkeypatch.setattr(board, "evaluate", crowded)
        with pytest.raises(DeviceError, match=r"takes [\d,]+ bytes, and the file system .* too few"):
            install(board)
    assert list(board_folder.iterdir()) == []


def test_install_is_refused_where_mpy_versions_differ() -> None:
    files = build("armv6m")
    assert {name: data[:2] for name, data in files.items()} == dict.fromkeys(files, b"M\x06")
    check_compatible(files, Runtime("a Pico", "armv6m", 6, 3, "/lib"))
    with pytest.raises(DeviceError, match=r"a Pico loads .mpy files of version 6.1, .* makes 6.3"):
        check_compatible(files, Runtime("a Pico", "armv6m", 6, 1, "/lib"))
    check_compatible(build(BYTECODE), Runtime("a micro:bit", BYTECODE, 6, 0, "/lib"))


def test_micropython_board_says_so_where_there_is_no_prompt(board_folder: Path) -> None:
    with start("qemu:m4") as server, pytest.raises(DeviceError, match="no MicroPython prompt"):
        MicroPythonBoard(server.port)
    with pytest.raises(NoDeviceError, match="cannot open"):
        MicroPythonBoard(str(board_folder / "none"))


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which it is served on this machine."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Not on the tests' stderr."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_mip_installs_what_flash_writes_for_it(
    micropython: Path, board_folder: Path, web_server: tuple[Path, str], capsys: Capture
) -> None:
    folder, address = web_server
    code, out, _ = flash(capsys, "--mip", folder, "--board", "unix", "--json")
    assert code == 0
    figures = json.loads(out)
    assert figures["architecture"] == "x64" and figures["files"][-1] == str(folder / "package.json")
    program = f"import mip; mip.install('{address}/package.json', target='lib')\n"
    environment = {**os.environ, "MICROPYPATH": "lib:.frozen"}
    check = program + "import thimble; print(thimble.__file__)"
    done = subprocess.run(
        [micropython, "-c", check], cwd=board_folder, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1].endswith("lib/thimble/__init__.mpy"), done
    for name, data in build("x64").items():
        assert (board_folder / "lib" / name).read_bytes() == data


def test_mip_dry_run_says_what_it_would_write_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_tool("mpy-cross")
    wanted = ["--mip", tmp_path / "mip", "--board", "pico", "--dry-run"]
    code, out, _ = flash(capsys, *wanted)
    assert code == 0 and out.startswith(f"would write {tmp_path / 'mip' / 'package.json'}: ")
    figures = json.loads(flash(capsys, *wanted, "--json")[1])
    assert not figures["done"] and str(tmp_path / "mip" / "thimble" / "slots.mpy") in figures["files"]
    assert not (tmp_path / "mip").exists()


def test_mip_package_of_a_board_has_its_architecture_and_what_its_model_needs(
    tmp_path: Path, capsys: Capture
) -> None:
    require_tool("mpy-cross")
    bits = Path(__file__).parent / "vectors" / "files" / "bit_fully_connected.thimble"
    code, out, _ = flash(capsys, "--mip", tmp_path / "mip", "--board", "pico", "--model", bits)
    assert code == 0 and "armv6m" in out
    assert (tmp_path / "mip" / "thimble" / "bit_kernels.mpy").exists()
    code, _, err = flash(capsys, "--mip", tmp_path / "mip", "--board", "microbit_v2")
    assert code == ExitCode.USAGE and "no MicroPython that takes the package" in err
