"""What nncodec (ISO/IEC 15938-17, Neural Network Coding) makes of the integer weights of our files.

    python -m pip install --no-deps 'nncodec==2.1.3' pybind11   # its C++ takes two minutes of a core
    python benchmarks/nncodec_bytes.py                          # measures every committed file, records it

Each tensor of weights goes through nncodec's own coder, DeepCABAC, as its integers or as their places in its
codebook, with each setting (context parameters optimised or not, length of the unary part, rows of zeros
skipped); the smallest stream that decodes to the same counts. The headers of nncodec's units, codebooks,
scales and biases are left out, which our files hold: this is nncodec at its best. Figures go into
benchmarks/training/*.json, from where benchmarks/training.py tables them. Only the extension is used, so that
what nncodec asks for beside it (OpenCV, torchvision, pandas ...) need not be there.
"""

from __future__ import annotations

import sys
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.training import RUNS, load_result, save_result
from model_packager import container
from model_packager.model import Array

UNARY_LENGTHS = (1, 2, 4, 11)  # 11 is nncodec's default
PROFILES = (0, 1)  # general_profile_idc; 1 is edition 2, which may skip rows


def coded_bytes(extension: Any, values: Array) -> int:
    """The smallest DeepCABAC stream of integers (rows, columns). Raises RuntimeError where none decodes."""
    steps = np.ascontiguousarray(values, np.int32)
    empty_rows = (~steps.any(axis=1)).astype(np.int32)
    # Tensors without a history of earlier versions.
    history = (extension.HdspMode.AlwaysOff, np.zeros(0, np.int8))
    sizes = []
    for length, optimised, profile in product(UNARY_LENGTHS, (0, 1), PROFILES):
        encoder = extension.Encoder()
        encoder.initCtxModels(length, optimised)
        encoder.encodeLayer(steps, 0, 0, profile, 0, profile, empty_rows * profile, *history, 0, 0)
        stream = encoder.finish()
        decoded = np.zeros_like(steps)
        decoder = extension.Decoder()
        decoder.setStream(stream)
        decoder.initCtxModels(length)
        decoder.decodeLayer(decoded, 0, 0, profile, 0, *history, 0, 0)
        if np.array_equal(decoded, steps):
            sizes.append(len(stream))
    if not sizes:
        raise RuntimeError("nncodec decodes other weights than it encoded")
    return min(sizes)


def codebook_places(values: Array) -> Array:
    """Each value by its place among those that occur, counted from that of zero, in the same shape."""
    codebook, places = np.unique(values, return_inverse=True)
    return places.reshape(values.shape) - int(np.searchsorted(codebook, 0))


def main() -> int:
    try:
        from nncodec.extensions import deepCABAC
    except ImportError as error:
        print(f"nncodec_bytes: {error}; see its first lines for how to install it", file=sys.stderr)
        return 1
    version = metadata.version("nncodec")
    for run in RUNS:
        result = load_result(run)
        if result is None:
            continue
        model = container.load(run.file.read_bytes())
        tensors = [operator.weights.values for operator in model.operators if operator.weights is not None]
        size = sum(
            min(coded_bytes(deepCABAC, form) for form in (values, codebook_places(values)))
            for values in tensors
        )
        save_result(run, {**result, "nncodec": {"version": version, "bytes": size}})
        print(f"{run.name}: {size:,} bytes by nncodec {version}, our whole file {result['file_bytes']:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
