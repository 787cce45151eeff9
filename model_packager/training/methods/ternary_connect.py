"""TernaryConnect: weights are drawn to -H, 0 or +H in training.

Source: Lin et al. 2016, "Neural networks with few multiplications", section 4.2: real weights are clipped to
-1..1, and a weight w is sign(w) with probability |w|, else 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.training.methods.protocol import Integers, Method, row_scales, straight_through
from model_packager.training.schedule import Moment


class TernaryConnect(Method):
    """Draws -H, 0 or +H in training, H three standard deviations at the start, and rounds afterwards.

    draw_end: share of training from which it rounds in training too. A device cannot draw, and the network
    has to get used to that.
    """

    name = "ternary_connect"

    def __init__(self, weight: Tensor, draw_end: float = 0.75, start: float = 0.0) -> None:
        super().__init__(weight, start)
        self.draw_end = draw_end
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("draws", torch.ones((), dtype=torch.bool))

    def begin(self, weight: Tensor) -> None:
        # The paper's weights start with a range of their own; a trained network's are brought to -1..1.
        self.scale.copy_(3 * weight.std())

    def effective(self, weight: Tensor) -> Tensor:
        share = (weight.detach() / self.scale).clamp(-1, 1)
        if self.training and self.draws:
            drawn = share.sign() * (torch.rand_like(share) < share.abs())
        else:
            drawn = share.round()
        return straight_through(drawn * self.scale, weight)

    def after_step(self, weight: Tensor, moment: Moment) -> None:
        weight.clamp_(-float(self.scale), float(self.scale))
        self.draws.fill_(moment.progress < self.draw_end)

    def integers(self, weight: Tensor) -> Integers:
        values = (weight.detach() / self.scale).clamp(-1, 1).round()
        return Integers(values.to(torch.int8), row_scales(self.scale, weight))
