"""The training loop: `compress` takes a torch module and a recipe, trains, and gives an integer ``Model``.

Every step asks the layers' methods (``methods.protocol``) in the same order: begin, gradients,
after_backward, optimiser, after_step. After the last epoch the weights become integers for good; what is
evaluated then is what the packed file computes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from model_packager.errors import UsageError
from model_packager.model import Model
from model_packager.training.activations import quantised_graph, quantisers, round_as_device, traced
from model_packager.training.binary_inputs import binarise_inputs
from model_packager.training.checkpoint import load_checkpoint, save_checkpoint
from model_packager.training.export import export_model, freeze_weights
from model_packager.training.layers import Layer, attach_methods, freeze_biases
from model_packager.training.recipe import TrainingRecipe
from model_packager.training.schedule import Moment, learning_rate

Batches = Iterable[tuple[Tensor, Tensor]]
Progress = Callable[[int, int], Any]


@dataclass(frozen=True)
class Epoch:
    """What an epoch left: mean loss, validation accuracy in per cent, weights that are not zero."""

    number: int
    loss: float
    valid_accuracy: float
    nonzero_count: int


@dataclass
class Compressed:
    """A trained network: the torch graph with its final integers (in float64, rounding as the device does),
    the model to pack, and the way there."""

    module: fx.GraphModule
    model: Model
    history: list[Epoch] = field(default_factory=list)

    def predict(self, inputs: Tensor, batch_size: int = 500) -> Tensor:
        """The training graph's own outputs (N, ...)."""
        return predict(self.module, inputs, batch_size)


def compress(
    module: nn.Module,
    recipe: TrainingRecipe,
    train_loader: Batches,
    valid_loader: Batches,
    *,
    teacher: nn.Module | None = None,
    checkpoint: Path | None = None,
    progress: Progress = lambda done, whole: None,
    report: Callable[[Epoch], Any] = lambda epoch: None,
) -> Compressed:
    """Train a copy of `module` as the recipe says; `module` itself is not changed.

    train_loader, valid_loader: iterables of (inputs, class numbers), with a length; the training one shuffles
    with torch's global generator, which is seeded anew for each epoch (so a resumed training repeats the
    uninterrupted one). teacher: for distillation; without one, `module` as it is. checkpoint: a file written
    after each epoch, and read at the start if it is there. progress gets optimiser steps done and all;
    report each finished epoch.

    Raises ``UsageError`` for a recipe that does not fit the module, or a checkpoint of another recipe.
    """
    torch.manual_seed(recipe.seed)
    teacher = copy.deepcopy(teacher if teacher is not None else module).eval()
    graph_module = traced(copy.deepcopy(module))
    binarise_inputs(graph_module, recipe)
    graph_module = quantised_graph(graph_module)
    example = next(iter(valid_loader))[0][:1]
    layers = attach_methods(graph_module, recipe, example)
    _set_steps(graph_module, recipe)
    loop = _Loop(graph_module, layers, recipe, train_loader, valid_loader, teacher)
    loop.run(checkpoint, progress, report)
    return finish(graph_module, layers, loop.history, example)


def finish(
    graph_module: fx.GraphModule, layers: list[Layer], history: list[Epoch], example: Tensor
) -> Compressed:
    """Freeze weights, biases and ranges, and export."""
    graph_module.eval()
    integers = {layer.name: layer.integers() for layer in layers}
    freeze_biases(graph_module, layers)
    for layer in layers:
        freeze_weights(layer.module, integers[layer.name])
    round_as_device(graph_module, {name: frozen.scales for name, frozen in integers.items()})
    asked = {layer.place: layer.entry.encoding for layer in layers}
    encodings = {place: encoding for place, encoding in asked.items() if encoding is not None}
    model = export_model(graph_module, example, encodings)
    # In float32 the sums of products are off by enough to round one value in some thousand otherwise than the
    # device, which in a deep network changes classes; float64 holds the integers' sums exactly.
    return Compressed(graph_module.double(), model, history)


def predict(module: nn.Module, inputs: Tensor, batch_size: int = 500) -> Tensor:
    """Outputs of a module in evaluation mode, (N, ...), in the precision of its parameters."""
    was_training = module.training
    module.eval()
    dtype = next((parameter.dtype for parameter in module.parameters()), inputs.dtype)
    with torch.no_grad():
        outputs = torch.cat([module(part.to(dtype)) for part in inputs.split(batch_size)])
    module.train(was_training)
    return outputs


def _set_steps(graph_module: fx.GraphModule, recipe: TrainingRecipe) -> None:
    parts = quantisers(graph_module)
    inputs = sum(node.op == "placeholder" for node in graph_module.graph.nodes)
    for number, quantiser in enumerate(parts):
        quantiser.steps = recipe.activations.input_steps if number < inputs else recipe.activations.steps
    parts[-1].steps = 255  # the outputs: fewer steps would only make ties


class _Loop:
    """The state of one training."""

    def __init__(
        self,
        module: fx.GraphModule,
        layers: list[Layer],
        recipe: TrainingRecipe,
        train_loader: Batches,
        valid_loader: Batches,
        teacher: nn.Module,
    ) -> None:
        self.module, self.layers, self.recipe, self.teacher = module, layers, recipe, teacher
        for network in (module, teacher):
            network.to(memory_format=torch.channels_last)  # convolutions are a third faster so
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.history: list[Epoch] = []
        self.training = recipe.training
        if not len(train_loader):  # type: ignore[arg-type]
            raise UsageError("the training data is empty")
        self.steps_per_epoch = len(train_loader)  # type: ignore[arg-type]
        self.optimizer = torch.optim.AdamW(
            self._groups(), lr=self.training.learning_rate, weight_decay=self.training.weight_decay
        )

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by the share of the learning rate that they get."""
        shares = {
            id(parameter): layer.entry.learning_rate_share
            for layer in self.layers
            for parameter in layer.module.parameters()
        }
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.module.parameters():
            groups.setdefault(shares.get(id(parameter), 1.0), []).append(parameter)
        return [{"params": parameters, "share": share} for share, parameters in groups.items()]

    def run(self, checkpoint: Path | None, progress: Progress, report: Callable[[Epoch], Any]) -> None:
        state = load_checkpoint(checkpoint, self.recipe.text) if checkpoint else None
        if state is not None:
            self._restore(state)
        for number in range(len(self.history), self.training.epochs):
            if self._should_stop():
                break
            torch.manual_seed(self.recipe.seed * 1_000_003 + number)
            loss = self._epoch(number, progress)
            epoch = Epoch(number + 1, loss, self._valid_accuracy(), self._nonzero_count())
            self.history.append(epoch)
            report(epoch)
            if checkpoint:
                save_checkpoint(checkpoint, self._state())

    def _epoch(self, number: int, progress: Progress) -> float:
        self.module.train()
        total, whole = 0.0, self.steps_per_epoch * self.training.epochs
        for place, (inputs, targets) in enumerate(self.train_loader):
            step = number * self.steps_per_epoch + place
            moment = Moment((step + 1) / whole, self._rate(step / whole))
            self._begin(moment)
            with torch.autocast("cpu", torch.bfloat16, enabled=self._is_coarse(moment)):
                loss = self._loss(inputs, targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._after("after_backward", moment)
            for group in self.optimizer.param_groups:
                group["lr"] = moment.learning_rate * group["share"]
            self.optimizer.step()
            self._after("after_step", moment)
            total += loss.item()
            progress(step + 1, whole)
        return total / self.steps_per_epoch

    def _is_coarse(self, moment: Moment) -> bool:
        """Whether this step multiplies in bfloat16; what the device rounds is then not yet simulated."""
        return self.training.precision == "bfloat16" and moment.progress < self.recipe.activations.start

    def _rate(self, progress: float) -> float:
        training = self.training
        return learning_rate(training.learning_rate, training.final_rate, training.hold, progress)

    @torch.no_grad()
    def _begin(self, moment: Moment) -> None:
        for layer in self.layers:
            for method in layer.methods:
                if not method.begun and moment.progress >= method.start:
                    method.begin(layer.input_of(method))
                    method.begun.fill_(True)
        for quantiser in quantisers(self.module):
            quantiser.enabled.fill_(moment.progress >= self.recipe.activations.start)
            quantiser.frozen.fill_(moment.progress >= self.recipe.activations.freeze)

    @torch.no_grad()
    def _after(self, event: str, moment: Moment) -> None:
        for layer in self.layers:
            for method in layer.methods:
                share = layer.entry.learning_rate_share
                own = Moment(moment.progress, moment.learning_rate * share)
                getattr(method, event)(layer.weight, own)

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = self.module(inputs)
        loss = functional.cross_entropy(outputs, targets, label_smoothing=self.training.label_smoothing)
        soft = self.training.distillation
        if soft is None:
            return loss
        with torch.no_grad():
            wanted = functional.log_softmax(self.teacher(inputs) / soft.temperature, dim=1)
        given = functional.log_softmax(outputs / soft.temperature, dim=1)
        divergence = functional.kl_div(given, wanted, log_target=True, reduction="batchmean")
        return (1 - soft.weight) * loss + soft.weight * soft.temperature**2 * divergence

    def _valid_accuracy(self) -> float:
        self.module.eval()
        right = count = 0
        with torch.no_grad():
            for inputs, targets in self.valid_loader:
                right += int((self.module(inputs).argmax(1) == targets).sum())
                count += len(targets)
        return 100 * right / max(count, 1)

    def _nonzero_count(self) -> int:
        return sum(int((layer.integers().values != 0).sum()) for layer in self.layers)

    def _should_stop(self) -> bool:
        rule = self.training.early_stop
        done = len(self.history)
        if rule is None or done < rule.start * self.training.epochs:
            return False
        late = [epoch for epoch in self.history if epoch.number >= rule.start * self.training.epochs]
        best = max(late, key=lambda epoch: epoch.valid_accuracy, default=None)
        return best is not None and done - best.number >= rule.patience

    def _state(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.text,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [vars(epoch) for epoch in self.history],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
