"""From a trained graph to an integer ``Model``: weights become the methods' integers for good, the graph goes
through ONNX with its scales (QuantizeLinear, DequantizeLinear), and the importer builds the operators.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from model_packager.encoders import Encoding, EncodingPattern
from model_packager.importers.pytorch import import_module
from model_packager.model import Model
from model_packager.training.methods.protocol import Integers, by_row


class FrozenWeights(nn.Module):
    """A parametrisation that always gives scale * integer; exported, it says which ones."""

    def __init__(self, integers: Integers) -> None:
        super().__init__()
        self.register_buffer("values", integers.values)
        self.register_buffer("scales", integers.scales)

    def forward(self, weight: Tensor) -> Tensor:
        real = self.values.to(self.scales.dtype) * by_row(self.scales, self.values)
        if not torch.onnx.is_in_onnx_export():
            return real
        zero_points = torch.zeros(len(self.scales), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(real, self.scales, zero_points, 0, -128, 127)


def freeze_weights(layer: nn.Module, integers: Integers) -> None:
    """Replace a layer's methods by the integers that they ended with."""
    if parametrize.is_parametrized(layer, "weight"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    parametrize.register_parametrization(layer, "weight", FrozenWeights(integers), unsafe=True)


def export_model(
    graph_module: fx.GraphModule, example: Tensor, encodings: Mapping[int, Encoding | EncodingPattern]
) -> Model:
    """The integer model of a graph with frozen weights.

    example: one input, (1, ...) float32. encodings: what the recipe asks for, by the layer's place among
    those with weights.
    """
    with warnings.catch_warnings():
        # Flags and scales are constants of the exported graph, as they should be.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = import_module(graph_module, example)
    layers = [operator for operator in model.operators if operator.weights is not None]
    for place, encoding in encodings.items():
        weights = layers[place].weights
        assert weights is not None
        weights.encoding = encoding
    return model
