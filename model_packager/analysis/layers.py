"""What each operator of a network costs, and all of them together: a ``Model``, float or integer, goes in, an
``Analysis`` comes out. A float network is counted as it would be packed, with batch norm and activations
fused."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model_packager.analysis.energy import Energy, estimate_energy
from model_packager.analysis.geometry import Convolution, convolution_of
from model_packager.analysis.rewrites import Form, forms_of
from model_packager.model import Model
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.fuse_activations import fuse_activations
from model_packager.passes.lifetimes import Lifetimes
from model_packager.reference.accumulators import accumulator_bounds

# Bits of a weight at each precision that weights can be stored in.
PRECISION_BITS = {
    "fp32": 32,
    "fp16": 16,
    "bfloat16": 16,
    "int16": 16,
    "int8": 8,
    "int4": 4,
    "ternary": 2,
    "binary": 1,
}


@dataclass(frozen=True)
class Layer:
    """One operator. Counts are of values, not bytes. ``live_activations``: values of all tensors that live
    while it runs, without in-place schedules. ``accumulator_bits``: 2N + log2(CRS) for N = 8;
    ``proven_bits``: what the weights and the bias of an integer model can reach, sign included.
    ``stored_bytes``: of the weights in a .thimble file. What an operator without weights does not have is 0
    or None."""

    index: int
    name: str
    kind: str
    output_shape: tuple[int, ...]
    input_activations: int
    output_activations: int
    live_activations: int
    convolution: Convolution | None
    weights: int
    biases: int
    macs: int
    additions: int
    accumulator_bits: int | None
    proven_bits: int | None
    stored_bytes: int | None
    forms: tuple[Form, ...]

    @property
    def intensity(self) -> float:
        """Multiply-accumulates for each byte moved, if every weight and activation has one byte and moves
        once."""
        moved = self.weights + self.input_activations + self.output_activations
        return self.macs / moved if moved else 0.0

    def weight_bytes(self, precision: str) -> int:
        """Bytes of the weights at one of PRECISION_BITS."""
        return -(-self.weights * PRECISION_BITS[precision] // 8)


@dataclass(frozen=True)
class Analysis:
    """All operators of a network in order."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(layer.weights + layer.biases for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def peak(self) -> Layer:
        """The operator while which most activations live."""
        return max(self.layers, key=lambda layer: layer.live_activations)

    @property
    def intensity(self) -> float:
        moved = sum(
            layer.weights + layer.input_activations + layer.output_activations for layer in self.layers
        )
        return self.macs / moved if moved else 0.0

    @property
    def stored_bytes(self) -> int | None:
        """Bytes of all weights in a .thimble file, or None."""
        stored = [layer.stored_bytes for layer in self.layers if layer.stored_bytes is not None]
        return sum(stored) if stored else None

    def weight_bytes(self, precision: str) -> int:
        """Bytes of all weights at one of PRECISION_BITS."""
        return sum(layer.weight_bytes(precision) for layer in self.layers)

    def energy(self) -> list[Energy]:
        """Estimates for each precision; see ``energy``."""
        moved = sum(layer.input_activations + layer.output_activations for layer in self.layers)
        return estimate_energy(self.macs, self.weights, moved)


def accumulator_bits(terms: int, operand_bits: int = 8) -> int:
    """Bits of an accumulator for `terms` = C * R * S products of two operands: 2N + log2(CRS), rounded up."""
    return 2 * operand_bits + math.ceil(math.log2(terms))


def analyse(model: Model, stored_bytes: dict[int, int] | None = None) -> Analysis:
    """Count everything. ``stored_bytes``: bytes of the weights in a file, by operator.

    Raises:
        PackError: an integer model whose accumulators may overflow.
    """
    if model.is_float:
        model = fuse_activations(fold_batch_norm(model))
    bounds = [None] * len(model.operators) if model.is_float else accumulator_bounds(model)
    lifetimes = Lifetimes(model)
    layers = []
    for index, operator in enumerate(model.operators):
        weighted = operator.weights is not None
        shape = convolution_of(model, operator) if weighted else None
        found = bounds[index]
        living = [i for i in range(len(model.tensors)) if lifetimes.alive(i, index)]
        layers.append(
            Layer(
                index=index,
                name=operator.name,
                kind=operator.kind.name,
                output_shape=tuple(model.tensors[operator.outputs[0]].shape),
                input_activations=sum(model.tensors[i].element_count for i in set(operator.inputs)),
                output_activations=sum(model.tensors[i].element_count for i in operator.outputs),
                live_activations=sum(model.tensors[i].element_count for i in living),
                convolution=shape,
                weights=shape.weights if shape else 0,
                biases=0 if operator.bias is None else len(operator.bias),
                macs=shape.macs if shape else 0,
                additions=shape.additions if shape else 0,
                accumulator_bits=accumulator_bits(shape.terms) if shape else None,
                proven_bits=1 + max(-1 - found[0], found[1]).bit_length() if shape and found else None,
                stored_bytes=(stored_bytes or {}).get(index),
                forms=tuple(forms_of(shape)) if shape else (),
            )
        )
    return Analysis(model.name, tuple(layers))
