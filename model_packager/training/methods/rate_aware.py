"""Rate-aware training: an integer grid with a learned step, and a penalty on what the entropy coder charges.

In a sparse stream a weight costs its gap, its sign and its level: most of it is paid for being there at all.
So, after each optimiser step, weights on the levels -1, 0 and 1 are pulled towards zero by a constant (the
proximal step of an l1 penalty), and those above, which pay less for each further level, by a part of that.

Sources: Esser et al. 2020, "Learned step size quantization", sections 2.1 and 2.2 (step and its gradient);
Oktay et al. 2020, "Scalable model compression by entropy penalized reparameterization", section 2 (the
objective: loss plus coded size).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model_packager.errors import UsageError
from model_packager.training.methods.learned_step import quantise_with_learned_step
from model_packager.training.methods.protocol import Integers, Method, row_scales
from model_packager.training.schedule import Moment, ramp


class RateAware(Method):
    """Levels -L..L times a learned step for the layer, pruned by the rate penalty.

    levels: L. rate: what a non-zero weight costs; the proximal step is learning rate * rate, and since Adam's
    steps are about the learning rate, a weight stays only where its gradients agree more than that.
    level_rate: the share of it for weights above the first level; at 0, weights hide there once the rate gets
    near 1. neuron_rate: the same for a whole row, by its norm. ramp_end: share of training at which the
    penalty has its full strength. freeze: share from which the zeros stay zero and nothing is pulled any
    more. initial_step: in standard deviations of the weights; 0 takes the grid that they lie on.
    """

    name = "rate_aware"

    def __init__(
        self,
        weight: Tensor,
        levels: int = 3,
        rate: float = 1.0,
        level_rate: float = 0.0,
        neuron_rate: float = 0.0,
        ramp_end: float = 0.65,
        freeze: float = 0.8,
        initial_step: float = 2.0,
        start: float = 0.0,
    ) -> None:
        super().__init__(weight, start)
        self.levels = levels
        self.rate = rate
        self.level_rate = level_rate
        self.neuron_rate = neuron_rate
        self.ramp_end = ramp_end
        self.freeze = freeze
        self.step = nn.Parameter(initial_step * weight.detach().std() if initial_step else _grid_step(weight))
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def effective(self, weight: Tensor) -> Tensor:
        return quantise_with_learned_step(weight, self.step, -self.levels, self.levels) * self.mask

    def after_step(self, weight: Tensor, moment: Moment) -> None:
        if moment.progress >= self.freeze:
            if bool(self.mask.all()):
                self.mask.copy_((weight / self.step).round() != 0)
            return
        strength = moment.learning_rate * ramp(moment.progress, self.start, self.ramp_end, 1.5)
        size = weight.abs()
        pull = strength * self.rate * torch.where(size < 1.5 * self.step, 1.0, self.level_rate)
        weight.copy_(weight.sign() * (size - pull).clamp(min=0))
        if self.neuron_rate:
            rows = weight.reshape(len(weight), -1)
            norms = rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
            rows.mul_((1 - strength * self.neuron_rate / norms).clamp(min=0))

    def integers(self, weight: Tensor) -> Integers:
        values = (weight.detach() / self.step.detach()).round().clamp(-self.levels, self.levels) * self.mask
        return Integers(values.to(torch.int8), row_scales(self.step, weight))

    def scales(self, weight: Tensor) -> Tensor:
        return row_scales(self.step, weight)


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
