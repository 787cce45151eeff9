"""Load-balance-aware pruning: every processing element gets the same number of weights.

Source: Han et al. 2017, "ESE: Efficient speech recognition engine with sparse LSTM on FPGA", section 4.2: the
rows of a matrix are dealt to the elements in turn, and each element's sub-matrix is sorted and pruned to the
same density by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_packager.errors import UsageError
from model_packager.training.methods.magnitude import Magnitude, largest


class LoadBalanced(Magnitude):
    """Keeps the largest weights of each of `elements` sub-matrices, row r in sub-matrix r % elements."""

    name = "load_balanced"

    def __init__(
        self,
        weight: Tensor,
        density: float = 0.1,
        elements: int = 4,
        schedule: str = "gradual",
        rounds: int = 4,
        start: float = 0.0,
        end: float = 0.6,
    ) -> None:
        super().__init__(weight, density, schedule, rounds, start, end)
        if not 1 <= elements <= len(weight):
            raise UsageError(f"{len(weight)} rows cannot be dealt to {elements} elements")
        self.elements = elements

    def kept(self, weight: Tensor, density: float) -> Tensor:
        mask = torch.zeros_like(weight, dtype=torch.bool)
        for element in range(self.elements):
            mask[element :: self.elements] = largest(weight[element :: self.elements].abs(), density)
        return mask
