"""1-bit activations: the reference against words, XOR and counted bits, as docs/NUMERICS.md defines them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from model_packager import container, reference
from model_packager.encoders.bit_planes import encode_binary
from model_packager.format_table import DType, Feature, OperatorKind
from model_packager.model import Array, Model, Operator, bit_channels
from model_packager.reference.executor import attributes_of
from tests.tiny_models import BIT_MODELS, TINY_MODELS


def words_of(values: Array) -> Array:
    """The packed words (..., words) of -1 and +1 (..., channels)."""
    channels = values.shape[-1]
    padded = np.full((*values.shape[:-1], bit_channels(channels)), -1, np.int8)
    padded[..., :channels] = values
    rows = padded.reshape(-1, padded.shape[-1])
    return np.frombuffer(encode_binary(rows), "<u4").reshape(*values.shape[:-1], -1)


def accumulators_by_counting(model: Model, operator: Operator, image: Array) -> Array:
    """(height, width, rows) or (1, 1, rows): bias + k - 2 * popcount, cell by cell."""
    assert operator.weights is not None
    channels, words = image.shape[-1], words_of(image)
    if operator.kind is OperatorKind.FULLY_CONNECTED:
        kernel, stride, pads, out = image.shape[:2], (1, 1), (0, 0), (1, 1)
    else:
        a = attributes_of(operator)
        kernel, stride = (a["kernel_h"], a["kernel_w"]), (a["stride_h"], a["stride_w"])
        pads, out = (a["pad_top"], a["pad_left"]), model.tensors[operator.outputs[0]].shape4[1:3]
    rows = words_of(operator.weights.values).reshape(len(operator.weights.values), *kernel, -1)
    sums = np.zeros((*out, len(rows)), np.int64)
    for y, x, ky, kx in itertools.product(range(out[0]), range(out[1]), range(kernel[0]), range(kernel[1])):
        iy, ix = y * stride[0] + ky - pads[0], x * stride[1] + kx - pads[1]
        if 0 <= iy < image.shape[0] and 0 <= ix < image.shape[1]:
            for row in range(len(rows)):
                different = sum(int(word).bit_count() for word in words[iy, ix] ^ rows[row, ky, kx])
                sums[y, x, row] += channels - 2 * different
    return sums if operator.bias is None else sums + operator.bias


@pytest.mark.parametrize("name", BIT_MODELS)
def test_operators_on_bits_count_the_bits_that_differ(name: str) -> None:
    model = container.load(container.dump(TINY_MODELS[name]()))
    shape = model.tensors[model.inputs[0].tensor].shape
    inputs = np.random.default_rng(5).integers(-128, 128, shape).astype(np.int8)
    values = reference.run_all(model, [inputs])
    seen = 0
    for operator in model.operators:
        source, out = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
        if operator.weights is None or source.dtype is not DType.BIT or out.dtype is not DType.BIT:
            continue
        image = values[operator.inputs[0]].reshape(source.shape4[1:])
        sums = accumulators_by_counting(model, operator, image)
        found = values[operator.outputs[0]].reshape(sums.shape)
        assert np.array_equal(found, np.where(sums >= 0, 1, -1)) and len(np.unique(found)) == 2
        seen += 1
    assert seen or name == "bit_max_pool_2d"


@pytest.mark.parametrize(("channels", "positions"), [(1, 1), (32, 6), (33, 6), (96, 2)])
def test_size_of_a_tensor_of_bits_is_whole_words_for_each_position(channels: int, positions: int) -> None:
    model = TINY_MODELS["bit_conv_2d"]()
    model.tensors[1].shape = (1, positions, 1, channels)
    assert model.tensors[1].size_bytes == 4 * positions * -(-channels // 32)


def test_loader_without_bits_refuses_the_file_by_its_feature() -> None:
    data = container.dump(TINY_MODELS["bit_conv_2d"]())
    with pytest.raises(container.FormatError, match=r"unsupported_feature.*0x1000"):
        container.parse(data, container.READER_FEATURES & ~Feature.BIT_ACTIVATIONS)
