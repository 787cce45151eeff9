"""What the scripts that train the examples' float networks share: accuracy, and the file that they write."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


def accuracy(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of correct classes in per cent; inputs (N, ...) float32, labels (N,) int64. Leaves the network in
    evaluation mode."""
    network.eval()
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in inputs.split(1000)])
    return 100 * (answers == labels).float().mean().item()


def write_onnx(network: nn.Module, shape: tuple[int, ...], target: Path, input_name: str) -> None:
    """Write a network, in evaluation mode, as float32 ONNX, and say how long it is.

    shape: of one sample, the batch dimension included.
    """
    torch.onnx.export(
        network.eval(),
        (torch.zeros(shape),),
        str(target),
        input_names=[input_name],
        output_names=["logits"],
        opset_version=17,
        dynamo=False,
    )
    print(f"wrote {target.name}, {target.stat().st_size} bytes")
