"""The wheel holds what it must, installs nothing that it must not, and works without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tflite_models import conv_2d
from tflm_oracle import run_tflm

from host_tools.exit_codes import ExitCode
from tests.conftest import skip_or_fail

PROBE = """
import pathlib, sys
import host_tools, host_tools.shipped, model_packager, thimble
for module in (host_tools, model_packager, thimble):
    print(pathlib.Path(module.__file__).parent)
print(host_tools.shipped.boards_folder())
print(host_tools.shipped.core_folder())
print(host_tools.shipped.meter_folder())
print(host_tools.shipped.platform_folder())
print(host_tools.shipped.server_folder())
print(host_tools.shipped.device_package_folder())
"""


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that no stale build folder gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    for name in ("model_packager", "host_tools", "firmware", "boards"):
        shutil.copytree(
            repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.mpy")
        )
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "-q", "--wheel", "--no-isolation", "--outdir", target, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = target.glob("thimble_runtime-*.whl")
    return built


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installation")
    options = ["-q", "--no-deps", "--no-index", "--target", target]
    install = [sys.executable, "-m", "pip", "install", *options, wheel]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def run_installed(
    installation: Path, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the wheel's Python code in `folder`: PYTHONPATH goes before the editable installation."""
    environment = {**os.environ, "PYTHONPATH": str(installation), **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_wheel_top_level_holds_only_the_three_packages(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"host_tools", "model_packager", "thimble"}


def test_wheel_holds_the_style_of_reports(wheel: Path, repository: Path) -> None:
    style = zipfile.ZipFile(wheel).read("host_tools/report/style.css")
    assert style == (repository / "host_tools" / "report" / "style.css").read_bytes()


def test_wheel_sources_are_all_there(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, installed in (
        ("model_packager", "model_packager"),
        ("host_tools", "host_tools"),
        ("firmware/thimble", "thimble"),
        ("firmware/core", "host_tools/data/core"),
        ("firmware/platform", "host_tools/data/platform"),
        ("firmware/server", "host_tools/data/server"),
        ("boards", "host_tools/data/boards"),
    ):
        suffixes = {".py", ".c", ".h", ".ld", ".toml"}
        sources = [p for p in (repository / folder).rglob("*") if p.suffix in suffixes]
        missing = {f"{installed}/{p.relative_to(repository / folder).as_posix()}" for p in sources} - names
        assert not missing


@pytest.fixture(scope="module")
def extension(wheel: Path, require_tool: Callable[[str], Path]) -> str:
    """Name of the compiled core in the wheel; skips, or fails in CI, where it cannot be compiled."""
    require_tool("gcc")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        skip_or_fail("Python has no C headers here")
    (found,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("host_tools/_core.")]
    return found


def test_wheel_brings_the_core_for_every_python(wheel: Path, extension: str) -> None:
    assert wheel.name.split("-")[2:4] == ["cp310", "abi3"]
    assert ".abi3." in extension or extension.endswith(".pyd")


def test_wheel_installed_modules_come_from_the_installation(installation: Path, tmp_path: Path) -> None:
    done = run_installed(installation, tmp_path, "-c", PROBE)
    assert done.returncode == 0, done.stderr
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert len(folders) == 9
    assert all(folder.is_relative_to(installation) and folder.is_dir() for folder in folders)


@pytest.fixture(scope="module")
def packed(installation: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small convolution as .tflite, and as the .thimble that the installed command packed from it."""
    random = np.random.default_rng(5)
    weights = random.integers(-127, 128, (4, 3, 3, 3), dtype=np.int8)
    bias = random.integers(-500, 500, 4, dtype=np.int32)
    folder = tmp_path_factory.mktemp("packed")
    source, model = folder / "conv.tflite", folder / "conv.thimble"
    source.write_bytes(conv_2d((1, 6, 5, 3), weights, bias, (0.02, 3), [0.01, 0.02, 0.005, 0.01], (0.05, -4)))
    done = run_installed(installation, folder, "-m", "host_tools.cli", "pack", source.name, "-o", model.name)
    assert done.returncode == 0, done.stderr
    return source, model


@pytest.mark.parametrize("target", ["reference", "cpython", "micropython", "native"])
def test_wheel_installed_command_runs_a_model_like_tflm(
    installation: Path,
    packed: tuple[Path, Path],
    tmp_path: Path,
    require_module: Callable[[str], ModuleType],
    target: str,
) -> None:
    require_module("tflite_micro")
    source, model = packed
    samples = np.random.default_rng(6).integers(-128, 128, (1, 6, 5, 3), dtype=np.int8)
    np.save(tmp_path / "x.npy", samples)
    arguments = ["run", str(model), "--input", "x.npy", "--output", "y.npy", "--target", target]
    done = run_installed(installation, tmp_path, "-m", "host_tools.cli", *arguments)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), run_tflm(source.read_bytes(), samples)[0])


def test_wheel_native_target_needs_no_compiler(
    installation: Path, extension: str, packed: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ["-m", "host_tools.cli", "run", str(packed[1]), "--golden", "--target", "native"]
    done = run_installed(installation, tmp_path, *arguments, PATH="", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == []


def test_wheel_without_its_extension_compiles_the_core_when_it_is_needed(
    installation: Path, extension: str, packed: tuple[Path, Path], tmp_path: Path
) -> None:
    """What an installation is that was built where there was no compiler."""
    pure = tmp_path / "pure"
    shutil.copytree(installation, pure, ignore=shutil.ignore_patterns(Path(extension).name))
    arguments = ["-m", "host_tools.cli", "run", str(packed[1]), "--golden", "--target", "native"]
    done = run_installed(pure, tmp_path, *arguments, PATH="", XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) == (ExitCode.USAGE, 1)
    assert "install gcc or clang" in done.stderr
    done = run_installed(pure, tmp_path, *arguments, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(os.listdir(tmp_path / "thimble")) == 1
