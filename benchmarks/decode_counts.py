"""What weight streams cost the C core: instructions of a fully connected layer of 128 x 512, by encoding.

Each layer is packed as a network of its own, linked with the core and counted under QEMU (core_counts.py).
Its count covers everything: opening the stream, decoding, positions, multiplication, requantisation. Dense
weights are a bell of 150 values, as in the anomaly detector; sparse ones are pruned to 8 % and shared by 16
values, as in LeNet-300-100. The cost model of encoders/choose.py stands on the column m4.

    python benchmarks/decode_counts.py

Needs arm-none-eabi-gcc with newlib and qemu-system-arm.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.core_build import build_objects
from benchmarks.core_counts import count
from model_packager.format_table import OperatorKind
from model_packager.model import Model, Operator, Port, Requant, Tensor, Weights
from model_packager.pack import pack
from model_packager.recipe import parse_encoding

ROWS, COLS = 128, 512
CORES = ("m0", "m3", "m4")
Values = npt.NDArray[np.int8]

ENCODINGS = {
    "bell": [
        "dense-fixed-identity", "dense-huffman-identity", "dense-class-identity", "dense-range-identity",
        "bitmap-huffman-identity",
    ],
    "shared": ["dense-fixed-codebook", "dense-huffman-codebook"],
    "pruned": [
        "sparse-fixed-codebook", "sparse-huffman-codebook", "sparse-class-codebook", "sparse-range-codebook",
        "bitmap-class-codebook", "dense-huffman-codebook",
    ],
    "ternary": ["bits-fixed-ternary", "sparse-class-ternary", "dense-fixed-ternary"],
    "binary": ["bits-fixed-binary"],
}  # fmt: skip


def matrices() -> dict[str, Values]:
    """The layers by name."""
    random = np.random.default_rng(1)
    bell = np.clip(np.rint(random.standard_t(4, (ROWS, COLS)) * 14), -127, 127)
    shared = np.rint(bell / 17) * 17
    pruned = np.where(random.random((ROWS, COLS)) < 0.08, random.integers(1, 9, (ROWS, COLS)) * 15, 0)
    pruned *= random.choice([-1, 1], (ROWS, COLS))
    ternary = random.choice([-31, 0, 31], (ROWS, COLS), p=[0.2, 0.6, 0.2])
    binary = random.choice([-1, 1], (ROWS, COLS))
    arrays = {"bell": bell, "shared": shared, "pruned": pruned, "ternary": ternary, "binary": binary}
    return {name: array.astype(np.int8) for name, array in arrays.items()}


def layer(values: Values, encoding: str) -> Model:
    """A network of one fully connected layer."""
    requant = Requant(np.full(1, 1 << 30, np.int32), np.full(1, -11, np.int32))
    weights = Weights(values, np.ones(1), parse_encoding(encoding))
    tensors = [Tensor("x", (1, COLS), zero_point=-3), Tensor("y", (1, ROWS))]
    attributes = {"input_zero_point": -3, "clamp_min": -128, "clamp_max": 127}
    operator = Operator(OperatorKind.FULLY_CONNECTED, [0], [1], attributes, weights, requant=requant)
    return Model(tensors, [operator], [Port(0, "x", 1.0, -3)], [Port(1, "y")])


def main() -> None:
    print(f"| weights | encoding | bits | {' | '.join(CORES)} | per non-zero |")
    print(f"|---|---|---|{'---|' * (len(CORES) + 1)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = {core: build_objects(core, folder) for core in CORES}
        for weights, values in matrices().items():
            for encoding in ENCODINGS[weights]:
                result = pack(layer(values, encoding))
                (operator,) = result.model.operators
                assert operator.weights is not None and operator.weights.encoding is not None
                if operator.weights.encoding.encoding.name != encoding:
                    raise SystemExit(f"{weights} as {encoding} is larger than raw")
                counts = [count(core, objects[core], result.data, folder).instructions for core in CORES]
                bits = 8 * result.report.file_bytes / values.size
                each = [f"{found / values.size:.1f}" for found in counts]
                nonzero = counts[CORES.index("m4")] / np.count_nonzero(values)
                cells = (weights, encoding, f"{bits:.2f}", *each, f"{nonzero:.1f}")
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
