"""Trained ternary quantisation (TTQ): each layer has -Wn, 0 and +Wp, and trains both magnitudes.

Source: Zhu et al. 2017, "Trained ternary quantization", section 3.1 (the gradients of equations 7 and 8) and
section 3.2 (the threshold is 0.05 max|w|).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model_packager.training.methods.protocol import Integers, Method, peak_integers


class _TrainedTernary(torch.autograd.Function):
    """Wp, 0 or -Wn; gradients to both magnitudes are sums, to the weights scaled by their magnitude."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, positive: Tensor, negative: Tensor, threshold: float) -> Tensor:
        above, below = weight > threshold, weight < -threshold
        ctx.save_for_backward(above, below, positive, negative)
        return above * positive - below * negative

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        above, below, positive, negative = ctx.saved_tensors
        of_positive, of_negative = (gradient * above).sum(), -(gradient * below).sum()
        scale = torch.where(above, positive, torch.where(below, negative, torch.ones_like(positive)))
        return gradient * scale, of_positive, of_negative, None


class TrainedTernary(Method):
    """-Wn, 0, +Wp for each layer, both trained."""

    name = "ttq"

    def __init__(self, weight: Tensor, threshold: float = 0.05, start: float = 0.0) -> None:
        super().__init__(weight, start)
        self.threshold = threshold
        self.positive = nn.Parameter(torch.ones(()))
        self.negative = nn.Parameter(torch.ones(()))

    def begin(self, weight: Tensor) -> None:
        limit = self.threshold * float(weight.abs().max())
        for magnitude, side in ((self.positive, weight > limit), (self.negative, weight < -limit)):
            if bool(side.any()):
                magnitude.copy_(weight[side].abs().mean())

    def effective(self, weight: Tensor) -> Tensor:
        limit = self.threshold * float(weight.detach().abs().max())
        return _TrainedTernary.apply(weight, self.positive, self.negative, limit)

    def integers(self, weight: Tensor) -> Integers:
        return peak_integers(self.effective(weight))
