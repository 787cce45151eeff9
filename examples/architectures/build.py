"""Writes one of the networks as .onnx, with weights from a fixed seed:

    python -m examples.architectures.build mobilenet_v1 -o mobilenet_v1.onnx --samples mobilenet_v1.npz
    thimble analyze mobilenet_v1.onnx
    thimble pack mobilenet_v1.onnx --calibration mobilenet_v1.npz -o mobilenet_v1.thimble

The weights are synthetic, and the samples random: sizes, times and equality of executors are real, accuracy
is not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx

from examples.architectures.networks import BLOCKS, NETWORKS

SAMPLE_SEED = 3


def samples(model: onnx.ModelProto, count: int = 2) -> dict[str, np.ndarray]:
    """Random images for calibration, (count, channels, rows, columns) by input name."""
    port = model.graph.input[0]
    shape = [dimension.dim_value for dimension in port.type.tensor_type.shape.dim][1:]
    images = np.random.default_rng(SAMPLE_SEED).standard_normal((count, *shape), np.float32)
    return {port.name: images}


def main() -> int:
    every = {**BLOCKS, **NETWORKS}
    parser = argparse.ArgumentParser(description="Write a network of the lecture as .onnx.")
    parser.add_argument("network", choices=sorted(every))
    parser.add_argument("-o", "--output", metavar="FILE.onnx", type=Path, required=True)
    parser.add_argument("--samples", metavar="FILE.npz", type=Path, help="also images for calibration")
    arguments = parser.parse_args()
    model = every[arguments.network].build(arguments.network)
    arguments.output.write_bytes(model.SerializeToString())
    if arguments.samples:
        np.savez(arguments.samples, **samples(model))
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
