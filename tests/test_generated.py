"""The generated copies of the format table: current, well formed, refused when a marker asks for nonsense."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from model_packager import format_table, generate
from model_packager.errors import UsageError
from tests.conftest import skip_or_fail


def test_generated_parts_of_the_checkout_are_current() -> None:
    assert [str(path) for path in generate.stale()] == []


def test_c_header_compiles_as_strict_c99(repository: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        skip_or_fail("gcc is not installed")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-x", "c"]
    result = subprocess.run(
        [compiler, *flags, str(repository / generate.C_HEADER)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr


def test_region_items_give_const_lines_with_the_tables_values() -> None:
    items = ["Coder:RANGE", "Attr:CONV_2D.STRIDE_H", "Struct:HEADER.FILE_BYTES,HEADER.FORMAT", "Value:MAGIC"]
    lines = generate.region_lines(items, "x.py")
    assert lines == [
        "_CODER_RANGE = const(3)",
        "_CONV_2D_STRIDE_H = const(6)",
        "_HEADER_FILE_BYTES_OFFSET = const(8)",
        '_HEADER_FORMAT = const("<4sBBHIIIIIIII")',
        '_MAGIC = const(b"THMB")',
    ]


def test_region_names_of_the_whole_table_are_unique_and_evaluate() -> None:
    lines = generate.region_lines(generate.groups(), "x.py")
    found: dict[str, object] = {"const": lambda value: value}
    exec("\n".join(lines), found)
    names = [line.partition(" = ")[0] for line in lines if line.startswith("_")]
    assert len(names) == len(set(names)) > 200
    assert found["_HEADER_BYTES"] == struct.calcsize(str(found["_HEADER_FORMAT"])) == 40
    defaults = found["_DEFAULTS"]
    assert isinstance(defaults, tuple)
    for kind, attributes in format_table.OPERATOR_ATTRIBUTES.items():
        assert defaults[kind] == tuple(item.default for item in attributes)
    assert max(len(line) for line in lines) <= 110


@pytest.mark.parametrize("item", ["Codec", "Coder:ZIP", "Attr:CONV_2D.stride_h", "Struct:HEADER.FLAVOUR"])
def test_region_with_unknown_item_is_refused(item: str) -> None:
    with pytest.raises(UsageError, match=r"x\.py"):
        generate.region_lines([item], "x.py")


def test_module_with_edited_region_is_restored_and_its_own_lines_kept() -> None:
    text = (
        "a = 1\n# generated:begin Coder:FIXED\n# generated:also Layout:BITS\n"
        "_CODER_FIXED = 7\n# generated:end\nb = 2\n"
    )
    assert generate.python_text(text, "x.py").splitlines() == [
        "a = 1",
        "# generated:begin Coder:FIXED",
        "# generated:also Layout:BITS",
        "_CODER_FIXED = const(0)",
        "_LAYOUT_BITS = const(3)",
        "# generated:end",
        "b = 2",
    ]


def test_module_with_endless_region_is_refused() -> None:
    with pytest.raises(UsageError, match="no `# generated:end`"):
        generate.python_text("# generated:begin Coder\nx = 1\n", "x.py")


def test_document_with_two_tables_gets_both() -> None:
    text = (
        "# T\n<!-- generated:begin Coder -->\n<!-- generated:end -->\nmid\n"
        "<!-- generated:begin golden -->\nstale line\n<!-- generated:end -->\n"
    )
    result = generate.document_text(text, "x.md")
    assert "| 3 | `RANGE` | adaptive binary range coder |" in result
    assert "| 4 | 4 | u32 | `output_crc32` |" in result
    assert "stale line" not in result and "mid" in result
    assert generate.document_text(result, "x.md") == result


@pytest.mark.parametrize(
    "text",
    [
        "<!-- generated:begin Nonsense -->\n<!-- generated:end -->\n",
        "<!-- generated:begin Coder -->\n",
        "<!-- generated:begin Coder -->\n<!-- generated:begin Layout -->\n<!-- generated:end -->\n",
    ],
)
def test_document_with_bad_marker_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"x\.md"):
        generate.document_text(text, "x.md")


def test_check_with_stale_header_names_it_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "REPOSITORY", tmp_path)
    monkeypatch.setattr(generate, "stale", lambda: [tmp_path / generate.C_HEADER])
    assert generate.main(["--check"]) == 1
    assert "stale: firmware/core/include/thimble_format.h" in capsys.readouterr().err


def test_stale_header_on_disk_is_found(tmp_path: Path) -> None:
    header = tmp_path / generate.C_HEADER
    assert generate.stale(tmp_path) == [header]
    header.parent.mkdir(parents=True)
    header.write_text(generate.c_header().replace("THMB", "THMC"))
    assert generate.stale(tmp_path) == [header]
    header.write_text(generate.c_header())
    assert generate.stale(tmp_path) == []
