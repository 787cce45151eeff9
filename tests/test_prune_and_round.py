"""prune_and_round: fewer bytes for the same error than rounding alone, and the error of one weight is taken
up by the others exactly as optimal brain surgery says."""

from __future__ import annotations

import numpy as np
import pytest

from model_packager.errors import UsageError
from model_packager.format_table import DType, OperatorKind
from model_packager.model import Array, Model, Operator, Port, Tensor, Weights
from model_packager.pack import pack
from model_packager.passes.prune_and_round import _Factor, _round_columns, prune_and_round
from model_packager.passes.quantise import quantise_model
from model_packager.passes.select_layers import real_weights
from model_packager.recipe import parse_recipe
from model_packager.reference import run

COLS, ROWS, COUNT = 48, 20, 1200


def correlated(count: int, seed: int) -> Array:
    """(N, COLS) float32 of rank about 12, with noise; the last four are constant."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(0, 1, (12, COLS))
    samples = random.normal(0, 1, (count, 12)) @ mixing + random.normal(0, 0.3, (count, COLS))
    samples[:, -4:] = 1.5
    return samples.astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    random = np.random.default_rng(3)
    layer = Operator(
        OperatorKind.FULLY_CONNECTED,
        [0],
        [1],
        weights=Weights(random.normal(0, 0.2, (ROWS, COLS)).astype(np.float32)),
        bias=random.normal(0, 0.1, ROWS).astype(np.float32),
        name="fc",
    )
    tensors = [Tensor("x", (1, COLS), DType.FLOAT32), Tensor("y", (1, ROWS), DType.FLOAT32)]
    network = Model(tensors, [layer], [Port(0, "x")], [Port(1, "y")])
    return quantise_model(network, [correlated(COUNT, 1)])


@pytest.fixture(scope="module")
def samples(model: Model) -> list[Array]:
    port = model.inputs[0]
    steps = np.round(correlated(COUNT, 1) / port.scale) + port.zero_point
    return [np.clip(steps, -128, 127).astype(np.int8)]


def output_error(model: Model, weights: Array, samples: list[Array]) -> float:
    """Energy of the change of the outputs about their mean, as a share of the outputs' own."""
    inputs = samples[0].astype(np.float64)
    inputs = inputs - inputs.mean(axis=0)
    original = real_weights(model.operators[0])
    return float(np.square(inputs @ (weights - original).T).sum() / np.square(inputs @ original.T).sum())


def entropy_bits(values: Array) -> float:
    _, counts = np.unique(values, return_counts=True)
    share = counts / counts.sum()
    return float(-(counts * np.log2(share)).sum())


def test_prune_and_round_beats_plain_rounding_at_the_same_rate(model: Model, samples: list[Array]) -> None:
    """Plain rounding with any step: for no more bits than ours, its error is several times ours."""
    rounded = prune_and_round(model, samples, rate=1e-5)
    layer = rounded.operators[0]
    bits, error = entropy_bits(layer.weights.values), output_error(model, real_weights(layer), samples)
    original = real_weights(model.operators[0])
    plain = []
    for step in np.geomspace(0.01, 1.0, 60):
        levels = np.round(original / step)
        if entropy_bits(levels) <= bits:
            plain.append(output_error(model, levels * step, samples))
    assert error < 0.05 and error < 0.3 * min(plain)


def test_prune_and_round_higher_rate_gives_fewer_bits_and_more_error(
    model: Model, samples: list[Array]
) -> None:
    figures = []
    for rate in (1e-6, 1e-5, 1e-4):
        layer = prune_and_round(model, samples, rate=rate).operators[0]
        error = output_error(model, real_weights(layer), samples)
        figures.append((entropy_bits(layer.weights.values), error))
    assert [bits for bits, _ in figures] == sorted((bits for bits, _ in figures), reverse=True)
    assert [error for _, error in figures] == sorted(error for _, error in figures)


def test_round_columns_second_weight_makes_up_for_the_first() -> None:
    """With two inputs, the best second weight for a given first is w2 + (w1 - q1) h12 / h22: what least
    squares on the outputs gives (Optimal brain surgeon, equation 5). A fine grid leaves it as it is."""
    covariance = np.array([[2.0, 1.2], [1.2, 1.5]])
    factor = _Factor(covariance, damping=1e-12)
    assert factor.order.tolist() == [0, 1]
    prices = np.full(255, 1e9)
    prices[127] = 0.0  # level 0 is free, all others cost: the first weight becomes zero, then the second
    _, levels = _round_columns(np.array([[0.3, 0.6]]), factor, 0.01, prices)
    assert levels.tolist() == [[0, 0]]
    prices = np.zeros(255)
    prices[127 + 30] = 1e9  # the first weight may not stay where it is, at 30 steps
    prices[127 + 29] = 1e9  # nor one level lower: zero is left
    error, levels = _round_columns(np.array([[0.3, 0.6]]), factor, 0.01, prices)
    assert levels.tolist() == [[0, round((0.6 + 0.3 * 1.2 / 1.5) / 0.01)]]
    change = np.array([0.3, 0.6]) - 0.01 * levels[0]
    assert error == pytest.approx(change @ covariance @ change, rel=1e-6)


def test_prune_and_round_constant_inputs_lose_their_weights_and_the_bias_keeps_the_outputs(
    model: Model, samples: list[Array]
) -> None:
    recipe = parse_recipe("steps: [{prune_and_round: {rate: 1.0e-6}}]")
    changed = recipe.apply(model, samples)
    assert not changed.operators[0].weights.values[:, -4:].any()
    before, after = (run(each, samples)[0].astype(float) for each in (model, changed))
    assert np.abs(before.mean(axis=0) - after.mean(axis=0)).max() < 1


def test_prune_and_round_depthwise_and_grouped_rows_have_hessians_of_their_own() -> None:
    random = np.random.default_rng(8)
    tensors = [Tensor(f"t{place}", (1, 6, 6, 4), DType.FLOAT32) for place in range(3)]
    geometry = {"kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 1}
    geometry |= {f"pad_{side}": 1 for side in ("top", "bottom", "left", "right")}
    kinds = ((OperatorKind.DEPTHWISE_CONV_2D, 9, {}), (OperatorKind.CONV_2D, 18, {"groups": 2}))
    layers = [
        Operator(
            kind,
            [place],
            [place + 1],
            geometry | more,
            weights=Weights(random.normal(0, 0.3, (4, cols)).astype(np.float32)),
            name=f"layer{place}",
        )
        for place, (kind, cols, more) in enumerate(kinds)
    ]
    network = Model(tensors, layers, [Port(0, "x")], [Port(2, "y")])
    images = random.normal(0, 1, (1000, 6, 6, 4)).astype(np.float32)
    images[..., 1] *= 0.05  # a quiet channel: its weights are worth little
    plain = pack(network, calibration={"x": images})
    small = pack(
        network, calibration={"x": images}, recipe=parse_recipe("steps: [{prune_and_round: {rate: 1.0e-4}}]")
    )
    depthwise = small.model.operators[0].weights.values
    kept = np.count_nonzero(depthwise, axis=1)
    assert kept[1] < kept[0]
    assert len(small.data) < len(plain.data)
    steps = [random.integers(-60, 60, (200, 6, 6, 4)).astype(np.int8)]
    before, after = run(plain.model, steps)[0].astype(float), run(small.model, steps)[0].astype(float)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9


def test_prune_and_round_too_few_samples_are_refused(model: Model, samples: list[Array]) -> None:
    with pytest.raises(UsageError, match=r"needs 1,000 calibration samples or more, not 128"):
        prune_and_round(model, [samples[0][:128]])
    with pytest.raises(UsageError, match="above 0"):
        prune_and_round(model, samples, rate=0.0)
    recipe = parse_recipe("steps: [{prune_and_round: {}}]")
    with pytest.raises(UsageError, match=r"needs --calibration data\.npz"):
        recipe.apply(model)
