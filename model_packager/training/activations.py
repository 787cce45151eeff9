"""Simulates the int8 activations of the packed network inside a traced torch module.

`quantised_graph` traces a module (torch.fx), finds the tensors that the packed network stores, by the rules
of ``passes.quantise``, and puts an `ActivationQuantiser` behind each. The exported graph carries the same
scales and zero points, so that the training graph and the device round at the same places.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from model_packager.errors import UsageError
from model_packager.numerics import quantize_multiplier
from model_packager.passes.quantise import scale_and_zero_point

WEIGHTED = (nn.Linear, nn.Conv2d)
NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6)
_ACTIVATION_FUNCTIONS = (functional.relu, functional.relu6, torch.relu)
# What moves or compares values keeps their scale; dropout is the identity after training.
_MOVING = (nn.Flatten, nn.MaxPool2d, nn.Dropout, nn.Identity, nn.Unflatten)
_MOVING_CALLS = (torch.flatten, functional.max_pool2d, functional.dropout, torch.reshape, torch.permute)
_MOVING_METHODS = ("flatten", "reshape", "view", "permute", "contiguous", "transpose")
_STORED = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_STORED_CALLS = (operator.add, torch.add, functional.avg_pool2d, functional.adaptive_avg_pool2d, torch.mean)
_EMA = 0.02


class SignActivation(nn.Module):
    """-1 or +1 of each value, 0 counts as +1; the packed network stores it in one bit.

    Source: Courbariaux et al. 2016, "Binarized neural networks", section 1.3, equation 4: gradients pass
    where the value lies within -1..1. Exported, it is Sign, which the packer reads in the same way.
    """

    def forward(self, values: Tensor) -> Tensor:
        return torch.sign(values) if torch.onnx.is_in_onnx_export() else _Sign.apply(values)


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return torch.where(values < 0, -1.0, 1.0).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        return gradient * (values.abs() <= 1)


class ActivationQuantiser(nn.Module):
    """Rounds to int8 with the range seen so far; passes values through until `enabled`.

    steps: the range is cut into this many steps, 255 or fewer (a coarser grid makes biases shorter). In
    training mode the range follows the batches' extremes (Jacob et al. 2018, section 3.1) until `frozen`.
    shifts: bits (channels,) that the device's requantisation shifts out; when set, rounding is the device's.
    """

    def __init__(self, steps: int = 255) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        for flag in ("enabled", "frozen", "seen"):
            self.register_buffer(flag, torch.zeros((), dtype=torch.bool))
        self.shifts: Tensor | None = None

    def scale_and_zero_point(self) -> tuple[float, int]:
        """As the packer takes them from a range; the scale is a float32 value."""
        low, high = float(self.low), float(self.high)
        scale, _ = scale_and_zero_point(low, low + (high - low) * 255 / self.steps)
        return scale, max(-128, min(127, round(-128 - low / scale)))

    def forward(self, values: Tensor) -> Tensor:
        if not self.enabled:
            return values
        if self.training and not self.frozen:
            self._observe(values.detach())
        scale, zero_point = self.scale_and_zero_point()
        if self.shifts is None or torch.onnx.is_in_onnx_export():
            return torch.fake_quantize_per_tensor_affine(values, scale, zero_point, -128, 127)
        return (self._rounded_twice(values / scale).clamp(-128 - zero_point, 127 - zero_point)) * scale

    def _rounded_twice(self, steps: Tensor) -> Tensor:
        """docs/NUMERICS.md, requantisation: the high product is rounded half up, with as many fractional bits
        as are then shifted out; the shift rounds half away from zero."""
        assert self.shifts is not None
        unit = torch.exp2(self.shifts.reshape(-1, *[1] * (steps.dim() - 2)))
        product = (steps * unit + 0.5).floor()
        return product.sign() * (product.abs() / unit + 0.5).floor()

    def _observe(self, values: Tensor) -> None:
        low, high = values.min().clamp(max=0), values.max().clamp(min=0)
        share = _EMA if self.seen else 1.0
        self.low.lerp_(low, share)
        self.high.lerp_(high, share)
        self.seen.fill_(True)


def traced(module: nn.Module) -> fx.GraphModule:
    """A module's graph; parameters are shared with `module`. Raises ``UsageError`` where torch.fx cannot
    trace it."""
    try:
        return module if isinstance(module, fx.GraphModule) else fx.symbolic_trace(module)
    except Exception as error:  # whatever the user's own code raises on a symbolic input
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"torch.fx cannot trace the module: {reason}") from error


def quantised_graph(module: nn.Module) -> fx.GraphModule:
    """A traced copy of `module` with an `ActivationQuantiser` behind each stored tensor ("quantiser_0", ...
    in the order of execution; the first belong to the inputs). Parameters are shared with `module`.

    Raises ``UsageError`` for a module that torch.fx cannot trace, or an operation that is not known here.
    """
    graph_module = traced(module)
    modules = dict(graph_module.named_modules())
    stored = [node for node in graph_module.graph.nodes if _is_stored(node, modules)]
    for number, node in enumerate(stored):
        name = f"quantiser_{number}"
        graph_module.add_submodule(name, ActivationQuantiser())
        with graph_module.graph.inserting_after(node):
            quantiser = graph_module.graph.call_module(name, (node,))
        node.replace_all_uses_with(quantiser, delete_user_cb=lambda user, new=quantiser: user is not new)
    graph_module.recompile()
    return graph_module


def quantisers(module: nn.Module) -> list[ActivationQuantiser]:
    """All of them, in the order of execution."""
    return [part for part in module.modules() if isinstance(part, ActivationQuantiser)]


def input_quantiser_of(graph_module: fx.GraphModule, layer_name: str) -> ActivationQuantiser | None:
    """The quantiser whose grid a layer's input lies on, looking back through what only moves values; None
    behind a sign."""
    source = _input_source(graph_module, layer_name)
    return source if isinstance(source, ActivationQuantiser) else None


def input_scale_of(graph_module: fx.GraphModule, layer_name: str) -> float | None:
    """The step of the grid that a layer's input lies on; 1 behind a sign."""
    source = _input_source(graph_module, layer_name)
    if isinstance(source, ActivationQuantiser):
        return source.scale_and_zero_point()[0]
    return None if source is None else 1.0


def _input_source(
    graph_module: fx.GraphModule, layer_name: str
) -> ActivationQuantiser | SignActivation | None:
    modules = dict(graph_module.named_modules())
    nodes = (n for n in graph_module.graph.nodes if n.op == "call_module" and n.target == layer_name)
    node = next(nodes, None)
    while node is not None and node.all_input_nodes:
        node = node.all_input_nodes[0]
        part = module_of(node, modules)
        if isinstance(part, (ActivationQuantiser, SignActivation)):
            return part
    return None


def round_as_device(graph_module: fx.GraphModule, scales: Mapping[str, Tensor]) -> None:
    """Let the quantisers behind layers round as the device does; scales: (rows,) by layer name."""
    modules = dict(graph_module.named_modules())
    for node in graph_module.graph.nodes:
        quantiser = module_of(node, modules)
        if not isinstance(quantiser, ActivationQuantiser):
            continue
        factor: Tensor | float = 1.0
        behind = node.all_input_nodes[0]
        pool = module_of(behind, modules)
        if isinstance(pool, nn.AvgPool2d):
            # The packer makes it a depthwise convolution with int8 weights of 1 / cells.
            input_scale = input_scale_of(graph_module, str(behind.target))
            window = pool.kernel_size
            cells = window[0] * window[1] if isinstance(window, tuple) else window**2
            if input_scale is not None:
                quantiser.shifts = _shifts(input_scale, torch.ones(1) / cells / 127, quantiser)
            continue
        while not (behind.op == "call_module" and behind.target in scales):
            part = module_of(behind, modules)
            if isinstance(part, NORMS):
                factor = norm_factor(part).abs()  # type: ignore[arg-type]
            elif not is_activation(behind, modules):
                break
            behind = behind.all_input_nodes[0]
        else:
            input_scale = input_scale_of(graph_module, str(behind.target))
            assert input_scale is not None
            quantiser.shifts = _shifts(input_scale, scales[str(behind.target)] * factor, quantiser)


def _shifts(input_scale: float, scales: Tensor, output: ActivationQuantiser) -> Tensor:
    """(rows,): bits that requantisation shifts out, for weights with these scales."""
    unit = input_scale / output.scale_and_zero_point()[0]
    shifts = [-quantize_multiplier(float(scale) * unit)[1] for scale in scales.double()]
    return torch.tensor(shifts, dtype=torch.float32).clamp(min=0)


def fused_norm(graph_module: fx.GraphModule, layer_name: str) -> nn.BatchNorm2d | None:
    """The batch norm that directly follows a layer; the packed layer's bias is then not the layer's own."""
    modules = dict(graph_module.named_modules())
    for node in graph_module.graph.nodes:
        if node.op == "call_module" and node.target == layer_name:
            for user in node.users:
                if isinstance(module_of(user, modules), NORMS):
                    return module_of(user, modules)  # type: ignore[return-value]
    return None


def compared_norm(graph_module: fx.GraphModule, layer_name: str) -> nn.BatchNorm2d | None:
    """The batch norm between a layer and a sign, where max pools may stand too; None where no sign
    follows."""
    modules = dict(graph_module.named_modules())
    nodes = (n for n in graph_module.graph.nodes if n.op == "call_module" and n.target == layer_name)
    node, norm = next(nodes, None), None
    while node is not None and _leads_to_sign(node, modules):
        node = next(iter(node.users))
        part = module_of(node, modules)
        norm = part if isinstance(part, NORMS) else norm
    return norm  # type: ignore[return-value]


def norm_factor(norm: nn.BatchNorm2d) -> Tensor:
    """(channels,): what batch norm multiplies with after training."""
    assert norm.running_var is not None
    return (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()


def module_of(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules.get(str(node.target)) if node.op == "call_module" else None


def is_activation(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(module_of(node, modules), _ACTIVATIONS)
    return node.target in (*_ACTIVATION_FUNCTIONS, "relu")


def _is_stored(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether the packed network stores this node's output on a grid of its own."""
    if node.op in ("output", "get_attr"):
        return False
    if node.op == "placeholder" or is_activation(node, modules):
        return True
    part = module_of(node, modules)
    if isinstance(part, SignActivation) or _leads_to_sign(node, modules):
        return False  # a bit, or a sum that is only compared
    users = list(node.users)
    fused = len(users) == 1 and (
        is_activation(users[0], modules) or isinstance(module_of(users[0], modules), NORMS)
    )
    if isinstance(part, (*WEIGHTED, *NORMS)):
        return not fused
    if isinstance(part, _STORED) or node.target in (*_STORED_CALLS, "add", "mean"):
        return not (len(users) == 1 and is_activation(users[0], modules))
    if is_moving(node, modules) or not _holds_tensor(node):
        return False
    what = type(part).__name__ if part is not None else getattr(node.target, "__name__", node.target)
    raise UsageError(f"training does not know the operation '{what}' of node '{node.name}'")


def is_moving(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node only moves or compares values: shapes, max pools."""
    calls = (*_MOVING_CALLS, *_MOVING_METHODS)
    return isinstance(module_of(node, modules), _MOVING) or node.target in calls


def _leads_to_sign(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether batch norms and max pools alone stand between a node and a sign."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        part = module_of(node, modules)
        if isinstance(part, SignActivation):
            return True
        if not isinstance(part, (*NORMS, nn.MaxPool2d)):
            return False
    return False


def _holds_tensor(node: fx.Node) -> Any:
    """Shape arithmetic (``x.size(0)``) passes through a trace too."""
    return node.target not in ("size", getattr, operator.getitem, "dim") or node.op == "call_module"
