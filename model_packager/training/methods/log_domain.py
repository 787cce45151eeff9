"""Log-domain quantisation: weights are signed powers of two, so that a multiplication is a shift.

Source: Miyashita, Lee and Murmann 2016, "Convolutional neural networks using logarithmic data
representation", section 3.2 (LogQuant: the exponent rounded in the log domain, clipped to a full-scale
range); Lee et al. 2017, "LogNet", section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.training.methods.protocol import Integers, Method, row_scales, straight_through

# int8 holds the powers 1, 2, ..., 64.
_LARGEST_RANGE = 7


class LogDomain(Method):
    """Sign and one of 2^(bits - 1) - 1 exponents below the layer's full scale, and zero; at most 7."""

    name = "log_domain"

    def __init__(self, weight: Tensor, bits: int = 4, start: float = 0.0) -> None:
        super().__init__(weight, start)
        self.exponents = min((1 << (bits - 1)) - 1, _LARGEST_RANGE)

    def _full_scale(self, weight: Tensor) -> Tensor:
        """The exponent of the largest magnitude, rounded."""
        return torch.log2(weight.detach().abs().max().clamp(min=1e-8)).round()

    def _powers(self, weight: Tensor) -> Tensor:
        """sign * 2^e with e from 0 (the smallest) to exponents - 1; zero below half the smallest."""
        lowest = self._full_scale(weight) - (self.exponents - 1)
        relative = torch.log2(weight.detach().abs().clamp(min=1e-12)) - lowest
        exponent = relative.round().clamp(0, self.exponents - 1)
        return torch.where(relative < -1, 0.0, weight.detach().sign() * torch.exp2(exponent))

    def effective(self, weight: Tensor) -> Tensor:
        unit = torch.exp2(self._full_scale(weight) - (self.exponents - 1))
        return straight_through(self._powers(weight) * unit, weight)

    def integers(self, weight: Tensor) -> Integers:
        unit = torch.exp2(self._full_scale(weight) - (self.exponents - 1))
        return Integers(self._powers(weight).to(torch.int8), row_scales(unit, weight))
