"""Every operator alone, as an int8 .tflite with inputs: for the comparison of executors with TFLM."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numerics_cases import KINDS
from test_reference import PLAIN_CASES

INT8_KINDS = sorted(kind for kind in KINDS if not kind.endswith("int16"))


def operator_models(count: int) -> Iterator[tuple[str, bytes, list[np.ndarray]]]:
    """(name, .tflite, inputs): `count` models with random parameters of each kind, then one of each whose
    parameters are chosen."""
    for kind in INT8_KINDS:
        for number in range(count):
            case = KINDS[kind].draw(np.random.default_rng([number, 7]))
            inputs = case.inputs()
            if len(inputs) == 1 and inputs[0].ndim == 2:
                case.arrays["x"] = inputs[0][:1]  # a batch of one
            yield f"{kind} {number}", KINDS[kind].model(case), case.inputs()
    for name, make in sorted(PLAIN_CASES.items()):
        yield name, *make()
