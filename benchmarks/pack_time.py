"""Seconds that `thimble pack MODEL.tflite --objective size` takes for each of the four networks.

    python benchmarks/pack_time.py

What is timed is the command as a user runs it, in a process of its own, from its start to its end:
Python's start, the import of the .tflite, the choice among all encodings, the memory plan, and the check
that reads the file back. NumPy's BLAS is held to two threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.networks import NETWORKS, source_of


def pack_seconds(source: Path, output: Path) -> float:
    """Wall-clock seconds of one run of the command. Raises CalledProcessError when it fails."""
    program = "import sys; from host_tools.cli import main; sys.exit(main())"
    arguments = ["pack", str(source), "-o", str(output), "--objective", "size"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    return time.perf_counter() - start


def main() -> int:
    print("net  seconds    bytes")
    bars = []
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            output = Path(folder) / f"{network.name}.thimble"
            seconds = pack_seconds(source_of(network), output)
            print(f"{network.name:4} {seconds:7.2f} {output.stat().st_size:8}", flush=True)
            bars.append(f"bar pack_seconds_{network.name} {seconds:.2f}")
    print("\n".join(bars))
    return 0


if __name__ == "__main__":
    sys.exit(main())
