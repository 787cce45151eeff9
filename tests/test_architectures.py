"""The networks of the lecture: their counts are the published ones, and each packs and runs everywhere
alike."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from examples.architectures.build import samples
from examples.architectures.networks import BLOCKS, NETWORKS, SMALL
from host_tools.targets import open_target
from model_packager import reference
from model_packager.analysis import Analysis, analyse
from model_packager.importers.onnx import import_onnx
from model_packager.pack import PackResult, pack
from tests.conftest import require_tool
from tests.executors import Case, run_firmware
from tests.random_networks import random_inputs

RUNNABLE = {**BLOCKS, **SMALL}
MIB = 1 << 20
# Multiply-accumulates above this take the strict shim on CPython too long.
SHIM_MACS = 100_000


@cache
def analysis_of(name: str) -> Analysis:
    network = {**NETWORKS, **BLOCKS}[name]
    return analyse(import_onnx(network.build(name).SerializeToString()))


@cache
def packed(name: str) -> PackResult:
    graph = RUNNABLE[name].build(name)
    return pack(import_onnx(graph.SerializeToString()), calibration=samples(graph))


# The lecture's table of networks: size as fp32, and "GFLOPS", which counts a multiply-accumulate as one. (Its
# sizes of GoogLeNet, MobileNet and SqueezeNet are those of the activations, see below.)
@pytest.mark.parametrize(
    ("name", "size_mb", "giga_macs"),
    [
        ("alexnet", 233, 0.7),
        pytest.param("vgg_16", 528, 15.5, marks=pytest.mark.slow),
        pytest.param("vgg_19", 548, 19.6, marks=pytest.mark.slow),
        ("resnet_50", 98, 3.9),
        pytest.param("resnet_101", 170, 7.6, marks=pytest.mark.slow),
        pytest.param("resnet_152", 230, 11.3, marks=pytest.mark.slow),
    ],
)
def test_network_has_the_size_and_work_of_the_lectures_table(
    name: str, size_mb: float, giga_macs: float
) -> None:
    analysis = analysis_of(name)
    analysis_of.cache_clear()  # hundreds of megabytes pass through here, but an Analysis holds counts alone
    assert analysis.parameters * 4 / MIB == pytest.approx(size_mb, rel=0.01)
    assert analysis.macs / 1e9 == pytest.approx(giga_macs, rel=0.04)


# The table's size of GoogLeNet is that of its weights. MobileNet's 38 and SqueezeNet's 30 are megabytes of
# activations in its source (convnet-burden): of MobileNet's layers before and after the activation function,
# of SqueezeNet's once. Their weights take the published 17 and 5 million bytes.
@pytest.mark.parametrize(
    ("name", "weight_mb", "giga_macs"),
    [("googlenet", 26.7, 1.6), ("mobilenet_v1", 16.1, 0.58), ("squeezenet", 4.8, 0.84)],
)
def test_light_network_has_the_published_weights_and_the_work_of_the_lectures_table(
    name: str, weight_mb: float, giga_macs: float
) -> None:
    analysis = analysis_of(name)
    assert analysis.parameters * 4 / MIB == pytest.approx(weight_mb, rel=0.01)
    assert analysis.macs / 1e9 == pytest.approx(giga_macs, rel=0.03)


@pytest.mark.parametrize(("name", "times", "activation_mb"), [("mobilenet_v1", 2, 38), ("squeezenet", 1, 30)])
def test_light_network_has_the_activations_of_the_lectures_table(
    name: str, times: int, activation_mb: float
) -> None:
    maps = sum(layer.output_activations for layer in analysis_of(name).layers)
    assert times * maps * 4 / MIB == pytest.approx(activation_mb, rel=0.04)


# Table 8 of the MobileNet paper, in the lecture: million multiply-adds and parameters.
@pytest.mark.parametrize(
    ("name", "million_macs", "million_parameters"),
    [
        ("mobilenet_v1", 569, 4.2),
        ("googlenet", 1550, 6.8),
        pytest.param("vgg_16", 15_300, 138, marks=pytest.mark.slow),
    ],
)
def test_network_has_the_counts_of_mobilenets_table(
    name: str, million_macs: float, million_parameters: float
) -> None:
    analysis = analysis_of(name)
    assert analysis.macs / 1e6 == pytest.approx(million_macs, rel=0.03)
    assert analysis.parameters / 1e6 == pytest.approx(million_parameters, rel=0.03)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("lenet_300_100", 266_200), ("lenet_5", 430_500), ("standard", 3_456), ("depthwise_separable", 411)],
)
def test_small_network_has_exactly_the_known_weights(name: str, weights: int) -> None:
    assert analysis_of(name).weights == weights


def test_lectures_example_has_the_known_multiplications_in_both_forms() -> None:
    assert analysis_of("standard").macs == 86_400
    separable = analysis_of("depthwise_separable")
    assert separable.macs == 10_275
    assert separable.macs + separable.layers[1].additions == 16_675


# The body of MobileNet, table 1 of its paper: output sizes and channels.
def test_mobilenet_layers_have_the_shapes_of_its_table() -> None:
    shapes = [layer.output_shape[1:] for layer in analysis_of("mobilenet_v1").layers]
    assert shapes[:5] == [(112, 112, 32), (112, 112, 32), (112, 112, 64), (56, 56, 64), (56, 56, 128)]
    assert (7, 7, 1024) in shapes and (14, 14, 512) in shapes


def test_network_is_the_same_at_every_build() -> None:
    first, second = (BLOCKS["fire_module"].build("fire").SerializeToString() for _ in range(2))
    assert first == second


def test_shuffle_is_one_transpose_in_the_packed_network() -> None:
    kinds = [operator.kind.name for operator in packed("shuffle_block").model.operators]
    assert kinds.count("TRANSPOSE") == 1


@pytest.mark.parametrize("name", RUNNABLE)
def test_packed_network_gives_the_same_bits_in_the_reference_and_the_c_core(name: str) -> None:
    result = packed(name)
    inputs = random_inputs(result.model, 3)
    target = open_target("native")
    target.load(result.data)
    expected, actual = reference.run(result.model, inputs), target.run(inputs)
    target.close()
    for first, second in zip(expected, actual, strict=True):
        assert len(np.unique(first)) > 1
        np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_packed_networks_give_the_same_bits_in_the_firmware(interpreter: str) -> None:
    if interpreter == "micropython":
        require_tool("micropython")
    cases, wanted = [], []
    for name in RUNNABLE:
        result = packed(name)
        macs = sum(result.model.mac_count(operator) for operator in result.model.operators)
        if interpreter == "cpython" and macs > SHIM_MACS:
            continue
        inputs = random_inputs(result.model, 1)
        cases.append(Case(name, result.data, (b"".join(each.tobytes() for each in inputs),)))
        wanted.append(b"".join(each.tobytes() for each in reference.run(result.model, inputs)))
    results = run_firmware(cases, interpreter=interpreter)
    assert len(cases) >= 8
    wrong = [c.name for c, r, w in zip(cases, results, wanted, strict=True) if r.outputs != w]
    assert wrong == []
