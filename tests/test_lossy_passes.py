"""Lossy passes: each does to the weights what its paper says, and the integer model stays consistent."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model_packager.errors import UsageError
from model_packager.format_table import DType, OperatorKind
from model_packager.model import Model, Operator, Port, Tensor, Weights
from model_packager.pack import pack
from model_packager.passes.binarise import binarise
from model_packager.passes.cluster import cluster, squared_error
from model_packager.passes.correct_bias import correct_bias
from model_packager.passes.prune import prune
from model_packager.passes.quantise import quantise_model
from model_packager.passes.quantise_bits import quantise_bits
from model_packager.passes.quantise_log2 import quantise_log2
from model_packager.passes.select_layers import real_weights, select_layers
from model_packager.passes.share_weights import share_weights
from model_packager.passes.ternarise import ternarise
from model_packager.recipe import parse_recipe
from model_packager.reference import run

Array = npt.NDArray[Any]
ROWS, COLS, SAMPLES = 12, 40, 200


@pytest.fixture
def samples() -> Array:
    return np.random.default_rng(1).normal(0.3, 1, (SAMPLES, COLS)).astype(np.float32)


@pytest.fixture
def model(samples: Array) -> Model:
    """Two fully connected layers, quantised."""
    generator = np.random.default_rng(2)
    tensors = [Tensor(name, (1, n), DType.FLOAT32) for name, n in (("x", COLS), ("h", ROWS), ("y", 5))]
    layers = []
    for place, (rows, cols) in enumerate(((ROWS, COLS), (5, ROWS))):
        weights = generator.laplace(0, 0.2, (rows, cols)).astype(np.float32)
        layers.append(
            Operator(
                OperatorKind.FULLY_CONNECTED,
                [place],
                [place + 1],
                weights=Weights(weights),
                name=f"fc{place + 1}",
                bias=generator.normal(0, 0.1, rows).astype(np.float32),
                options={"activation": "none"},
            )
        )
    network = Model(tensors, layers, [Port(0, "x")], [Port(2, "y")])
    return quantise_model(network, [samples], bias_correction=False)


def _outputs(model: Model, samples: Array) -> Array:
    port_in, port_out = model.inputs[0], model.outputs[0]
    steps = np.clip(np.round(samples / port_in.scale) + port_in.zero_point, -128, 127).astype(np.int8)
    return (run(model, [steps])[0].astype(np.float64) - port_out.zero_point) * port_out.scale


def test_prune_density_keeps_exactly_the_largest(model: Model) -> None:
    before = np.abs(real_weights(model.operators[0]))
    after = real_weights(prune(model, "fc1", density=0.25).operators[0])
    kept = after != 0
    assert kept.sum() == round(0.25 * before.size)
    assert before[kept].min() >= before[~kept].max()
    assert np.array_equal(np.abs(after[kept]), before[kept])


def test_prune_global_spreads_by_magnitude(model: Model) -> None:
    pruned = prune(model, density=0.3, scope="global")
    parts = [
        (np.abs(real_weights(a)), real_weights(b))
        for a, b in zip(model.operators, pruned.operators, strict=True)
    ]
    kept = np.concatenate([before[after != 0] for before, after in parts])
    lost = np.concatenate([before[after == 0] for before, after in parts])
    assert kept.min() >= lost.max()
    assert len(kept) == round(0.3 * (len(kept) + len(lost)))


def test_prune_threshold_is_in_standard_deviations(model: Model) -> None:
    before = real_weights(model.operators[0])
    after = real_weights(prune(model, "fc1", threshold=0.8).operators[0])
    assert np.array_equal(after != 0, (np.abs(before) >= 0.8 * before.std()) & (before != 0))


def test_prune_leaves_the_given_model_alone(model: Model) -> None:
    before = real_weights(model.operators[0]).copy()
    prune(model, density=0.1)
    assert np.array_equal(real_weights(model.operators[0]), before)


@pytest.mark.parametrize(
    "arguments", [{}, {"density": 2.0}, {"density": 0.1, "threshold": 1.0}, {"threshold": -1.0}]
)
def test_prune_bad_arguments_are_refused(model: Model, arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        prune(model, **arguments)


def test_select_unknown_layer_names_the_layers(model: Model) -> None:
    with pytest.raises(UsageError, match="#0 fc1, #1 fc2"):
        select_layers(model, "conv*")
    assert [layer.name for layer in select_layers(model, ["#1", "fully_connected"])] == ["fc2", "fc1"]


def test_cluster_exact_equals_exhaustive_search() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        levels = np.sort(generator.choice(np.arange(-40, 40), 9, replace=False))
        weights = generator.uniform(0.1, 5, 9)
        least = min(
            squared_error(
                levels, weights,
                np.array([round(float(np.average(part, weights=mass))) for part, mass in
                          zip(np.split(levels, cuts), np.split(weights, cuts), strict=True)]),
            )
            for cuts in (list(choice) for choice in itertools.combinations(range(1, 9), 3))
        )  # fmt: skip
        found = cluster(levels, weights, 4)
        assert len(found) <= 4
        assert squared_error(levels, weights, found) == pytest.approx(least)


@pytest.mark.parametrize("initialisation", ["linear", "density"])
def test_cluster_exact_is_never_worse_than_lloyd(initialisation: str) -> None:
    generator = np.random.default_rng(4)
    levels = np.arange(-127, 128)
    weights = np.exp(-np.abs(levels) / 20) + generator.uniform(0, 0.02, 255)
    for k in (2, 3, 8, 16, 32):
        exact = squared_error(levels, weights, cluster(levels, weights, k))
        assert exact <= squared_error(levels, weights, cluster(levels, weights, k, initialisation)) + 1e-9


def test_share_weights_after_prune_keeps_zeros_and_codebook_size(model: Model) -> None:
    pruned = prune(model, density=0.2)
    shared = share_weights(pruned, codebook_size=8)
    for before, after in zip(pruned.operators, shared.operators, strict=True):
        assert before.weights is not None and after.weights is not None
        assert np.array_equal(before.weights.values == 0, after.weights.values == 0)
        assert len(np.unique(after.weights.values)) <= 8


def test_share_weights_256_entries_changes_nothing(model: Model) -> None:
    assert np.array_equal(
        real_weights(share_weights(model, codebook_size=256).operators[0]), real_weights(model.operators[0])
    )


def test_binarise_magnitude_is_the_row_mean(model: Model) -> None:
    before = real_weights(model.operators[0])
    after = binarise(model, "fc1").operators[0]
    assert set(np.unique(after.weights.values)) <= {-1, 1}  # type: ignore[union-attr]
    assert np.allclose(np.abs(real_weights(after)[:, 0]), np.abs(before).mean(axis=1), rtol=1e-6)
    assert np.array_equal(real_weights(after) < 0, before < 0)


def test_ternarise_twn_follows_the_threshold(model: Model) -> None:
    before = real_weights(model.operators[0])
    after = real_weights(ternarise(model, "fc1").operators[0])
    threshold = 0.7 * np.abs(before).mean(axis=1, keepdims=True)
    assert np.array_equal(after != 0, np.abs(before) > threshold)
    row = np.abs(before[0])
    assert np.abs(after[0]).max() == pytest.approx(row[row > threshold[0]].mean())


def test_ternarise_ttq_has_two_magnitudes(model: Model) -> None:
    after = ternarise(model, "fc1", method="ttq").operators[0]
    assert after.weights is not None
    levels = np.unique(after.weights.values)
    assert len(levels) == 3 and levels[1] == 0
    assert max(levels[2], -levels[0]) == 127


def test_quantise_log2_gives_powers_of_two_near_the_weights(model: Model) -> None:
    before = real_weights(model.operators[0])
    after = quantise_log2(model, "fc1").operators[0]
    assert after.weights is not None
    magnitudes = np.unique(np.abs(after.weights.values.astype(int)))
    assert set(magnitudes) <= {0, 1, 2, 4, 8, 16, 32, 64}
    large = np.abs(before) > np.abs(before).max(axis=1, keepdims=True) / 16
    ratio = real_weights(after)[large] / before[large]
    assert np.all((ratio > 2**-0.55) & (ratio < 2**0.55))


@pytest.mark.parametrize("lossy", [binarise, ternarise, quantise_log2])
def test_new_scales_keep_the_bias_and_requantisation_in_step(
    model: Model, samples: Array, lossy: Any
) -> None:
    """The integer outputs are those of the changed real weights, not of a mixture of old and new scales."""
    changed = lossy(model, "fc2")
    layer = changed.operators[1]
    hidden = _hidden(changed, samples)
    unit = changed.tensors[1].scale * np.broadcast_to(layer.weights.scales, (5,))
    expected = hidden @ real_weights(layer).T + layer.bias * unit
    output = changed.tensors[2]
    low, high = ((end - output.zero_point) * output.scale for end in (-128, 127))
    assert np.abs(_outputs(changed, samples) - np.clip(expected, low, high)).max() <= 1.01 * output.scale
    old = model.operators[1]
    old_bias = old.bias * model.tensors[1].scale * old.weights.scales  # type: ignore[operator, union-attr]
    assert np.abs(layer.bias * unit - old_bias).max() <= unit.max()


def _hidden(model: Model, samples: Array) -> Array:
    front = Model(model.tensors, model.operators[:1], model.inputs, [Port(1, "h")])
    front.outputs[0].scale, front.outputs[0].zero_point = model.tensors[1].scale, model.tensors[1].zero_point
    return _outputs(front, samples)


def test_correct_bias_removes_the_mean_error_of_pruning(model: Model, samples: Array) -> None:
    pruned = prune(model, "fc1", density=0.3)
    real_samples = samples
    steps = np.clip(np.round(real_samples / model.inputs[0].scale) + model.inputs[0].zero_point, -128, 127)
    corrected = correct_bias(pruned, model, [steps.astype(np.int8)])
    goal = _hidden(model, samples).mean(axis=0)
    before = np.abs(_hidden(pruned, samples).mean(axis=0) - goal).max()
    after = np.abs(_hidden(corrected, samples).mean(axis=0) - goal).max()
    assert after < 0.1 * before


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_quantise_bits_rounds_to_the_nearest_of_so_many_levels(model: Model, bits: int) -> None:
    quantised = quantise_bits(model, "fc1", bits)
    top = (1 << (bits - 1)) - 1
    before, after = (real_weights(each.operators[0]) for each in (model, quantised))
    weights = quantised.operators[0].weights
    assert weights is not None and weights.scales is not None
    assert np.abs(weights.values).max(axis=1).tolist() == [top] * ROWS
    assert np.all(np.abs(after - before) <= weights.scales[:, np.newaxis] / 2 * 1.001)
    assert np.array_equal(real_weights(quantised.operators[1]), real_weights(model.operators[1]))


def test_quantise_bits_of_eight_changes_outputs_hardly(model: Model, samples: Array) -> None:
    before, after = _outputs(model, samples), _outputs(quantise_bits(model, "*", 8), samples)
    assert np.abs(after - before).max() <= 2 * model.outputs[0].scale + 1e-6


def test_quantise_bits_mixed_precision_stores_each_layer_in_its_bits(model: Model) -> None:
    recipe = parse_recipe(
        "steps:\n- quantise_bits: {match: fc2, bits: 4}\n- encode: {encoding: dense-fixed-identity}\n"
    )
    streams = [
        o.weights.encoding for o in pack(model, recipe=recipe).model.operators if o.weights is not None
    ]
    assert [stream.value_bits for stream in streams] == [8, 4]


@pytest.mark.parametrize("bits", [1, 9])
def test_quantise_bits_of_another_width_is_refused(model: Model, bits: int) -> None:
    with pytest.raises(UsageError, match=f"2 to 8 bits, not {bits}"):
        quantise_bits(model, "*", bits)
