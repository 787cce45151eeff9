"""TensorFlow Lite Micro itself as the judge: a model's bytes and inputs go in, its outputs come out."""

from __future__ import annotations

import numpy as np
import tflite

TFLM_DISTRIBUTION = "tflite-micro"
TFLM_VERSION = "0.dev20261023182759"


def run_tflm(model: bytes, *inputs: np.ndarray, arena_bytes: int = 1 << 20) -> list[np.ndarray]:
    """Run `model` once in TFLM's interpreter.

    inputs: one array per model input, with the tensor's shape and dtype. Returns one array per model output.
    Needs the tflite-micro wheel; a test asks for it through the fixture `require_module` first.
    """
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)
    for index, value in enumerate(inputs):
        interpreter.set_input(value, index)
    interpreter.invoke()
    count = tflite.Model.GetRootAs(model).Subgraphs(0).OutputsLength()
    return [np.array(interpreter.get_output(index)) for index in range(count)]
