"""Dynamic fixed point: scales that are powers of two, layers that requantise by a shift, the same bits in
every executor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from examples.architectures.build import samples
from examples.architectures.networks import BLOCKS
from host_tools.targets import open_target
from model_packager import container, reference
from model_packager.errors import PackError, UsageError
from model_packager.format_table import ConstantKind, DType, OperatorKind, RequantForm
from model_packager.importers.onnx import import_onnx
from model_packager.model import Model, Operator, Port, Tensor, Weights
from model_packager.pack import PackResult, pack
from model_packager.passes.fixed_point_scales import fraction_length, power_of_two_scale
from model_packager.passes.quantise import quantise
from model_packager.recipe import parse_recipe
from tests.executors import Case, run_firmware
from tests.random_networks import random_inputs

GRAPH = BLOCKS["shuffle_block"].build("shuffle_block")
FIXED_POINT = "calibration: {power_of_two: true}\n"


def packed(recipe: str) -> PackResult:
    model = import_onnx(GRAPH.SerializeToString())
    return pack(model, calibration=samples(GRAPH, 20), recipe=parse_recipe(recipe))


def layers_of(model: Model) -> list[Operator]:
    return [operator for operator in model.operators if operator.weights is not None]


def test_fraction_length_is_the_largest_that_reaches_the_peak() -> None:
    assert fraction_length(127 / 64, 127) == 6  # exactly 127 steps of 1/64
    assert fraction_length(2.0, 127) == 5  # 128 steps of 1/64 are one too many
    assert fraction_length(1000.0, 127) == -3
    assert fraction_length(0.0, 127) == 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 255 / 128, (1 / 128, -128)),
        (-0.1, 1.9, (1 / 64, 0)),
        (-2.0, 1.0, (1 / 32, 0)),
        (0, 0, (1.0, -128)),
    ],
)
def test_power_of_two_scale_is_unsigned_where_nothing_is_negative(
    low: float, high: float, expected: tuple[float, int]
) -> None:
    assert power_of_two_scale(low, high) == expected


def test_pack_fixed_point_stores_a_shift_for_a_layer_and_runs_everywhere() -> None:
    result = packed(FIXED_POINT)
    parsed = container.parse(result.data)
    requants = [c.fields for c in parsed.constants if c.kind is ConstantKind.REQUANT]
    assert {fields["form"] for fields in requants} == {RequantForm.POWER_OF_TWO}
    assert {fields["data_bytes"] for fields in requants} == {1}
    for port in (*result.model.inputs, *result.model.outputs):
        assert math.frexp(port.scale)[0] == 0.5
    inputs = random_inputs(result.model, 1)
    (expected,) = reference.run(result.model, inputs)
    assert len(np.unique(expected)) > 20
    target = open_target("native")
    target.load(result.data)
    np.testing.assert_array_equal(target.run(inputs)[0], expected)
    target.close()
    case = Case("fixed point", result.data, (inputs[0].tobytes(),))
    (firmware,) = run_firmware([case], interpreter="cpython")
    assert firmware.outputs == expected.tobytes()


def test_pack_fixed_point_stays_close_to_the_float_network() -> None:
    model = import_onnx(GRAPH.SerializeToString())
    shape = model.tensors[model.inputs[0].tensor].shape[1:]
    images = np.random.default_rng(3).standard_normal((10, *shape)).astype(np.float32)
    (expected,) = reference.run(model, [images])
    errors = {}
    for name, text in (("free", ""), ("fixed", FIXED_POINT)):
        integers = packed(text).model
        source, output = integers.inputs[0], integers.outputs[0]
        steps = np.clip(np.round(images / source.scale) + source.zero_point, -128, 127).astype(np.int8)
        actual = (reference.run(integers, [steps])[0].astype(float) - output.zero_point) * output.scale
        errors[name] = float(np.sqrt(np.mean((actual - expected) ** 2)) / expected.std())
    assert errors["free"] < errors["fixed"] < 0.06  # a scale is at most twice as coarse as it could be


def test_pack_fixed_point_mixes_precisions_by_layer() -> None:
    steps = "steps: [{quantise_bits: {match: '#1', bits: 4}}, {quantise_bits: {match: '#2', bits: 6}}]\n"
    result = packed(FIXED_POINT + steps)
    peaks = [int(np.abs(layer.weights.values).max()) for layer in layers_of(result.model) if layer.weights]
    assert peaks[0] > 63 and 3 < peaks[1] <= 7 and 15 < peaks[2] <= 31
    assert all(layer.requant is not None and layer.requant.power_of_two for layer in layers_of(result.model))


def test_pack_fixed_point_layer_with_other_scales_has_multipliers_again() -> None:
    layers = layers_of(packed(FIXED_POINT + "steps: [{ternarise: {match: '#1'}}]\n").model)
    assert [layer.requant is not None and layer.requant.power_of_two for layer in layers[:3]] == [
        *[True, False, True]
    ]


def test_pack_fixed_point_of_an_integer_network_is_refused() -> None:
    with pytest.raises(UsageError, match="power_of_two is for float networks"):
        pack(packed("").model, recipe=parse_recipe(FIXED_POINT))


def small_layer(weights: list[float]) -> Model:
    tensors = [Tensor(name, (1, len(weights)), DType.FLOAT32) for name in "x"]
    tensors.append(Tensor("y", (1, 1), DType.FLOAT32))
    layer = Operator(
        OperatorKind.FULLY_CONNECTED, [0], [1], weights=Weights(np.float32([weights])), name="fc"
    )
    return Model(tensors, [layer], [Port(0, "x")], [Port(1, "y")])


def test_quantise_weights_too_small_for_a_shift_get_fewer_bits() -> None:
    model = quantise(small_layer([2.0**-30, 2.0**-28]), [(-1.0, 1.0), (-1.0, 1.0)], power_of_two=True)
    (layer,) = model.operators
    assert layer.weights is not None and layer.requant is not None
    assert layer.requant.shifts.tolist() == [31]
    assert layer.weights.values.tolist() == [[2, 8]]


def test_quantise_outputs_below_the_accumulators_unit_are_refused() -> None:
    with pytest.raises(PackError, match="layer 'fc' makes outputs too small"):
        quantise(small_layer([1.0]), [(-1.0, 1.0), (-1e-6, 1e-6)], power_of_two=True)
