"""What every method of compressing a layer's weights offers to the training loop.

A method is a torch parametrisation of one layer's ``weight``: ``forward`` maps the trained weights to those
that the layer computes with. Pruning methods and quantising ones may be stacked, pruning first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from model_packager.training.schedule import Moment


class Integers(NamedTuple):
    """Quantised weights: ``values`` int8 in the weight's shape, ``scales`` float32 (rows,); real weight =
    scale of its row (first axis) * value."""

    values: Tensor
    scales: Tensor


class Method(nn.Module):
    """One layer's method. ``forward`` is the identity until training has reached the share ``start``.

    ``binary_inputs``: the layer reads signs (``training.binary_inputs``), from the first step on."""

    name: ClassVar[str]
    quantises: ClassVar[bool] = True
    binary_inputs: ClassVar[bool] = False

    def __init__(self, weight: Tensor, start: float = 0.0) -> None:
        super().__init__()
        self.start = start
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))
        self.layer_name = ""
        self.layer: nn.Module | None = None
        self.output_positions = 1

    def forward(self, weight: Tensor) -> Tensor:
        return self.effective(weight) if self.begun else weight

    # ------------------------------------------------------------------ what a method defines

    def effective(self, weight: Tensor) -> Tensor:
        """The weights to compute with, differentiable with respect to what is trained."""
        raise NotImplementedError

    def begin(self, weight: Tensor) -> None:
        """Called once, with the weights that this method gets, when training reaches ``start``."""

    def after_backward(self, weight: Tensor, moment: Moment) -> None:
        """Called between gradients and optimiser step; ``weight.grad`` is that of the trained weights."""

    def after_step(self, weight: Tensor, moment: Moment) -> None:
        """Called after each optimiser step; may change the trained ``weight`` in place."""

    def integers(self, weight: Tensor) -> Integers:
        """What the packer stores for the weights that this method gets; quantising methods only."""
        raise NotImplementedError

    def scales(self, weight: Tensor) -> Tensor:
        """The scales (rows,) of `integers`, where they are to be had for less."""
        return self.integers(weight).scales

    @classmethod
    def arrange(cls, methods: Sequence[Any]) -> None:
        """Called once with all layers' instances of this class, in the order of the layers."""


def row_scales(scale: Tensor, weight: Tensor) -> Tensor:
    """One scale for each row (first axis) of ``weight``."""
    return scale.detach().reshape(-1).expand(len(weight)).to(torch.float32).clone()


def by_row(scales: Tensor, weight: Tensor) -> Tensor:
    """Scales (rows,) in a shape that multiplies ``weight``."""
    return scales.reshape(-1, *[1] * (weight.dim() - 1))


def straight_through(quantised: Tensor, weight: Tensor) -> Tensor:
    """``quantised`` in the forward pass, the identity on ``weight`` in the backward pass (STE)."""
    return weight + (quantised - weight).detach()


def signs(weight: Tensor) -> Tensor:
    """-1 or +1; zero counts as +1."""
    return torch.where(weight.detach() < 0, -1.0, 1.0)


def peak_integers(weight: Tensor) -> Integers:
    """int8 values of real weights, symmetric, one scale for the whole layer (peak / 127)."""
    scale = weight.detach().abs().max().clamp(min=1e-8) / 127
    values = (weight.detach() / scale).round().clamp(-127, 127).to(torch.int8)
    return Integers(values, row_scales(scale, weight))
