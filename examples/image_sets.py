"""The image sets of the examples and benchmarks, as NumPy arrays: MNIST, Fashion-MNIST, CIFAR-10.

In: the original files in ``THIMBLE_DATA`` (or ``../shared/data`` beside the repository). The last 5,000
training rows are the validation split, on which hyper-parameters are chosen; the test set is only reported.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PARTS = ("train", "valid", "test")
VALIDATION_ROWS = 5000
REPOSITORY = Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """The data folder; raises ``FileNotFoundError`` with a sentence when there is none."""
    folder = Path(os.environ.get("THIMBLE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        raise FileNotFoundError(2, "there is no data folder (set THIMBLE_DATA)", str(folder))
    return folder


def load_idx(name: str, part: str) -> tuple[Array, Array]:
    """Images (N, 28, 28) uint8 and labels (N,) int64 of "mnist" or "fashion_mnist"."""
    prefix = "t10k" if part == "test" else "train"
    with gzip.open(data_folder() / name / f"{prefix}-images-idx3-ubyte.gz") as stream:
        images = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(data_folder() / name / f"{prefix}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), np.uint8, offset=8)
    return _rows(images, labels, part)


def load_cifar10(part: str) -> tuple[Array, Array]:
    """Images (N, 32, 32, 3) uint8 and labels (N,) int64."""
    name = "test" if part == "test" else "train"
    with lzma.open(data_folder() / "cifar10" / f"{name}_images.npy.xz") as stream:
        images = np.load(io.BytesIO(stream.read()))
    return _rows(images, np.load(data_folder() / "cifar10" / f"{name}_labels.npy"), part)


def _rows(images: Array, labels: Array, part: str) -> tuple[Array, Array]:
    first = len(images) - VALIDATION_ROWS
    rows = {"train": slice(first), "valid": slice(first, None), "test": slice(None)}[part]
    return images[rows], labels[rows].astype(np.int64)
