"""Recipes: a YAML file that says how a network is to be compressed, step by step.

In: the text of a recipe and an integer model. Out: the changed model. ``thimble pack --recipe`` calls it
between quantisation and the lossless passes. docs/RECIPES.md describes every step; a test runs its examples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt
import yaml

from model_packager.encoders import Encoding, EncodingPattern
from model_packager.errors import UsageError
from model_packager.format_table import Coder, Layout, ValueMap
from model_packager.model import Model
from model_packager.passes.binarise import binarise
from model_packager.passes.calibrate import METHODS
from model_packager.passes.correct_bias import correct_bias
from model_packager.passes.prune import prune
from model_packager.passes.prune_and_round import prune_and_round
from model_packager.passes.quantise_bits import quantise_bits
from model_packager.passes.quantise_log2 import quantise_log2
from model_packager.passes.select_layers import select_layers
from model_packager.passes.share_weights import share_weights
from model_packager.passes.ternarise import ternarise

Array = npt.NDArray[Any]
RecipeT = TypeVar("RecipeT")


def encode(model: Model, match: str | Sequence[str] = "*", encoding: str = "") -> Model:
    """Ask for an encoding by name, such as "sparse-huffman-codebook", or for the smallest of those that a
    pattern such as "any-range-any" names. Changes `model`."""
    chosen = parse_encoding(encoding)
    for layer in select_layers(model, match):
        assert layer.weights is not None
        layer.weights.encoding = chosen
    return model


STEPS: dict[str, Callable[..., Model]] = {
    "prune": prune,
    "share_weights": share_weights,
    "binarise": binarise,
    "ternarise": ternarise,
    "quantise_bits": quantise_bits,
    "quantise_log2": quantise_log2,
    "encode": encode,
}
# Steps that look at calibration samples: they take them behind the model.
CALIBRATED_STEPS: dict[str, Callable[..., Model]] = {"prune_and_round": prune_and_round}


@dataclass(frozen=True)
class Calibration:
    """How a float model is quantised: arguments of ``passes.quantise.quantise_model``."""

    method: str = "minmax"
    percentile: float = 99.99
    bias_correction: bool = True
    power_of_two: bool = False


@dataclass(frozen=True)
class Step:
    """One pass with its arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe. `bias_correction` acts after all steps, where calibration samples are given."""

    calibration: Calibration = field(default_factory=Calibration)
    steps: tuple[Step, ...] = ()

    def apply(self, model: Model, samples: Sequence[Array] | None = None) -> Model:
        """The integer model after all steps.

        samples: int8 (N, *shape[1:]) for each input; with them the mean error of the steps is taken out of
        the biases. Raises ``UsageError`` where a step needs them and there are none.
        """
        changed = model
        for step in self.steps:
            if step.name in STEPS:
                changed = STEPS[step.name](changed, **step.arguments)
            elif samples is None:
                raise UsageError(f"{step.name} needs --calibration data.npz with sample inputs")
            else:
                changed = CALIBRATED_STEPS[step.name](changed, samples, **step.arguments)
        if samples is not None and self.calibration.bias_correction and changed is not model:
            changed = correct_bias(changed, model, samples)
        return changed


def parse_encoding(name: str) -> Encoding | EncodingPattern:
    """An ``Encoding`` from its name, layout-coder-map, or a pattern where a part is "any"; raises
    ``UsageError`` for an unknown name."""
    parts = name.upper().split("-")
    kinds: tuple[Any, ...] = (Layout, Coder, ValueMap)
    if len(parts) == 3 and all(
        part == "ANY" or part in kind.__members__ for part, kind in zip(parts, kinds, strict=True)
    ):
        chosen: list[Any] = [kind.__members__.get(part) for part, kind in zip(parts, kinds, strict=True)]
        return EncodingPattern(*chosen) if None in chosen else Encoding(*chosen)
    choices = ["/".join(kind.__members__).lower() for kind in kinds]
    raise UsageError(
        f"there is no encoding '{name}'; its form is {choices[0]}-{choices[1]}-{choices[2]}"
        ", each of them a name or any"
    )


def load_recipe(path: str | Path) -> Recipe:
    """The recipe in a file; raises ``UsageError`` with the file's name, ``OSError`` if it cannot be read."""
    return in_file(path, parse_recipe)


def in_file(path: str | Path, parse: Callable[[str], RecipeT]) -> RecipeT:
    """What `parse` makes of a file's text; raises ``UsageError`` with the file's name, ``OSError``."""
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except (UsageError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error


def yaml_document(text: str) -> Any:
    """What a YAML text holds; raises ``UsageError``."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"not YAML: {' '.join(str(error).split())}") from error


def parse_recipe(text: str) -> Recipe:
    """The recipe in a YAML text. Raises ``UsageError`` that names the unknown key or the wrong value."""
    document = yaml_document(text)
    if document is None:
        return Recipe()
    top = _mapping(document, "a recipe", ("calibration", "steps"))
    return Recipe(_calibration(top.get("calibration") or {}), _steps(top.get("steps") or []))


def _mapping(value: Any, what: str, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{what} is a mapping with the keys {', '.join(keys)}, not {value!r}")
    unknown = [key for key in value if key not in keys]
    if unknown:
        raise UsageError(f"{what} has no key '{unknown[0]}'; it has {', '.join(keys)}")
    return value


def _calibration(value: Any) -> Calibration:
    keys = tuple(inspect.signature(Calibration).parameters)
    calibration = Calibration(**_mapping(value, "calibration", keys))
    if calibration.method not in METHODS:
        raise UsageError(f"calibration has the method {' or '.join(METHODS)}, not {calibration.method!r}")
    switches = (calibration.bias_correction, calibration.power_of_two)
    if not isinstance(calibration.percentile, (int, float)) or not all(isinstance(s, bool) for s in switches):
        raise UsageError(
            "calibration takes a number as percentile, and true or false as bias_correction and power_of_two"
        )
    return calibration


def _steps(value: Any) -> tuple[Step, ...]:
    if not isinstance(value, list):
        raise UsageError(f"steps is a list, not {value!r}")
    return tuple(_step(number, item) for number, item in enumerate(value, 1))


def _step(number: int, item: Any) -> Step:
    if not isinstance(item, dict) or len(item) != 1:
        raise UsageError(f"step {number} is not one pass with its arguments: {item!r}")
    ((name, given),) = item.items()
    if name not in STEPS and name not in CALIBRATED_STEPS:
        names = ", ".join([*STEPS, *CALIBRATED_STEPS])
        raise UsageError(f"step {number}: there is no pass '{name}'; there are {names}")
    function, first = (STEPS[name], 1) if name in STEPS else (CALIBRATED_STEPS[name], 2)
    parameters = list(inspect.signature(function).parameters.values())[first:]
    arguments = _mapping(given or {}, f"step {number}, {name},", [parameter.name for parameter in parameters])
    for parameter in parameters:
        if parameter.name in arguments:
            _require_type(number, name, parameter, arguments[parameter.name])
    if name == "encode":
        parse_encoding(arguments.get("encoding", ""))
    return Step(name, dict(arguments))


_TYPES: dict[str, tuple[type, ...]] = {
    "float": (float, int),
    "float | None": (float, int),
    "int": (int,),
    "bool": (bool,),
    "str": (str,),
    "str | Sequence[str]": (str, list),
}


def _require_type(number: int, name: str, parameter: inspect.Parameter, value: Any) -> None:
    allowed = _TYPES[str(parameter.annotation)]
    wrong_bool = isinstance(value, bool) and bool not in allowed
    if wrong_bool or not isinstance(value, allowed):
        kinds = " or ".join(kind.__name__ for kind in allowed)
        raise UsageError(f"step {number}, {name}: {parameter.name} is {value!r}, not a {kinds}")
