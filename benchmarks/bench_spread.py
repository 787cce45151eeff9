"""How much `thimble bench` varies on an emulated board that counts instructions: it must not, at all.

In: the smallest of the committed example networks. `thimble bench` runs twice on each emulated board, each
time in a new emulator; out: instructions of the fastest and of the slowest run, and the bar. Needs
qemu-system-arm and a compiler for Cortex-M.

    python benchmarks/bench_spread.py
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from host_tools import cli, serve

MODEL = Path(__file__).resolve().parents[1] / "examples" / "gesture" / "gesture_small.thimble"
RUNS = 10


def counts(target: str) -> list[int]:
    """Instructions of every run in one call of the command."""
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        code = cli.main(["bench", str(MODEL), "--target", target, "--runs", str(RUNS), "--json"])
    if code:
        raise SystemExit(code)
    return json.loads(shown.getvalue())["times_instructions"]


def main() -> int:
    """Print the spread of each board, and the bar."""
    worst = 0
    for target in serve.TARGETS:
        if not target.startswith(serve.QEMU_TARGET):
            continue
        found = counts(target) + counts(target)
        spread = max(found) - min(found)
        worst = max(worst, spread)
        print(
            f"{target}: {min(found):,} to {max(found):,} instructions in {len(found)} runs, spread {spread}"
        )
    print(f"bar bench_spread {worst}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
