"""Accelerometer gestures for training recipes: `load_data` gives windows and labels, `augment` turns them."""

from __future__ import annotations

import torch
from torch import Tensor

from examples.gesture.recordings import load_windows


def load_data(part: str) -> tuple[Tensor, Tensor]:
    """Windows (N, 3, 128, 1) float32 in g and labels (N,) int64; part: "train", "valid" or "test"."""
    windows, labels = load_windows(part)
    return torch.from_numpy(windows), torch.from_numpy(labels)


def augment(windows: Tensor) -> Tensor:
    """Random strength and a small tilt of the axes of each window (N, 3, 128, 1)."""
    count = len(windows)
    strength = 1 + 0.15 * (2 * torch.rand(count, 1, 1, 1) - 1)
    angles = 0.15 * torch.randn(count, 3)
    turn = torch.zeros(count, 3, 3)
    for axis, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        turn[:, i, j], turn[:, j, i] = angles[:, axis], -angles[:, axis]
    turned = windows + torch.einsum("nij,njtw->nitw", turn, windows)
    return strength * turned + 0.01 * torch.randn_like(windows)
