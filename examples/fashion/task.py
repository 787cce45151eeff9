"""Fashion-MNIST for training recipes: `load_data` gives images and labels, `augment` mirrors and moves
images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from examples.image_sets import load_idx

SHIFT_PIXELS = 1


def load_data(part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) float32 in 0..1 and labels (N,) int64; part: "train", "valid" or "test"."""
    images, labels = load_idx("fashion_mnist", part)
    return torch.from_numpy(images[:, None].copy()).float() / 255, torch.from_numpy(labels)


def augment(images: Tensor) -> Tensor:
    """Each image (N, 1, 28, 28) mirrored or not; the batch moved by up to a pixel, with zeros at the
    border."""
    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    down, right = torch.randint(0, 2 * SHIFT_PIXELS + 1, (2,)).tolist()
    height, width = images.shape[2:]
    return functional.pad(images, [SHIFT_PIXELS] * 4)[:, :, down : down + height, right : right + width]
