"""Batches of tensors that are in memory already: no worker processes, augmentation of whole batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Augment = Callable[[Tensor], Tensor]


class TensorBatches:
    """An iterable of (inputs, targets) batches; each pass shuffles anew with torch's global generator."""

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        shuffle: bool = False,
        augment: Augment | None = None,
    ) -> None:
        self.inputs, self.targets = inputs, targets
        self.batch_size, self.shuffle, self.augment = batch_size, shuffle, augment

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.inputs)) if self.shuffle else torch.arange(len(self.inputs))
        for rows in order.split(self.batch_size):
            inputs = self.inputs[rows]
            yield (self.augment(inputs) if self.augment else inputs), self.targets[rows]
