"""Every executor behind one function: cases (a model and inputs) go in, outputs or the error's name come out.

`EXECUTORS` is what "every executor" means in the conformance tests and in benchmarks/conformance.py: the
NumPy reference, and the firmware's source on CPython (strict 32-bit shim) and on MicroPython, each way
that it can run there. The firmware runs in a process of its own, all cases in one; tests/run_cases.py is
what it executes.
"""

from __future__ import annotations

import atexit
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import thimble

from host_tools.device_package import BYTECODE, build_device_package
from host_tools.shipped import device_package_folder
from model_packager import container, reference
from model_packager.errors import FormatError
from model_packager.format_table import ErrorCode
from model_packager.model import NUMPY_DTYPES

DRIVER = Path(__file__).resolve().parent / "run_cases.py"
REPOSITORY = DRIVER.parent.parent
HEAP_BYTES = 32 << 20
OK, REFUSED, FAILED = 0, 1, 2  # as in run_cases.py
HEAD = "<BbI"


@dataclass(frozen=True)
class Case:
    """A file, and for each run the bytes of all its inputs in order. No runs: one run on zeros, to read every
    weight of a file that may be bad."""

    name: str
    data: bytes
    runs: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Result:
    """`outputs`: the bytes of all outputs of all runs; `error`: the format table's name in lower case, or for
    what no executor may do a sentence that starts with "crash"."""

    outputs: bytes | None = None
    error: str | None = None


Executor = Callable[[Sequence[Case]], list[Result]]


def run_reference(cases: Sequence[Case]) -> list[Result]:
    """The packager's loader and the NumPy executor."""
    return [_run_reference_case(case) for case in cases]


def _run_reference_case(case: Case) -> Result:
    try:
        model = container.load(case.data)
    except FormatError as error:
        return Result(error=error.code.name.lower())
    except Exception as error:
        return Result(error=f"crash: {error!r}")
    tensors = [model.tensors[port.tensor] for port in model.inputs]
    outputs = []
    for run in case.runs or (bytes(sum(tensor.size_bytes for tensor in tensors)),):
        arrays, at = [], 0
        for tensor in tensors:
            values = np.frombuffer(run[at : at + tensor.size_bytes], NUMPY_DTYPES[tensor.dtype])
            # A batch of one; the reference takes a leading dimension of 1 for it.
            shape = tensor.shape if tensor.shape[:1] == (1,) else (1, *tensor.shape)
            arrays.append(values.reshape(shape))
            at += tensor.size_bytes
        outputs += [output.tobytes() for output in reference.run(model, arrays)]
    return Result(b"".join(outputs))


def _pack_cases(cases: Sequence[Case]) -> bytes:
    packed = [struct.pack("<I", len(cases))]
    for case in cases:
        inputs = b"".join(case.runs)
        packed += [struct.pack("<III", len(case.data), len(inputs), len(case.runs)), case.data, inputs]
    return b"".join(packed)


def _unpack_results(data: bytes) -> list[Result]:
    results, at = [], 0
    while at < len(data):
        status, code, length = struct.unpack_from(HEAD, data, at)
        at += struct.calcsize(HEAD)
        content = data[at : at + length]
        at += length
        if status == OK:
            results.append(Result(content))
        elif status == REFUSED:
            results.append(Result(error=ErrorCode(code).name.lower()))
        else:
            results.append(Result(error=f"crash: {content.decode()}"))
    return results


def run_firmware(
    cases: Sequence[Case],
    interpreter: str,
    lane: str = "default",
    source: str = "buffer",
    timeout_s: float = 300,
    built: bool = False,
    core: Path | None = None,
) -> list[Result]:
    """The firmware in one process, "cpython" or "micropython"; lane and source as in run_cases.py. `built`:
    not the sources but what a board gets of them; `core`: with this native module, for the lane of that name.

    A process that ends early or hangs gives its case, and all that it did not reach, an error that starts
    with "crash".
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "cases", Path(folder) / "results"
        given.write_bytes(_pack_cases(cases))
        command = [*_command(interpreter), str(DRIVER), str(given), str(found)]
        # What is built has one lane only, its default.
        command += ["default" if built and not core else lane, source]
        package = _built_package(lane, core) if built else device_package_folder()
        paths = f"{package.parent}:{REPOSITORY}"
        environment = {**os.environ, "PYTHONPATH": paths, "MICROPYPATH": f"{paths}:.frozen"}
        try:
            done = subprocess.run(command, capture_output=True, timeout=timeout_s, env=environment)
            last_words = done.stderr.decode("utf-8", "replace") + done.stdout.decode("utf-8", "replace")
            reason = f"exit code {done.returncode} {last_words.strip()}"
        except subprocess.TimeoutExpired:
            reason = f"no end after {timeout_s} s"
        results = _unpack_results(found.read_bytes() if found.exists() else b"")
    if len(results) < len(cases):
        results.append(Result(error=f"crash: {reason}"))
    return results + [Result(error="crash: not reached")] * (len(cases) - len(results))


@cache
def _built_package(lane: str, core: Path | None) -> Path:
    """The package for the architecture of the unix port, or without native code; made once for all tests."""
    folder = tempfile.TemporaryDirectory(prefix="thimble-")
    atexit.register(folder.cleanup)
    package = Path(folder.name) / "thimble"
    architecture = BYTECODE if lane == "bytecode" else "x64"
    build_device_package(architecture, package, core, thimble.FEATURES)
    return package


def _command(interpreter: str) -> list[str]:
    if interpreter == "cpython":
        return [sys.executable]
    beside_python = Path(sys.prefix) / "bin" / "micropython"
    found = str(beside_python) if beside_python.exists() else shutil.which("micropython")
    if found is None:
        raise FileNotFoundError("micropython is not installed (run `make setup`)")
    return [found, "-X", f"heapsize={HEAP_BYTES}"]


EXECUTORS: dict[str, Executor] = {
    "reference": run_reference,
    "cpython": partial(run_firmware, interpreter="cpython"),
    "micropython": partial(run_firmware, interpreter="micropython"),
    "micropython_bytecode": partial(run_firmware, interpreter="micropython", lane="bytecode"),
    "micropython_file": partial(run_firmware, interpreter="micropython", source="file"),
    "micropython_built": partial(run_firmware, interpreter="micropython", built=True),
    "micropython_built_bytecode": partial(
        run_firmware, interpreter="micropython", lane="bytecode", built=True
    ),
}
