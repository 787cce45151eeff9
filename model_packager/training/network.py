"""A float ``Model`` (from .onnx or .tflite) as a torch module that can be trained on.

Activations are N, C, H, W here; a softmax at the very end is left out, since losses and classes want the
logits. Layers are called as in the model ("#0" is the first with weights).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from model_packager.errors import ImportRefused
from model_packager.format_table import OperatorKind
from model_packager.model import Model, Operator
from model_packager.pack import import_model
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.fuse_activations import fuse_activations
from model_packager.reference.executor import attributes_of


class PaddedConv2d(nn.Conv2d):
    """A convolution with a pad for each side: (left, right, top, bottom) cells of zeros."""

    def __init__(self, pads: tuple[int, int, int, int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pads = pads

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(functional.pad(input, self.pads))


def load_network(path: str | Path) -> tuple[fx.GraphModule, Tensor]:
    """(module, example input of zeros) of a float network file.

    Raises ``ImportRefused`` for what cannot be trained here; ``UsageError`` and ``OSError`` as importing.
    """
    model = import_model(path)
    try:
        return build_network(model)
    except ImportRefused as refusal:
        raise ImportRefused(f"{path}: {refusal}") from refusal


def build_network(model: Model) -> tuple[fx.GraphModule, Tensor]:
    """(module, example input of zeros) of a float model with one input and one output."""
    if not model.is_float:
        raise ImportRefused("its weights are integers already; training starts from the float network")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ImportRefused("training takes networks with one input and one output")
    builder = _Builder(fuse_activations(fold_batch_norm(model)))
    return builder.build()


class _Builder:
    """Adds a node for each operator of a model to an fx graph."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.nodes: dict[int, fx.Node] = {}
        self.places = 0

    def build(self) -> tuple[fx.GraphModule, Tensor]:
        source = self.model.inputs[0].tensor
        self.nodes[source] = self.graph.placeholder("input")
        last = len(self.model.operators) - 1
        for number, operator in enumerate(self.model.operators):
            if operator.kind is OperatorKind.SOFTMAX and number == last:
                self.nodes[operator.outputs[0]] = self.nodes[operator.inputs[0]]
                continue
            node = self._node(operator)
            self.nodes[operator.outputs[0]] = self._activated(operator, node)
        self.graph.output(self.nodes[self.model.outputs[0].tensor])
        shape = self.model.tensors[source].shape
        if len(shape) == 4:
            shape = (1, shape[3], shape[1], shape[2])
        return fx.GraphModule(self.root, self.graph), torch.zeros(shape)

    def _call(self, name: str, module: nn.Module, *inputs: fx.Node) -> fx.Node:
        self.root.add_module(name, module)
        return self.graph.call_module(name, inputs)

    def _node(self, operator: Operator) -> fx.Node:
        inputs = [self.nodes[index] for index in operator.inputs]
        kind, attributes = operator.kind, attributes_of(operator)
        name = f"{kind.name.lower()}_{len(self.nodes)}"
        if operator.weights is not None:
            self.places += 1
            if kind is OperatorKind.FULLY_CONNECTED:
                inputs = [self._flat(inputs[0], self.model.tensors[operator.inputs[0]].shape)]
            return self._call(f"layer_{self.places - 1}", self._weighted(operator, attributes), *inputs)
        if kind is OperatorKind.ADD:
            return self.graph.call_function(torch.add, tuple(inputs))
        if kind in (OperatorKind.MAX_POOL_2D, OperatorKind.AVERAGE_POOL_2D) and not any(_pads(attributes)):
            pool = nn.MaxPool2d if kind is OperatorKind.MAX_POOL_2D else nn.AvgPool2d
            window = (attributes["kernel_h"], attributes["kernel_w"])
            return self._call(name, pool(window, (attributes["stride_h"], attributes["stride_w"])), *inputs)
        source, output = (self.model.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
        if kind is OperatorKind.MEAN and len(source.shape) == 4 and output.element_count == source.shape[3]:
            return self.graph.call_function(torch.mean, (inputs[0], (2, 3)))
        if kind is OperatorKind.RESHAPE and len(output.shape) == 2 and len(source.shape) in (2, 4):
            return self._flat(inputs[0], source.shape)
        if operator.options.get("function") in ("relu", "relu6"):
            return self._call(name, _activation(operator.options["function"]), *inputs)
        raise ImportRefused(f"training does not know the operator {kind.name} '{operator.name}'")

    def _flat(self, node: fx.Node, shape: tuple[int, ...]) -> fx.Node:
        """An activation as (N, features), images in the model's order: rows, columns, channels."""
        if len(shape) == 4 and shape[1:3] != (1, 1):
            node = self.graph.call_function(torch.permute, (node, (0, 2, 3, 1)))
        return node if len(shape) == 2 else self.graph.call_function(torch.flatten, (node, 1))

    def _activated(self, operator: Operator, node: fx.Node) -> fx.Node:
        activation = operator.options.get("activation", "none")
        if activation == "none":
            return node
        return self._call(f"activation_{len(self.nodes)}", _activation(activation), node)

    def _weighted(self, operator: Operator, attributes: dict[str, int]) -> nn.Module:
        assert operator.weights is not None
        values = torch.from_numpy(operator.weights.values.copy()).float()
        source = self.model.tensors[operator.inputs[0]]
        layer: nn.Module
        if operator.kind is OperatorKind.FULLY_CONNECTED:
            layer = nn.Linear(values.shape[1], len(values), bias=operator.bias is not None)
        else:
            layer, values = self._convolution(operator, attributes, source.shape[3], values)
        with torch.no_grad():
            layer.weight.copy_(values)  # type: ignore[operator, union-attr]
            if operator.bias is not None:
                layer.bias.copy_(torch.from_numpy(operator.bias.copy()).float())  # type: ignore[operator, union-attr]
        return layer

    def _convolution(
        self, operator: Operator, attributes: dict[str, int], channels: int, values: Tensor
    ) -> tuple[nn.Module, Tensor]:
        kernel = (attributes["kernel_h"], attributes["kernel_w"])
        if operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
            groups, values = channels, values.reshape(len(values), 1, *kernel)
        else:
            groups = attributes["groups"]
            values = values.reshape(len(values), *kernel, channels // groups).permute(0, 3, 1, 2)
        options: dict[str, Any] = {
            "stride": (attributes["stride_h"], attributes["stride_w"]),
            "dilation": (attributes.get("dilation_h", 1), attributes.get("dilation_w", 1)),
            "groups": groups,
            "bias": operator.bias is not None,
        }
        top, bottom, left, right = _pads(attributes)
        if (top, left) == (bottom, right):
            return nn.Conv2d(channels, len(values), kernel, padding=(top, left), **options), values
        return PaddedConv2d((left, right, top, bottom), channels, len(values), kernel, **options), values


def _pads(attributes: dict[str, int]) -> tuple[int, int, int, int]:
    top, bottom, left, right = (attributes[f"pad_{side}"] for side in ("top", "bottom", "left", "right"))
    return top, bottom, left, right


def _activation(name: str) -> nn.Module:
    if name not in ("relu", "relu6"):
        raise ImportRefused(f"training does not know the activation {name}")
    return nn.ReLU() if name == "relu" else nn.ReLU6()
