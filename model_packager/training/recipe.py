"""Training recipes: a YAML file that says how a network is trained into a small one.

In: the text. Out: a ``TrainingRecipe``. docs/TRAINING.md describes every key; a test runs its examples.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from model_packager.encoders import Encoding, EncodingPattern
from model_packager.errors import UsageError
from model_packager.recipe import in_file, parse_encoding, yaml_document
from model_packager.training.methods import PRUNING, QUANTISING, Method

Part = TypeVar("Part")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Distillation:
    """Hinton et al. 2015, "Distilling the knowledge in a neural network", section 2: `weight` of the soft
    loss, the rest goes to the labels. teacher: a network file; without one, the network as it was given."""

    weight: float = 0.7
    temperature: float = 2.0
    teacher: str = ""


@dataclass(frozen=True)
class EarlyStop:
    """Stop after `patience` epochs without a better validation accuracy, not before the share `start`."""

    patience: int = 10
    start: float = 0.9


@dataclass(frozen=True)
class Training:
    """The optimiser (Adam) and its schedule: `learning_rate` until the share `hold` of all steps, then linear
    to `final_rate` of it. precision: "bfloat16" multiplies in that format until activations are quantised,
    twice as fast on processors with instructions for it and slower on others (Micikevicius et al. 2018,
    "Mixed precision training", section 3: weights and updates stay float32)."""

    epochs: int = 10
    batch_size: int = 200
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    hold: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    precision: str = "float32"
    distillation: Distillation | None = None
    early_stop: EarlyStop | None = None


@dataclass(frozen=True)
class Activations:
    """Simulation of int8 activations from the share `start` on; ranges are fixed from `freeze` on. `steps`
    and `input_steps` cut a range into 255 steps or fewer."""

    start: float = 0.8
    freeze: float = 0.95
    steps: int = 255
    input_steps: int = 255


@dataclass(frozen=True)
class Start:
    """Begin with what `prune_and_round` gives at this rate, with so many training inputs (RECIPES.md)."""

    rate: float = 1e-7
    samples: int = 1024


@dataclass(frozen=True)
class MethodChoice:
    """A method by name, with its arguments."""

    name: str
    arguments: dict[str, Any]

    def build(self, weight: Any) -> Method:
        return {**PRUNING, **QUANTISING}[self.name](weight, **self.arguments)


@dataclass(frozen=True)
class LayerRecipe:
    """What happens to the layers that `match` names: pruning, quantising, bits of the biases, the encoding
    that the packer shall take (or a pattern of encodings), the share of the learning rate."""

    match: str
    prune: MethodChoice | None = None
    quantise: MethodChoice | None = None
    bias_bits: int | None = None
    encoding: Encoding | EncodingPattern | None = None
    learning_rate_share: float = 1.0


@dataclass(frozen=True)
class TrainingRecipe:
    """A parsed recipe; `text` is what it was parsed from. `network` and `task` are needed by ``thimble
    train`` only."""

    text: str = ""
    network: str = ""
    task: str = ""
    seed: int = 0
    training: Training = field(default_factory=Training)
    start: Start | None = None
    activations: Activations = field(default_factory=Activations)
    layers: tuple[LayerRecipe, ...] = ()

    def layer(self, names: tuple[str, ...]) -> LayerRecipe:
        """The first entry that matches one of a layer's names; an empty one if none does."""
        for entry in self.layers:
            if any(fnmatch.fnmatchcase(name, entry.match) for name in names):
                return entry
        return LayerRecipe("")


def load_training_recipe(path: str | Path) -> TrainingRecipe:
    """The recipe in a file; raises ``UsageError`` with the file's name, ``OSError`` if it cannot be read."""
    return in_file(path, parse_training_recipe)


def parse_training_recipe(text: str) -> TrainingRecipe:
    """The recipe in a YAML text. Raises ``UsageError`` that names the unknown key or the wrong value."""
    given = _mapping(yaml_document(text) or {}, "a training recipe", TrainingRecipe, without=("text",))
    parts: dict[str, Any] = {name: given[name] for name in ("network", "task", "seed") if name in given}
    if "training" in given:
        training = dict(_mapping(given["training"], "training", Training))
        for name, kind in (("distillation", Distillation), ("early_stop", EarlyStop)):
            if training.get(name) is not None:
                training[name] = _build(training[name], name, kind)
        parts["training"] = _build(training, "training", Training)
        precision = parts["training"].precision
        if precision not in PRECISIONS:
            raise UsageError(f"training: precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
    if "activations" in given:
        parts["activations"] = _build(given["activations"], "activations", Activations)
    if given.get("start") is not None:
        parts["start"] = _build(given["start"], "start", Start)
    layers = given.get("layers", [])
    if not isinstance(layers, list):
        raise UsageError(f"layers is a list, not {layers!r}")
    parts["layers"] = tuple(_layer(number, item) for number, item in enumerate(layers, 1))
    return _build({**parts, "text": text}, "a training recipe", TrainingRecipe)


def _mapping(value: Any, what: str, kind: type, without: tuple[str, ...] = ()) -> dict[str, Any]:
    keys = [item.name for item in dataclasses.fields(kind) if item.name not in without]
    if not isinstance(value, dict):
        raise UsageError(f"{what} is a mapping with the keys {', '.join(keys)}, not {value!r}")
    unknown = [key for key in value if key not in keys]
    if unknown:
        raise UsageError(f"{what} has no key '{unknown[0]}'; it has {', '.join(keys)}")
    return value


def _build(value: Any, what: str, kind: type[Part]) -> Part:
    given = _mapping(value, what, kind)
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        if item.name in given:
            _require_type(what, item.name, str(item.type), given[item.name])
    return kind(**given)


_TYPES: dict[str, tuple[type, ...]] = {
    "float": (float, int),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "str": (str,),
}


def _require_type(what: str, key: str, annotation: str, value: Any) -> None:
    types = _TYPES.get(annotation)
    if types is None:
        return
    wrong_bool = isinstance(value, bool) and bool not in types
    if wrong_bool or not isinstance(value, types):
        raise UsageError(f"{what}: {key} takes {annotation}, not {value!r}")


def _layer(number: int, item: Any) -> LayerRecipe:
    what = f"layer entry {number}"
    given = dict(_mapping(item, what, LayerRecipe))
    if "match" not in given:
        raise UsageError(f"{what} has no 'match'")
    for key, methods in (("prune", PRUNING), ("quantise", QUANTISING)):
        if given.get(key) is not None:
            given[key] = _method(f"{what}, {key}", given[key], methods)
    if given.get("encoding") is not None:
        given["encoding"] = parse_encoding(str(given["encoding"]))
    return _build(given, what, LayerRecipe)


def _method(what: str, value: Any, methods: dict[str, type[Method]]) -> MethodChoice:
    if not isinstance(value, dict) or value.get("method") not in methods:
        raise UsageError(f"{what} has a 'method', one of {', '.join(sorted(methods))}; it is {value!r}")
    parameters = list(inspect.signature(methods[value["method"]].__init__).parameters.values())[2:]
    known = {parameter.name: parameter for parameter in parameters}
    arguments = {key: argument for key, argument in value.items() if key != "method"}
    for key, argument in arguments.items():
        if key not in known:
            raise UsageError(f"{what}: {value['method']} has no '{key}'; it has {', '.join(known)}")
        _require_type(what, key, str(known[key].annotation), argument)
    return MethodChoice(value["method"], arguments)
