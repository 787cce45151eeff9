"""Payload bytes of every coder: on a pruned LeNet-300-100-like network, and on the MLPerf Tiny int8 models.

    python benchmarks/coders.py               the random network, at 8 % and at 2 % density
    python benchmarks/coders.py --models      the four models of the data folder as well (THIMBLE_DATA)

The random network has the shapes of LeNet-300-100 (784-300-100-10), weights shared in 32 values, and zeros
wherever a coin says so: there is no structure to find, so a trained network can only be smaller. xz (preset
9e) packs the dense value indexes, one byte each. All figures are of payloads: descriptors and headers are not
counted.
"""

from __future__ import annotations

import argparse
import lzma
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from model_packager.encoders import Encoding, candidates, choose, encode  # noqa: E402
from model_packager.format_table import Coder, Layout, ValueMap  # noqa: E402
from model_packager.importers.tflite import import_tflite  # noqa: E402

Weights = npt.NDArray[np.int8]

LENET_SHAPES = ((300, 784), (100, 300), (10, 100))
SHARED_VALUES = 32
DENSITIES = (0.08, 0.02)
MODELS = ("kws_ref_model_int8", "ic_pretrainedResnet_int8", "vww_96_int8", "ad01_int8")


def random_lenet(density: float) -> list[Weights]:
    """Three matrices with about ``density`` non-zero weights of 32 shared values, bell-shaped."""
    random = np.random.default_rng(300100)
    layers = []
    for shape in LENET_SHAPES:
        # Pruning takes the small weights away: what is left has two humps beside zero.
        magnitudes = 20 + np.abs(random.normal(0, 30, shape))
        levels = np.round(magnitudes * 16 / 100).clip(3, 16 + 2)
        values = levels * random.choice([-1, 1], shape) * 7
        layers.append(np.where(random.random(shape) < density, values, 0).astype(np.int8))
    return layers


def xz_bytes(layers: Iterable[Weights]) -> int:
    """All matrices in one xz stream."""
    data = b"".join(layer.tobytes() for layer in layers)
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def payload_bytes(layers: Iterable[Weights], encoding: Encoding) -> int | None:
    """Payloads of all matrices with one encoding; None where it does not fit one of them."""
    total = 0
    for layer in layers:
        if encoding not in candidates(layer):
            return None
        total += len(encode(layer, encoding).payload)
    return total


def print_row(name: str, cells: Iterable[int | str | None]) -> None:
    texts = ("-" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell for cell in cells)
    print(f"| {name:26} | " + " | ".join(f"{text:>9}" for text in texts) + " |")


def print_header(title: str, columns: Iterable[str]) -> None:
    columns = list(columns)
    print_row(title, columns)
    print(f"|{'-' * 28}|" + "|".join(f"{'-' * 10}:" for _ in columns) + "|")


def report_random_network() -> None:
    """Every encoding with a codebook, and the baselines."""
    networks = [random_lenet(density) for density in DENSITIES]
    print_header("encoding", [f"{density:.0%}" for density in DENSITIES])
    for layout in (Layout.DENSE, Layout.BITMAP, Layout.SPARSE):
        for coder in Coder:
            encoding = Encoding(layout, coder, ValueMap.CODEBOOK)
            print_row(encoding.name, [payload_bytes(layers, encoding) for layers in networks])
    print_row("chosen by size", [chosen_bytes(layers) for layers in networks])
    print_row("xz of the dense weights", [xz_bytes(layers) for layers in networks])
    print_row("raw", [sum(layer.size for layer in layers) for layers in networks])


def chosen_bytes(layers: Iterable[Weights]) -> int:
    return sum(len(choose(layer, "size").payload) for layer in layers)


def smallest_bytes(layers: Iterable[Weights], coders: set[Coder]) -> int:
    """The sum over matrices of the smallest payload with one of ``coders``, or raw."""
    total = 0
    for layer in layers:
        sizes = [len(encode(layer, item).payload) for item in candidates(layer) if item.coder in coders]
        total += min([layer.size, *sizes])
    return total


def report_models(folder: Path) -> None:
    """The weights of the four models, each tensor with the best encoding of one coder."""
    models = {name: weights_of(folder / f"{name}.tflite") for name in MODELS}
    print_header("coder", [name.split("_")[0] for name in MODELS])
    print_row("raw", [sum(layer.size for layer in layers) for layers in models.values()])
    for coder in Coder:
        sizes = [smallest_bytes(layers, {coder}) for layers in models.values()]
        print_row(f"{coder.name.lower()} or raw", sizes)
    start_s = time.perf_counter()
    print_row("chosen by size", [chosen_bytes(layers) for layers in models.values()])
    taken_s = time.perf_counter() - start_s
    print_row("xz of the weights", [xz_bytes(layers) for layers in models.values()])
    print(f"choosing took {taken_s:.1f} s for the four models")


def weights_of(path: Path) -> list[Weights]:
    """The weight matrices of a .tflite model as the importer gives them."""
    model = import_tflite(path)
    return [operator.weights.values for operator in model.operators if operator.weights is not None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", action="store_true", help="measure the MLPerf Tiny models too")
    arguments = parser.parse_args()
    report_random_network()
    if arguments.models:
        data = Path(os.environ.get("THIMBLE_DATA", ROOT.parent / "shared" / "data"))
        print()
        report_models(data / "mlperf_tiny" / "models")


if __name__ == "__main__":
    main()
