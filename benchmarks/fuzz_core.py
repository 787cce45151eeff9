"""Fuzzes the C core's loader and inference with libFuzzer, under two sanitizers.

    python benchmarks/fuzz_core.py                    ten minutes, both ways of compiling the kernels
    python benchmarks/fuzz_core.py --seconds 60
    python benchmarks/fuzz_core.py --keep             add what reached new code to tests/vectors/fuzz

The target is firmware/core/test/fuzz.c; it starts from tests/vectors/files and tests/vectors/fuzz. The
kernels are compiled as for a Cortex-M0 and as for a Cortex-M4 (emulated DSP instructions), half of the time
each. A finding is written to the current folder, named, and ends the run with exit code 1. Needs clang with
libFuzzer (Debian: clang, libclang-rt-dev).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "firmware" / "core"
VECTORS = ROOT / "tests" / "vectors"
SEEDS = (VECTORS / "files", VECTORS / "fuzz")
WAYS = {"m0": "-DTHIMBLE_NARROW_MULTIPLY", "m4": "-DTHIMBLE_DSP_EMULATED"}
LONGEST_INPUT_BYTES = 4096
SECONDS_PER_INPUT = 20
# The most that one allocation may take: the target's own are under 1 MiB. There is no limit on resident
# memory: libFuzzer asks getrusage, whose peak a process inherits from the one that started it, so that a
# large caller (a long run of pytest) would look like a finding.
LARGEST_ALLOCATION_MIB = 64


class FuzzerMissing(Exception):
    """clang is there, its fuzzer is not."""


@dataclass(frozen=True)
class Fuzzing:
    """What a run of the fuzzer did; `report` is the end of what it printed."""

    executions: int
    edges: int
    found: bool
    report: str


def build_fuzzer(clang: str | Path, way: str, folder: Path) -> Path:
    """Compile the target, with the kernels of `way`, a key of WAYS, into `folder`.

    Raises:
        FuzzerMissing: this clang has no libFuzzer.
        RuntimeError: it does not compile; the message is the compiler's.
    """
    program = folder / f"fuzz_{way}"
    sanitizers = ["-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    sources = [*sorted((CORE / "src").glob("*.c")), CORE / "test" / "fuzz.c"]
    command = [clang, "-std=c99", WAYS[way], *sanitizers, f"-I{CORE / 'include'}", *sources, "-o", program]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if "libclang_rt.fuzzer" in done.stderr:
        raise FuzzerMissing("clang has no libFuzzer (Debian: libclang-rt-dev)")
    if done.returncode:
        raise RuntimeError(done.stderr)
    return program


def fuzz(program: Path, corpus: Path, seconds: int, seed: int) -> Fuzzing:
    """Run for `seconds`; inputs that reach new code are added to the folder `corpus`."""
    options = [
        f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST_INPUT_BYTES}",
        f"-timeout={SECONDS_PER_INPUT}", f"-malloc_limit_mb={LARGEST_ALLOCATION_MIB}", "-rss_limit_mb=0",
    ]  # fmt: skip
    folders = [str(folder) for folder in (corpus, *SEEDS) if folder.is_dir()]
    done = subprocess.run([str(program), *options, *folders], capture_output=True, text=True)
    edges = re.findall(r"cov: (\d+)", done.stderr)
    executions = re.findall(r"^#(\d+)\s|Done (\d+) runs", done.stderr, re.MULTILINE)
    count = max((int(number) for pair in executions for number in pair if number), default=0)
    return Fuzzing(count, int(edges[-1]) if edges else 0, done.returncode != 0, done.stderr[-3000:])


def keep(program: Path, corpus: Path) -> int:
    """Copy to tests/vectors/fuzz what reaches code that no vector reaches, few files for all; returns the
    number of files."""
    kept = SEEDS[1]
    kept.mkdir(exist_ok=True)
    before = len(list(kept.iterdir()))
    with tempfile.TemporaryDirectory() as merged:
        folders = [merged, *map(str, SEEDS), str(corpus)]
        options = ["-set_cover_merge=1", "-use_counters=0", f"-max_len={LONGEST_INPUT_BYTES}"]
        command = [str(program), *options, *folders]
        subprocess.run(command, check=True, capture_output=True)
        known = {path.read_bytes() for folder in SEEDS for path in folder.iterdir() if path.is_file()}
        for path in Path(merged).iterdir():
            if path.read_bytes() not in known:
                shutil.copy(path, kept / path.name)
    return len(list(kept.iterdir())) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="of all runs together (default 600)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="add new inputs to tests/vectors/fuzz")
    arguments = parser.parse_args()
    clang = shutil.which("clang")
    if clang is None:
        raise SystemExit("clang is not installed (see --help)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for way in WAYS:
            program = build_fuzzer(clang, way, folder)
            done = fuzz(program, corpus, arguments.seconds // len(WAYS), arguments.seed)
            print(f"kernels of {way}: {done.executions:,} inputs, {done.edges:,} edges", flush=True)
            if done.found:
                print(done.report, file=sys.stderr)
                raise SystemExit(1)
            if arguments.keep:
                print(f"kept {keep(program, corpus)} inputs")
    print("nothing found")


if __name__ == "__main__":
    main()
