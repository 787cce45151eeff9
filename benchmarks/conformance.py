"""Runs every shared vector through every executor and counts what is not as it must be.

    python benchmarks/conformance.py

Valid vectors (tests/vectors/streams and files, the encoders' output among them) must give their outputs
bit for bit; hostile ones (every cut, flips of every bit, sizes, contradictions) the named error, where a
crash, a hang (the process does not end in time) or any other exception counts as a failure. The CPython
executor checks every 32-bit operation and every pointer, so an out-of-bounds read is an exception there.
Each line names an executor of tests/executors.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.conformance import SETS, failures, vectors_of
from tests.executors import EXECUTORS


def main() -> int:
    counts = {"valid": 0, "hostile": 0}
    print(f"{'vectors':16} {'executor':22} {'cases':>6} {'failures':>9}")
    for name in SETS:
        for executor in EXECUTORS:
            found = failures(name, executor)
            counts[name.split()[0]] += len(found)
            print(f"{name:16} {executor:22} {len(vectors_of(name)):6} {len(found):9}", flush=True)
            print("".join(f"  {sentence}\n" for sentence in found[:5]), end="")
    print(f"bar vector_failures {counts['valid']}\nbar hostile_failures {counts['hostile']}")
    return 1 if any(counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
