"""The one-operator models: TFLM reads each and moves data as NumPy does, so later tests may trust them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import tflite
import tflite_models
from tflm_oracle import run_tflm

from model_packager import numerics

QUANTISATION = (0.1, 3)
X = np.random.default_rng(1).integers(-128, 128, (1, 4, 6, 4), dtype=np.int8)
Y = X[:, ::-1].copy()


@pytest.fixture(scope="module")
def tflm(require_module: Callable[[str], ModuleType]) -> Callable[..., list[np.ndarray]]:
    require_module("tflite_micro")
    return run_tflm


def _movements() -> dict[str, tuple[bytes, list[np.ndarray], list[np.ndarray]]]:
    """Operator name: its model, the model's inputs and the outputs that NumPy gives."""
    q, shape, around = QUANTISATION, X.shape, [(0, 0), (1, 2), (0, 3), (0, 0)]
    m = tflite_models
    return {
        "concatenation": (m.concatenation([shape, shape], 3, q), [X, Y], [np.concatenate([X, Y], 3)]),
        "pad": (m.pad(shape, around, q), [X], [np.pad(X, around, constant_values=3)]),
        "padv2": (m.pad(shape, around, q, -9), [X], [np.pad(X, around, constant_values=-9)]),
        "reshape": (m.reshape(shape, (4, 24), q), [X], [X.reshape(4, 24)]),
        "transpose": (m.transpose(shape, (0, 3, 1, 2), q), [X], [X.transpose(0, 3, 1, 2)]),
        "split": (m.split(shape, 3, 2, q), [X], [X[..., :2], X[..., 2:]]),
        "slice": (m.slice_(shape, (0, 1, 0, 2), (1, 2, -1, 1), q), [X], [X[:, 1:3, :, 2:3]]),
        "strided_slice": (
            m.strided_slice(shape, (0, 0, 1, 0), (1, 4, 6, 4), (1, 2, 3, 1), q), [X], [X[:, ::2, 1::3]],
        ),
        "maximum": (m.binary("MAXIMUM", shape, shape, q, q, q), [X, Y], [np.maximum(X, Y)]),
        "minimum": (m.binary("MINIMUM", shape, shape, q, q, q), [X, Y], [np.minimum(X, Y)]),
        "add_constant": (
            m.binary("ADD", shape, shape, (0.5, 0), (0.5, 0), (0.5, 0), constant=Y), [X],
            [np.clip(X.astype(int) + Y, -128, 127)],
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(_movements()))
def test_single_data_movement_equals_numpy(name: str, tflm: Callable[..., list[np.ndarray]]) -> None:
    model, inputs, expected = _movements()[name]
    outputs = tflm(model, *inputs)
    assert len(outputs) == len(expected)
    for output, value in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output, value)


@pytest.mark.parametrize(
    ("align_corners", "half_pixel_centers"), [(False, False), (True, False), (False, True)]
)
@pytest.mark.parametrize("size", [(8, 12), (1, 1), (7, 5), (9, 31)])
def test_nearest_indices_resize_equals_tflm(
    size: tuple[int, int],
    align_corners: bool,
    half_pixel_centers: bool,
    tflm: Callable[..., list[np.ndarray]],
) -> None:
    flags = (align_corners, half_pixel_centers)
    (output,) = tflm(tflite_models.resize_nearest_neighbor(X.shape, size, QUANTISATION, *flags), X)
    rows, columns = (numerics.nearest_indices(n, k, *flags) for n, k in zip(X.shape[1:3], size, strict=True))
    np.testing.assert_array_equal(output, X[:, rows][:, :, columns])


def test_build_model_header_is_tflite_version_3() -> None:
    data = tflite_models.reshape((1, 4), (4,), QUANTISATION)
    model = tflite.Model.GetRootAs(data)
    assert data[4:8] == b"TFL3" and model.Version() == 3
    assert model.Subgraphs(0).Tensors(0).Quantization().Scale(0) == np.float32(0.1)
