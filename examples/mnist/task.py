"""MNIST for training recipes: `load_data` gives images and labels, `augment` moves images a little.

In: the four original files in ``THIMBLE_DATA`` (or ``../shared/data`` beside the repository). The last 5,000
training rows are the validation split, on which hyper-parameters are chosen; the test set is only reported.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

VALIDATION_ROWS = 5000
ROTATION_RAD, SCALE, SHIFT_PIXELS = 0.09, 0.07, 0.8
REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = "mnist"


def load_data(part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) float32 in 0..1 and labels (N,) int64; part: "train", "valid" or "test"."""
    return read_idx(FOLDER, part)


def read_idx(folder: str, part: str) -> tuple[Tensor, Tensor]:
    """The same of any data set in the four IDX files of MNIST."""
    root = Path(os.environ.get("THIMBLE_DATA", REPOSITORY.parent / "shared" / "data")) / folder
    prefix = "t10k" if part == "test" else "train"
    with gzip.open(root / f"{prefix}-images-idx3-ubyte.gz") as stream:
        images = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(root / f"{prefix}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), np.uint8, offset=8)
    first = len(images) - VALIDATION_ROWS
    rows = {"train": slice(first), "valid": slice(first, None), "test": slice(None)}[part]
    pixels = images[rows].astype(np.float32) / 255
    return torch.from_numpy(pixels), torch.from_numpy(labels[rows].astype(np.int64))


def augment(images: Tensor) -> Tensor:
    """Random small rotation, scale and shift of each image (N, 1, 28, 28), bilinear."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * ROTATION_RAD
    scale = 1 + (torch.rand(count, 2) * 2 - 1) * SCALE
    shift = (torch.rand(count, 2) * 2 - 1) * SHIFT_PIXELS / 14
    cosine, sine = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([cosine * scale[:, 0], -sine, shift[:, 0]], 1),
            torch.stack([sine, cosine * scale[:, 1], shift[:, 1]], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, [count, 1, 28, 28], align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
