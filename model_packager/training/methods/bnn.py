"""Binarized neural networks (BNN): weights and activations are -1 or +1.

Source: Courbariaux et al. 2016, "Binarized neural networks", section 1.1 (the sign, deterministic), 1.2 (real
weights collect the gradients), 1.3 (straight-through, and real weights clipped to -1..1) and 1.6 (the first
layer's inputs stay in 8 bits). Batch norm is the usual one, not the paper's shifts: it becomes a threshold.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.training.methods.protocol import Integers, Method, row_scales, signs, straight_through
from model_packager.training.schedule import Moment


class BinarizedNetwork(Method):
    """Weights -1 and +1 without a scale, inputs -1 and +1; batch norm is put behind the layer."""

    name = "bnn"
    binary_inputs = True

    def effective(self, weight: Tensor) -> Tensor:
        return straight_through(signs(weight), weight)

    def after_step(self, weight: Tensor, moment: Moment) -> None:
        weight.clamp_(-1, 1)

    def integers(self, weight: Tensor) -> Integers:
        return Integers(signs(weight).to(torch.int8), row_scales(torch.ones(()), weight))
