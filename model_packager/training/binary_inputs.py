"""Makes layers read signs: batch norm and sign go in front of the layers whose method has binary inputs.

In: a traced module and a recipe. The ReLU in front of such a layer makes way for batch norm and sign, which
stand behind the pools there: convolution, pool, batch norm, sign, convolution is the order in which XNOR-Net
loses least (Rastegari et al. 2016, section 3.2, figure 3). Behind such a layer, too, comes a batch norm where
there is none. What is exported is what ``passes.binarise_activations`` takes in: signs become bits, batch
norms thresholds.
"""

from __future__ import annotations

from torch import fx, nn

from model_packager.errors import UsageError
from model_packager.training.activations import (
    NORMS,
    WEIGHTED,
    SignActivation,
    is_activation,
    is_moving,
    module_of,
)
from model_packager.training.layers import entries
from model_packager.training.methods import QUANTISING
from model_packager.training.recipe import TrainingRecipe


def binarise_inputs(graph_module: fx.GraphModule, recipe: TrainingRecipe) -> None:
    """Change `graph_module` in place. A layer that reads the network's input keeps it, which has 8 bits.

    Raises ``UsageError`` where something else than pools, batch norm and ReLU stands before a layer.
    """
    chosen = [
        name
        for name, entry in entries(graph_module, recipe).items()
        if entry.quantise is not None and QUANTISING[entry.quantise.name].binary_inputs
    ]
    nodes = {str(node.target): node for node in graph_module.graph.nodes if node.op == "call_module"}
    for name in chosen:
        _binarise_input(graph_module, nodes[name])
    for name in chosen:
        _normalise_output(graph_module, nodes[name])
    graph_module.graph.lint()
    graph_module.recompile()


def _binarise_input(graph_module: fx.GraphModule, layer: fx.Node) -> None:
    """Sign behind the last pool before a layer, and batch norm before it where there is none; the ReLU
    goes."""
    modules = dict(graph_module.named_modules())
    place = layer.all_input_nodes[0]
    while is_moving(place, modules) and not isinstance(module_of(place, modules), nn.MaxPool2d):
        place = place.all_input_nodes[0]
    node, has_norm, activations = place, False, []
    while not isinstance(module_of(node, modules), WEIGHTED):
        if node.op == "placeholder":
            return
        part = module_of(node, modules)
        if is_activation(node, modules):
            activations.append(node)
        elif not isinstance(part, (*NORMS, nn.MaxPool2d)):
            raise UsageError(f"layer '{layer.target}' cannot read signs: '{node.name}' stands before it")
        if len(node.users) != 1:
            raise UsageError(f"layer '{layer.target}' cannot read signs: '{node.name}' is read elsewhere too")
        has_norm |= isinstance(part, NORMS)
        node = node.all_input_nodes[0]
    if len(node.users) != 1:
        raise UsageError(f"layer '{layer.target}' cannot read signs: '{node.name}' is read elsewhere too")
    if not has_norm:
        place = _insert(graph_module, place, _norm_for(modules[str(node.target)]), f"{layer.name}_norm")
    _insert(graph_module, place, SignActivation(), f"{layer.name}_sign")
    for activation in activations:
        activation.replace_all_uses_with(activation.all_input_nodes[0])
        graph_module.graph.erase_node(activation)


def _normalise_output(graph_module: fx.GraphModule, layer: fx.Node) -> None:
    """Batch norm behind a layer, unless one follows at once or behind pools."""
    modules = dict(graph_module.named_modules())
    node = layer
    while len(node.users) == 1:
        node = next(iter(node.users))
        if isinstance(module_of(node, modules), NORMS):
            return
        if not isinstance(module_of(node, modules), nn.MaxPool2d):
            break
    _insert(graph_module, layer, _norm_for(modules[str(layer.target)]), f"{layer.name}_output_norm")


def _norm_for(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return nn.BatchNorm1d(layer.out_features)
    assert isinstance(layer, nn.Conv2d)
    return nn.BatchNorm2d(layer.out_channels)


def _insert(graph_module: fx.GraphModule, node: fx.Node, module: nn.Module, name: str) -> fx.Node:
    """The node of a module that takes a node's output and gives its own to all that read it."""
    graph_module.add_submodule(name, module)
    with graph_module.graph.inserting_after(node):
        inserted = graph_module.graph.call_module(name, (node,))
    node.replace_all_uses_with(inserted, delete_user_cb=lambda user: user is not inserted)
    return inserted
