"""Training recipes: every example of docs/TRAINING.md trains, and what is wrong is named."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY

from model_packager.errors import UsageError
from model_packager.format_table import Coder

torch = pytest.importorskip("torch", reason="PyTorch is not installed; `make test-train` installs it")

from test_training import stripes  # noqa: E402
from torch import nn  # noqa: E402

from model_packager.training import compress, load_training_recipe, parse_training_recipe  # noqa: E402
from model_packager.training.batches import TensorBatches  # noqa: E402

PAGE = (REPOSITORY / "docs" / "TRAINING.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SHIPPED = sorted((REPOSITORY / "examples").glob("*/recipes/*.yaml"))


def three_layers() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 20), nn.ReLU(), nn.Linear(20, 4)
    )


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split("\n")[1].strip()[:40])
def test_every_example_of_the_page_trains(text: str) -> None:
    recipe = parse_training_recipe(re.sub("epochs: 110", "epochs: 2", text))
    loaders = TensorBatches(*stripes(200, 1), 50, shuffle=True), TensorBatches(*stripes(100, 2), 50)
    result = compress(three_layers(), recipe, *loaders)
    assert len(result.history) == recipe.training.epochs
    assert sum(operator.weights is not None for operator in result.model.operators) == 3


def test_page_names_every_key_and_method() -> None:
    from dataclasses import fields

    from model_packager.training import recipe
    from model_packager.training.methods import METHODS

    kinds = ("TrainingRecipe", "Training", "Activations", "Distillation", "LayerRecipe")
    keys = {item.name for kind in kinds for item in fields(getattr(recipe, kind))} - {"text"}
    missing = [name for name in sorted(keys | set(METHODS)) if name not in PAGE]
    assert not missing


def test_shipped_recipes_parse_and_their_files_exist() -> None:
    recipes = [path for path in SHIPPED if "task:" in path.read_text(encoding="utf-8")]
    assert len(recipes) > 2
    for path in recipes:
        recipe = load_training_recipe(path)
        named = [recipe.network or ".", recipe.task]
        if recipe.training.distillation is not None and recipe.training.distillation.teacher:
            named.append(recipe.training.distillation.teacher)
        assert all((path.parent / name).exists() for name in named), path


def test_recipe_parts_arrive() -> None:
    recipe = parse_training_recipe(EXAMPLES[0])
    assert recipe.training.distillation.temperature == 2 and recipe.training.early_stop.patience == 10
    entry = recipe.layer(("x", "fully_connected", "#1"))
    assert (entry.prune.name, entry.quantise.arguments, entry.encoding.coder) == (
        "magnitude",
        {"codebook_size": 16},
        Coder.HUFFMAN,
    )
    assert recipe.layer(("x", "fully_connected", "#2")).match == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3", "a training recipe has no key 'epochs'"),
        ("training: {epoch: 3}", "training has no key 'epoch'"),
        ("training: {epochs: many}", "training: epochs takes int, not 'many'"),
        ("training: {distillation: {wait: 1}}", "distillation has no key 'wait'"),
        ("training: {precision: int3}", "precision is one of float32, bfloat16, not 'int3'"),
        ("layers: {match: x}", "layers is a list"),
        ("layers: [{prune: {method: magnitude}}]", "layer entry 1 has no 'match'"),
        ("layers: [{match: x, quantise: {method: magnitude}}]", "has a 'method', one of binary_connect"),
        ("layers: [{match: x, prune: {method: magnitude, levels: 2}}]", "magnitude has no 'levels'"),
        ("layers: [{match: x, prune: {method: magnitude, density: '1'}}]", "density takes float, not '1'"),
        ("layers: [{match: x, encoding: zip}]", "there is no encoding 'zip'"),
        ("layers: [", "not YAML"),
    ],
)
def test_wrong_recipe_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_training_recipe(text)
