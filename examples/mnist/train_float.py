"""Trains the float networks that the recipes start from, LeNet-300-100 and LeNet-5, on MNIST: float32 ONNX.

LeNet-300-100 (LeCun et al. 1998) takes (1, 784) pixels; LeNet-5 is the version of Caffe (431,080 weights; 20
and 50 filters of 5 x 5, each with ReLU and a 2 x 2 pool, 500 hidden units) and takes (1, 1, 28, 28). Pixels
are divided by 255; the outputs are 10 logits. The last 5,000 training rows chose the hyper-parameters; the
test set is only reported, and it is the last epoch that is written.

Run as ``python -m examples.mnist.train_float lenet300`` (or ``lenet5``), with the extra ``train``.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import nn

from examples.float_network import accuracy, write_onnx
from examples.mnist.task import augment, load_data

SEED = 300100
EPOCHS = {"lenet300": 60, "lenet5": 25}
BATCH = 200
EXAMPLES = Path(__file__).resolve().parents[1]


def build_network(name: str) -> nn.Sequential:
    """An untrained network."""
    if name == "lenet300":
        return nn.Sequential(
            nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )


def input_shape(name: str) -> tuple[int, ...]:
    """One sample, batch dimension included."""
    return (1, 784) if name == "lenet300" else (1, 1, 28, 28)


def train(name: str) -> nn.Sequential:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    shape = input_shape(name)[1:]
    images, labels = load_data("train")
    validation, validation_labels = load_data("valid")
    validation = validation.reshape(-1, *shape)
    network = build_network(name).to(memory_format=torch.channels_last)  # convolutions are faster so
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    epochs = EPOCHS[name]
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * epoch / epochs)) + 1e-6
        network.train()
        for batch in torch.randperm(len(images)).split(BATCH):
            outputs = network(augment(images[batch]).reshape(-1, *shape))
            loss = nn.functional.cross_entropy(outputs, labels[batch], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        reached = accuracy(network, validation, validation_labels)
        print(f"epoch {epoch + 1}: validation {reached:.2f} %", file=sys.stderr, flush=True)
    test, test_labels = load_data("test")
    reached = accuracy(network, test.reshape(-1, *shape), test_labels)
    print(f"test accuracy {reached:.2f} % of {len(test_labels)}")
    return network


def main(name: str) -> None:
    target = EXAMPLES / name / f"{name}.onnx"
    write_onnx(train(name), input_shape(name), target, "pixels")


if __name__ == "__main__":
    if sys.argv[1:] not in (["lenet300"], ["lenet5"]):
        sys.exit("usage: python -m examples.mnist.train_float lenet300|lenet5")
    main(sys.argv[1])
