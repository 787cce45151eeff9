"""Prunes and rounds weights so that a layer's outputs change least for the bytes saved; without training.

Layer after layer, column after column: each weight goes to the level of a coarse grid (zero, mostly) with the
lowest sum of output error and coded bits, and the columns not yet done take up the error that this makes.

Sources: Frantar and Alistarh 2022, "Optimal brain compression", section 4 (the error of one weight and how
the others make up for it); Frantar et al. 2023, "GPTQ", section 3 (a fixed order of columns, the Cholesky
factor of the inverse Hessian); the rate term is that of Wiedemann et al. 2020, "DeepCABAC", section III.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.errors import UsageError
from model_packager.format_table import OperatorKind
from model_packager.model import Model, Operator, Port
from model_packager.passes.select_layers import real_weights, row_scales, select_layers, set_weights
from model_packager.reference.executor import attributes_of, run
from model_packager.reference.float import kernel_windows, padded

Array = npt.NDArray[Any]

MINIMUM_SAMPLES = 1000
_LEVELS = 127
_STEP_FACTORS = (0.7, 1.0, 1.4)
_RATE_PASSES = 2
_CHUNK_SAMPLES = 256
_POSITIONS_PER_SAMPLE = 32  # of an image: neighbours say nearly the same


def prune_and_round(
    model: Model,
    samples: Sequence[Array],
    match: str | Sequence[str] = "*",
    rate: float = 1e-6,
    damping: float = 0.01,
) -> Model:
    """A new integer model whose chosen layers have few, mostly zero levels.

    samples: int8 (N, *shape[1:]) for each input, N at least 1,000: the Hessian of 784 inputs cannot be known
    from a hundred. rate: share of a layer's output energy that one bit of the file may cost. damping: share
    of the mean diagonal that is added to the Hessian. Raises ``UsageError`` for too few samples.
    """
    if len(samples[0]) < MINIMUM_SAMPLES:
        raise UsageError(
            f"prune_and_round needs {MINIMUM_SAMPLES:,} calibration samples or more, not {len(samples[0])}"
        )
    if rate <= 0 or damping <= 0:
        raise UsageError("the rate and the damping of prune_and_round are above 0")
    rounded = copy.deepcopy(model)
    random = np.random.default_rng(0)
    layers = select_layers(rounded, match)
    forward = _Forward(rounded, samples)
    for place, layer in enumerate(rounded.operators):
        inputs = forward.inputs_of(place)
        if not any(layer is chosen for chosen in layers):
            continue
        blocks = _input_blocks(rounded, layer, inputs[0], random)
        weights, scales = real_weights(layer), row_scales(layer)
        rows = len(weights) // len(blocks)
        parts = [weights[i * rows : (i + 1) * rows] for i in range(len(blocks))]
        factors = [_Factor(moment, damping) for moment in blocks]
        values, step = _round_layer(parts, factors, rate)
        if np.any(values):
            scales = np.full(len(weights), step)
        set_weights(rounded, layer, values.reshape(weights.shape), scales)
    return rounded


class _Forward:
    """Runs all samples through a model whose weights change on the way, one operator at a time."""

    def __init__(self, model: Model, samples: Sequence[Array]) -> None:
        self._model = model
        self._values = {port.tensor: array for port, array in zip(model.inputs, samples, strict=True)}
        self._done = 0

    def inputs_of(self, place: int) -> list[Array]:
        """(N, *shape[1:]) of each input of an operator, with the weights that those before it have now."""
        for index in range(self._done, place):
            operator = self._model.operators[index]
            alone = replace(
                self._model,
                operators=[operator],
                inputs=[Port(tensor, "") for tensor in operator.inputs],
                outputs=[Port(operator.outputs[0], "")],
            )
            arrays = [self._values[tensor] for tensor in operator.inputs]
            self._values[operator.outputs[0]] = run(alone, arrays)[0]
            later = {tensor for each in self._model.operators[index + 1 :] for tensor in each.inputs}
            self._values = {tensor: array for tensor, array in self._values.items() if tensor in later}
        self._done = place
        return [self._values[tensor] for tensor in self._model.operators[place].inputs]


def _input_blocks(model: Model, layer: Operator, samples: Array, random: np.random.Generator) -> list[Array]:
    """The covariance (cols, cols) of what a row is multiplied with; one for each group of rows."""
    tensor = model.tensors[layer.inputs[0]]
    sums: list[Array] = []
    means: list[Array] = []
    count = 0
    for start in range(0, len(samples), _CHUNK_SAMPLES):
        batch = samples[start : start + _CHUNK_SAMPLES]
        inputs = batch.reshape(-1, *tensor.shape4[1:]).astype(np.float32)
        groups = _rows_of_inputs(layer, inputs - tensor.zero_point, random)
        if not sums:
            sums = [np.zeros((part.shape[1],) * 2) for part in groups]
            means = [np.zeros(part.shape[1]) for part in groups]
        for index, part in enumerate(groups):
            sums[index] += part.T @ part
            means[index] += part.sum(axis=0)
        count += len(groups[0])
    return [
        (total - np.outer(mean, mean) / count) / count * tensor.scale**2
        for total, mean in zip(sums, means, strict=True)
    ]


def _rows_of_inputs(layer: Operator, inputs: Array, random: np.random.Generator) -> list[Array]:
    """(n, cols) inputs of a row, for each group of rows."""
    if layer.kind is OperatorKind.FULLY_CONNECTED:
        return [inputs.reshape(len(inputs), -1)]
    attributes = attributes_of(layer)
    view = kernel_windows(padded(inputs, attributes, 0.0), attributes)
    positions = view.shape[1] * view.shape[2]
    chosen = random.permutation(positions)[:_POSITIONS_PER_SAMPLE]
    taken = view[:, chosen // view.shape[2], chosen % view.shape[2]]  # (N, n, kernel_h, kernel_w, channels)
    taken = taken.reshape(-1, *view.shape[3:])
    if layer.kind is OperatorKind.DEPTHWISE_CONV_2D:
        assert layer.weights is not None
        multiplier = len(layer.weights.values) // taken.shape[3]
        channels = range(len(layer.weights.values))
        return [taken[..., channel // multiplier].reshape(len(taken), -1) for channel in channels]
    depth = taken.shape[3] // attributes["groups"]
    return [
        taken[..., group * depth : (group + 1) * depth].reshape(len(taken), -1)
        for group in range(attributes["groups"])
    ]


class _Factor:
    """Order of the columns and the Cholesky factor U of the inverse Hessian in it, H^-1 = U^T U."""

    def __init__(self, covariance: Array, damping: float) -> None:
        diagonal = covariance.diagonal()
        self.covariance = covariance
        # Inputs that never change cost nothing: their weights become zero, the bias correction sees to them.
        self.used = np.flatnonzero(diagonal > 1e-6 * max(float(diagonal.max()), 1e-30))
        self.order = self.used[np.argsort(-diagonal[self.used], kind="stable")]
        hessian = covariance[np.ix_(self.order, self.order)]
        hessian = hessian + damping * hessian.diagonal().mean() * np.eye(len(hessian))
        self.upper = np.linalg.cholesky(np.linalg.inv(hessian)).T if len(hessian) else hessian

    @property
    def stiffness(self) -> Array:
        """(columns in order,): output error energy for a squared error of 1 in that column's weight."""
        return 1 / self.upper.diagonal() ** 2


def _round_layer(parts: list[Array], factors: list[_Factor], rate: float) -> tuple[Array, float]:
    """(levels (groups, rows, cols) int8, step) of the lowest cost over a few steps."""
    energy = sum(
        float(np.einsum("ij,jk,ik->", part, each.covariance, part))
        for part, each in zip(parts, factors, strict=True)
    )
    count = sum(len(part) * len(each.order) for part, each in zip(parts, factors, strict=True))
    peak = max(float(np.abs(part).max()) for part in parts)
    if energy <= 0 or count == 0 or peak == 0:
        return np.zeros((len(parts), *parts[0].shape), np.int8), 1.0
    stiffness = sum(len(p) * each.stiffness.sum() for p, each in zip(parts, factors, strict=True)) / count
    # Where distortion and rate balance on a fine grid: error step^2 / 12 a weight, halved twice by one bit.
    balanced = math.sqrt(6 * rate * energy / (math.log(2) * stiffness))
    best: tuple[float, Array, float] | None = None
    for factor in _STEP_FACTORS:
        step = max(balanced * factor, peak / _LEVELS)
        cost, values = _round_groups(parts, factors, step, rate * energy)
        if best is None or cost < best[0]:
            best = cost, values, step
    assert best is not None
    return best[1], best[2]


def _round_groups(
    parts: list[Array], factors: list[_Factor], step: float, price: float
) -> tuple[float, Array]:
    """(cost, levels (groups, rows, cols)); bits of a level are those of the histogram, found in passes."""
    values = np.stack([np.clip(np.round(part / step), -_LEVELS, _LEVELS) for part in parts]).astype(np.int8)
    cost = math.inf
    for _ in range(_RATE_PASSES):
        bits = _level_bits(values)
        results = [
            _round_columns(part, each, step, price * bits) for part, each in zip(parts, factors, strict=True)
        ]
        values = np.stack([levels for _, levels in results])
        spent = _level_bits(values)[values.astype(np.int64) + _LEVELS].sum()
        cost = sum(error for error, _ in results) + price * float(spent)
    return cost, values


def _level_bits(values: Array) -> Array:
    """(2 * 127 + 1,): bits of each level by the entropy of the histogram, one more count for each."""
    counts = np.bincount(values.astype(np.int64).ravel() + _LEVELS, minlength=2 * _LEVELS + 1) + 0.5
    return -np.log2(counts / counts.sum())


def _round_columns(weights: Array, factor: _Factor, step: float, prices: Array) -> tuple[float, Array]:
    """(output error energy, levels (rows, cols) int8) of one group; prices: of each level, as an energy."""
    levels = np.zeros(weights.shape, np.int8)
    left = weights[:, factor.order].copy()
    stiffness, error_energy = factor.stiffness, 0.0
    for place, column in enumerate(factor.order):
        scaled = left[:, place] / step
        nearest = np.clip(np.round(scaled), -_LEVELS, _LEVELS)
        choices = np.stack([nearest, nearest - np.sign(nearest), np.zeros_like(nearest)])
        errors = (scaled - choices) ** 2 * (step**2 * stiffness[place])
        costs = errors + prices[choices.astype(np.int64) + _LEVELS]
        best = costs.argmin(axis=0)
        rows = np.arange(len(best))
        chosen = choices[best, rows]
        levels[:, column] = chosen
        error_energy += float(errors[best, rows].sum())
        error = (left[:, place] - step * chosen) / factor.upper[place, place]
        left[:, place + 1 :] -= np.outer(error, factor.upper[place, place + 1 :])
    return error_energy, levels
