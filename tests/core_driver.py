"""The C core in a process of its own: cases (files or weight streams) go in, results or error names come out.

firmware/core/test/run_cases.c is compiled with AddressSanitizer and UndefinedBehaviorSanitizer; each case has
buffers of its exact size, so that reading or writing a byte too far ends the process and names the case. The
same program runs on emulated Cortex-M cores, compiled as a board would have it, and reads the cases through
semihosting.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.core_build import CPUS, FLAGS, MPS2_SCRIPT, build_objects
from model_packager.encoders import Stream
from model_packager.format_table import CONSTANT_FIELDS, ConstantKind, ErrorCode

CORE = Path(__file__).resolve().parent.parent / "firmware" / "core"
WARNINGS = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@dataclass(frozen=True)
class CoreCase:
    """A file with the bytes of all inputs of `runs` runs (0: one run on zeros), or a weight stream."""

    name: str
    data: bytes
    inputs: bytes = b""
    runs: int = 0
    is_stream: bool = False


@dataclass(frozen=True)
class CoreResult:
    """`outputs`: of all runs, or the matrix of a stream. `error`: a name of the format table in lower case,
    or a sentence that starts with "crash". `memory_bytes`: what the core asked for; of a stream, scratch by
    the format's rule."""

    outputs: bytes | None = None
    error: str | None = None
    memory_bytes: int = 0


def stream_case(name: str, stream: Stream) -> CoreCase:
    """A stream without a file around it."""
    names = [field for field, _ in CONSTANT_FIELDS[ConstantKind.WEIGHTS]]
    values = {"data_offset": 0, "data_bytes": len(stream.payload)}
    fields = [values.get(field, getattr(stream.descriptor, field, 0)) for field in names]
    return CoreCase(name, struct.pack(f"<{len(fields)}I", *fields) + stream.payload, is_stream=True)


def build_driver(gcc: Path, folder: Path, flags: Sequence[str] = ()) -> list[str]:
    """Compiles the core and its driver for this machine; returns the command that runs it, without arguments.
    `folder` takes the program."""
    program = folder / "run_cases"
    sources = [*sorted((CORE / "src").glob("*.c")), CORE / "test" / "run_cases.c"]
    command = [gcc, *WARNINGS, *SANITIZERS, *flags, f"-I{CORE / 'include'}", *sources, "-o", program]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [str(program)]


def build_emulated_driver(gcc: Path, qemu: Path, cpu: str, folder: Path) -> list[str]:
    """The same for an emulated Cortex-M, a key of CPUS. `gcc` is arm-none-eabi-gcc, `qemu` its emulator."""
    machine, flags = CPUS[cpu]
    image = folder / "run_cases.elf"
    sources = [CORE / "test" / "run_cases.c", CORE / "test" / "vectors.c"]
    link = ["-specs=rdimon.specs", "-Wl,--gc-sections", *MPS2_SCRIPT, "-Wl,-e,_start"]
    parts = [gcc, *FLAGS, *flags, "-O1", *sources, *build_objects(cpu, folder), *link, "-o", image]
    done = subprocess.run([str(part) for part in parts], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    quiet = ["-nographic", "-monitor", "none", "-serial", "none"]
    semihosting = ["-semihosting-config", "enable=on,target=native,arg=run_cases"]
    return [str(qemu), "-M", machine, *quiet, "-kernel", str(image), *semihosting]


def run_cases(
    command: Sequence[str], cases: Sequence[CoreCase], folder: Path, timeout_s: float = 120
) -> list[CoreResult]:
    """All cases in one process. Where it crashes or hangs, that case has the error "crash: ..."."""
    given, found = folder / "cases", folder / "results"
    packed = [struct.pack("<I", len(cases))]
    for case in cases:
        kind = b"s" if case.is_stream else b"f"
        head = kind + struct.pack("<I", len(case.data))
        inputs = struct.pack("<I", len(case.inputs)) + case.inputs
        packed += [head, case.data, inputs, struct.pack("<I", case.runs)]
    given.write_bytes(b"".join(packed))
    arguments = [str(given), str(found)]
    if "-semihosting-config" in command:
        arguments = ["".join(f",arg={argument}" for argument in arguments)]
        command, arguments = command[:-1], [command[-1] + arguments[0]]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, timeout=timeout_s)
        reason = f"exit code {done.returncode}: {done.stderr.decode('utf-8', 'replace')[:4000]}"
    except subprocess.TimeoutExpired:
        reason = f"no end after {timeout_s} s"
    results = _unpack(found.read_bytes())
    if len(results) < len(cases):
        results.append(CoreResult(error=f"crash: {reason}"))
    return results + [CoreResult(error="crash: not reached")] * (len(cases) - len(results))


def _unpack(data: bytes) -> list[CoreResult]:
    results, at = [], 0
    while at < len(data):
        code, memory_bytes, length = struct.unpack_from("<iII", data, at)
        at += 12
        if code < 0:
            results.append(CoreResult(error=ErrorCode(code).name.lower()))
        else:
            results.append(CoreResult(data[at : at + length], None, memory_bytes))
        at += length
    return results
