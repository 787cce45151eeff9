"""Board files: what ships is in order, damage is refused by the field's name, and serve starts its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.boards import Board, Firmware, board_names, load_board, read_board
from host_tools.serve import HEAP_BYTES, QEMU_TARGET, TARGETS
from host_tools.shipped import boards_folder
from model_packager.errors import UsageError

UNIX = (boards_folder() / "unix.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", board_names())
def test_load_board_every_shipped_file_is_in_order(name: str) -> None:
    board = load_board(name)
    assert board.name == name and board.description


def test_board_names_hold_unix() -> None:
    assert "unix" in board_names()


def test_load_board_unix_is_what_serve_starts() -> None:
    board = load_board("unix")
    assert board.heap_bytes == HEAP_BYTES
    assert board.start_command(4096) == ["micropython", "-X", "heapsize=4096", "-c"]


def test_load_board_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no board 'pico', only .*unix"):
        load_board("pico")


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
    ],
)
def test_read_board_damaged_file_is_refused_by_name(
    old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    assert old in UNIX
    path = tmp_path / "unix.toml"
    path.write_text(UNIX.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        read_board(path)


def test_boards_readme_explains_every_field() -> None:
    readme = (boards_folder() / "README.md").read_text(encoding="utf-8")
    firmware = [f"firmware.{field}" for field in Firmware.__dataclass_fields__]
    assert all(f"| `{field}` |" in readme for field in [*Board.__dataclass_fields__, *firmware])
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
    text = (boards_folder() / "qemu_m4.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "qemu_m4.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        read_board(path)
