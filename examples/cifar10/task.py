"""CIFAR-10 for training recipes, pixels 0 to 255 as the MLPerf Tiny networks take them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from examples.image_sets import load_cifar10

PADDING = 4


def load_data(part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) float32 in 0..255 and labels (N,) int64; part: "train", "valid" or "test"."""
    images, labels = load_cifar10(part)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous(), torch.from_numpy(labels)


def augment(images: Tensor) -> Tensor:
    """Random shifts of up to 4 pixels and mirrored halves of the batch."""
    padded = functional.pad(images, (PADDING,) * 4)
    rows = torch.randint(0, 2 * PADDING + 1, (len(images), 2))
    moved = torch.stack(
        [image[:, y : y + 32, x : x + 32] for image, (y, x) in zip(padded, rows.tolist(), strict=True)]
    )
    mirrored = torch.rand(len(images)) < 0.5
    moved[mirrored] = moved[mirrored].flip(3)
    return moved
