"""Board files: what ships is in order, damage is refused by the field's name, and serve starts its own."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from host_tools import cli
from host_tools.boards import FIELDS, all_boards, board_names, load_board, read_board
from host_tools.commands.boards import _table
from host_tools.exit_codes import ExitCode
from host_tools.serve import HEAP_BYTES, QEMU_TARGET, TARGETS
from host_tools.shipped import boards_folder
from host_tools.tables import print_fitting
from model_packager.errors import UsageError
from tests import tflite_models
from tests.conftest import REPOSITORY

UNIX = (boards_folder() / "unix" / "board.toml").read_text(encoding="utf-8")
ASKED_FOR = {
    "pico", "pico2", "esp32", "esp32_s3", "esp32_c3", "nucleo_f411re", "nucleo_l4r5zi", "nucleo_h7a3zi",
    "pyboard", "nano_33_ble_sense", "teensy41", "microbit_v1", "microbit_v2", "qemu_m0", "qemu_m3", "qemu_m4",
    "qemu_m7", "qemu_microbit", "unix",
}  # fmt: skip


@pytest.mark.parametrize("name", board_names())
def test_load_board_every_shipped_file_is_in_order(name: str) -> None:
    board = load_board(name)
    assert board.name == name and board.description


def test_board_names_are_those_with_a_file() -> None:
    assert set(board_names()) == ASKED_FOR


@pytest.mark.parametrize("name", board_names())
def test_load_board_every_fact_has_a_source_that_can_be_looked_up(name: str) -> None:
    """A link, the number of a document, or a file of this project; read_board refuses a fact without any."""
    board = load_board(name)
    for fact, source in (board.sources or {}).items():
        is_document = re.search(r"Arm (DDI )?\d{4}|ST (RM|UM|DS)\d{4}|(Specification|Datasheet) v\d", source)
        assert "https://" in source or is_document or (REPOSITORY / source).is_file(), (name, fact)


def test_load_board_two_boards_with_one_usb_id_differ_in_what_they_answer() -> None:
    """`thimble devices` tells them apart by HELLO alone."""
    known = [board.micropython.machine for board in all_boards() if board.micropython]
    machines = [machine for machine in known if machine]
    assert len(machines) == len(set(machines)) >= 10


def test_load_board_unix_is_what_serve_starts() -> None:
    board = load_board("unix")
    assert board.heap_bytes == HEAP_BYTES
    assert board.start_command(4096) == ["micropython", "-X", "heapsize=4096", "-c"]


def test_load_board_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no board 'toaster', only .*unix"):
        load_board("toaster")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "unix"', 'name = "other"', "name cannot be 'other'"),
        ('architecture = "x64"', 'architecture = "z80"', "architecture cannot be 'z80'"),
        ("word_bits = 64", "word_bits = 16", "word_bits cannot be 16"),
        ("word_bits = 64", "", "word_bits is missing"),
        ("heap_bytes = 2_097_152", "heap_bytes = true", "heap_bytes cannot be True"),
        ("heap_bytes = 2_097_152", "heap_bytes = 0", "heap_bytes cannot be 0"),
        ('"-c"]', "3]", "command cannot be"),
        ("word_bits = 64", "word_bits = 64\nwatts = 3", "watts is no field of a board"),
        ("word_bits = 64", "word_bits =", "not TOML"),
        ("word_bits = 64", 'word_bits = 64\nmodel = "flash"', "model is no table"),
        ("runs_native = true", "runs_native = 1", "micropython.runs_native cannot be 1"),
        ("runs_native = true", "runs_fast = true", r"runs_fast is no field of \[micropython\]"),
        ("[sources]", "[model]\nfilesystem_bytes = 5\n[sources]", "model.filesystem_bytes has no source"),
        ("[sources]", '[port]\nusb = ["2E8A:5"]\n[sources]', "port.usb cannot be"),
        ("[sources]", "[mcu]\nclock_hz = -1\n[sources]", "mcu.clock_hz cannot be -1"),
        ("[sources]", "[measurement]\nactive_milliamps = [5, 4]\n[sources]", "active_milliamps cannot be"),
        ("[sources]", '[flash]\nimage = ".uf2"\n[sources]', "flash.command or flash.drive is missing"),
        ("[sources]", '[flash]\ncommand = ["x"]\n[sources]', "flash.image is missing"),
        ("heap_bytes = 2_097_152", "", "heap_bytes is missing, which the command needs"),
        ('heap_bytes = "host', 'watts = "x"\nheap_bytes = "host', "sources names watts"),
        ('heap_bytes = "host_tools/serve.py"', "heap_bytes = 3", "sources must be a table of links"),
    ],
)
def test_read_board_damaged_file_is_refused_by_name(
    old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    assert old in UNIX
    path = tmp_path / "unix" / "board.toml"
    path.parent.mkdir()
    path.write_text(UNIX.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        read_board(path)


def test_boards_readme_explains_every_field() -> None:
    readme = (boards_folder() / "README.md").read_text(encoding="utf-8")
    assert [field for field in [*FIELDS, "sources"] if f"| `{field}` |" not in readme] == []
    assert all(f"| `{target}` |" in readme for target in TARGETS if target.startswith(QEMU_TARGET))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('platform = "mps2"', 'platform = "mps9"', "platform cannot be 'mps9'"),
        ('cpu = "cortex-m4"', 'cpu = "z80"', "cpu cannot be 'z80'"),
        ("max_payload = 4096", "max_payload = 4097", "max_payload cannot be 4097"),
        ("keeps_models = true", "", "keeps_models is missing"),
        ("keeps_models = true", "keeps_models = 1", "keeps_models cannot be 1"),
        ("keeps_models = true", "keeps_models = true\nwatts = 3", r"watts is no field of \[firmware\]"),
        ("QEMU mps2", "QEMU " + "x" * 60 + " mps2", "at most 56 bytes of its description"),
    ],
)
def test_read_board_damaged_firmware_table_is_refused_by_name(
    old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    text = (boards_folder() / "qemu_m4" / "board.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "qemu_m4" / "board.toml"
    path.parent.mkdir()
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        read_board(path)


# ----------------------------------------------------------------------------------------------- commands


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_boards_lists_every_board_in_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_cli(capsys, "boards")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()[3:]} == ASKED_FOR
    assert max(map(len, out.splitlines())) <= 100


def test_boards_in_a_narrow_terminal_leaves_out_the_microcontroller() -> None:
    console = Console(width=80, file=io.StringIO())
    print_fitting(console, lambda narrow: _table(all_boards(), narrow))
    shown = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, shown)) <= 80 and "RP2040" not in "".join(shown)
    assert len(shown) >= len(ASKED_FOR)


def test_boards_of_one_board_shows_facts_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_cli(capsys, "boards", "pico")
    assert code == 0
    assert re.search(r"^mcu.ram_bytes +270,336$", out, re.MULTILINE)
    assert re.search(r"^mcu +https://datasheets.raspberrypi.com", out, re.MULTILINE)
    shown = json.loads(run_cli(capsys, "boards", "pico", "--json")[1])
    assert shown["facts"]["micropython.board"] == "RPI_PICO" and shown["sources"]["mcu"].startswith(
        "https://"
    )
    assert len(json.loads(run_cli(capsys, "boards", "--json")[1])) == len(ASKED_FOR)
    assert run_cli(capsys, "boards", "toaster")[0] == ExitCode.USAGE


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A convolution, 32x32x8 to 32x32x8: its arena is larger than a micro:bit's RAM."""
    weights = np.random.default_rng(0).integers(-127, 128, (8, 3, 3, 8)).astype(np.int8)
    path = tmp_path / "network.tflite"
    path.write_bytes(tflite_models.conv_2d((1, 32, 32, 8), weights, None, (0.1, 3), [0.01] * 8, (0.2, -5)))
    return path


def test_pack_for_a_board_says_what_it_takes_of_it(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_cli(capsys, "pack", network, "--board", "pico")
    assert code == 0
    assert re.search(r"fits Raspberry Pi Pico: [\d,]+ of 1,441,792 \(filesystem\), [\d,]+ of 270,336", out)
    figures = json.loads(run_cli(capsys, "pack", network, "--board", "teensy41", "--json")[1])
    assert figures["board"]["name"] == "teensy41"
    assert figures["board"]["needs"][0]["needed_bytes"] == figures["file_bytes"]
    assert figures["board"]["needs"][1]["room_bytes"] == 786_432


def test_pack_for_a_board_that_is_too_small_says_by_how_much_and_writes_nothing(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_cli(capsys, "pack", network, "--board", "microbit_v1")
    assert (code, out) == (ExitCode.ERROR, "")
    found = re.search(
        r"does not fit BBC micro:bit v1: its RAM peak of ([\d,]+) bytes is ([\d,]+) more than", err
    )
    assert found, err
    peak, missing = (int(number.replace(",", "")) for number in found.groups())
    assert peak - missing == 13_000
    assert not network.with_suffix(".thimble").exists()
    assert run_cli(capsys, "pack", network, "--board", "toaster")[0] == ExitCode.USAGE
