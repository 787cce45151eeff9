"""What the C core costs on Cortex-M: instructions of one inference, memory, stack and code size, as a table.

Each network is packed losslessly for both objectives, linked with the core into an image for QEMU
(firmware/core/qemu), run once on the inputs of its golden test, whose checksum must come out, and counted
with `-icount shift=0`: SysTick moves every 40 instructions. A loop of 2000 instructions is counted first, to
check the counter. FAST sources are compiled with -O2, the rest with -Os. M0 code runs on QEMU's Cortex-M3,
because QEMU's only machine with an M0 has 16 KB of RAM.

    python benchmarks/core_counts.py                       all networks on M0, M3, M4 and M7
    python benchmarks/core_counts.py --core m4 --steps     also each operator, with instructions per MAC
    python benchmarks/core_counts.py --core m4 --network kws --objective speed --steps

Needs arm-none-eabi-gcc with newlib and qemu-system-arm (Debian: gcc-arm-none-eabi libnewlib-arm-none-eabi
qemu-system-arm), and the data folder: $THIMBLE_DATA, or shared/data beside the repository. With all CPUs it
also prints the `bar NAME FIGURE` lines of the issue about the core.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")  # before NumPy is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.networks import NETWORKS, source_of
from benchmarks.ram import TFLM_ARENA_BYTES
from model_packager import container
from model_packager.pack import OBJECTIVES, pack

CORE = Path(__file__).resolve().parent.parent / "firmware" / "core"
CPUS = {
    "m0": ("mps2-an385", ["-mcpu=cortex-m0"]),
    "m3": ("mps2-an385", ["-mcpu=cortex-m3"]),
    "m4": ("mps2-an386", ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]),
    "m7": ("mps2-an500", ["-mcpu=cortex-m7"]),
}
FAST = (CORE / "fast.mk").read_text(encoding="utf-8").partition(":=")[2].split()
FLAGS = ["-std=gnu99", "-mthumb", "-ffunction-sections", "-fdata-sections", f"-I{CORE / 'include'}"]
LINK = ["-nostartfiles", "-specs=nano.specs", "-specs=nosys.specs", "-Wl,--gc-sections"]


@dataclass(frozen=True)
class Count:
    """Instructions of one inference, and bytes. ``steps``: (first operator, how many, instructions)."""

    instructions: int
    memory_bytes: int
    arena_bytes: int
    stack_bytes: int
    load_instructions: int
    steps: list[tuple[int, int, int]]


# By (core, network, objective).
Counts = dict[tuple[str, str, str], Count]


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:1])} failed: {done.stdout}{done.stderr}")
    # Semihosting writes to the standard error of QEMU.
    return done.stdout + done.stderr


def build_objects(core: str, folder: Path) -> list[Path]:
    """The core's objects for a CPU."""
    objects = []
    for source in sorted((CORE / "src").glob("*.c")):
        objects.append(folder / f"{core}_{source.stem}.o")
        level = "-O2" if source.stem in FAST else "-Os"
        flags = [*FLAGS, *CPUS[core][1], level]
        _run(["arm-none-eabi-gcc", *flags, "-c", str(source), "-o", str(objects[-1])])
    return objects


def text_bytes(objects: list[Path]) -> int:
    """Code and constants of all objects together."""
    lines = _run(["arm-none-eabi-size", "-t", *map(str, objects)]).splitlines()
    return int(lines[-1].split()[0])


def count(core: str, objects: list[Path], model: Path, folder: Path) -> Count:
    """Link an image around a model and run it."""
    machine, cpu = CPUS[core]
    image = folder / "image.elf"
    linker = ["-T", str(CORE / "qemu" / "mps2.ld"), "-o", str(image)]
    main = [f'-DMODEL="{model}"', str(CORE / "qemu" / "count.c")]
    _run(["arm-none-eabi-gcc", *FLAGS, *cpu, "-Os", *LINK, *main, *map(str, objects), *linker])
    semihosting = ["-semihosting-config", "enable=on,target=native"]
    quiet = ["-nographic", "-monitor", "none", "-serial", "none"]
    command = ["qemu-system-arm", "-M", machine, *quiet, "-icount", "shift=0", *semihosting]
    words = [line.split() for line in _run([*command, "-kernel", str(image)]).splitlines()]
    known = ("golden", "loop-of-2000")
    lines = {line[0]: [int(word) for word in line[1:]] for line in words if line[0] in known}
    steps = [(int(line[1]), int(line[3]), int(line[2])) for line in words if line[0] == "step"]
    if "golden" not in lines or abs(lines["loop-of-2000"][0] - 2000) > 80:
        raise SystemExit(f"{model.name} on {core}: wrong outputs, or a counter that does not count: {words}")
    return Count(*lines["golden"][:5], steps)


def print_bars(counts: Counts, folder: Path, text: dict[str, int]) -> None:
    """The bars of the C core."""
    for network in NETWORKS:
        name = network.name
        fast, small = counts["m4", name, "speed"], counts["m4", name, "size"]
        ram_bytes = fast.memory_bytes + fast.stack_bytes
        print(f"bar core_m4_{name} {fast.instructions / 1e6:.3f}")
        print(f"bar core_ram_{name} {ram_bytes / TFLM_ARENA_BYTES[name]:.3f}")
        if name != "ad":  # whose size file has a bar per weight, and M0 none
            print(f"bar core_m0_{name} {counts['m0', name, 'speed'].instructions / 1e6:.3f}")
            print(f"bar core_size_ratio_{name} {small.instructions / fast.instructions:.3f}")
    print(f"bar core_speed_bytes_vww {(folder / 'vww_speed.thimble').stat().st_size}")
    weights = sum(
        operator.weights.values.size
        for operator in container.load((folder / "ad_size.thimble").read_bytes()).operators
        if operator.weights is not None
    )
    print(f"bar core_ad_size_per_weight {counts['m4', 'ad', 'size'].instructions / weights:.1f}")
    print(f"bar core_text_m4 {text['m4']}")


def print_steps(data: bytes, steps: list[tuple[int, int, int]]) -> None:
    """Each step: its operators, instructions, MACs (dense) and instructions for each of them."""
    model = container.load(data)
    for first, operator_count, instructions in steps:
        operators = model.operators[first : first + operator_count]
        names = " + ".join(operator.kind.name for operator in operators)
        shape = "x".join(map(str, model.tensors[operators[-1].outputs[0]].shape4[1:]))
        weighted = [operator.weights for operator in operators if operator.weights]
        encodings = ", ".join(weights.encoding.encoding.name for weights in weighted)
        macs = sum(model.mac_count(operator) for operator in operators)
        per_mac = f"{macs:>11,} MACs {instructions / macs:6.2f} each" if macs else ""
        head = f"  {first:>3} {names:<34} {operators[0].schedule.name:<15} {shape:<11}"
        print(f"{head} {instructions:>11,} {per_mac:<29}  {encodings}".rstrip())


def measure(core: str, folder: Path, arguments: argparse.Namespace, counts: Counts) -> int:
    """Prints the rows of one CPU and adds to `counts`; returns the bytes of all code and constants."""
    objects = build_objects(core, folder)
    for network in NETWORKS:
        if arguments.network not in (None, network.name):
            continue
        for objective in OBJECTIVES if arguments.objective is None else (arguments.objective,):
            model = folder / f"{network.name}_{objective}.thimble"
            if not model.exists():
                model.write_bytes(pack(source_of(network), objective).data)
            found = counts[core, network.name, objective] = count(core, objects, model, folder)
            cells = (
                core, network.name, objective, f"{model.stat().st_size:,}", f"{found.instructions / 1e6:.3f}",
                f"{found.memory_bytes:,}", f"{found.arena_bytes:,}", f"{found.stack_bytes:,}",
                f"{found.load_instructions / 1e6:.2f}",
            )  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)
            if arguments.steps:
                print_steps(model.read_bytes(), found.steps)
    return text_bytes(objects)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--core", choices=CPUS, action="append", help="default: all")
    parser.add_argument("--network", choices=[network.name for network in NETWORKS], help="default: all")
    parser.add_argument("--objective", choices=OBJECTIVES, help="default: both")
    parser.add_argument("--steps", action="store_true", help="print each step: instructions, MACs")
    arguments = parser.parse_args()
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed (see --help)")
    print("| core | network | objective | file | instructions, M | memory | arena | stack | load, M |")
    print("|---|---|---|---|---|---|---|---|---|")
    counts: Counts = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {core: measure(core, folder, arguments, counts) for core in arguments.core or CPUS}
        for core, size in sizes.items():
            print(
                f"bytes of code and constants, every operator and decoder, SHA-256 included, {core}: {size:,}"
            )
        if sizes.keys() == CPUS.keys() and not arguments.network and not arguments.objective:
            print_bars(counts, folder, sizes)


if __name__ == "__main__":
    main()
