"""Magnitude pruning with retraining: the smallest weights become zero, the others go on training.

Sources: Han et al. 2015, "Learning both weights and connections for efficient neural networks", section 3
(train, prune, retrain, repeated); Zhu and Gupta 2017, "To prune, or not to prune", section 3 (gradual).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.errors import UsageError
from model_packager.training.methods.protocol import Method
from model_packager.training.schedule import Moment, gradual_density, iterative_density

SCHEDULES = ("gradual", "iterative")


class Pruning(Method):
    """A mask that follows a density schedule; subclasses say what a weight is worth.

    density: share of weights left at progress `end`. schedule: "gradual" (cubic, a new mask at each of
    `updates` moments) or "iterative" (`rounds` cuts, equal in ratio). A pruned weight stays zero.
    """

    quantises = False

    def __init__(
        self,
        weight: Tensor,
        density: float = 0.1,
        schedule: str = "gradual",
        rounds: int = 4,
        start: float = 0.0,
        end: float = 0.6,
    ) -> None:
        super().__init__(weight, start)
        if schedule not in SCHEDULES:
            raise UsageError(f"a pruning schedule is {' or '.join(SCHEDULES)}, not '{schedule}'")
        if not 0 <= density <= 1:
            raise UsageError(f"a density is between 0 and 1, not {density:g}")
        self.density, self.schedule, self.rounds, self.end = density, schedule, rounds, end
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.register_buffer("current_density", torch.ones(()))

    def effective(self, weight: Tensor) -> Tensor:
        return weight * self.mask

    def wanted_density(self, progress: float) -> float:
        """The density that the schedule asks for."""
        if self.schedule == "iterative":
            return iterative_density(progress, self.start, self.end, self.density, self.rounds)
        # A mask changes at 100 moments, not at each step: sorting a layer costs as much as training it.
        moments = round(progress * 100) / 100 if progress < self.end else self.end
        return gradual_density(moments, self.start, self.end, self.density)

    def after_step(self, weight: Tensor, moment: Moment) -> None:
        wanted = self.wanted_density(moment.progress)
        if moment.progress >= self.start and wanted < float(self.current_density):
            self.mask.copy_(self.kept(weight, wanted) & self.mask)
            self.current_density.fill_(wanted)
        weight.mul_(self.mask)

    def saliency(self, weight: Tensor) -> Tensor:
        """What each weight is worth, in the weight's shape; the lowest are pruned first."""
        raise NotImplementedError

    def kept(self, weight: Tensor, density: float) -> Tensor:
        """Mask of the weights that stay, in the weight's shape."""
        return largest(self.saliency(weight), density)


def largest(saliency: Tensor, density: float) -> Tensor:
    """Mask of the round(density * size) largest entries; of equal ones the first stay."""
    count = round(density * saliency.numel())
    mask = torch.zeros(saliency.numel(), dtype=torch.bool)
    mask[saliency.reshape(-1).argsort(descending=True, stable=True)[:count]] = True
    return mask.reshape(saliency.shape)


class Magnitude(Pruning):
    """Keeps the weights of largest magnitude."""

    name = "magnitude"

    def saliency(self, weight: Tensor) -> Tensor:
        return weight.abs()
