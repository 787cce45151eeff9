"""Seconds and memory that packing takes at the size of AlexNet and of VGG-16, at Deep Compression's
densities.

    python benchmarks/scale.py [alexnet] [vgg_16]

Densities and bits of each layer are those of Han et al. 2016, tables 4 and 5 (AlexNet: 11 %, VGG-16: 7.5 %
of the weights stay; codebooks of 8 bits in convolutions and 5 bits in fully connected layers, relative
indices with Huffman codes). The weights are synthetic: Laplacian, pruned by magnitude, moved to the nearest
of evenly spaced entries. So the sizes beside the paper's are those of streams of the same density and width,
and no accuracy is claimed. Each network is made and packed in a process of its own, on two cores; what is
timed is `pack` from the integer model to the file's bytes, read back and compared.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from examples.architectures.networks import NETWORKS
from host_tools.progress import progress_bar
from model_packager.format_table import OperatorKind
from model_packager.importers.onnx import import_onnx
from model_packager.model import Model
from model_packager.pack import pack
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.fuse_activations import fuse_activations
from model_packager.passes.quantise import quantise
from model_packager.recipe import parse_encoding

CORES = 2
# Share of the weights that stay, layer by layer.
DENSITIES = {
    "alexnet": (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25),
    "vgg_16": (
        0.58,
        0.22,
        0.34,
        0.36,
        0.53,
        0.24,
        0.42,
        0.32,
        0.27,
        0.34,
        0.35,
        0.29,
        0.36,
        0.04,
        0.04,
        0.23,
    ),
}
CODEBOOK_BITS = {OperatorKind.CONV_2D: 8, OperatorKind.FULLY_CONNECTED: 5}
PAPER_MB = {"alexnet": 6.9, "vgg_16": 11.3}
ENCODING = "sparse-huffman-codebook"


def synthetic_model(name: str) -> Model:
    """The int8 network with pruned and shared weights; every activation ranges from -4 to 4."""
    graph = NETWORKS[name].build(name).SerializeToString()
    model = fuse_activations(fold_batch_norm(import_onnx(graph)))
    model = quantise(model, [(-4.0, 4.0)] * len(model.tensors))
    layers = [operator for operator in model.operators if operator.weights is not None]
    for operator, density in zip(layers, DENSITIES[name], strict=True):
        assert operator.weights is not None
        values = operator.weights.values
        magnitudes = np.bincount(np.abs(values.ravel().view(np.int8)).astype(np.uint8), minlength=129)
        kept = np.cumsum(magnitudes[::-1])[::-1]  # weights of at least this magnitude
        threshold = int(np.argmax(kept <= density * values.size))
        step = max(256 >> CODEBOOK_BITS[operator.kind], 1)
        levels = np.arange(-128, 128)
        table = np.where(np.abs(levels) >= threshold, np.round(levels / step) * step, 0)
        operator.weights.values = np.clip(table, -127, 127).astype(np.int8)[values.astype(np.int16) + 128]
        operator.weights.encoding = parse_encoding(ENCODING)
    return model


def forget_peak() -> None:
    """Start `peak_bytes` anew: making the network takes more memory than packing it."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Most memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def children_seconds() -> float:
    """Processor time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(name: str) -> None:
    """Make one network, pack it, print its line and its bars."""
    model = synthetic_model(name)
    weights = sum(o.weights.values.size for o in model.operators if o.weights is not None)
    kept = sum(int(np.count_nonzero(o.weights.values)) for o in model.operators if o.weights is not None)
    # Workers that inherit no memory, so that what they have is theirs.
    workers = ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn"))
    forget_peak()
    start, started = time.perf_counter(), time.process_time()
    with workers as executor, progress_bar(f"packing {name}") as update:
        result = pack(model, executor=executor, progress=update)
    seconds = time.perf_counter() - start
    processor_seconds = time.process_time() - started + children_seconds()
    # Workers are counted at the largest one's peak each, whether they had it at one time or not.
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    gigabytes = (peak_bytes() + CORES * theirs) / 1e9
    size = len(result.data) / 1e6
    print(
        f"{name:8} {weights:12,} weights, {kept / weights:.1%} not zero: {size:.2f} MB "
        f"(paper: {PAPER_MB[name]} MB), {seconds:.1f} s, "
        f"{processor_seconds:.1f} s of processor time, {gigabytes:.2f} GB"
    )
    bar = name.replace("_", "")
    print(f"bar {bar}_seconds {seconds:.1f}\nbar {bar}_memory {gigabytes:.2f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Pack networks of full size; alexnet and vgg_16 are known.")
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=list(DENSITIES))
    parser.add_argument("--in-process", action="store_true", help="measure here, for one network")
    arguments = parser.parse_args()
    for name in arguments.networks:
        if arguments.in_process:
            measure(name)
        else:
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(CORES)}
            subprocess.run([sys.executable, __file__, name, "--in-process"], check=True, env=environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
