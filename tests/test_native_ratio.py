"""The .tflite that benchmarks/native_ratio.py writes of an integer network: TFLM and the importer agree with
the reference on it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.native_ratio import tflite_of
from examples.architectures.build import samples
from examples.architectures.networks import BLOCKS, SMALL
from model_packager import reference
from model_packager.importers.onnx import import_onnx
from model_packager.importers.tflite import import_tflite
from model_packager.model import Model
from model_packager.passes.quantise import quantise_model
from tests.random_networks import random_inputs
from tests.tflm_oracle import run_tflm


@pytest.fixture(scope="module")
def mobilenet() -> Model:
    graph = SMALL["mobilenet_v1"].build("mobilenet_v1")
    images = samples(graph)["image"].transpose(0, 2, 3, 1)
    return quantise_model(import_onnx(graph.SerializeToString()), [np.ascontiguousarray(images)])


def test_tflite_of_a_network_gives_the_same_bits_in_tflm_and_when_imported(
    mobilenet: Model, require_module: Callable[[str], None], tmp_path: Path
) -> None:
    require_module("tflite_micro")
    data = tflite_of(mobilenet)
    path = tmp_path / "mobilenet.tflite"
    path.write_bytes(data)
    imported = import_tflite(path)
    for image in random_inputs(mobilenet, 3)[0]:
        batch = image[np.newaxis]
        (expected,) = reference.run(mobilenet, [batch])
        assert len(np.unique(expected)) > 3
        np.testing.assert_array_equal(run_tflm(data, batch)[0], expected)
        np.testing.assert_array_equal(reference.run(imported, [batch])[0], expected)


def test_tflite_of_other_operators_and_pads_is_refused(mobilenet: Model) -> None:
    graph = BLOCKS["shuffle_block"].build("shuffle_block")
    images = samples(graph)["image"].transpose(0, 2, 3, 1)
    shuffled = quantise_model(import_onnx(graph.SerializeToString()), [np.ascontiguousarray(images)])
    with pytest.raises(SystemExit, match=r"is no operator of MobileNet|pads"):
        tflite_of(shuffled)
    padded = copy.deepcopy(mobilenet)
    padded.operators[0].attributes |= {"pad_top": 1, "pad_bottom": 0}
    with pytest.raises(SystemExit, match="SAME is"):
        tflite_of(padded)
