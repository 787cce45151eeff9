"""Dynamic fixed point with fine-tuning: each layer's weights have a power-of-two scale of their own.

Source: Gysel, Motamedi and Ghiasi 2016, "Hardware-oriented approximation of convolutional neural networks"
(Ristretto), section 3 (as many integer bits as the layer's largest weight needs) and section 4 (fine-tuning:
forward and backward with quantised weights, updates on the real ones).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.training.methods.protocol import Integers, Method, row_scales, straight_through


class DynamicFixedPoint(Method):
    """`bits` bits, sign included; the fractional length follows the largest magnitude."""

    name = "dynamic_fixed_point"

    def __init__(self, weight: Tensor, bits: int = 8, start: float = 0.0) -> None:
        super().__init__(weight, start)
        self.high = (1 << (bits - 1)) - 1

    def scale(self, weight: Tensor) -> Tensor:
        """2^-fl: the smallest power of two with which the largest magnitude still fits."""
        peak = weight.detach().abs().max().clamp(min=1e-8)
        return torch.exp2(torch.ceil(torch.log2(peak / self.high)))

    def effective(self, weight: Tensor) -> Tensor:
        scale = self.scale(weight)
        return straight_through((weight / scale).round().clamp(-self.high - 1, self.high) * scale, weight)

    def integers(self, weight: Tensor) -> Integers:
        scale = self.scale(weight)
        values = (weight.detach() / scale).round().clamp(-self.high - 1, self.high)
        return Integers(values.to(torch.int8), row_scales(scale, weight))
