"""The C core as a Python extension: `load()` gives its functions and types to host_tools/targets/native.py.

A wheel brings the extension compiled (setup.py takes `builder` from here). Elsewhere it is compiled when it
is first needed, and kept in the user's cache folder under the hash of all that goes into it. Its
declarations are the headers themselves, so that nothing of them is written down twice.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import host_tools
from host_tools.cache import cache_folder
from host_tools.shipped import core_folder
from model_packager.errors import UsageError

MODULE = "host_tools._core"
HEADERS = ("include/thimble.h", "host/native.h")
# With -O3 compilers make vector instructions of the core's inner loops: half the time of -O2.
COMPILE = ("-O3", "-g0")
COMPILERS = ("cc", "gcc", "clang")
LINK = ("-bundle", "-undefined", "dynamic_lookup") if sys.platform == "darwin" else ("-shared",)


def sources() -> list[Path]:
    """The C files of the extension, without the one that cffi writes."""
    folder = core_folder()
    return [*sorted((folder / "src").glob("*.c")), folder / "host" / "native.c"]


def include_folders() -> list[Path]:
    """Where their headers lie."""
    return [core_folder() / "include", core_folder() / "host"]


def declarations() -> str:
    """`HEADERS` without what only a preprocessor or C++ understands."""
    text = "\n".join((core_folder() / name).read_text(encoding="utf-8") for name in HEADERS)
    text = re.sub(r"^#ifdef __cplusplus\n.*?^#endif\n", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)


def builder(**extension_options: Any) -> Any:
    """A `cffi.FFI` that writes or compiles the extension."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(declarations())
    ffi.set_source(MODULE, '#include "native.h"\n', **extension_options)
    return ffi


@functools.cache
def load() -> ModuleType:
    """The extension, with `ffi` and `lib`: the wheel's, else one that was compiled for these sources, else
    compiled now.

    Raises:
        UsageError: it has to be compiled and something is missing for that, or the compiler fails.
    """
    # Not importlib.util.find_spec, which also finds what is loaded below.
    if importlib.machinery.PathFinder.find_spec(MODULE, host_tools.__path__):
        return importlib.import_module(MODULE)
    built = cache_folder() / f"core-{_digest()}.so"
    if not built.exists():
        _compile(built)
    loader = importlib.machinery.ExtensionFileLoader(MODULE, str(built))
    spec = importlib.machinery.ModuleSpec(MODULE, loader, origin=str(built))
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _digest() -> str:
    import cffi

    machine = (sys.implementation.cache_tag, sys.platform, platform.machine(), cffi.__version__)
    digest = hashlib.sha256(repr((COMPILE, LINK, _compiler(), machine)).encode())
    for path in [*sources(), *sorted(core_folder().glob("*/*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _compiler() -> list[str]:
    """Command of a C compiler."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise UsageError("the target native needs a C compiler; install gcc or clang, or set CC")


def _python_headers() -> Path:
    folder = Path(sysconfig.get_path("include"))
    if not (folder / "Python.h").exists():
        raise UsageError(
            f"the target native needs Python's C headers, and there is no {folder / 'Python.h'}; "
            "install python3-dev"
        )
    return folder


def _compile(built: Path) -> None:
    headers = _python_headers()
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as beside:
        # Renamed when it is whole, so that two processes may compile at once.
        unfinished, wrapper = Path(beside) / built.name, Path(beside) / "core.c"
        builder(compiler_verbose=False).emit_c_code(str(wrapper))
        folders = [f"-I{folder}" for folder in [*include_folders(), headers]]
        command = [*_compiler(), *COMPILE, "-fPIC", *LINK, *folders]
        command += [*map(str, sources()), str(wrapper), "-o", str(unfinished)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UsageError(f"the C core does not compile: {done.stderr.strip()[:2000]}")
        os.replace(unfinished, built)
