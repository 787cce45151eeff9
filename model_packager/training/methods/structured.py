"""Structured pruning: whole filters, kernels, rows or columns go, so that the network really gets smaller.

Source: Teman 2020, "Reducing the complexity", "Hardware efficiency considerations in pruning" (prune a column
according to its L2 norm); Li et al. 2017, "Pruning filters for efficient ConvNets", section 3.1 (smallest
filters first). The packer removes filters and rows whose weights are zero, and channels that nobody reads any
more (``passes.eliminate_dead_channels``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.errors import UsageError
from model_packager.training.methods.magnitude import Pruning, largest

# What is pruned as one: the axes of a weight (rows, columns, kernel rows, kernel columns) that a unit spans.
_SPANS = {"filters": (1, 2, 3), "kernels": (2, 3), "columns": (0, 2, 3)}


class Structured(Pruning):
    """Keeps the units of largest L2 norm: `unit` "filters" (rows of a matrix), "columns" (one input channel
    of all filters), or "kernels" (one filter's window over one channel). `density` counts units."""

    name = "structured"

    def __init__(
        self,
        weight: Tensor,
        density: float = 0.5,
        unit: str = "filters",
        schedule: str = "gradual",
        rounds: int = 4,
        start: float = 0.0,
        end: float = 0.6,
    ) -> None:
        super().__init__(weight, density, schedule, rounds, start, end)
        if unit not in _SPANS:
            raise UsageError(f"a unit of structured pruning is one of {', '.join(_SPANS)}, not '{unit}'")
        if unit == "kernels" and weight.dim() == 2:
            raise UsageError("a fully connected layer has no kernels; prune its filters (rows) or columns")
        self.axes = tuple(axis for axis in _SPANS[unit] if axis < weight.dim())

    def kept(self, weight: Tensor, density: float) -> Tensor:
        norms = weight.square().sum(dim=self.axes, keepdim=True)
        return largest(norms, density).expand_as(weight)

    def saliency(self, weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weight, dim=self.axes, keepdim=True).expand_as(weight)
