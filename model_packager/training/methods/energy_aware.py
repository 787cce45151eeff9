"""Energy-aware pruning: the layers that take most energy are pruned first.

Source: Yang, Chen and Sze 2017, "Designing energy-efficient convolutional neural networks using energy-aware
pruning", section 4 (estimate each layer's energy, sort, prune in that order). The energy model is the
paper's with two levels of memory: a layer pays for its multiplications, and for reading its weights from
flash and its activations from RAM; costs relative to one 8-bit multiplication as in Horowitz 2014,
"Computing's energy problem", figure 1.1.9 (a large memory costs a hundred times, a small one ten times).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from model_packager.training.methods.magnitude import Magnitude

MULTIPLY_ENERGY = 1.0
WEIGHT_ENERGY = 100.0  # from flash, once a layer
ACTIVATION_ENERGY = 10.0  # from RAM, each of a multiplication's inputs


class EnergyAware(Magnitude):
    """Magnitude pruning whose turn depends on the layer's energy: the n layers share the time from `start` to
    `end`, the most expensive one has the first part of it."""

    name = "energy_aware"

    def __init__(
        self,
        weight: Tensor,
        density: float = 0.1,
        schedule: str = "gradual",
        rounds: int = 2,
        start: float = 0.0,
        end: float = 0.6,
    ) -> None:
        super().__init__(weight, density, schedule, rounds, start, end)
        self.weight_count = weight.numel()

    @property
    def energy(self) -> float:
        """Of one inference, in multiplications of 8 bits."""
        products = self.weight_count * self.output_positions
        return products * (MULTIPLY_ENERGY + ACTIVATION_ENERGY) + self.weight_count * WEIGHT_ENERGY

    @classmethod
    def arrange(cls, methods: Sequence[EnergyAware]) -> None:
        by_energy = sorted(methods, key=lambda method: -method.energy)
        for turn, method in enumerate(by_energy):
            whole = method.end - method.start
            first = method.start + whole * turn / len(methods)
            method.start, method.end = first, first + whole / len(methods)
