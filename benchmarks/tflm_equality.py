"""The reference executor against TensorFlow Lite Micro on the four MLPerf Tiny int8 networks, bit for bit.

Runs every sample of the data folder (kws 1000, ic 10,000 CIFAR-10 test images, ad one file, vww the 8 golden
images) and 200 random inputs each through both, and times the reference executor on ic. Prints a table, and a
line `bar NAME FIGURE` for each bar in benchmarks/bars.toml that it measures.

    python benchmarks/tflm_equality.py                   all of it (about two minutes)
    python benchmarks/tflm_equality.py --samples 200     at most 200 samples of each network

The data folder is $THIMBLE_DATA, or shared/data beside the repository. The judge is the pinned `tflite-micro`
wheel with its reference kernels; NumPy's BLAS is held to two threads.
"""

from __future__ import annotations

import argparse
import io
import lzma
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")  # before NumPy is imported

import numpy as np
import numpy.typing as npt

from model_packager.importers.tflite import import_tflite
from model_packager.numerics import quantise_float
from model_packager.reference import run

Array = npt.NDArray[np.int8]
RANDOM_INPUTS = 200


@dataclass
class Network:
    """A network: short name in the bars, file, and its samples, int8 inputs (N, ...) and labels or None."""

    name: str
    file: str
    samples: Callable[[Path, npt.NDArray[np.float64]], tuple[Array, npt.NDArray[np.int64] | None]]


def _kws(data: Path, _: npt.NDArray[np.float64]) -> tuple[Array, npt.NDArray[np.int64] | None]:
    folder = data / "mlperf_tiny" / "kws01"
    return np.load(folder / "features_int8.npy")[..., None], np.load(folder / "labels.npy").astype(np.int64)


def _ic(data: Path, _: npt.NDArray[np.float64]) -> tuple[Array, npt.NDArray[np.int64] | None]:
    """CIFAR-10 test images; the network's input is the pixel less 128."""
    images = np.load(io.BytesIO(lzma.open(data / "cifar10" / "test_images.npy.xz").read()))
    labels = np.load(data / "cifar10" / "test_labels.npy").astype(np.int64)
    return (images.astype(np.int16) - 128).astype(np.int8), labels


def _vww(data: Path, _: npt.NDArray[np.float64]) -> tuple[Array, npt.NDArray[np.int64] | None]:
    """There are no images in the data folder: the golden file's 8."""
    return np.load(data / "mlperf_tiny" / "golden" / "vww_96_int8.npz")["in0"][:, 0], None


def _ad(data: Path, port: npt.NDArray[np.float64]) -> tuple[Array, npt.NDArray[np.int64] | None]:
    """All windows of five frames of 128 bands, one frame apart, of the one file."""
    path = data / "mlperf_tiny" / "ad" / "normal_id_01_00000000_hist_librosa.bin"
    frames = np.fromfile(path, "<f4").reshape(-1, 128)
    windows = np.stack([frames[start : start + 5].reshape(-1) for start in range(len(frames) - 4)])
    return quantise_float(windows, float(port[0]), int(port[1])), None


NETWORKS = (
    Network("kws", "kws_ref_model_int8", _kws),
    Network("ic", "ic_pretrainedResnet_int8", _ic),
    Network("vww", "vww_96_int8", _vww),
    Network("ad", "ad01_int8", _ad),
)


def run_tflm(model: bytes, inputs: Array) -> Array:
    """TFLM's outputs (N, ...) for inputs (N, ...), one at a time through one interpreter."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model, arena_size=1 << 20)
    outputs = []
    for sample in inputs:
        interpreter.set_input(sample[None], 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0))[0])
    return np.stack(outputs)


def compare(network: Network, data: Path, limit: int | None) -> tuple[int, float, float | None]:
    """Run one network; (differing outputs, seconds of the reference on the samples, accuracy in %)."""
    path = data / "mlperf_tiny" / "models" / f"{network.file}.tflite"
    model = import_tflite(path)
    port = np.array([model.inputs[0].scale, model.inputs[0].zero_point])
    samples, labels = network.samples(data, port)
    samples = samples[:limit]
    shape = (RANDOM_INPUTS, *samples.shape[1:])
    random = np.random.default_rng(20261123).integers(-128, 128, shape, dtype=np.int8)
    start = time.perf_counter()
    outputs = run(model, [samples])[0]
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    expected = run_tflm(path.read_bytes(), np.concatenate([samples, random]))
    tflm_seconds = time.perf_counter() - start
    both = np.concatenate([outputs, run(model, [random])[0]])
    differing = int(np.count_nonzero(both != expected))
    accuracy = None
    if labels is not None:
        accuracy = 100.0 * float(np.mean(outputs.argmax(axis=1) == labels[: len(samples)]))
    shown = "      -" if accuracy is None else f"{accuracy:6.2f}%"
    print(
        f"{network.name:4} {len(samples):7} {RANDOM_INPUTS:7} {both.size:9} {differing:9} {shown:>9} "
        f"{seconds:10.2f} {tflm_seconds:7.2f}",
        flush=True,
    )
    return differing, seconds, accuracy


def main() -> int:
    parser = argparse.ArgumentParser(description="reference executor against TensorFlow Lite Micro")
    parser.add_argument("--samples", type=int, default=None, help="at most this many samples of each network")
    limit = parser.parse_args().samples
    data = Path(os.environ.get("THIMBLE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not data.is_dir():
        print(f"no data folder at {data} (set THIMBLE_DATA)", file=sys.stderr)
        return 1
    print("net  samples  random    values differing  accuracy  reference s  TFLM s")
    bars: list[str] = []
    total = 0
    for network in NETWORKS:
        differing, seconds, accuracy = compare(network, data, limit)
        total += differing
        if limit is None:
            bars.append(f"bar differences_reference_{network.name} {differing}")
            if network.name == "ic" and accuracy is not None:
                bars += [
                    f"bar reference_ic_seconds {seconds:.1f}",
                    f"bar reference_ic_accuracy {accuracy:.2f}",
                ]
    print("\n".join(bars))
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
