"""Trains the gesture network on accelerometer recordings and writes it as float32 ONNX.

Three convolutions along time and a mean: input (1, 3, 128, 1) in g, four logits (negative, ring, slope,
wing). The validation recordings chose the hyper-parameters; the test set is only reported, and it is the last
epoch that is written. Run as ``python -m examples.gesture.train_float``, with the extra ``train``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from examples.float_network import accuracy, write_onnx
from examples.gesture.task import augment, load_data

SEED = 128
EPOCHS = 40
BATCH = 64


def build_network() -> nn.Sequential:
    """An untrained network."""
    return nn.Sequential(
        *(nn.Conv2d(3, 12, (7, 1), stride=(2, 1), bias=False), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 16, (5, 1), stride=(2, 1), bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 24, (5, 1), stride=(2, 1), bias=False), nn.BatchNorm2d(24), nn.ReLU()),
        *(nn.AvgPool2d((12, 1)), nn.Flatten(), nn.Linear(24, 4)),
    )


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    windows, labels = load_data("train")
    network = build_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(windows)).split(BATCH):
            loss = nn.functional.cross_entropy(network(augment(windows[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    print(f"validation accuracy {accuracy(network, *load_data('valid')):.2f} %")
    print(f"test accuracy {accuracy(network, *load_data('test')):.2f} %")
    target = Path(__file__).with_name("gesture.onnx")
    write_onnx(network, (1, 3, 128, 1), target, "acceleration")


if __name__ == "__main__":
    main()
