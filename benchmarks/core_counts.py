"""What the C core costs on Cortex-M: code, stack, memory and instructions of one inference, as tables.

Each network is linked with the core into an image for QEMU (firmware/core/qemu), run once on the inputs of
its golden test, whose checksum must come out, and counted with `-icount shift=0`: SysTick moves every 40
instructions. A loop of 2000 instructions is counted first, to check the counter.

    python benchmarks/core_counts.py                       all networks on M0, M3, M4 and M7, all tables
    python benchmarks/core_counts.py --core m4 --steps     also each operator, with instructions per MAC
    python benchmarks/core_counts.py --core m4 --network kws --objective speed --steps
    python benchmarks/core_counts.py --write firmware/core/MEASURED.md

Networks: those of MLPerf Tiny, packed losslessly for both objectives; the digit classifier of examples/digits
as it is shipped; LeNet-300-100, pruned and shared (benchmarks/lenet300.py). Needs arm-none-eabi-gcc with
newlib and qemu-system-arm (Debian: gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm), and the data
folder: $THIMBLE_DATA, or shared/data beside the repository. With all networks on all CPUs it also prints the
`bar NAME FIGURE` lines of the core.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")  # before NumPy is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bars import head_commit
from benchmarks.core_build import (
    CORE,
    CPUS,
    FLAGS,
    LINK,
    MPS2_SCRIPT,
    START_UP,
    Linked,
    build_objects,
    link_all,
    link_model,
    run_tool,
)
from benchmarks.core_stack import ENTRIES, Deepest, deepest, library_bytes, read_graph
from benchmarks.lenet300 import packed_lenet300
from benchmarks.networks import NETWORKS, data_folder, source_of
from benchmarks.ram import TFLM_ARENA_BYTES
from host_tools.atomic_file import replacing
from model_packager import container
from model_packager.pack import OBJECTIVES, pack
from model_packager.passes.kernel_scratch import kernel_scratch_bytes, operator_stream_scratch_bytes

DIGITS = CORE.parents[1] / "examples" / "digits" / "digits_int8.thimble"
SUBJECTS = [(network.name, objective) for network in NETWORKS for objective in OBJECTIVES]
SUBJECTS += [("digits", "size"), ("lenet300", "size")]
# Networks whose own build is linked: name of the bar -> (network, objective).
ALONE = {"core_text_kws": ("kws", "speed"), "core_text_lenet300": ("lenet300", "size")}


@dataclass(frozen=True)
class Count:
    """Instructions and bytes of a network on a CPU. ``steps``: (first operator, how many, instructions)."""

    instructions: int
    memory_bytes: int
    arena_bytes: int
    stack_bytes: int
    load_instructions: int
    load_stack_bytes: int
    steps: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Core:
    """One CPU: counts by (network, objective), linked code by build, and the deepest stack by entry."""

    counts: dict[tuple[str, str], Count]
    linked: dict[str, Linked]
    stack: dict[str, Deepest]
    library_stack_bytes: int


@cache
def file_of(network: str, objective: str) -> bytes:
    """A packed network."""
    if network == "digits":
        return DIGITS.read_bytes()
    if network == "lenet300":
        return packed_lenet300(data_folder(), objective).data
    (source,) = [source_of(known) for known in NETWORKS if known.name == network]
    return pack(source, objective).data


def require_tools() -> None:
    """Raises SystemExit where the compiler or the emulator is missing."""
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed (see --help)")


def count(core: str, objects: list[Path], data: bytes, folder: Path) -> Count:
    """Link an image around a model and run it."""
    machine, cpu = CPUS[core]
    image, model = folder / "image.elf", folder / "model.thimble"
    model.write_bytes(data)
    linker = [*MPS2_SCRIPT, "-o", str(image)]
    main = [f'-DMODEL="{model}"', str(CORE / "qemu" / "count.c"), *START_UP]
    run_tool(["arm-none-eabi-gcc", *FLAGS, *cpu, "-Os", *LINK, *main, *map(str, objects), *linker])
    semihosting = ["-semihosting-config", "enable=on,target=native"]
    quiet = ["-nographic", "-monitor", "none", "-serial", "none"]
    command = ["qemu-system-arm", "-M", machine, *quiet, "-icount", "shift=0", *semihosting]
    words = [line.split() for line in run_tool([*command, "-kernel", str(image)]).splitlines()]
    known = ("golden", "loop-of-2000")
    lines = {line[0]: [int(word) for word in line[1:]] for line in words if line[0] in known}
    steps = [(int(line[1]), int(line[3]), int(line[2])) for line in words if line[0] == "step"]
    if "golden" not in lines or abs(lines["loop-of-2000"][0] - 2000) > 80:
        raise SystemExit(f"wrong outputs on {core}, or a counter that does not count: {words}")
    return Count(*lines["golden"], steps)


def scratch_bytes(data: bytes) -> int:
    """The most that one operator's decoder and kernel take of the memory."""
    model = container.load(data)
    return max(
        operator_stream_scratch_bytes(model, index) + kernel_scratch_bytes(model, index, "c")
        for index in range(len(model.operators))
    )


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table, the first column to the left."""
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def row_of(core: str, subject: tuple[str, str], found: Count) -> list[str]:
    data = file_of(*subject)
    return [
        core, *subject, f"{len(data):,}", f"{found.instructions / 1e6:.3f}", f"{found.memory_bytes:,}",
        f"{found.arena_bytes:,}", f"{scratch_bytes(data):,}", f"{found.stack_bytes:,}",
        f"{found.load_instructions / 1e6:.2f}", f"{found.load_stack_bytes:,}",
    ]  # fmt: skip


COUNT_HEADS = [
    "core", "network", "objective", "file", "run, M", "memory", "arena", "scratch", "run stack", "load, M",
    "load stack",
]  # fmt: skip


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


def measure(core: str, subjects: list[tuple[str, str]], with_steps: bool) -> Core:
    """Everything about one CPU; prints the rows of its networks as they come."""
    counts, linked = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = build_objects(core, folder)
        for subject in subjects:
            data = file_of(*subject)
            counts[subject] = count(core, objects, data, folder)
            print(f"| {' | '.join(row_of(core, subject, counts[subject]))} |", flush=True)
            if with_steps:
                print_steps(data, counts[subject].steps)
        linked["everything"] = link_all(core, objects, folder)
        library = library_bytes(folder / "linked.elf")
        graph = read_graph(objects)
        for subject in ALONE.values():
            if subject in subjects:
                linked[subject[0]] = link_model(core, file_of(*subject), folder)
    stack = {entry: deepest(graph, function) for entry, function in ENTRIES.items()}
    return Core(counts, linked, stack, library)


def without_sha256(linked: Linked) -> int:
    """Bytes of the core as the bars count it: no cryptography."""
    return linked.core_bytes - linked.objects.get("sha256", 0)


def code_tables(cores: dict[str, Core]) -> list[str]:
    """Bytes linked of each source and build."""
    lines = []
    builds = list(next(iter(cores.values())).linked)
    for title, figure in (
        ("without SHA-256", without_sha256),
        ("with the SHA-256 that `everything` has", lambda linked: linked.core_bytes),
        (
            "besides, of the C library and the compiler's (memcpy, division)",
            lambda linked: linked.library_bytes,
        ),
    ):
        lines += ["", f"Linked, code and constants in bytes, {title}:", ""]
        rows = [
            [core, *(f"{figure(found.linked[build]):,}" for build in builds)] for core, found in cores.items()
        ]
        lines += table(
            ["core", *(build if build == "everything" else f"{build} alone" for build in builds)], rows
        )
    for build in builds:
        lines += ["", f"By source, {build}:", ""]
        names = sorted({name for found in cores.values() for name in found.linked[build].objects})
        rows = [
            [name, *(f"{f.linked[build].objects.get(name, 0):,}" for f in cores.values())] for name in names
        ]
        lines += table(["source", *cores], rows)
    return lines


def stack_lines(cores: dict[str, Core]) -> list[str]:
    """The deepest path of each entry: by the call graph, in which nothing reaches itself."""
    rows = []
    for core, found in cores.items():
        for entry, worst in found.stack.items():
            path = " > ".join(name.partition(":")[2] for name in worst.path)
            rows.append([core, entry, f"{worst.stack_bytes + found.library_stack_bytes:,}", path])
    heads = table(["core", "entry", "bytes", "path"], rows)
    text = "The most stack of any model: frames of all functions over the call graph, which has no circle."
    return ["", text, "", *heads]


def bar_lines(cores: dict[str, Core]) -> Iterator[str]:
    """The bars of the C core."""
    m0, m4 = cores["m0"].counts, cores["m4"].counts
    for network in NETWORKS:
        name = network.name
        fast, small = m4[name, "speed"], m4[name, "size"]
        ram_bytes = fast.memory_bytes + fast.stack_bytes
        yield f"bar core_m4_{name} {fast.instructions / 1e6:.3f}"
        yield f"bar core_ram_{name} {ram_bytes / TFLM_ARENA_BYTES[name]:.3f}"
        if name != "ad":  # whose size file has a bar per weight, and M0 none
            yield f"bar core_m0_{name} {m0[name, 'speed'].instructions / 1e6:.3f}"
            yield f"bar core_size_ratio_{name} {small.instructions / fast.instructions:.3f}"
    yield f"bar core_speed_bytes_vww {len(file_of('vww', 'speed'))}"
    operators = container.load(file_of("ad", "size")).operators
    weights = sum(operator.weights.values.size for operator in operators if operator.weights is not None)
    yield f"bar core_ad_size_per_weight {m4['ad', 'size'].instructions / weights:.1f}"
    yield f"bar core_text_m4 {without_sha256(cores['m4'].linked['everything'])}"
    for bar, (network_name, _) in ALONE.items():
        yield f"bar {bar} {without_sha256(cores['m4'].linked[network_name])}"


def document(cores: dict[str, Core]) -> str:
    """All tables as a Markdown file."""
    gcc = run_tool(["arm-none-eabi-gcc", "-dumpfullversion"]).strip()
    qemu = run_tool(["qemu-system-arm", "--version"]).split()[3]
    rows = [
        row_of(core, subject, found) for core, one in cores.items() for subject, found in one.counts.items()
    ]
    return "\n".join(
        [
            "# The C core, measured",
            "",
            f"Measured on commit {head_commit()} with arm-none-eabi-gcc {gcc} and QEMU {qemu}; written by",
            "`make bench-core WRITE=firmware/core/MEASURED.md`; benchmarks/core_counts.py says how. `M` is",
            "million instructions, everything else bytes. `memory` is what thimble_run needs: arena and",
            "scratch in one block, where scratch may lie over tensors that are not alive. `load` is",
            "thimble_load, SHA-256 included. M0 code runs on QEMU's Cortex-M3.",
            "",
            *table(COUNT_HEADS, rows),
            *stack_lines(cores),
            *code_tables(cores),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--core", choices=CPUS, action="append", help="default: all")
    parser.add_argument("--network", choices=dict(SUBJECTS), help="default: all")
    parser.add_argument("--objective", choices=OBJECTIVES, help="default: both")
    parser.add_argument("--steps", action="store_true", help="print each step: instructions, MACs")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write all tables to a Markdown file")
    arguments = parser.parse_args()
    require_tools()
    subjects = [
        (network, objective)
        for network, objective in SUBJECTS
        if arguments.network in (None, network) and arguments.objective in (None, objective)
    ]
    print("\n".join(table(COUNT_HEADS, [])))
    cores = {core: measure(core, subjects, arguments.steps) for core in arguments.core or CPUS}
    print("\n".join([*stack_lines(cores), *code_tables(cores)]))
    if arguments.write:
        with replacing(arguments.write) as file:
            file.write(document(cores).encode())
    if cores.keys() == CPUS.keys() and subjects == SUBJECTS:
        print("\n".join(bar_lines(cores)))


if __name__ == "__main__":
    main()
