"""Target `native`: the C core on this machine, the same source that runs on a microcontroller.

The library is compiled when it is first needed, by the C compiler `cc`, `gcc` or $CC, and kept in the user's
cache folder under the hash of its sources. It is plain C behind ctypes, which needs neither Python's headers
nor an extension for each Python.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from host_tools.shipped import core_folder
from host_tools.targets import Array, Target, run_one_by_one
from model_packager import container
from model_packager.errors import FormatError, UsageError
from model_packager.format_table import ErrorCode
from model_packager.model import NUMPY_DTYPES, Model

FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared")
COMPILERS = ("cc", "gcc", "clang")


class NativeTarget:
    """One model in the C core, run one sample at a time in a block of memory of just the size it asks for."""

    def __init__(self) -> None:
        self._library = _library()
        self._model: Model | None = None
        self.memory_bytes = 0
        self.arena_bytes = 0

    def load(self, data: bytes) -> None:
        self._model = None
        # The core reads the file in place: it has to stay, at an address that is a multiple of 4.
        self._file = _words(len(data))
        ctypes.memmove(self._file, data, len(data))
        self._handle = _words(self._library.thimble_native_model_bytes())
        sizes = (ctypes.c_uint32 * 2)()
        _check(self._library.thimble_native_load(self._handle, self._file, len(data), sizes))
        self.memory_bytes, self.arena_bytes = sizes
        self._memory = _words(self.memory_bytes)
        _check(self._library.thimble_reset(self._handle, self._memory, self.memory_bytes))
        model = container.load(data)
        self._inputs = [self._place(0, index) for index in range(len(model.inputs))]
        self._outputs = [self._place(1, index) for index in range(len(model.outputs))]
        self._model = model

    def _place(self, is_output: int, index: int) -> tuple[int, int]:
        """(address, bytes) of an input or output."""
        place = (ctypes.c_uint32 * 2)()
        _check(self._library.thimble_native_port(self._handle, is_output, index, place))
        return ctypes.addressof(self._memory) + place[0], place[1]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        if self._model is None:
            raise UsageError("no model is loaded")
        return run_one_by_one(partial(self._run_sample, self._model), inputs)

    def _run_sample(self, model: Model, inputs: Sequence[Array]) -> list[Array]:
        for array, (address, size_bytes) in zip(inputs, self._inputs, strict=True):
            given = np.ascontiguousarray(array).tobytes()
            if len(given) != size_bytes:
                raise FormatError(ErrorCode.BAD_INPUT, f"an input of {len(given)} bytes, not {size_bytes}")
            ctypes.memmove(address, given, size_bytes)
        _check(self._library.thimble_run(self._handle, self._memory, self.memory_bytes))
        tensors = [model.tensors[port.tensor] for port in model.outputs]
        return [
            np.frombuffer(ctypes.string_at(*place), NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)
            for place, tensor in zip(self._outputs, tensors, strict=True)
        ]

    def close(self) -> None:
        self._model = None


def _words(size_bytes: int) -> ctypes.Array[ctypes.c_uint64]:
    """Zeroed memory of at least `size_bytes`, aligned to 8."""
    return (ctypes.c_uint64 * (size_bytes // 8 + 1))()


def _check(result: int) -> None:
    if result < 0:
        raise FormatError(ErrorCode(result), "says the C core")


def _compiler() -> list[str]:
    """Command of a C compiler."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise UsageError("the target native needs a C compiler; install gcc or clang, or set CC")


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thimble"


@functools.cache
def _library() -> ctypes.CDLL:
    """The compiled core, compiled now if its sources or flags are new.

    Raises:
        UsageError: there is no compiler, or it fails.
    """
    folder = core_folder()
    sources = [*sorted((folder / "src").glob("*.c")), folder / "host" / "native.c"]
    digest = hashlib.sha256(repr((FLAGS, _compiler())).encode())
    for path in [*sources, *sorted(folder.glob("*/*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    built = _cache_folder() / f"core-{digest.hexdigest()[:16]}.so"
    if not built.exists():
        _compile(sources, folder / "include", built)
    library = ctypes.CDLL(str(built))
    uint32, pointer = ctypes.c_uint32, ctypes.c_void_p
    library.thimble_native_model_bytes.restype = uint32
    library.thimble_native_load.argtypes = [pointer, pointer, uint32, pointer]
    library.thimble_native_port.argtypes = [pointer, ctypes.c_int32, uint32, pointer]
    library.thimble_reset.argtypes = library.thimble_run.argtypes = [pointer, pointer, uint32]
    return library


def _compile(sources: Sequence[Path], include: Path, built: Path) -> None:
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as beside:
        # Renamed when it is whole, so that two processes may compile at once.
        unfinished = Path(beside) / built.name
        command = [*_compiler(), *FLAGS, f"-I{include}", *map(str, sources), "-o", str(unfinished)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UsageError(f"the C core does not compile: {done.stderr.strip()[:2000]}")
        os.replace(unfinished, built)


def create() -> Target:
    return NativeTarget()
