"""The C core compiled and linked for Cortex-M: a CPU goes in, objects and bytes of code come out.

Sources of FAST are compiled with -O2, the rest with -Os. Callers are core_counts.py and the tests of the core
on emulated machines. Needs arm-none-eabi-gcc with newlib (Debian: gcc-arm-none-eabi libnewlib-arm-none-eabi).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.core_stack import CALLGRAPH_FLAGS
from host_tools.c_array import export, write_files
from model_packager import container
from model_packager.format_table import Feature

FIRMWARE = Path(__file__).resolve().parent.parent / "firmware"
CORE, PLATFORM = FIRMWARE / "core", FIRMWARE / "platform"
# QEMU's machine, and what the compiler is told. M0 code runs on a Cortex-M3: QEMU's one machine with an M0
# has 16 KB of RAM.
CPUS = {
    "m0": ("mps2-an385", ["-mcpu=cortex-m0"]),
    "m3": ("mps2-an385", ["-mcpu=cortex-m3"]),
    "m4": ("mps2-an386", ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]),
    "m7": ("mps2-an500", ["-mcpu=cortex-m7"]),
}
FAST = (CORE / "fast.mk").read_text(encoding="utf-8").partition(":=")[2].split()
FLAGS = ["-std=gnu99", "-mthumb", "-ffunction-sections", "-fdata-sections", f"-I{CORE / 'include'}"]
LINK = ["-nostartfiles", "-specs=nano.specs", "-specs=nosys.specs", "-Wl,--gc-sections"]
# Of the machines above: the linker script, and start-up code.
MPS2_SCRIPT = [f"-L{PLATFORM / 'cortex_m'}", "-T", str(PLATFORM / "mps2" / "mps2.ld")]
START_UP = [f"-I{PLATFORM / 'cortex_m'}", str(PLATFORM / "cortex_m" / "startup.c")]
# A program that calls what a firmware calls. Model and memory are somewhere else.
CALLER = """
#include "thimble_registry.h"
extern const thimble_registry REGISTRY;
extern const uint8_t *model_bytes;
extern uint32_t length;
const uint8_t *model_bytes;
uint32_t length;
int main(void) {
    thimble_model model;
    thimble_port input, output;
    uint8_t *memory = (uint8_t *)0x20000000;
    if (thimble_load(&model, &REGISTRY, model_bytes, length) < 0 ||
#ifdef HAS_STATE
        thimble_reset(&model, memory, length) < 0 ||
#endif
        thimble_input(&model, 0, &input) < 0 || thimble_output(&model, 0, &output) < 0) {
        return 1;
    }
    return (int)thimble_run(&model, memory, length);
}
void _exit(int code) {
    (void)code;
    for (;;) {
    }
}
"""
# In a linker's map: section, address, bytes, object.
PLACED = re.compile(r"^ \.(?:text|rodata)\S*\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Linked:
    """Bytes of code and constants after the linker dropped what nothing calls.

    ``objects``: of the core with its registry, by source, without the caller and without the model;
    ``library_bytes``: of the C library's and the compiler's functions (memcpy, division).
    """

    objects: dict[str, int]
    library_bytes: int

    @property
    def core_bytes(self) -> int:
        return sum(self.objects.values())


def run_tool(command: Sequence[str | Path]) -> str:
    """Output and error output of a tool. Raises SystemExit with its complaint when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stdout}{done.stderr}")
    # Semihosting writes to the standard error of QEMU.
    return done.stdout + done.stderr


def compile_sources(
    core: str, sources: Sequence[Path], folder: Path, flags: Sequence[str] = FLAGS
) -> list[Path]:
    """Objects of sources, with their call graphs beside them."""
    objects = []
    for source in sorted(sources):
        objects.append(folder / f"{core}_{source.stem}.o")
        level = "-O2" if source.stem in FAST else "-Os"
        command = ["arm-none-eabi-gcc", *flags, *CPUS[core][1], level, *CALLGRAPH_FLAGS]
        run_tool([*command, "-c", source, "-o", objects[-1]])
    return objects


def build_objects(core: str, folder: Path) -> list[Path]:
    """The core's objects for a CPU."""
    return compile_sources(core, list((CORE / "src").glob("*.c")), folder)


def link(
    core: str, objects: Sequence[Path], registry: str, folder: Path, flags: Sequence[str] = FLAGS
) -> Linked:
    """Links objects with a caller that names the registry into `linked.elf`, and reads the linker's map."""
    caller, map_file = folder / "caller.c", folder / "linked.map"
    caller.write_text(CALLER)
    command = ["arm-none-eabi-gcc", *flags, *CPUS[core][1], "-Os", f"-DREGISTRY={registry}", *LINK]
    run_tool([*command, "-Wl,-e,main", f"-Wl,-Map={map_file}", caller, *objects, "-o", folder / "linked.elf"])
    placed = map_file.read_text(encoding="utf-8").partition("Linker script and memory map")[2]
    found: dict[str, int] = {}
    library = 0
    for size, path in PLACED.findall(placed):
        if Path(path) in objects:
            stem = Path(path).stem.partition("_")[2]
            found[stem] = found.get(stem, 0) + int(size, 16)
        elif path.endswith(")"):  # a member of an archive
            library += int(size, 16)
    return Linked({stem: size for stem, size in found.items() if size}, library)


def link_all(core: str, objects: Sequence[Path], folder: Path) -> Linked:
    """The core with everything."""
    return link(core, objects, "thimble_registry_all", folder, [*FLAGS, "-DHAS_STATE"])


def link_model(core: str, data: bytes, folder: Path) -> Linked:
    """The core as `thimble export --with-core` writes it for one model."""
    target = folder / "exported"
    write_files(export(data, "model", with_core=True), target, force=True)
    has_state = container.parse(data).header.required_features & Feature.PERSISTENT_TENSORS
    flags = [*FLAGS[:-1], f"-I{target / 'src'}", *(["-DHAS_STATE"] if has_state else [])]
    sources = [path for path in (target / "src").glob("*.c") if path.name != "model_model.c"]
    built = folder / f"{core}_alone"
    built.mkdir(exist_ok=True)
    return link(core, compile_sources(core, sources, built, flags), "model_registry", built, flags)
