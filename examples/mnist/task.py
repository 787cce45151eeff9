"""MNIST for training recipes: `load_data` gives images and labels, `augment` moves images a little."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from examples.image_sets import load_idx

ROTATION_RAD, SCALE, SHIFT_PIXELS = 0.09, 0.07, 0.8


def load_data(part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) float32 in 0..1 and labels (N,) int64; part: "train", "valid" or "test"."""
    images, labels = load_idx("mnist", part)
    return torch.from_numpy(images[:, None].copy()).float() / 255, torch.from_numpy(labels)


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
