"""Random networks through every executor for as long as asked: each must give the reference's bits.

    python benchmarks/differential.py [--minutes M] [--first SEED]

tests/differential.py says what is drawn: all operators, attributes, schedules, encodings and shapes that the
format has. A line for each network that differs names its seed, with which `--first SEED --minutes 0` repeats
it; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.differential import differences, make_network
from tests.executors import EXECUTORS

SEEDS_AT_ONCE = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, metavar="M")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    covers: Counter[str] = Counter()
    made = wrong = 0
    seed = arguments.first
    while not made or time.monotonic() < end:
        seeds = range(seed, seed + SEEDS_AT_ONCE)
        networks = [network for each in seeds if (network := make_network(each)) is not None]
        made, seed = made + len(networks), seed + SEEDS_AT_ONCE
        for network in networks:
            covers.update(network.covers)
        for executor, lines in differences(networks, list(EXECUTORS)).items():
            wrong += len(lines)
            print("".join(f"{executor}: {line}\n" for line in lines), end="", flush=True)
    rare = ", ".join(
        f"{name} {count}" for name, count in sorted(covers.items(), key=lambda item: item[1])[:5]
    )
    seeds_used = f"seeds {arguments.first} to {seed - 1}"
    print(f"{made} networks ({seeds_used}) in {len(EXECUTORS)} executors: {wrong} differ")
    print(f"{len(covers)} operators, schedules and encodings; the rarest: {rare}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
