"""Optimal brain damage: prune what the loss misses least, by a diagonal second-order estimate.

Source: LeCun, Denker and Solla 1989, "Optimal brain damage", section 2.1, equation 5: a weight's saliency is
h w^2 / 2, h the diagonal of the Hessian. h is estimated as the running mean of squared gradients, the
Gauss-Newton (Fisher) diagonal at the labels: positive like the paper's Levenberg-Marquardt approximation
(section 2.2), and free, since the gradients are there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.training.methods.magnitude import Pruning
from model_packager.training.schedule import Moment

_DECAY = 0.99


class OptimalBrainDamage(Pruning):
    """Keeps the weights of largest h w^2 / 2."""

    name = "optimal_brain_damage"

    def __init__(
        self,
        weight: Tensor,
        density: float = 0.1,
        schedule: str = "gradual",
        rounds: int = 4,
        start: float = 0.05,
        end: float = 0.6,
    ) -> None:
        super().__init__(weight, density, schedule, rounds, start, end)
        self.register_buffer("curvature", torch.zeros_like(weight))

    def after_backward(self, weight: Tensor, moment: Moment) -> None:
        if weight.grad is not None:
            self.curvature.lerp_(weight.grad.square(), 1 - _DECAY)

    def saliency(self, weight: Tensor) -> Tensor:
        return 0.5 * self.curvature * weight.square()
