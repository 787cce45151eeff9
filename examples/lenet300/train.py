"""Trains LeNet-300-100 (LeCun et al. 1998; the lecture's first row) on MNIST and writes it as float32 ONNX.

In: the four MNIST files in ``THIMBLE_DATA`` (or ``../shared/data`` beside the repository). Out:
``lenet300.onnx`` beside this file. Input: (1, 784) float32, pixels divided by 255. Output: 10 logits. The
last 5,000 training rows are held out as the validation split that chose the hyper-parameters; the test set is
only reported, and it is the last epoch that is written.
"""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

SEED = 300100
EPOCHS = 60
BATCH = 200
VALIDATION_ROWS = 5000
ROTATION_RAD, SCALE, SHIFT_PIXELS = 0.09, 0.07, 0.8
REPOSITORY = Path(__file__).resolve().parents[2]


def load_mnist(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 784) float32 in 0..1 and labels (N,) int64 of ``part`` ("train" or "t10k")."""
    folder = Path(os.environ.get("THIMBLE_DATA", REPOSITORY.parent / "shared" / "data")) / "mnist"
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as stream:
        images = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), np.uint8, offset=8)
    return torch.from_numpy(images.astype(np.float32) / 255), torch.from_numpy(labels.astype(np.int64))


def augment(images: torch.Tensor) -> torch.Tensor:
    """Random small rotation, scale and shift of each (784,) image, bilinear."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * ROTATION_RAD
    scale = 1 + (torch.rand(count, 2) * 2 - 1) * SCALE
    shift = (torch.rand(count, 2) * 2 - 1) * SHIFT_PIXELS / 14
    cosine, sine = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([cosine * scale[:, 0], -sine, shift[:, 0]], 1),
            torch.stack([sine, cosine * scale[:, 1], shift[:, 1]], 1),
        ],
        1,
    )
    grid = nn.functional.affine_grid(theta, [count, 1, 28, 28], align_corners=False)
    moved = nn.functional.grid_sample(images.reshape(-1, 1, 28, 28), grid, align_corners=False)
    return moved.reshape(count, 784)


def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of correct answers in per cent."""
    network.eval()
    with torch.no_grad():
        return 100 * (network(images).argmax(1) == labels).float().mean().item()


def train() -> nn.Sequential:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    images, labels = load_mnist("train")
    validation = images[-VALIDATION_ROWS:], labels[-VALIDATION_ROWS:]
    images, labels = images[:-VALIDATION_ROWS], labels[:-VALIDATION_ROWS]
    network = nn.Sequential(
        nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS)) + 1e-6
        network.train()
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(
                network(augment(images[batch])), labels[batch], label_smoothing=0.02
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: validation {accuracy(network, *validation):.2f} %", flush=True)
    test_images, test_labels = load_mnist("t10k")
    print(f"test accuracy {accuracy(network, test_images, test_labels):.2f} % of {len(test_labels)}")
    return network


def main() -> None:
    target = Path(__file__).with_name("lenet300.onnx")
    torch.onnx.export(
        train(),
        (torch.zeros(1, 784),),
        str(target),
        input_names=["pixels"],
        output_names=["logits"],
        opset_version=17,
        dynamo=False,
    )
    print(f"wrote {target.name}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
