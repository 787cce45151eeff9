"""The C core as a native module of MicroPython (firmware/natmod), built for the unix port and run by it.

Needs a checkout of MicroPython, whose path is in the environment variable MPY_DIR: its linker makes the
module. There is no package of it, so that these tests are skipped without one, also in CI.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from host_tools import serve
from host_tools.device_package import build_device_package, device_sources
from tests import conformance
from tests.conftest import require_module, require_tool
from tests.device_models import (
    check_server_on_micropython,
)
from tests.executors import EXECUTORS, run_firmware

REPOSITORY = Path(__file__).resolve().parent.parent
NATMOD = REPOSITORY / "firmware" / "natmod"
LANES = ["natmod", "natmod_file"]

# Prints the .mpy version, then whether what is loaded runs in the core: an aligned buffer does, a buffer at
# an odd place and a file that would take most of the heap do not.
LOADS = """
import gc, sys, thimble
from thimble.native import CoreNetwork
print(sys.implementation._mpy & 255)
data = open("model.thimble", "rb").read()
odd = memoryview(bytearray(b"x" + data))[1:]
found = [thimble.load(source) for source in (data, odd, "model.thimble")]
print([isinstance(network, CoreNetwork) for network in found])
gc.collect()
spare = None
while gc.mem_free() >= 2 * len(data):
    spare = (spare, bytearray(1000))
found.append(thimble.load("model.thimble"))
print(isinstance(found[-1], CoreNetwork))
inputs = [bytes(range(7, 7 + len(view))) for view in found[0].inputs]
outputs = [bytes(memoryview(network.run(inputs))) for network in found]
names = "arena_bytes scratch_bytes model_id model_version operator_count sha256".split()
same = [[getattr(network, name) for name in names] for network in found]
times = []
found[0].invoke(times)
print(outputs.count(outputs[0]), same.count(same[0]), len(times) == found[0].operator_count)
try:
    found[0].run(b"short")
except thimble.ThimbleError as error:
    print(error)
spare = None
gc.collect()
try:
    thimble.load(data[:-1] + bytes([data[-1] ^ 1]))
except thimble.ThimbleError as error:
    print(error)
"""


def build(architecture: str, folder: Path) -> tuple[Path, str]:
    """core.mpy, made in `folder`, and what the build printed."""
    if not os.environ.get("MPY_DIR"):
        pytest.skip("MPY_DIR is not set: a native module needs a checkout of MicroPython")
    for module in ("elftools", "ar"):
        require_module(module, "MicroPython's linker needs it: pip install pyelftools ar")
    command = ["make", "-C", NATMOD, f"ARCH={architecture}", f"BUILD={folder}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "core.mpy", done.stdout


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """core.mpy for the unix port."""
    return build("x64", tmp_path_factory.mktemp("natmod"))[0]


@pytest.fixture(scope="module")
def package(core: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a board with the native module gets."""
    folder = tmp_path_factory.mktemp("board") / "thimble"
    build_device_package("x64", folder, core)
    return folder


@pytest.fixture(scope="module")
def executors(core: Path) -> Iterator[None]:
    """The module among the executors of the conformance tests, with models in a buffer and in a file."""
    for name, source in zip(LANES, ("buffer", "file"), strict=True):
        EXECUTORS[name] = partial(
            run_firmware, interpreter="micropython", lane="core", source=source, built=True, core=core
        )
    yield
    for name in LANES:
        del EXECUTORS[name]


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("name", conformance.SETS)
def test_natmod_every_vector_gives_its_result(name: str, lane: str, executors: None) -> None:
    found = conformance.failures(name, lane)
    shown = "\n".join(found[:20])
    assert not found, f"{len(found)} of {len(conformance.vectors_of(name))} vectors:\n{shown}"


def test_natmod_takes_what_it_can_and_leaves_the_rest_to_the_interpreter(
    package: Path, micropython: Path, tmp_path: Path
) -> None:
    shutil.copy(REPOSITORY / "examples" / "digits" / "digits_int8.thimble", tmp_path / "model.thimble")
    done = subprocess.run(
        [micropython, "-c", LOADS],
        cwd=tmp_path,
        env={**os.environ, "MICROPYPATH": f"{package.parent}:.frozen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    magic, version = (package / "core.mpy").read_bytes()[:2]
    lines = done.stdout.splitlines()
    assert (magic, lines[0]) == (ord("M"), str(version))
    assert lines[1:4] == ["[True, False, True]", "False", "4 4 True"]
    assert lines[4] == "bad_input: input 0" and lines[5].startswith("bad_hash: byte ")


def test_natmod_server_deploys_runs_and_refuses_by_name(
    package: Path, micropython: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "device_package_folder", lambda: package)
    check_server_on_micropython()


@pytest.mark.parametrize("architecture", ["armv6m", "armv7m", "armv7emsp"])
def test_natmod_links_for_a_board_without_static_data(architecture: str, tmp_path: Path) -> None:
    require_tool("arm-none-eabi-gcc")
    module, printed = build(architecture, tmp_path)
    print(f"{architecture}: {module.stat().st_size} bytes")
    assert re.search(r"^bss size: +0$", printed, re.MULTILINE)


def test_device_package_without_the_native_module_does_not_mention_it() -> None:
    assert "native" not in device_sources() and "native" not in device_sources()["__init__"]
    with_core = device_sources(core=True)
    assert "thimble.native" in with_core["__init__"] and "core.load" in with_core["native"]
