"""Writes the .onnx graphs beside this file: structures of published networks, small, exported by PyTorch.

They let a machine without PyTorch test the importer on what PyTorch's exporter really writes. Run it with the
extra ``train`` installed; weights come from a fixed seed. tests/test_import_pytorch.py imports `MODULES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

SEED = 20261123
OPSET = 17


def conv_bn(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Sequential:
    """Convolution, batch norm and ReLU; same size at stride 1."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options),  # type: ignore[arg-type]
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ShuffleUnit(nn.Module):
    """ShuffleNet v2's unit: split, transform one half, join, shuffle (Ma et al. 2018, figure 3c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            conv_bn(half, half, 1),
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            conv_bn(half, half, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, changed = x.chunk(2, dim=1)
        joined = torch.cat((kept, self.branch(changed)), dim=1)
        batch, channels, height, width = joined.shape
        shuffled = joined.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return shuffled.reshape(batch, channels, height, width)


class Fire(nn.Module):
    """SqueezeNet's fire module (Iandola et al. 2016, figure 1)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeezed, 1), nn.ReLU())
        self.expand1 = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.expand3 = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = self.squeeze(x)
        return torch.cat((self.expand1(squeezed), self.expand3(squeezed)), dim=1)


class Inception(nn.Module):
    """GoogLeNet's block: four branches of different reach (Szegedy et al. 2015, figure 2b)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_bn(inputs, 4, 1),
                nn.Sequential(conv_bn(inputs, 4, 1), conv_bn(4, 6, 3)),
                nn.Sequential(conv_bn(inputs, 2, 1), conv_bn(2, 4, 5)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn(inputs, 4, 1)),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Residual(nn.Module):
    """ResNet's basic block with a projection (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(inputs, outputs, 3, stride=2),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """MobileNet v3's bottleneck with squeeze and excite, and hard swish (Howard et al. 2019, figure 4)."""

    def __init__(self, channels: int, expanded: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(channels, expanded, 1, bias=False), nn.BatchNorm2d(expanded), nn.Hardswish()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded, bias=False),
            nn.BatchNorm2d(expanded),
            nn.Hardswish(),
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(expanded, 4, 1), nn.ReLU(), nn.Conv2d(4, expanded, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.project = nn.Sequential(nn.Conv2d(expanded, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.depthwise(self.expand(x))
        return x + self.project(wide * self.gate(wide))


def classifier(block: nn.Module, channels: int) -> nn.Sequential:
    """A stem of 8 channels for 3-channel images, the block, global average and ten logits."""
    return nn.Sequential(
        conv_bn(3, 8, 3, stride=2), block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)
    )


def depthwise_separable() -> nn.Sequential:
    """MobileNet v1's block (Howard et al. 2017, figure 3), ReLU6, and a classifier of the flattened image."""
    return nn.Sequential(
        conv_bn(3, 8, 3, stride=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU6(),
        nn.AvgPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(12 * 4 * 4, 10), nn.Softmax(dim=1),
    )  # fmt: skip


def keyword_1d() -> nn.Sequential:
    """A convolution over time, as for sensor data and audio."""
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv1d(8, 8, 3, padding=1, groups=8), nn.LeakyReLU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 6, 1), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 8, 4),
    )  # fmt: skip


def decoder() -> nn.Sequential:
    """Upsampling to an image, as the second half of an autoencoder."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2),
        nn.ZeroPad2d((1, 0, 0, 1)), nn.Conv2d(8, 3, 2), nn.Sigmoid(),
    )  # fmt: skip


IMAGE = (1, 3, 16, 16)
# Name: (builder, shape of the input).
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "decoder": (decoder, IMAGE),
    "depthwise_separable": (depthwise_separable, IMAGE),
    "fire": (lambda: classifier(Fire(8, 4, 8), 16), IMAGE),
    "inception": (lambda: classifier(Inception(8), 18), IMAGE),
    "inverted_residual": (lambda: classifier(InvertedResidual(8, 16), 8), IMAGE),
    "keyword_1d": (keyword_1d, (1, 3, 32)),
    "residual": (lambda: classifier(Residual(8, 12), 12), IMAGE),
    "shuffle_unit": (lambda: classifier(nn.Sequential(ShuffleUnit(8), ShuffleUnit(8)), 8), IMAGE),
}


def build_module(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The module, in evaluation mode, with batch statistics as after some training, and an example input."""
    torch.manual_seed(SEED)
    builder, shape = MODULES[name]
    module = builder().train()
    with torch.no_grad():
        for _ in range(20):
            module(torch.randn(16, *shape[1:]))
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.2)
    return module.eval(), torch.zeros(shape)


def main() -> None:
    for name in MODULES:
        module, example = build_module(name)
        target = Path(__file__).with_name(f"{name}.onnx")
        torch.onnx.export(
            module, (example,), str(target), input_names=["x"], output_names=["out"], opset_version=OPSET,
            dynamo=False,
        )  # fmt: skip
        print(f"wrote {target.name}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
