"""Target `cpython`: the very source that runs on boards, on this Python, with a board's 32-bit integers.

The device package `thimble` brings its own shim, which raises where an operation would leave 32 bits or a
buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from host_tools.packed_file import missing_features
from host_tools.targets import Array, Target, run_one_by_one
from model_packager import container
from model_packager.errors import FormatError, UsageError
from model_packager.format_table import ErrorCode
from model_packager.model import NUMPY_DTYPES, Model

Result = TypeVar("Result")


class CPythonTarget:
    """One network of the device package, run one sample at a time."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._network: Any = None

    def load(self, data: bytes) -> None:
        import thimble

        self._model = None
        try:
            self._network = _named(lambda: thimble.load(data))
        except FormatError as error:
            if error.code is not ErrorCode.UNSUPPORTED_FEATURE:
                raise
            detail = missing_features(data, thimble.FEATURES, "the device package here") or error.detail
            raise FormatError(error.code, detail) from error
        self._model = container.load(data)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        if self._model is None:
            raise UsageError("no model is loaded")
        return run_one_by_one(partial(self._run_sample, self._model), inputs)

    def _run_sample(self, model: Model, inputs: Sequence[Array]) -> list[Array]:
        flat = [np.ascontiguousarray(array).tobytes() for array in inputs]
        given = _named(lambda: self._network.run(flat if len(flat) > 1 else flat[0]))
        outputs = given if len(model.outputs) > 1 else [given]
        tensors = [model.tensors[port.tensor] for port in model.outputs]
        # The network's outputs are views into its arena, which the next run overwrites: tobytes() copies.
        return [
            np.frombuffer(output.tobytes(), NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)
            for output, tensor in zip(outputs, tensors, strict=True)
        ]

    def close(self) -> None:
        if self._network is not None:
            self._network.close()
        self._model = self._network = None


def _named(action: Callable[[], Result]) -> Result:
    """Give an error of the device package as the host's class of the same error code."""
    import thimble

    try:
        return action()
    except thimble.ThimbleError as error:
        raise FormatError(ErrorCode(error.code), str(error.detail)) from error


def create() -> Target:
    return CPythonTarget()
