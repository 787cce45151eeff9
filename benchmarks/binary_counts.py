"""What running binary saves: instructions of one inference on Cortex-M beside the int8 version of the same
network, in the C core.

The network is a CNN for 28 x 28 images with random weights, which do not change the counts: a convolution
from int8, two of 3 x 3 with 32 and 64 channels, max pools, a fully connected layer to int8. Binary: bits
between the layers, weights of -1 and +1 (XNOR and counted bits). int8: the same shapes with int8 weights
and activations, ReLU in the place of signs, packed for speed. The outputs of both are checked, as in
benchmarks/core_counts.py, which counts.

    python benchmarks/binary_counts.py                 on M0, M3 and M4
    python benchmarks/binary_counts.py --core m4 --steps
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")  # before NumPy is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.core_build import CPUS, build_objects
from benchmarks.core_counts import Count, count, print_steps, require_tools
from model_packager.format_table import OperatorKind
from model_packager.model import Model
from model_packager.pack import pack
from tests.random_networks import NetworkBuilder

SIDE = 28
CHANNELS = (32, 64, 64)
CORES = ("m0", "m3", "m4")


def network(binary: bool) -> Model:
    """The CNN, without a plan."""
    builder = NetworkBuilder(1)
    tensor = builder.input((1, SIDE, SIDE, 1))
    for place, channels in enumerate(CHANNELS):
        if not binary:
            tensor = builder.conv(tensor, channels, 3)
        elif place == 0:
            tensor = builder.to_bits(tensor, channels)
        else:
            tensor = builder.by_sign(builder.bit_conv(tensor, channels))
        tensor = builder.bit_pool(tensor) if binary else builder.pool(tensor, OperatorKind.MAX_POOL_2D)
    if binary:
        builder.output(builder.bit_fully_connected(tensor, 10))
    else:
        builder.output(builder.fully_connected(tensor, 10))
    return builder.model


def products(model: Model) -> int:
    """Multiply-accumulates of one inference, a bit that meets a bit counted as one."""
    total = 0
    for operator in model.operators:
        if operator.weights is not None:
            _, height, width, _ = model.tensors[operator.outputs[0]].shape4
            total += operator.weights.values.size * height * width
    return total


def measure(core: str, files: dict[str, Path], folder: Path, with_steps: bool) -> None:
    """Prints a row for each network on one CPU, and how they compare."""
    objects = build_objects(core, folder)
    found: dict[str, Count] = {}
    for name, path in files.items():
        found[name] = count(core, objects, path.read_bytes(), folder)
        cells = (
            core, name, f"{path.stat().st_size:,}", f"{found[name].instructions / 1e6:.3f}",
            f"{found[name].memory_bytes:,}", f"{found[name].stack_bytes:,}",
        )  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)
        if with_steps:
            print_steps(path.read_bytes(), found[name].steps)
    ratio = found["int8"].instructions / found["binary"].instructions
    print(f"int8 over binary on {core}: {ratio:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--core", choices=CPUS, action="append", help="default: m0, m3 and m4")
    parser.add_argument("--steps", action="store_true", help="print the instructions of each operator")
    arguments = parser.parse_args()
    require_tools()
    with tempfile.TemporaryDirectory() as name:
        folder, files = Path(name), {}
        for kind in ("int8", "binary"):
            model = network(kind == "binary")
            files[kind] = folder / f"{kind}.thimble"
            files[kind].write_bytes(pack(model, "speed").data)
            print(f"{kind}: {products(model):,} products")
        print("| core | network | file | instructions, M | memory | stack |")
        print("|---|---|---|---|---|---|")
        for core in arguments.core or CORES:
            measure(core, files, folder, arguments.steps)


if __name__ == "__main__":
    main()
