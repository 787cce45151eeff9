"""docs/FORMAT.md: its worked file is what the packager writes, and its limits are those of the table."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from model_packager import container, reference
from model_packager.format_table import Limit
from model_packager.golden import golden_inputs, output_crc32
from tests.format_example import example_model


@pytest.fixture(scope="module")
def document(repository: Path) -> str:
    return (repository / "docs" / "FORMAT.md").read_text(encoding="utf-8")


def hexdump(document: str) -> bytes:
    """The bytes of section 9's dump, whose offsets must follow each other."""
    dump = document.partition("## 9. ")[2].partition("```\n")[2].partition("```")[0]
    data = b""
    for line in dump.splitlines():
        match = re.match(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:   |$)", line)
        if match:
            assert int(match.group(1), 16) == len(data), line
            data += bytes.fromhex(match.group(2))
        else:
            assert not line.strip() or line.startswith(" " * 32), line
    return data


def test_worked_file_is_what_the_packager_writes(document: str) -> None:
    assert hexdump(document) == container.dump(example_model())


def test_worked_file_loads_and_gives_the_outputs_that_the_document_computes(document: str) -> None:
    model = container.load(hexdump(document))
    inputs = golden_inputs(model, 1)
    assert inputs[0].tolist() == [[33, 1, -59]]
    (output,) = reference.run(model, inputs)
    np.testing.assert_array_equal(output, [[36, -50]])
    assert model.golden == (1, output_crc32([output])) == (1, zlib.crc32(bytes.fromhex("24ce")))


def test_limits_in_the_text_are_those_of_the_format_table(document: str) -> None:
    checks = document.partition("## 7. ")[2].partition("## 8. ")[0]
    assert f"`section_count` ≤ {Limit.SECTIONS}" in checks
    assert Limit.FILE_BYTES == Limit.TENSOR_BYTES == 2**30 and "`file_bytes` ≤ 2^30" in checks
    assert Limit.ROW_LENGTH == 2**24 and "cols ≤ 2^24" in checks
    assert Limit.SPARSE_ROW_LENGTH == 2**16 and "(SPARSE: 2^16)" in checks
    assert Limit.WEIGHTS == 2**27 and "rows · cols ≤ 2^27" in checks
    assert Limit.DIMENSION == 2**31 - 1 and "above 2^31 - 1" in checks


def test_every_section_has_its_place(document: str) -> None:
    headings = re.findall(r"^## (\d+)\. ", document, re.MULTILINE)
    assert headings == [str(number) for number in range(1, 10)]
