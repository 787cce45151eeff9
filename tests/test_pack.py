"""Packing: the file holds the same network, never larger than raw, within the bars on the MLPerf Tiny
networks.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from model_packager import container, reference
from model_packager import pack as pack_module
from model_packager.encoders import Encoding
from model_packager.errors import PackError, UsageError
from model_packager.format_table import Coder, DType, Layout, ScheduleKind, ValueMap
from model_packager.golden import golden_inputs, output_crc32
from model_packager.model import Model, Port, Tensor
from model_packager.pack import check_same, import_model, pack
from tests.random_networks import NetworkBuilder, random_inputs, random_network

MLPERF_TINY = ("kws_ref_model_int8", "ic_pretrainedResnet_int8", "vww_96_int8", "ad01_int8")


def small_network() -> Model:
    builder = NetworkBuilder(11)
    tensor = builder.depthwise(builder.conv(builder.input((1, 8, 8, 2)), 6, 3))
    builder.output(builder.fully_connected(builder.global_pool(tensor), 4))
    return builder.model


@pytest.mark.parametrize("objective", ["size", "speed"])
@pytest.mark.parametrize("seed", range(8))
def test_pack_random_network_computes_the_same_from_the_file(seed: int, objective: str) -> None:
    model = random_network(seed, 6)
    inputs = random_inputs(model, 4)
    expected = reference.run(copy.deepcopy(model), inputs)
    result = pack(model, objective)
    for actual, wanted in zip(reference.run(container.load(result.data), inputs), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    assert result.report.file_bytes == len(result.data) <= result.report.raw_file_bytes


def test_pack_golden_test_holds_what_the_model_computes() -> None:
    model = container.load(pack(small_network(), golden_seed=77).data)
    assert model.golden is not None
    assert model.golden[0] == 77
    assert model.golden[1] == output_crc32(reference.run(model, golden_inputs(model, 77)))
    assert container.load(pack(small_network(), golden_seed=None).data).golden is None


def test_pack_asked_encoding_is_used_where_not_larger_than_raw() -> None:
    asked = Encoding(Layout.DENSE, Coder.HUFFMAN, ValueMap.IDENTITY)
    builder = NetworkBuilder(12)
    builder.output(builder.fully_connected(builder.input((1, 200)), 40))
    weights = builder.model.operators[0].weights
    assert weights is not None
    weights.values = np.clip(weights.values // 40, -3, 3).astype(np.int8)
    weights.encoding = asked
    loaded = container.load(pack(builder.model).data)
    assert loaded.operators[0].weights is not None
    assert loaded.operators[0].weights.encoding.encoding == asked


def test_pack_small_arena_limits_decoder_scratch() -> None:
    builder = NetworkBuilder(13)
    builder.output(builder.fully_connected(builder.input((1, 60)), 8))
    result = pack(builder.model)
    assert result.report.ram_peak_bytes <= 2 * result.report.arena_bytes


def test_pack_scratch_of_the_peak_is_traded_for_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def network() -> Model:
        builder = NetworkBuilder(14)
        hidden = builder.depthwise(builder.conv(builder.input((1, 32, 32, 8)), 16), 3, 2)
        builder.output(builder.fully_connected(builder.global_pool(hidden), 200))
        for operator in builder.model.operators:
            if operator.weights is not None:
                shape = operator.weights.values.shape
                operator.weights.values = builder.random.normal(0, 35, shape).clip(-127, 127).astype(np.int8)
        return builder.model

    monkeypatch.setattr(pack_module, "SLOWDOWN", 1e9)
    traded = pack(network()).report
    monkeypatch.setattr(pack_module, "RAM_BYTES_PER_FILE_BYTE", 10**9)
    untraded = pack(network()).report
    saved, growth = untraded.ram_peak_bytes - traded.ram_peak_bytes, traded.file_bytes - untraded.file_bytes
    assert saved > 0
    assert 0 < growth <= saved / 8 + 4  # and up to 3 bytes of padding


def test_pack_size_decodes_convolutions_only_within_the_slowdown(monkeypatch: pytest.MonkeyPatch) -> None:
    def coded_count(slowdown: float) -> int:
        monkeypatch.setattr(pack_module, "SLOWDOWN", slowdown)
        builder = NetworkBuilder(15)
        tensor = builder.input((1, 12, 12, 8))
        for channels in (16, 16, 16, 16):
            tensor = builder.conv(tensor, channels, 3)
        builder.output(builder.fully_connected(builder.global_pool(tensor), 40))
        for operator in builder.model.operators:
            if operator.weights is not None:
                shape = operator.weights.values.shape
                operator.weights.values = builder.random.normal(0, 42, shape).clip(-127, 127).astype(np.int8)
        operators = pack(builder.model).model.operators
        encodings = [each.weights.encoding.encoding.name for each in operators if each.weights is not None]
        assert encodings[-1] != "dense-fixed-identity"  # fully connected: has a limit of its own
        return sum(name != "dense-fixed-identity" for name in encodings[:-1])

    counts = [coded_count(slowdown) for slowdown in (0, 0.5, 1e9)]
    assert counts[0] == 0 < counts[1] < counts[2] == 4


@pytest.mark.parametrize(("spread", "is_raw"), [(45.0, True), (1.5, False)])
def test_pack_weights_decoded_for_every_band_must_save_much(spread: float, is_raw: bool) -> None:
    """A wide distribution saves a few per cent and stays raw, a narrow one saves two thirds and is coded."""
    builder = NetworkBuilder(12)
    tensor = builder.conv(builder.conv(builder.input((1, 24, 24, 4)), 64, 3), 64, 1)
    builder.output(builder.fully_connected(builder.global_pool(tensor), 4))
    pointwise = builder.model.operators[1]
    assert pointwise.weights is not None
    values = np.random.default_rng(13).normal(0, spread, (64, 64)).round().clip(-127, 127)
    pointwise.weights.values = values.astype(np.int8)
    packed = container.load(pack(builder.model, "size").data).operators[1]
    assert (packed.schedule, packed.schedule_parameter > 0) == (ScheduleKind.IN_PLACE, True)
    assert packed.weights is not None
    assert (packed.weights.encoding.coder is Coder.FIXED) == is_raw


def test_pack_speed_objective_is_not_larger_in_decode_scratch_than_size() -> None:
    fast, small = pack(small_network(), "speed"), pack(small_network(), "size")
    assert len(fast.data) >= len(small.data)


def test_pack_float_model_without_calibration_is_refused() -> None:
    model = Model([Tensor("x", (1, 4), DType.FLOAT32)], [], [Port(0, "x")], [Port(0, "x")])
    with pytest.raises(UsageError, match="needs --calibration"):
        pack(model)


def test_pack_unknown_objective_is_refused() -> None:
    with pytest.raises(UsageError, match="no objective 'best'"):
        pack(small_network(), "best")


def test_import_model_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.tflite, \.onnx"):
        import_model(tmp_path / "model.h5")


def _change_weight(model: Model) -> None:
    weights = model.operators[0].weights
    assert weights is not None
    weights.values[0, 0] ^= 1


def _change_bias(model: Model) -> None:
    model.operators[0].bias = np.zeros(6, np.int32)


def _change_attribute(model: Model) -> None:
    model.operators[1].attributes["pad_top"] = 0


def _change_offset(model: Model) -> None:
    model.tensors[-1].arena_offset += 4


def _change_scale(model: Model) -> None:
    model.inputs[0].scale *= 2


@pytest.mark.parametrize(
    "change", [_change_weight, _change_bias, _change_attribute, _change_offset, _change_scale]
)
def test_check_same_changed_model_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    result = pack(small_network())
    loaded = container.load(result.data)
    check_same(result.model, loaded)
    change(loaded)
    with pytest.raises(PackError):
        check_same(result.model, loaded)


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_pack_mlperf_tiny_network_computes_the_same(name: str, data_dir: Path) -> None:
    path = data_dir / "mlperf_tiny" / "models" / f"{name}.tflite"
    result = pack(path)
    original, loaded = import_model(path), container.load(result.data)
    inputs = random_inputs(original, 4)
    np.testing.assert_array_equal(reference.run(loaded, inputs)[0], reference.run(original, inputs)[0])
