"""The shape of a layer with weights: what its counts of weights and multiply-accumulates follow from."""

from __future__ import annotations

from dataclasses import dataclass

from model_packager.format_table import OperatorKind
from model_packager.model import Model, Operator
from model_packager.reference.executor import attributes_of


@dataclass(frozen=True)
class Convolution:
    """A convolution of ``input_h`` x ``input_w`` x ``inputs`` to ``output_h`` x ``output_w`` x ``outputs`` in
    ``groups``; depthwise where ``groups`` equals ``inputs``. A fully connected layer is one of a single
    position."""

    input_h: int
    input_w: int
    inputs: int
    output_h: int
    output_w: int
    outputs: int
    kernel_h: int = 1
    kernel_w: int = 1
    groups: int = 1
    stride_h: int = 1
    stride_w: int = 1

    @property
    def terms(self) -> int:
        """Products in one output: C / groups * R * S."""
        return self.inputs // self.groups * self.kernel_h * self.kernel_w

    @property
    def weights(self) -> int:
        """Weights, biases not counted."""
        return self.outputs * self.terms

    @property
    def positions(self) -> int:
        """Output positions."""
        return self.output_h * self.output_w

    @property
    def macs(self) -> int:
        """Multiply-accumulates; products with padding count."""
        return self.positions * self.weights

    @property
    def additions(self) -> int:
        """Additions of products to each other: one less than there are products in a sum."""
        return self.positions * self.outputs * (self.terms - 1)

    @property
    def kind(self) -> str:
        """One of "standard", "grouped", "depthwise", "pointwise" or "fully connected"."""
        if self.positions == self.input_h * self.input_w == self.kernel_h * self.kernel_w == 1:
            return "fully connected"
        if self.groups > 1:
            return "depthwise" if self.groups == self.inputs else "grouped"
        return "pointwise" if self.kernel_h * self.kernel_w == 1 else "standard"


def convolution_of(model: Model, operator: Operator) -> Convolution:
    """The shape of an operator with weights."""
    assert operator.weights is not None
    source = model.tensors[operator.inputs[0]]
    rows, cols = operator.weights.values.shape
    if operator.kind is OperatorKind.FULLY_CONNECTED:
        return Convolution(1, 1, cols, 1, 1, rows)
    _, input_h, input_w, inputs = source.shape4
    _, output_h, output_w, outputs = model.tensors[operator.outputs[0]].shape4
    attributes = attributes_of(operator)
    depthwise = operator.kind is OperatorKind.DEPTHWISE_CONV_2D
    return Convolution(
        *(input_h, input_w, inputs, output_h, output_w, outputs),
        *(attributes["kernel_h"], attributes["kernel_w"]),
        inputs if depthwise else attributes["groups"],
        *(attributes["stride_h"], attributes["stride_w"]),
    )
