"""Binary-weight networks (BWN): each row of a layer is -a or +a.

Source: Rastegari et al. 2016, "XNOR-Net", section 3.1: the best a is the mean of the row's magnitudes
(equation 6), and the gradient goes to the real weights both through the sign and through a ("Training
binary-weights-networks").
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.training.methods.protocol import Integers, Method, by_row, signs, straight_through


class BinaryWeightNetwork(Method):
    """-a or +a for each row, a = E|w| of that row, which follows the real weights."""

    name = "bwn"

    def _magnitudes(self, weight: Tensor) -> Tensor:
        return weight.reshape(len(weight), -1).abs().mean(dim=1).clamp(min=1e-8)

    def effective(self, weight: Tensor) -> Tensor:
        # Both ways to a real weight count: through the sign, where it is within -1..1, and through a.
        passed = straight_through(signs(weight), weight.clamp(-1, 1))
        return by_row(self._magnitudes(weight), weight) * passed

    def integers(self, weight: Tensor) -> Integers:
        return Integers(signs(weight).to(torch.int8), self._magnitudes(weight.detach()).float())
