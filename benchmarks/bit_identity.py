"""Outputs of an executor that differ from TensorFlow Lite Micro's, on the four networks, packed, bit for bit.

    python benchmarks/bit_identity.py --target micropython    10 inputs of each network (about 20 s)
    python benchmarks/bit_identity.py --target cpython        one input of each, and every operator alone
    python benchmarks/bit_identity.py --target reference      the packed files in the NumPy executor
    ... --inputs N                                            another number of inputs

What runs is the packed file, objective `size`: dead channels removed, weights coded, schedules planned.
TFLM (the pinned tflite-micro wheel) runs the unmodified .tflite on the same inputs: the first samples of
the data folder and noise. The targets are those of tests/executors.py: `cpython` is the firmware's source
under the strict 32-bit shim, `micropython` the same source on MicroPython's unix port with viper kernels.

*Every operator alone* is every kind of operator of the importer, random parameters, `OPERATOR_CASES`
models of each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np

from benchmarks.networks import NETWORKS, Network, inputs_of, packed, source_of
from benchmarks.tflm_equality import run_tflm
from model_packager.importers.tflite import import_tflite
from model_packager.pack import pack
from tests.executors import EXECUTORS, Case, Result
from tests.operators_alone import operator_models
from tests.tflm_oracle import run_tflm as run_tflm_once

OPERATOR_CASES = 8
BAR_INPUTS = {"micropython": 10, "cpython": 1}


def differing(results: list[Result], expected: list[np.ndarray]) -> int:
    """Outputs that differ, over all cases. Exits with the executor's words where one failed."""
    count = 0
    for result, wanted in zip(results, expected, strict=True):
        if result.outputs is None:
            raise SystemExit(f"the executor failed: {result.error}")
        count += int(np.count_nonzero(np.frombuffer(result.outputs, np.int8) != wanted.ravel()))
    return count


def compare_network(network: Network, target: str, input_count: int) -> int:
    """Differing outputs of one network; prints a line."""
    inputs = inputs_of(network, input_count)
    case = Case(network.name, packed(network).data, tuple(sample.tobytes() for sample in inputs))
    expected = run_tflm(source_of(network).read_bytes(), inputs)
    count = differing(EXECUTORS[target]([case]), [expected])
    print(f"{network.name:10} {len(inputs):7} {expected.size:8} {count:9}", flush=True)
    return count


def compare_operators(target: str) -> int:
    """Differing outputs of every operator alone; prints a line."""
    cases, expected = [], []
    for name, source, inputs in operator_models(OPERATOR_CASES):
        cases.append(Case(name, pack(import_tflite(source)).data, (b"".join(x.tobytes() for x in inputs),)))
        expected.append(np.concatenate([output.ravel() for output in run_tflm_once(source, *inputs)]))
    count = differing(EXECUTORS[target](cases), expected)
    print(f"{'operators':10} {len(cases):7} {sum(map(len, expected)):8} {count:9}", flush=True)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="an executor against TensorFlow Lite Micro, bit for bit")
    parser.add_argument("--target", choices=EXECUTORS, default="micropython", help="the executor")
    parser.add_argument("--inputs", type=int, metavar="N", help="inputs of each network")
    options = parser.parse_args()
    print(f"network     inputs  outputs differing   ({options.target})")
    inputs = options.inputs or BAR_INPUTS.get(options.target, 10)
    counts = {network.name: compare_network(network, options.target, inputs) for network in NETWORKS}
    counts["operators"] = compare_operators(options.target)
    if options.target in BAR_INPUTS and inputs >= BAR_INPUTS[options.target]:
        named = {f"differences_{options.target}_{name}": count for name, count in counts.items()}
        print("\n".join(f"bar {name} {count}" for name, count in named.items()))
    return 1 if any(counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
