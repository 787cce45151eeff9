"""Rate-aware training: an integer grid with a learned step, and what the entropy coder charges for each
weight as a part of the loss.

An entropy coder spends -log2 p on a symbol that has the share p of all. The shares of the layer's levels give
the price of each, and the difference between the prices of two neighbouring levels is what a weight between
them would save by going down: that much pulls at it, through its gradient. (A pull after Adam's step, about
the same for all weights, was tried first. It prunes by the noise of gradients instead of their size, and
loses half a point at the same number of weights.)

Sources: Oktay et al. 2020, "Scalable model compression by entropy penalized reparameterization", section 2
(the objective: loss plus coded size); Esser et al. 2020, "Learned step size quantization", sections 2.1 and
2.2 (step and its gradient).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model_packager.errors import UsageError
from model_packager.training.methods.learned_step import quantise_with_learned_step
from model_packager.training.methods.protocol import Integers, Method, row_scales
from model_packager.training.schedule import Moment, ramp

_STEPS_BETWEEN_COUNTS = 20


class RateAware(Method):
    """Levels -L..L times a learned step for the layer, pruned by what they cost in the file.

    levels: L. rate: loss (nats for a sample) that a bit of the file is worth; 1e-6 to 2e-5 for the
    examples on images, 8e-4 for the gestures in 1 KB. prices: "counted", each level's from its share, or
    "geometric", as if sizes were so spread: no level gets dear by getting rare then, and none is without
    a pull. ramp_end: share of training at which the rate has its full strength. freeze: share from which
    the zeros stay zero and nothing is pulled. initial_step: in standard deviations of the weights; 0
    takes the grid that they lie on.
    """

    name = "rate_aware"

    def __init__(
        self,
        weight: Tensor,
        levels: int = 3,
        rate: float = 2e-6,
        prices: str = "counted",
        ramp_end: float = 0.65,
        freeze: float = 0.8,
        initial_step: float = 2.0,
        start: float = 0.0,
    ) -> None:
        super().__init__(weight, start)
        if prices not in PRICES:
            raise UsageError(f"rate_aware: prices is one of {', '.join(PRICES)}, not {prices!r}")
        self.levels = levels
        self.rate = rate
        self.prices = prices
        self.ramp_end = ramp_end
        self.freeze = freeze
        self.step = nn.Parameter(initial_step * weight.detach().std() if initial_step else _grid_step(weight))
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.register_buffer("savings", torch.zeros(levels + 1))
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))

    def effective(self, weight: Tensor) -> Tensor:
        # Gradients beyond the last level too: weights there could never come back to be pruned otherwise.
        return quantise_with_learned_step(weight, self.step, -self.levels, self.levels, True) * self.mask

    def after_backward(self, weight: Tensor, moment: Moment) -> None:
        if not self.rate or moment.progress >= self.freeze:
            return
        if self.steps_seen % _STEPS_BETWEEN_COUNTS == 0:
            self.savings.copy_(PRICES[self.prices](self._levels_of(weight).abs().long(), self.levels))
        self.steps_seen += 1
        strength = self.rate * ramp(moment.progress, self.start, self.ramp_end, 1.5) / self.step
        above = (weight.abs() / self.step + 0.5).floor_().clamp_(0, self.levels).long()
        assert weight.grad is not None
        weight.grad.add_(weight.sign() * self.savings[above] * strength)

    def after_step(self, weight: Tensor, moment: Moment) -> None:
        if moment.progress >= self.freeze and bool(self.mask.all()):
            self.mask.copy_(self._levels_of(weight) != 0)

    def integers(self, weight: Tensor) -> Integers:
        return Integers((self._levels_of(weight.detach()) * self.mask).to(torch.int8), self.scales(weight))

    def scales(self, weight: Tensor) -> Tensor:
        return row_scales(self.step, weight)

    def _levels_of(self, weight: Tensor) -> Tensor:
        return (weight / self.step.detach()).round().clamp(-self.levels, self.levels)


def bits_saved(sizes: Tensor, levels: int) -> Tensor:
    """(levels + 1,): bits saved by a weight on the levels +-1..+-`levels` that goes one level down; the first
    is for weights on 0, which are pulled as those on +-1: they may be there for a moment only.

    sizes: levels without their signs, integers of any shape.
    """
    counts = torch.bincount(sizes.flatten(), minlength=levels + 1).float().clamp(min=0.5)
    price = -(counts / counts.sum()).log2()
    price[1:] += 1  # the sign
    savings = price.diff().clamp(min=0)
    return torch.cat([savings[:1], savings])


def bits_saved_if_geometric(sizes: Tensor, levels: int) -> Tensor:
    """As `bits_saved`, with the sizes of non-zero weights taken as geometric of the mean that they have."""
    nonzero = float((sizes > 0).sum().clamp(min=1))
    zero = max(sizes.numel() - nonzero, 1.0)
    share = min(0.9, max(0.1, 1 - nonzero / max(float(sizes.sum()), 1.0)))
    savings = torch.full((levels + 1,), -math.log2(share))
    savings[:2] = max(0.0, math.log2(zero / nonzero) + 1 - math.log2(1 - share))
    return savings


PRICES = {"counted": bits_saved, "geometric": bits_saved_if_geometric}


def _grid_step(weight: Tensor) -> Tensor:
    """The step of weights that lie on a grid: the largest part of the smallest magnitude that divides all."""
    sizes = weight.detach().abs().double()
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return weight.new_ones(())
    smallest = sizes.min()
    for parts in range(1, 128):
        levels = sizes * parts / smallest
        if bool(((levels - levels.round()).abs() < 1e-3).all()):
            return (smallest / parts).to(weight.dtype)
    raise UsageError("the weights lie on no grid; initial_step 0 is for recipes with a start")
