"""The layers of a traced graph with the methods that a recipe gives them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from model_packager.errors import UsageError
from model_packager.training.activations import (
    WEIGHTED,
    ActivationQuantiser,
    compared_norm,
    fused_norm,
    input_quantiser_of,
    input_scale_of,
    norm_factor,
)
from model_packager.training.methods import Method
from model_packager.training.methods.protocol import Integers, peak_integers, straight_through
from model_packager.training.recipe import LayerRecipe, TrainingRecipe


@dataclass
class Layer:
    """One layer with weights; `place` counts them in the order of execution, as the packed model does."""

    name: str
    place: int
    module: nn.Module
    entry: LayerRecipe
    methods: list[Method]

    @property
    def weight(self) -> Tensor:
        """The trained weights behind all methods."""
        if parametrize.is_parametrized(self.module, "weight"):
            return self.module.parametrizations.weight.original  # type: ignore[union-attr, return-value]
        return self.module.weight  # type: ignore[return-value]

    def input_of(self, method: Method) -> Tensor:
        """The weights that a method of the chain gets."""
        weight = self.weight
        for earlier in self.methods:
            if earlier is method:
                break
            weight = earlier(weight)
        return weight

    def integers(self) -> Integers:
        """What the packer stores; without a quantising method int8 with one scale for each row."""
        with torch.no_grad():
            weight = self.weight
            for method in self.methods:
                if method.quantises and method.begun:
                    return method.integers(weight)
                weight = method(weight)
            return _int8_rows(weight)

    def scales(self) -> Tensor:
        """The current scales (rows,) of the integer weights."""
        with torch.no_grad():
            weight = self.weight
            for method in self.methods:
                if method.quantises and method.begun:
                    return method.scales(weight)
                weight = method(weight)
            return _int8_rows(weight).scales


def _int8_rows(weight: Tensor) -> Integers:
    rows = weight.reshape(len(weight), -1)
    peaks = rows.abs().amax(dim=1)
    if not bool((peaks > 0).any()):
        return peak_integers(weight)
    scales = torch.where(peaks > 0, peaks, peaks[peaks > 0].mean()) / 127
    values = (rows / scales[:, None]).round().clamp(-127, 127).reshape(weight.shape)
    return Integers(values.to(torch.int8), scales)


class BiasGrid(nn.Module):
    """Biases as integers of `bits` bits in units of input scale times weight scale, once activations are
    quantised; the packer stores exactly these."""

    def __init__(self, layer: Layer, source: ActivationQuantiser, bits: int) -> None:
        super().__init__()
        self._layer, self._source = [layer], [source]  # in lists: neither is a part of this module
        self.high = (1 << (bits - 1)) - 1

    def forward(self, bias: Tensor) -> Tensor:
        source = self._source[0]
        if not source.enabled:
            return bias
        unit = source.scale_and_zero_point()[0] * self._layer[0].scales()
        return straight_through((bias / unit).round().clamp(-self.high - 1, self.high) * unit, bias)


def attach_methods(graph_module: fx.GraphModule, recipe: TrainingRecipe, example: Tensor) -> list[Layer]:
    """Give each layer its methods (parametrisations of ``weight`` and ``bias``).

    example: one input, (1, ...) float32; it tells the methods at how many positions a layer computes.
    Raises ``UsageError`` when an entry of the recipe matches no layer, or asks for what a layer cannot have.
    """
    modules = dict(graph_module.named_modules())
    layers = []
    for place, (name, entry) in enumerate(entries(graph_module, recipe).items()):
        module = modules[name]
        choices = [choice for choice in (entry.prune, entry.quantise) if choice is not None]
        methods = [choice.build(module.weight.detach()) for choice in choices]
        layers.append(Layer(name, place, module, entry, methods))
        for method in methods:
            method.layer_name = name
            parametrize.register_parametrization(module, "weight", method, unsafe=True)
    _require_use(recipe, layers)
    for layer in layers:
        if layer.entry.bias_bits is not None:
            _attach_bias(graph_module, layer, layer.entry.bias_bits)
    _count_positions(graph_module, layers, example)
    for kind in {type(method) for layer in layers for method in layer.methods}:
        kind.arrange([method for layer in layers for method in layer.methods if type(method) is kind])
    return layers


def entries(graph_module: fx.GraphModule, recipe: TrainingRecipe) -> dict[str, LayerRecipe]:
    """What the recipe says of each layer, by its name, in the order of execution."""
    modules = dict(graph_module.named_modules())
    names = [
        str(node.target)
        for node in graph_module.graph.nodes
        if node.op == "call_module" and isinstance(modules[str(node.target)], WEIGHTED)
    ]
    return {name: recipe.layer((name, _kind(modules[name]), f"#{place}")) for place, name in enumerate(names)}


def _count_positions(graph_module: fx.GraphModule, layers: list[Layer], example: Tensor) -> None:
    def note(layer: Layer, output: Tensor) -> None:
        for method in layer.methods:
            method.output_positions = output[0, 0].numel()

    hooks = [
        layer.module.register_forward_hook(lambda module, inputs, output, layer=layer: note(layer, output))
        for layer in layers
    ]
    was_training = graph_module.training
    with torch.no_grad():
        graph_module.eval()(example)
    graph_module.train(was_training)
    for hook in hooks:
        hook.remove()


def _attach_bias(graph_module: fx.GraphModule, layer: Layer, bits: int) -> None:
    source = input_quantiser_of(graph_module, layer.name)
    if layer.module.bias is None or source is None or fused_norm(graph_module, layer.name):
        raise UsageError(f"layer '{layer.name}' has no bias of its own for bias_bits")
    parametrize.register_parametrization(layer.module, "bias", BiasGrid(layer, source, bits), unsafe=True)


def freeze_biases(graph_module: fx.GraphModule, layers: list[Layer]) -> None:
    """Round the biases to the integers that the packer stores: units of input scale times weight scale, of
    the folded bias where batch norm follows."""
    for layer in layers:
        module = layer.module
        if parametrize.is_parametrized(module, "bias"):
            parametrize.remove_parametrizations(module, "bias", leave_parametrized=True)
        input_scale = input_scale_of(graph_module, layer.name)
        if input_scale is None:
            continue
        unit = input_scale * layer.scales()
        compared = compared_norm(graph_module, layer.name)
        norm = compared or fused_norm(graph_module, layer.name)
        with torch.no_grad():
            if norm is not None:
                _freeze_norm(norm, module.bias, unit, is_compared=compared is not None)
            elif module.bias is not None:
                module.bias.copy_((module.bias / unit).round() * unit)


def _freeze_norm(norm: nn.BatchNorm2d, own: Tensor | None, unit: Tensor, is_compared: bool) -> None:
    """Move the norm's bias so that the folded bias is one that the packer stores, for a layer with the bias
    `own`.

    Where a sign follows, the packer stores floor(bias) as a threshold; half a unit above that decides the
    same for every sum, and leaves none on the threshold itself, where float32 would round it to either side.
    """
    assert norm.running_mean is not None
    factor = norm_factor(norm)
    steps_unit = unit * factor.abs()
    moved = ((torch.zeros_like(factor) if own is None else own) - norm.running_mean) * factor
    steps = (moved + norm.bias) / steps_unit
    steps = steps.floor() + 0.5 if is_compared else steps.round()
    norm.bias.copy_(torch.where(steps_unit > 0, steps * steps_unit - moved, norm.bias))


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return "fully_connected"
    assert isinstance(module, nn.Conv2d)
    depthwise = module.groups > 1 and module.groups == module.in_channels
    return "depthwise_conv_2d" if depthwise else "conv_2d"


def _require_use(recipe: TrainingRecipe, layers: list[Layer]) -> None:
    used = [layer.entry for layer in layers]
    for entry in recipe.layers:
        if not any(entry is other for other in used):
            known = ", ".join(f"#{layer.place} {layer.name}" for layer in layers)
            raise UsageError(f"no layer takes the entry '{entry.match}'; there are {known}")
