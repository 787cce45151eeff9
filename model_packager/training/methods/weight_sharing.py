"""Trained weight sharing: a layer's weights are entries of a codebook, and the entries are trained.

Source: Han et al. 2016, "Deep compression", section 3.1 (k-means), 3.2 (linear initialisation keeps the
large weights), 3.3 (the gradients of all weights that share an entry are summed). Zero, where pruning put it,
stays.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model_packager.training.methods.protocol import Integers, Method, peak_integers

_KMEANS_STEPS = 50


class WeightSharing(Method):
    """`codebook_size` entries, 0 included, fixed assignments from `start` on."""

    name = "weight_sharing"

    def __init__(self, weight: Tensor, codebook_size: int = 16, start: float = 0.6) -> None:
        super().__init__(weight, start)
        self.codebook = nn.Parameter(torch.zeros(codebook_size - 1))
        self.register_buffer("index", torch.zeros_like(weight, dtype=torch.int64))

    def begin(self, weight: Tensor) -> None:
        values = weight[weight != 0]
        centroids = kmeans_linear(values, len(self.codebook))
        self.codebook.copy_(centroids)
        nearest = (weight.reshape(-1, 1) - centroids).abs().argmin(dim=1).reshape(weight.shape)
        self.index.copy_(torch.where(weight != 0, nearest + 1, torch.zeros_like(nearest)))

    def effective(self, weight: Tensor) -> Tensor:
        # Indexing adds the gradients of all weights that share an entry: section 3.3.
        entries = torch.cat([self.codebook.new_zeros(1), self.codebook])
        return entries.index_select(0, self.index.reshape(-1)).reshape(self.index.shape)

    def integers(self, weight: Tensor) -> Integers:
        return peak_integers(self.effective(weight))


def kmeans_linear(values: Tensor, count: int) -> Tensor:
    """k-means of (n,) values from `count` centroids spaced evenly over their range, ascending."""
    if values.numel() == 0:
        return values.new_zeros(count)
    centroids = torch.linspace(float(values.min()), float(values.max()), count)
    for _ in range(_KMEANS_STEPS):
        boundaries = (centroids[1:] + centroids[:-1]) / 2
        member = torch.bucketize(values, boundaries)
        mass = torch.bincount(member, minlength=count)
        totals = torch.zeros(count).index_add_(0, member, values)
        moved = torch.where(mass > 0, totals / mass.clamp(min=1), centroids)
        if torch.allclose(moved, centroids):
            break
        centroids = moved
    return centroids
