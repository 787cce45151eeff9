"""What can be said of the C core without running it: every compiler is silent, and each core gets only the
instructions that it has. QEMU's Cortex-M3 does not trap DSP instructions, so that their absence is read from
the machine code."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.core_build import CPUS, build_objects
from tests.core_driver import CORE, WARNINGS

FIRMWARE = CORE.parent
SOURCES = sorted((CORE / "src").glob("*.c"))
# SIMD and saturating instructions of ARMv7E-M, and the halfword multiplications.
DSP = re.compile(
    r"\t([us]?(?:xtab|xtb)16|(?:s|u|q|uq|sh|uh)(?:add|sub)(?:8|16)|q(?:d?add|d?sub)|sm(?:la|ul|us|lsd|lald)\w*"
    r"|pkh(?:bt|tb)|sel|usada?8|[us]sat16|smm\w+)(?:\.w)?\t"
)
LONG_MULTIPLICATIONS = ("smull", "smlal")  # ARMv7-M has these two


def instructions(objects: list[Path]) -> set[str]:
    """Mnemonics of DSP instructions in the machine code."""
    command = ["arm-none-eabi-objdump", "-d", *map(str, objects)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name for name in DSP.findall(done.stdout) if name not in LONG_MULTIPLICATIONS}


@pytest.mark.parametrize("cpu", CPUS)
def test_machine_code_has_dsp_instructions_only_where_the_core_has_them(
    cpu: str, require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    require_tool("arm-none-eabi-gcc")
    found = instructions(build_objects(cpu, tmp_path))
    if cpu in ("m4", "m7"):
        assert {"smlad", "sxtb16"} <= found
    else:
        assert not found


@pytest.mark.parametrize("cpu", CPUS)
def test_compiler_for_each_core_is_silent(cpu: str, require_tool: Callable[[str], Path]) -> None:
    gcc = require_tool("arm-none-eabi-gcc")
    flags = [*WARNINGS, "-O2", "-mthumb", *CPUS[cpu][1], f"-I{CORE / 'include'}", "-c", "-o", "/dev/null"]
    for source in SOURCES:
        done = subprocess.run([gcc, *flags, source], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_cppcheck_is_silent(require_tool: Callable[[str], Path]) -> None:
    # Shifts of negative numbers are arithmetic: requantise.h says so.
    silenced = ["--suppress=shiftTooManyBitsSigned", "--suppress=missingIncludeSystem", "--inline-suppr"]
    include = [f"-I{CORE / 'include'}", f"-I{FIRMWARE / 'server' / 'include'}"]
    command = [
        require_tool("cppcheck"), "--enable=warning,style,performance,portability", "--std=c99", "--quiet",
        "--error-exitcode=1", *silenced, *include,
        *(FIRMWARE / name for name in ("core", "server", "platform", "natmod")),
    ]  # fmt: skip
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_clang_is_silent(require_tool: Callable[[str], Path]) -> None:
    clang = require_tool("clang")
    command = [clang, *WARNINGS, "-fsyntax-only", f"-I{CORE / 'include'}", *SOURCES]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
