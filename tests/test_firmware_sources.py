"""The sources of the device package: they compile for boards, agree on their constants, and stay small."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from host_tools.device_package import build_device_package
from host_tools.shipped import device_package_folder
from model_packager import container
from model_packager.golden import golden_inputs
from tests.file_vectors import valid_vectors

FOLDER = device_package_folder()
SOURCES = sorted(FOLDER.glob("*.py"))
ARCHITECTURES = ("armv6m", "armv7emsp", "xtensawin", "rv32imc")
CONSTANT = re.compile(r"^(_[A-Z]_[A-Z0-9_]+) = const\((\d+)\)", re.MULTILINE)
GENERATED = re.compile(r"^# generated:begin.*?^# generated:end", re.MULTILINE | re.DOTALL)
# Of all that a board with armv6m installs; the bar is in benchmarks/bars.toml. What needs more says so here.
PACKAGE_BYTES = 28_672


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_device_package_compiles_for_board(architecture: str, mpy_cross: Path, tmp_path: Path) -> None:
    sizes = build_device_package(architecture, tmp_path)
    assert sizes == {file.stem: file.stat().st_size for file in tmp_path.glob("*.mpy")}
    assert set(sizes) == {"__init__", "kernels", "server", "slots", "ed25519"}


def test_device_package_for_armv6m_does_not_grow(mpy_cross: Path, tmp_path: Path) -> None:
    assert sum(build_device_package("armv6m", tmp_path, slots=False).values()) <= PACKAGE_BYTES


def test_hand_written_indexes_of_shared_arrays_agree_between_modules() -> None:
    found: dict[str, dict[str, str]] = {}
    for source in SOURCES:
        own = GENERATED.sub("", source.read_text(encoding="utf-8"))
        for name, value in CONSTANT.findall(own):
            if re.match(r"_[A-Z]_", name):
                found.setdefault(name, {})[source.stem] = value
    assert len(found) > 60
    assert not {name: values for name, values in found.items() if len(set(values.values())) > 1}


def test_viper_functions_have_the_literal_decorator() -> None:
    text = (FOLDER / "kernels.py").read_text(encoding="utf-8")
    functions = re.findall(r"^(.*)\ndef (\w+)\(", text, re.MULTILINE)
    assert functions and all(before == "@micropython.viper" for before, _ in functions)


def test_both_lanes_have_the_same_functions() -> None:
    def signatures(name: str) -> dict[str, list[str]]:
        text = (FOLDER / name).read_text(encoding="utf-8")
        found = re.findall(r"^def ([a-z]\w*)\(([^)]*)\)", text, re.MULTILINE)
        return {
            function: [part.split(":")[0].strip() for part in given.split(",")] for function, given in found
        }

    assert signatures("kernels.py") == signatures("kernels_bytecode.py")


def test_board_without_native_code_runs_on_bytecode(micropython: Path, tmp_path: Path) -> None:
    """As on a board whose MicroPython cannot load the kernels: the package without them still runs."""
    shutil.copytree(FOLDER, tmp_path / "thimble", ignore=shutil.ignore_patterns("kernels.py", "__pycache__"))
    vector = next(valid for valid in valid_vectors() if "operator:CONV_2D" in valid.covers)
    (tmp_path / "model").write_bytes(vector.data)
    inputs = golden_inputs(container.load(vector.data), vector.seed)
    (tmp_path / "input").write_bytes(inputs[0].tobytes())
    program = (
        "import sys; sys.path.insert(0, '.'); import thimble; network = thimble.load('model')\n"
        "print(network.kernels.__name__, bytes(network.run(open('input', 'rb').read())))"
    )
    command = [micropython, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == f"thimble.kernels_bytecode {vector.outputs[0]!r}", done.stderr


@pytest.mark.parametrize("architecture", ["armv6m", "armv7m"])
def test_dense_kernel_needs_at_most_25_instructions_per_mac(
    architecture: str, mpy_cross: Path, require_module: Callable[[str], ModuleType]
) -> None:
    require_module("unicorn")
    from benchmarks.viper_instructions import LAYERS, measure, thumb_code

    assert measure(LAYERS[0], thumb_code("convolve", architecture)) <= 25
