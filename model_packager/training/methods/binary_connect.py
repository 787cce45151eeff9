"""BinaryConnect: a layer's weights are -H or +H in both directions of training, real weights are updated.

Source: Courbariaux, Bengio and David 2015, "BinaryConnect", section 2.2 (the sign), 2.3 (propagations with
binary weights, updates of real ones) and 2.4 (clipping).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.training.methods.protocol import Integers, Method, row_scales, signs, straight_through
from model_packager.training.schedule import Moment


class BinaryConnect(Method):
    """-H or +H for the whole layer; H is fixed at the start, and real weights are clipped to -H..H.

    The paper's H is 1, with batch norm behind; without it, H has to keep the activations' size.
    """

    name = "binary_connect"

    def __init__(self, weight: Tensor, start: float = 0.0) -> None:
        super().__init__(weight, start)
        self.register_buffer("scale", torch.ones(()))

    def begin(self, weight: Tensor) -> None:
        self.scale.copy_(weight.abs().mean().clamp(min=1e-8))

    def effective(self, weight: Tensor) -> Tensor:
        return straight_through(signs(weight) * self.scale, weight)

    def after_step(self, weight: Tensor, moment: Moment) -> None:
        weight.clamp_(-float(self.scale), float(self.scale))

    def integers(self, weight: Tensor) -> Integers:
        return Integers(signs(weight).to(torch.int8), row_scales(self.scale, weight))
