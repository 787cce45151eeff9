"""accumulator_bounds: the proven ranges are exact where inputs can reach them, and overflow is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tflite_models

from model_packager import numerics
from model_packager.errors import PackError
from model_packager.fixed_point import INT32_MAX, INT32_MIN
from model_packager.format_table import OperatorKind
from model_packager.importers.tflite import import_tflite
from model_packager.model import Model, Operator, Port, Requant, Tensor, Weights
from model_packager.reference import accumulator_bounds, run_all

RANDOM = np.random.default_rng(3)


def dense(weights: np.ndarray, bias: np.ndarray | None, zero_point: int = 0, shift: int = -5) -> Model:
    """One fully connected operator."""
    return Model(
        tensors=[Tensor("x", (1, weights.shape[1])), Tensor("y", (1, len(weights)))],
        operators=[
            Operator(
                OperatorKind.FULLY_CONNECTED, [0], [1], {"input_zero_point": zero_point},
                Weights(weights.astype(np.int8)), bias,
                Requant(np.array([1 << 30], np.int32), np.array([shift], np.int32)), name="dense",
            )
        ],
        inputs=[Port(0, "x")],
        outputs=[Port(1, "y")],
    )  # fmt: skip


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
def test_accumulator_bounds_dense_are_reached(zero_point: int) -> None:
    weights = RANDOM.integers(-128, 128, (3, 40))
    bias = np.array([-70000, 0, 1234], np.int32)
    (bounds,) = accumulator_bounds(dense(weights, bias, zero_point))
    highest = np.where(weights > 0, 127, -128).astype(np.int8)
    lowest = np.where(weights > 0, -128, 127).astype(np.int8)
    reached = []
    for row in range(3):
        inputs = np.stack([highest[row], lowest[row]])
        sums = numerics.fully_connected_accumulate(inputs, weights.astype(np.int8), bias, zero_point)
        reached += [int(value) for value in sums[:, row]]
    assert bounds == (min(reached), max(reached))


def test_accumulator_bounds_hold_for_partial_sums() -> None:
    """The bias alone, before any product, lies inside even where the products can only lower it."""
    (bounds,) = accumulator_bounds(dense(np.full((1, 4), -100), np.array([1000], np.int32), zero_point=-128))
    assert bounds == (1000 - 4 * 100 * 255, 1000)


def test_accumulator_bounds_limit_of_int32_is_exact() -> None:
    weights = np.zeros((1, 1))
    assert accumulator_bounds(dense(weights, np.array([INT32_MAX], np.int32))) == [(0, INT32_MAX)]
    assert accumulator_bounds(dense(weights, np.array([INT32_MIN], np.int32))) == [(INT32_MIN, 0)]
    weights[0, 0] = 1
    with pytest.raises(PackError, match=r"operator 0 FULLY_CONNECTED 'dense' may overflow .* 2147483774"):
        accumulator_bounds(dense(weights, np.array([INT32_MAX], np.int32)))


def test_accumulator_bounds_left_shift_counts() -> None:
    weights, bias = np.zeros((1, 1)), np.array([1 << 20], np.int32)
    assert accumulator_bounds(dense(weights, bias, shift=10)) == [(0, 1 << 20)]
    with pytest.raises(PackError, match="shifted left by 11"):
        accumulator_bounds(dense(weights, bias, shift=11))


def test_accumulator_bounds_other_operators() -> None:
    q = (0.1, -100)
    mul = import_tflite(tflite_models.binary("MUL", (1, 4), (1, 4), q, (0.1, 100), q))
    assert accumulator_bounds(mul) == [(227 * -228, -28 * -228)]  # [-28, 227] times [-228, 27]
    mean = import_tflite(tflite_models.mean((1, 5, 7, 2), [1, 2], q, q))
    assert accumulator_bounds(mean) == [(-28 * 35, 227 * 35)]
    pool = import_tflite(tflite_models.pool_2d("AVERAGE_POOL_2D", (1, 5, 7, 2), (3, 2), q))
    assert accumulator_bounds(pool) == [(-128 * 6, 127 * 6)]
    reshape = import_tflite(tflite_models.reshape((1, 6), (1, 2, 3), q))
    assert accumulator_bounds(reshape) == [None]


@pytest.mark.parametrize(
    "name", ["ad01_int8", "ic_pretrainedResnet_int8", "kws_ref_model_int8", "vww_96_int8"]
)
def test_accumulator_bounds_contain_what_a_network_computes(name: str, data_dir: Path) -> None:
    model = import_tflite(data_dir / "mlperf_tiny" / "models" / f"{name}.tflite")
    bounds = accumulator_bounds(model)
    shape = model.tensors[model.inputs[0].tensor].shape
    values = run_all(model, [RANDOM.integers(-128, 128, (2, *shape[1:]), dtype=np.int8)])
    seen = 0
    for operator, bound in zip(model.operators, bounds, strict=True):
        if operator.kind is not OperatorKind.FULLY_CONNECTED or operator.weights is None:
            continue
        assert bound is not None
        flat = values[operator.inputs[0]].reshape(2, -1)
        zero_point = operator.attributes.get("input_zero_point", 0)
        sums = numerics.fully_connected_accumulate(flat, operator.weights.values, operator.bias, zero_point)
        assert bound[0] <= sums.min() and sums.max() <= bound[1]
        seen += 1
    assert seen
