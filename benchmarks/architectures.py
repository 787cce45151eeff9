"""Packs the networks of the lecture at full size and runs them in the native C core: the same bits as the
reference, and the time beside onnxruntime's for the float .onnx.

    python benchmarks/architectures.py [--once] [NETWORK ...]

Without names, all of examples/architectures but AlexNet and VGG, whose packing benchmarks/scale.py measures,
and with --once these too. One thread each; calibration samples and inputs are random, weights synthetic.
--once runs one inference in the reference and one in the C core and takes no times; the largest networks then
are calibrated on one sample and keep raw weights.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnxruntime

from examples.architectures.build import samples
from examples.architectures.networks import BLOCKS, NETWORKS
from host_tools.targets.native import NativeTarget
from model_packager import reference
from model_packager.golden import golden_inputs
from model_packager.importers.onnx import import_onnx
from model_packager.pack import PackResult, pack
from model_packager.recipe import parse_recipe

RUNS = 5
SEED = 7
RAW = parse_recipe("steps: [{encode: {encoding: dense-fixed-identity}}]")
LEFT_OUT = ("alexnet", "vgg_16", "vgg_19")


def median_ms(run: object) -> float:
    """Median milliseconds of RUNS calls."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def packed(name: str, quickly: bool) -> tuple[bytes, dict[str, np.ndarray], PackResult]:
    """(the .onnx, calibration samples by input, what it packs to)."""
    graph = {**NETWORKS, **BLOCKS}[name].build(name)
    data = graph.SerializeToString()
    images = samples(graph, 1) if quickly else samples(graph)
    return data, images, pack(import_onnx(data), calibration=images, recipe=RAW if quickly else None)


def count_differing(result: PackResult, target: NativeTarget) -> tuple[int, int]:
    """(outputs that differ between reference and C core, all outputs) of one inference."""
    inputs = golden_inputs(result.model, SEED)
    pairs = list(zip(reference.run(result.model, inputs), target.run(inputs), strict=True))
    differing = sum(int(np.count_nonzero(first != second)) for first, second in pairs)
    return differing, sum(first.size for first, _ in pairs)


def run_once(name: str) -> int:
    """Print whether one network gives the same bits; returns how many outputs differ."""
    _, _, result = packed(name, name in LEFT_OUT)
    target = NativeTarget(threads=1)
    target.load(result.data)
    differing, count = count_differing(result, target)
    target.close()
    macs = sum(result.model.mac_count(operator) for operator in result.model.operators)
    print(f"{name:20} {macs:14,} MACs, {differing} of {count} outputs differ", flush=True)
    return differing


def measure(name: str) -> int:
    """Print one network's line; returns how many outputs differ between reference and C core."""
    start = time.perf_counter()
    data, images, result = packed(name, quickly=False)
    seconds = time.perf_counter() - start
    inputs = golden_inputs(result.model, SEED)
    target = NativeTarget(threads=1)
    target.load(result.data)
    differing, _ = count_differing(result, target)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    one = {port: batch[:1] for port, batch in images.items()}
    ours, theirs = median_ms(lambda: target.run(inputs)), median_ms(lambda: session.run(None, one))
    target.close()
    print(
        f"{name:20} {len(result.data):11,} bytes, RAM peak {result.report.ram_peak_bytes:9,}, packed in "
        f"{seconds:6.1f} s, {differing} outputs differ, {ours:8.1f} ms (onnxruntime, float: {theirs:.1f} ms)",
        flush=True,
    )
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description="Pack and run the lecture's networks at full size.")
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--once", action="store_true", help="one inference each, for equality alone")
    arguments = parser.parse_args()
    left_out = () if arguments.once else LEFT_OUT
    names = arguments.networks or [name for name in {**BLOCKS, **NETWORKS} if name not in left_out]
    differing = sum((run_once if arguments.once else measure)(name) for name in names)
    print(f"{len(names)} networks, {differing} outputs differ between the reference and the C core")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
