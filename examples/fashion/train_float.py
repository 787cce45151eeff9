"""Trains the network that the Fashion-MNIST recipes start from, and writes it as float32 ONNX.

Three convolutions of 3 x 3 with 32, 64 and 64 filters, batch norm and ReLU behind each, and a fully connected
layer: input (1, 1, 28, 28), pixels divided by 255, ten logits, 61,000 weights. The last 5,000 training rows
chose the hyper-parameters; the test set is only reported, and it is the last epoch that is written. Run as
``python -m examples.fashion.train_float``, with the extra ``train``.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import nn

from examples.fashion.task import augment, load_data
from examples.float_network import accuracy, write_onnx

SEED = 28
EPOCHS = 14
BATCH = 100
LEARNING_RATE = 2e-3


def build_network() -> nn.Sequential:
    """An untrained network."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(576, 10)),
    )


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    images, labels = load_data("train")
    network = build_network().to(memory_format=torch.channels_last)  # convolutions are faster so
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))
        network.train()
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(network(augment(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(
            f"epoch {epoch + 1}: validation {accuracy(network, *load_data('valid')):.2f} %",
            file=sys.stderr,
            flush=True,
        )
    print(f"test accuracy {accuracy(network, *load_data('test')):.2f} %")
    target = Path(__file__).with_name("fashion.onnx")
    write_onnx(network, (1, 1, 28, 28), target, "pixels")


if __name__ == "__main__":
    main()
