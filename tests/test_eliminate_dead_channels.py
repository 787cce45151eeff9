"""Dead channels: outputs stay bit-identical, and the channels that carry nothing are really gone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from model_packager import reference
from model_packager.format_table import OperatorKind
from model_packager.importers.tflite import import_tflite
from model_packager.model import Model
from model_packager.passes.bound_channels import bound_channels
from model_packager.passes.eliminate_dead_channels import eliminate_dead_channels
from tests.random_networks import NetworkBuilder, random_inputs, random_network


def weight_count(model: Model) -> int:
    return sum(operator.weights.values.size for operator in model.operators if operator.weights is not None)


def kill_channels(model: Model, seed: int) -> None:
    """Zero about a third of all rows, some columns, and push some biases so far that the clamp catches every
    sum."""
    random = np.random.default_rng(seed)
    for operator in model.operators:
        if operator.weights is None or operator.bias is None:
            continue
        values = operator.weights.values
        values[random.random(len(values)) < 0.35] = 0
        values[:, random.random(values.shape[1]) < 0.1] = 0
        pushed = random.random(len(values)) < 0.1
        operator.bias[pushed] = random.choice([-(10**7), 10**7], int(pushed.sum()))
        quiet = random.random(len(values)) < 0.3
        operator.bias[quiet] = 0  # the constant is the zero point then, which padding contributes too


def assert_same_outputs(before: Model, after: Model, samples: int = 16) -> None:
    inputs = random_inputs(before, samples)
    for expected, actual in zip(reference.run(before, inputs), reference.run(after, inputs), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("seed", range(80))
def test_eliminate_dead_channels_random_network_gives_the_same_outputs(seed: int) -> None:
    model = random_network(seed, 3 + seed % 10)
    kill_channels(model, seed)
    before = copy.deepcopy(model)
    after = eliminate_dead_channels(model)
    assert_same_outputs(before, after)
    assert weight_count(after) <= weight_count(before)
    assert all(min(tensor.shape) >= 1 for tensor in after.tensors)


@pytest.mark.parametrize("seed", range(40))
def test_bound_channels_random_network_holds_for_every_sample(seed: int) -> None:
    model = random_network(seed, 8)
    kill_channels(model, seed)
    bounds = bound_channels(model)
    for (low, high), values in zip(
        bounds.channels, reference.run_all(model, random_inputs(model, 8)), strict=True
    ):
        flat = np.asarray(values, np.int64).reshape(-1, len(low))
        assert (flat >= low).all()
        assert (flat <= high).all()


def constant_channel_network(bias: int, same: bool) -> Model:
    """Channel 1 of the first layer is constant; the second layer, 3x3, reads it with or without padding."""
    builder = NetworkBuilder(7)
    hidden = builder.conv(builder.input((1, 6, 6, 2)), 3)
    first = builder.model.operators[0]
    assert first.weights is not None and first.bias is not None
    first.weights.values[1] = 0
    first.bias[1] = bias
    first.attributes["clamp_min"] = -128
    builder.output(builder.conv(hidden, 4, 3, same=same))
    return builder.model


@pytest.mark.parametrize(
    ("bias", "same", "channels"),
    [(0, True, 2), (0, False, 2), (2500, False, 2), (2500, True, 3)],
    ids=["zero-point-padded", "zero-point-unpadded", "other-unpadded", "other-padded-stays"],
)
def test_eliminate_dead_channels_constant_channel_goes_where_exact(
    bias: int, same: bool, channels: int
) -> None:
    model = constant_channel_network(bias, same)
    before = copy.deepcopy(model)
    eliminate_dead_channels(model)
    assert model.tensors[model.operators[0].outputs[0]].shape[-1] == channels
    assert_same_outputs(before, model)


def test_eliminate_dead_channels_unread_channel_goes() -> None:
    builder = NetworkBuilder(8)
    hidden = builder.conv(builder.input((1, 4, 4, 2)), 5)
    builder.output(builder.conv(hidden, 3))
    last = builder.model.operators[1]
    assert last.weights is not None
    last.weights.values[:, 4] = 0
    before = copy.deepcopy(builder.model)
    eliminate_dead_channels(builder.model)
    assert builder.model.tensors[hidden].shape == (1, 4, 4, 4)
    assert_same_outputs(before, builder.model)


def test_eliminate_dead_channels_whole_dead_layer_keeps_one_channel() -> None:
    builder = NetworkBuilder(9)
    hidden = builder.depthwise(builder.conv(builder.input((1, 4, 4, 2)), 5))
    builder.output(builder.fully_connected(builder.reshape(hidden, (1, 80)), 3))
    last = builder.model.operators[-1]
    assert last.weights is not None
    last.weights.values[:] = 0
    before = copy.deepcopy(builder.model)
    eliminate_dead_channels(builder.model)
    assert builder.model.tensors[hidden].shape == (1, 4, 4, 1)
    assert last.weights.values.shape == (3, 16)
    assert builder.model.tensors[builder.model.outputs[0].tensor].shape == (1, 3)
    assert_same_outputs(before, builder.model)


def test_eliminate_dead_channels_live_network_is_unchanged() -> None:
    builder = NetworkBuilder(10)
    hidden = builder.depthwise(builder.conv(builder.input((1, 6, 6, 3)), 8, 3))
    builder.output(builder.fully_connected(builder.global_pool(hidden), 5))
    model = builder.model
    before = copy.deepcopy(model)
    eliminate_dead_channels(model)
    assert [tensor.shape for tensor in model.tensors] == [tensor.shape for tensor in before.tensors]


def test_eliminate_dead_channels_vww_gives_the_same_outputs(data_dir: Path) -> None:
    path = data_dir / "mlperf_tiny" / "models" / "vww_96_int8.tflite"
    before, after = import_tflite(path), eliminate_dead_channels(import_tflite(path))
    assert_same_outputs(before, after, 6)
    channels = sum(
        after.tensors[operator.outputs[0]].shape[-1]
        for operator in after.operators
        if operator.weights is not None
    )
    assert channels <= 2738 - 971  # 971 channels are constant; channels that nothing reads go too
    assert after.operators[-1].kind is OperatorKind.SOFTMAX
