"""What `thimble train` and the benchmarks run: a recipe's network and data, trained, packed and evaluated.

A *task* is a Python file of the user with ``load_data(part)``, part "train", "valid" or "test", giving
(inputs (N, ...) float32, class numbers (N,) int64), and, if it wants, ``augment(inputs)`` for a batch.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from model_packager import container, reference
from model_packager.errors import UsageError
from model_packager.model import Model
from model_packager.pack import PackResult, import_model, pack
from model_packager.sample_arrays import batches_for_inputs, quantised_batch
from model_packager.training.batches import TensorBatches
from model_packager.training.compress import Compressed, Epoch, Progress, compress, predict
from model_packager.training.network import build_network, load_network
from model_packager.training.recipe import TrainingRecipe, load_training_recipe
from model_packager.training.start import rounded_network

_EVALUATION_BATCH = 500


@dataclass(frozen=True)
class TaskResult:
    """A packed network; accuracies in per cent on the test set. `accuracy` is that of the file in the integer
    executor, `agreement` the share of samples on which the training graph gives the same class."""

    packed: PackResult
    trained: Compressed
    float_accuracy: float
    accuracy: float
    agreement: float
    test_count: int
    seconds: float


def load_task(path: Path) -> Any:
    """The module in a task file. Raises ``UsageError`` where it is missing or has no ``load_data``."""
    specification = importlib.util.spec_from_file_location(f"thimble_task_{path.stem}", path)
    if not path.is_file() or specification is None or specification.loader is None:
        raise UsageError(f"{path}: there is no such task, a Python file with load_data(part)")
    module = importlib.util.module_from_spec(specification)
    # A task may import its neighbours, as a script may: and modules of the two folders above its own.
    sys.path[:0] = folders = [str(folder) for folder in (path.parent, *path.resolve().parents[1:3])]
    try:
        specification.loader.exec_module(module)
    finally:
        for folder in folders:
            sys.path.remove(folder)
    if not callable(getattr(module, "load_data", None)):
        raise UsageError(f"{path} has no function load_data(part)")
    return module


def run_recipe(
    path: Path,
    *,
    network: Path | None = None,
    checkpoint: Path | None = None,
    progress: Progress = lambda done, whole: None,
    report: Callable[[Epoch], Any] = lambda epoch: None,
) -> TaskResult:
    """Train, pack and evaluate what a recipe file describes; its paths are relative to its folder.

    network: a float network file in place of the recipe's. Raises ``UsageError`` where either is missing.
    """
    started = time.monotonic()
    recipe = load_training_recipe(path)
    if network is None and recipe.network:
        network = path.parent / recipe.network
    if network is None or not recipe.task:
        raise UsageError(f"{path}: a recipe that is run needs a 'network' (or --network) and a 'task'")
    dense, example = load_network(network)
    task = load_task(path.parent / recipe.task)
    train, valid = _batches(task, "train", recipe, example), _batches(task, "valid", recipe, example)
    soft = recipe.training.distillation
    teacher = _load_teacher(path.parent / soft.teacher, example) if soft and soft.teacher else dense
    module = dense
    if recipe.start is not None:
        samples = train.inputs[: recipe.start.samples].reshape(-1, *example.shape[1:])
        module = build_network(rounded_network(import_model(network), samples, recipe.start.rate))[0]
    trained = compress(
        module, recipe, train, valid, teacher=teacher, checkpoint=checkpoint, progress=progress, report=report
    )
    inputs, labels = task.load_data("test")
    inputs = inputs.reshape(-1, *example.shape[1:])
    float_classes = predict(dense, inputs).argmax(1)
    own = trained.predict(inputs).argmax(1).numpy()
    packed = pack(trained.model)
    classes = packed_classes(container.load(packed.data), inputs)
    return TaskResult(
        packed,
        trained,
        100 * float((float_classes == labels).float().mean()),
        100 * float((classes == labels.numpy()).mean()),
        100 * float((classes == own).mean()),
        len(labels),
        time.monotonic() - started,
    )


def _load_teacher(path: Path, example: Tensor) -> nn.Module:
    """A network that is given the same numbers as the one that learns, in the shape that it takes."""
    teacher, own = load_network(path)
    if own.numel() != example.numel():
        raise UsageError(f"{path}: the teacher takes {own.numel()} numbers, the network {example.numel()}")
    if own.shape == example.shape:
        return teacher
    return nn.Sequential(nn.Flatten(), nn.Unflatten(1, tuple(own.shape[1:])), teacher)


def packed_classes(model: Model, inputs: Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Classes (N,) that an integer model gives, by the reference executor, from real inputs (N, ...)."""
    classes = []
    for part in inputs.split(_EVALUATION_BATCH):
        batch = batches_for_inputs({model.inputs[0].name: part.numpy()}, model)[0]
        outputs = reference.run(model, [quantised_batch(batch, model, model.inputs[0])])
        classes.append(outputs[0].reshape(len(part), -1).argmax(axis=1))
    return np.concatenate(classes)


def _batches(task: Any, part: str, recipe: TrainingRecipe, example: Tensor) -> TensorBatches:
    inputs, targets = task.load_data(part)
    augment = getattr(task, "augment", None) if part == "train" else None
    shape = example.shape[1:]

    def prepare(batch: Tensor) -> Tensor:
        return (augment(batch) if augment is not None else batch).reshape(-1, *shape)

    if part == "train":
        return TensorBatches(inputs, targets, recipe.training.batch_size, True, prepare)
    return TensorBatches(inputs, targets, _EVALUATION_BATCH, False, prepare)
