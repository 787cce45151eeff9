"""The four MLPerf Tiny int8 networks as the benchmarks use them: where they are, packed, and with inputs.

Called by the measuring scripts beside it. The networks and their samples are those of tflm_equality.py;
the data folder is $THIMBLE_DATA, or shared/data beside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.tflm_equality import NETWORKS, Array, Network
from model_packager.importers.tflite import import_tflite
from model_packager.pack import PackResult, pack

__all__ = ["NETWORKS", "Network", "data_folder", "inputs_of", "packed", "source_of"]

INPUT_SEED = 20261123


def data_folder() -> Path:
    """The data folder. Exits with a sentence when there is none."""
    configured = os.environ.get("THIMBLE_DATA")
    folder = Path(configured) if configured else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        raise SystemExit(f"no data folder at {folder} (set THIMBLE_DATA)")
    return folder


def source_of(network: Network) -> Path:
    """The unmodified .tflite file."""
    return data_folder() / "mlperf_tiny" / "models" / f"{network.file}.tflite"


def packed(network: Network) -> PackResult:
    """The network packed losslessly with the objective `size`."""
    return pack(source_of(network), "size")


def inputs_of(network: Network, count: int) -> Array:
    """`count` int8 inputs (count, ...): half of them the first samples of the data folder, half noise over
    the whole int8 range, which reaches the clamps that samples do not reach."""
    port = import_tflite(source_of(network)).inputs[0]
    samples, _ = network.samples(data_folder(), np.array([port.scale, port.zero_point]))
    sample_count = (count + 1) // 2
    shape = (count - sample_count, *samples.shape[1:])
    noise = np.random.default_rng(INPUT_SEED).integers(-128, 128, shape, dtype=np.int8)
    return np.concatenate([samples[:sample_count], noise])
