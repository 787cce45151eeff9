"""Packs the networks of the lecture at full size and runs them in the native C core: the same bits as the
reference, and the time beside onnxruntime's for the float .onnx.

    python benchmarks/architectures.py [NETWORK ...]

Without names, all of examples/architectures but AlexNet and VGG, whose packing benchmarks/scale.py measures.
One thread each; calibration samples and inputs are random, weights synthetic.
"""

from __future__ import annotations

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
from model_packager.pack import pack

RUNS = 5
LEFT_OUT = ("alexnet", "vgg_16", "vgg_19")


def median_ms(run: object) -> float:
    """Median milliseconds of RUNS calls."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def measure(name: str) -> int:
    """Print one network's line; returns how many outputs differ between reference and C core."""
    graph = {**NETWORKS, **BLOCKS}[name].build(name)
    data = graph.SerializeToString()
    images = samples(graph)
    start = time.perf_counter()
    result = pack(import_onnx(data), calibration=images)
    seconds = time.perf_counter() - start
    inputs = golden_inputs(result.model, 7)
    target = NativeTarget(threads=1)
    target.load(result.data)
    pairs = zip(reference.run(result.model, inputs), target.run(inputs), strict=True)
    differing = sum(int(np.count_nonzero(first != second)) for first, second in pairs)
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
    names = sys.argv[1:] or [name for name in {**BLOCKS, **NETWORKS} if name not in LEFT_OUT]
    return 1 if sum(measure(name) for name in names) else 0


if __name__ == "__main__":
    sys.exit(main())
