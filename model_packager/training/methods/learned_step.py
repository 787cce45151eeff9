"""Uniform quantisation with a learned step (LSQ).

Source: Esser et al. 2020, "Learned step size quantization", section 2.1 (the step's gradient: equation 3),
section 2.2 (its scale 1 / sqrt(N * Q)), section 2 (start at 2 E|w| / sqrt(Q)).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model_packager.training.methods.protocol import Integers, Method, row_scales


class _LearnedStep(torch.autograd.Function):
    """step * clamp(round(weight / step), low, high). To the weight, gradients pass unchanged inside the range
    of the levels, and outside too where `everywhere` says so; to the step goes equation 3 times the
    gradient's scale."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, low: int, high: int, everywhere: bool) -> Tensor:
        scaled = weight / step
        ctx.save_for_backward(scaled)
        ctx.low, ctx.high, ctx.everywhere = low, high, everywhere
        return scaled.clamp(low, high).round_().mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        (scaled,) = ctx.saved_tensors
        clamped = scaled.clamp(ctx.low, ctx.high)
        inside = clamped == scaled
        of_step = clamped.round() - torch.where(inside, scaled, torch.zeros_like(scaled))
        scale = (scaled.numel() * ctx.high) ** -0.5
        of_weight = gradient if ctx.everywhere else gradient * inside
        return of_weight, (gradient * of_step).sum() * scale, None, None, None


def quantise_with_learned_step(
    weight: Tensor, step: Tensor, low: int, high: int, everywhere: bool = False
) -> Tensor:
    """``weight`` on the grid step * (low..high), differentiable in both; ``step`` is a scalar tensor.

    everywhere: weights beyond the last level get their gradients too; without it they can never come back.
    """
    return _LearnedStep.apply(weight, step, low, high, everywhere)


class LearnedStep(Method):
    """LSQ: signed levels of `bits` bits, symmetric."""

    name = "learned_step"

    def __init__(self, weight: Tensor, bits: int = 4, start: float = 0.0) -> None:
        super().__init__(weight, start)
        self.levels = (1 << (bits - 1)) - 1
        self.step = nn.Parameter(2 * weight.detach().abs().mean() / self.levels**0.5)

    def begin(self, weight: Tensor) -> None:
        self.step.copy_(2 * weight.abs().mean() / self.levels**0.5)

    def effective(self, weight: Tensor) -> Tensor:
        return quantise_with_learned_step(weight, self.step, -self.levels, self.levels)

    def integers(self, weight: Tensor) -> Integers:
        values = (weight.detach() / self.step.detach()).clamp(-self.levels, self.levels).round()
        return Integers(values.to(torch.int8), row_scales(self.step, weight))

    def scales(self, weight: Tensor) -> Tensor:
        return row_scales(self.step, weight)
