"""TensorFlow Lite Micro itself as the judge: a model's bytes and inputs go in, its outputs come out."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest

TFLM_VERSION = "0.dev20261023182759"


def require_tflm() -> None:
    """Skip with the reason where the `tflite_micro` wheel is missing; under CI=true that is a failure."""
    if importlib.util.find_spec("tflite_micro") is not None:
        return
    reason = f"the tflite-micro wheel ({TFLM_VERSION}) is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run_tflm(model: bytes, *inputs: np.ndarray, arena_bytes: int = 1 << 20) -> list[np.ndarray]:
    """Run `model` once in TFLM's interpreter.

    inputs: one array per model input, with the tensor's shape and dtype. Returns one array per model output.
    """
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)
    for index, value in enumerate(inputs):
        interpreter.set_input(value, index)
    interpreter.invoke()
    count = _output_count(model)
    return [np.array(interpreter.get_output(index)) for index in range(count)]


def _output_count(model: bytes) -> int:
    import tflite

    return tflite.Model.GetRootAs(model).Subgraphs(0).OutputsLength()
