"""Ternary weight networks (TWN): each row of a layer is -a, 0 and +a.

Source: Li and Liu 2016, "Ternary weight networks", section 2.2: the threshold is 0.7 E|w|, a the mean
magnitude of the weights above it (equations 5 and 6); section 2.3: real weights are updated, ternary ones
propagated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.training.methods.protocol import Integers, Method, by_row, straight_through


class TernaryWeightNetwork(Method):
    """-a, 0, +a with one magnitude a for each row."""

    name = "twn"

    def __init__(self, weight: Tensor, threshold: float = 0.7, start: float = 0.0) -> None:
        super().__init__(weight, start)
        self.threshold = threshold

    def _signs_and_magnitudes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        rows = weight.detach().reshape(len(weight), -1)
        sizes = rows.abs()
        kept = sizes > self.threshold * sizes.mean(dim=1, keepdim=True)
        magnitudes = (sizes * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
        return (rows.sign() * kept).reshape(weight.shape), magnitudes.clamp(min=1e-8)

    def effective(self, weight: Tensor) -> Tensor:
        signs, magnitudes = self._signs_and_magnitudes(weight)
        return straight_through(signs * by_row(magnitudes, weight), weight)

    def integers(self, weight: Tensor) -> Integers:
        signs, magnitudes = self._signs_and_magnitudes(weight)
        return Integers(signs.to(torch.int8), magnitudes)
