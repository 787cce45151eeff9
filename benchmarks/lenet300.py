"""LeNet-300-100 on MNIST as the benchmarks of the C core use it: pruned and shared without retraining
(examples/lenet300/recipes/pruned_shared.yaml), calibrated with the first images of the training set."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_packager.pack import PackResult, pack
from model_packager.recipe import load_recipe

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "lenet300"
CALIBRATION_COUNT = 1024
IDX_IMAGES_HEADER_BYTES, IDX_LABELS_HEADER_BYTES = 16, 8


def mnist_images(data: Path, part: str, count: int) -> npt.NDArray[np.float32]:
    """The first images of `part` ("train" or "t10k") in the data folder: (count, 784) in 0..1."""
    with gzip.open(data / "mnist" / f"{part}-images-idx3-ubyte.gz") as stream:
        pixels = stream.read(IDX_IMAGES_HEADER_BYTES + count * 784)[IDX_IMAGES_HEADER_BYTES:]
    return np.frombuffer(pixels, np.uint8).reshape(count, 784).astype(np.float32) / 255


def mnist_labels(data: Path, part: str, count: int) -> npt.NDArray[np.uint8]:
    """Their labels: (count,)."""
    with gzip.open(data / "mnist" / f"{part}-labels-idx1-ubyte.gz") as stream:
        return np.frombuffer(stream.read(IDX_LABELS_HEADER_BYTES + count), np.uint8)[IDX_LABELS_HEADER_BYTES:]


@cache
def packed_lenet300(data: Path, objective: str, recipe_name: str = "pruned_shared") -> PackResult:
    """The network packed for an objective by a recipe of examples/lenet300/recipes."""
    calibration = {"pixels": mnist_images(data, "train", CALIBRATION_COUNT)}
    recipe = load_recipe(FOLDER / "recipes" / f"{recipe_name}.yaml")
    return pack(FOLDER / "lenet300.onnx", objective, calibration, recipe)
