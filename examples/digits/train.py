"""Trains the demo's digit classifier on scikit-learn's ``load_digits`` and writes it as float32 ONNX.

In: nothing (the 1,797 images of 8 x 8 pixels come with scikit-learn). Out: ``digits.onnx`` beside this file.
Run it with the extras ``train`` and ``demo`` installed; the demo itself needs only the committed file.
Input: (1, 1, 8, 8) float32, pixels 0..16 divided by 16. Output: 10 logits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from examples.digits.dataset import load_split
from examples.float_network import accuracy, write_onnx

SEED = 20261123
EPOCHS = 60


def build_network() -> nn.Sequential:
    """Two 3x3 convolutions with batch norm, one depthwise-separable block, global average, 10 logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 2 * 2, 10),
    )


def train() -> nn.Sequential:
    """Trains on the training split with Adam and a cosine schedule; prints the test accuracy."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    images, labels, test_images, test_labels = (torch.from_numpy(part) for part in load_split())
    network = build_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    print(f"test accuracy {accuracy(network, test_images, test_labels):.2f} % of {len(test_labels)}")
    return network


def main() -> None:
    target = Path(__file__).with_name("digits.onnx")
    write_onnx(train(), (1, 1, 8, 8), target, "pixels")


if __name__ == "__main__":
    main()
