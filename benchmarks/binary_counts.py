"""What running binary saves: instructions of one inference on Cortex-M beside the int8 version of the same
network, in the C core.

The network is that of examples/fashion, a CNN for 28 x 28 images: 3 x 3 convolutions with 32, 64 and 64
channels, max pools, a fully connected layer. Binary: the trained XNOR-Net, bits between the layers, weights
of -1 and +1 behind the first one (XNOR and counted bits). int8: the float network, quantised with 200
training images; both packed for speed. The outputs of both are checked, as in benchmarks/core_counts.py,
which counts.

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
from benchmarks.training import fashion
from examples.image_sets import REPOSITORY
from model_packager import container
from model_packager.model import Model
from model_packager.pack import PackResult, import_model, pack

FOLDER = REPOSITORY / "examples" / "fashion"
CALIBRATION_COUNT = 200
CORES = ("m0", "m3", "m4")


def packed_networks() -> dict[str, PackResult]:
    """Both forms of the network, packed for speed."""
    source = FOLDER / "fashion.onnx"
    images = fashion("train")[0][:CALIBRATION_COUNT]
    calibration = {import_model(source).inputs[0].name: images}
    binary = container.load((FOLDER / "fashion_xnor.thimble").read_bytes())
    return {
        "int8": pack(source, "speed", calibration=calibration),
        "binary": pack(binary, "speed"),
    }


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
        for kind, packed in packed_networks().items():
            files[kind] = folder / f"{kind}.thimble"
            files[kind].write_bytes(packed.data)
            print(f"{kind}: {products(packed.model):,} products")
        print("| core | network | file | instructions, M | memory | stack |")
        print("|---|---|---|---|---|---|")
        for core in arguments.core or CORES:
            measure(core, files, folder, arguments.steps)


if __name__ == "__main__":
    main()
