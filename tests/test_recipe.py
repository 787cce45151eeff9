"""Recipes: what docs/RECIPES.md shows works, and mistakes are named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from model_packager import container
from model_packager.errors import UsageError
from model_packager.format_table import Coder, DType, Layout, OperatorKind
from model_packager.model import Model, Operator, Port, Tensor, Weights
from model_packager.pack import pack
from model_packager.recipe import Recipe, load_recipe, parse_recipe

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "RECIPES.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
SIZES = (64, 32, 32, 10)


@pytest.fixture
def samples() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(5).normal(0.2, 1, (1000, SIZES[0])).astype(np.float32)}


@pytest.fixture
def network() -> Model:
    """Three fully connected layers, float."""
    generator = np.random.default_rng(6)
    tensors = [Tensor(f"t{place}", (1, size), DType.FLOAT32) for place, size in enumerate(SIZES)]
    layers = [
        Operator(
            OperatorKind.FULLY_CONNECTED,
            [place],
            [place + 1],
            weights=Weights(generator.laplace(0, 0.1, (SIZES[place + 1], SIZES[place])).astype(np.float32)),
            bias=generator.normal(0, 0.1, SIZES[place + 1]).astype(np.float32),
            options={"activation": "relu" if place < 2 else "none"},
            name=f"fc{place}",
        )
        for place in range(3)
    ]
    return Model(tensors, layers, [Port(0, "x")], [Port(3, "y")])


@pytest.mark.parametrize("text", EXAMPLES)
def test_recipe_documented_example_packs(text: str, network: Model, samples: dict[str, np.ndarray]) -> None:
    plain = pack(network, calibration=samples)
    packed = pack(network, calibration=samples, recipe=parse_recipe(text))
    assert container.load(packed.data).outputs
    if parse_recipe(text).steps:
        assert len(packed.data) < len(plain.data)


def test_recipe_encode_step_decides_the_encoding(network: Model, samples: dict[str, np.ndarray]) -> None:
    text = "steps:\n- prune: {density: 0.1}\n- encode: {encoding: sparse-huffman-identity}\n"
    loaded = container.load(pack(network, calibration=samples, recipe=parse_recipe(text)).data)
    first = loaded.operators[0].weights
    assert first is not None
    assert (first.encoding.layout, first.encoding.coder) == (Layout.SPARSE, Coder.HUFFMAN)


def test_recipe_encode_step_names_the_coder_by_layer_and_leaves_the_rest(
    network: Model, samples: dict[str, np.ndarray]
) -> None:
    """The packer alone takes no range coder for weights that are used once."""
    coders = {}
    for encoding in ("any-range-any", "any-any-any", ""):
        step = f"- encode: {{match: '#0', encoding: {encoding}}}\n" if encoding else ""
        recipe = parse_recipe(f"steps:\n- prune: {{density: 0.3}}\n{step}")
        result = pack(network, calibration=samples, recipe=recipe)
        weights = [op.weights for op in result.model.operators if op.weights is not None]
        coders[encoding] = [each.encoding.coder for each in weights]
        assert weights[0].encoding.layout is not Layout.BITS
    assert coders["any-range-any"][0] is Coder.RANGE
    assert coders["any-range-any"][1:] == coders[""][1:]
    assert coders[""][0] is not Coder.RANGE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "a recipe is a mapping"),
        ("stpes: []", "no key 'stpes'"),
        ("steps: 3", "steps is a list"),
        ("steps: [{prun: {}}]", "no pass 'prun'"),
        ("steps: [{prune: {densty: 1}}]", "step 1, prune, has no key 'densty'"),
        ("steps: [{prune: {density: high}}]", "density is 'high', not a float or int"),
        ("steps: [{share_weights: {codebook_size: true}}]", "codebook_size is True"),
        ("steps: [{encode: {encoding: dense-lzma-identity}}]", "no encoding 'dense-lzma-identity'"),
        ("steps: [{prune: {}, binarise: {}}]", "step 1 is not one pass"),
        ("calibration: {method: best}", "method minmax or percentile, not 'best'"),
        ("calibration: {percentile: all}", "a number as percentile"),
        ("steps: [", "not YAML"),
    ],
)
def test_recipe_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_recipe(text)


def test_recipe_empty_changes_nothing(network: Model) -> None:
    assert parse_recipe("") == Recipe()
    assert Recipe().apply(network) is network


def test_recipe_file_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("steps: 3")
    with pytest.raises(UsageError, match=r"wrong\.yaml: steps is a list"):
        load_recipe(path)
