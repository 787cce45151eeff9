"""Originals that count their axes N, C, H, W: arrays go in and come out as the original has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from onnx_models import build, original_outputs, random_floats

from host_tools.evaluate import evaluate
from host_tools.judges import open_judge
from host_tools.ports import in_original_layout, quantised_inputs, real_outputs
from host_tools.targets import open_target
from model_packager import container
from model_packager.errors import UsageError
from model_packager.importers.onnx import import_onnx
from model_packager.model import Model
from model_packager.pack import pack
from model_packager.sample_arrays import batch_of, batches_for_inputs

DECODER = REPOSITORY / "tests" / "data" / "decoder.onnx"


@pytest.fixture(scope="module")
def packed() -> bytes:
    """A network from image (3, 16, 16) to image (3, 16, 16)."""
    return pack(DECODER, calibration={"x": random_floats(32, 3, 16, 16)}).data


def image_model() -> Model:
    return import_onnx(build("out = Conv(x, w)", {"x": (1, 3, 5, 4)}, {"w": random_floats(2, 3, 1, 1)}))


def test_batch_of_channels_first_arrays_are_turned() -> None:
    model = image_model()
    images = random_floats(2, 3, 5, 4)
    np.testing.assert_array_equal(batch_of(images, model, model.inputs[0]), images.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(
        batch_of(images[0], model, model.inputs[0])[0], images[0].transpose(1, 2, 0)
    )


def test_batch_of_channels_last_arrays_are_taken_as_they_are() -> None:
    model = image_model()
    images = random_floats(2, 5, 4, 3)
    np.testing.assert_array_equal(batch_of(images, model, model.inputs[0]), images)


def test_batch_of_other_shapes_names_the_originals() -> None:
    model = image_model()
    with pytest.raises(
        UsageError, match=r"takes arrays of shape \(1, 3, 5, 4\) or \(N, 3, 5, 4\), not \(2, 5\)"
    ):
        batch_of(np.zeros((2, 5), np.float32), model, model.inputs[0])


@pytest.mark.parametrize("noted", [None, [0], {"inputs": 0}, {"inputs": ["x"]}, {"outputs": [0]}])
def test_batch_of_strange_metadata_is_not_trusted(noted: Any) -> None:
    model = image_model()
    model.metadata["channels_first"] = noted
    with pytest.raises(UsageError, match=r"takes arrays of shape \(1, 5, 4, 3\)"):
        batch_of(random_floats(2, 3, 5, 4), model, model.inputs[0])


def test_pack_keeps_the_layout_in_the_file(packed: bytes) -> None:
    model = container.load(packed)
    assert model.metadata["channels_first"] == {"inputs": [0], "outputs": [0]}
    images = random_floats(4, 3, 16, 16, seed=7)
    batch = batches_for_inputs({"x": images}, model)[0]
    assert batch.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(in_original_layout(batch, model, model.inputs[0]), images)


@pytest.mark.parametrize("name", ["reference", "cpython"])
def test_run_of_a_packed_model_gives_images_as_the_original(packed: bytes, name: str) -> None:
    model = container.load(packed)
    images = random_floats(1, 3, 16, 16, seed=7)
    target = open_target(name)
    try:
        target.load(packed)
        ours = real_outputs(target.run(quantised_inputs({"x": images}, model)), model)[0]
    finally:
        target.close()
    theirs = original_outputs(DECODER.read_bytes(), {"x": images})[0][:, 0]
    assert ours.shape == theirs.shape == (1, 3, 16, 16)
    assert np.abs(ours - theirs).max() < 0.08


def test_evaluate_gives_the_original_its_own_layout(packed: bytes) -> None:
    model = container.load(packed)
    target = open_target("reference")
    target.load(packed)
    result = evaluate(target, model, {"x": random_floats(8, 3, 16, 16, seed=7)}, judge=open_judge(DECODER))
    assert result.largest_difference is not None and result.largest_difference < 0.08
