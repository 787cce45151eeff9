"""Targets behind a device server: any serial port, and the server that `micropython` starts."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

import numpy as np

from host_tools.devices import deploy_with_bar, open_device
from host_tools.targets import Array, Target, run_one_by_one
from model_packager import container
from model_packager.errors import UsageError
from model_packager.model import NUMPY_DTYPES, Model


class DeviceTarget:
    """Deploys models to a device server and runs them there, one sample at a time.

    Raises:
        NoDeviceError, DeviceTimeout: as `open_device`.
    """

    def __init__(self, name: str) -> None:
        self._stack = contextlib.ExitStack()
        self._client = self._stack.enter_context(open_device(name))
        self._model: Model | None = None

    def load(self, data: bytes) -> None:
        self._model = container.load(data)
        deploy_with_bar(self._client, data)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        if self._model is None:
            raise UsageError("no model is loaded")
        return run_one_by_one(partial(self._run_sample, self._model), inputs)

    def _run_sample(self, model: Model, inputs: Sequence[Array]) -> list[Array]:
        outputs, _ = self._client.infer([np.ascontiguousarray(array).tobytes() for array in inputs])
        tensors = [model.tensors[port.tensor] for port in model.outputs]
        return [
            np.frombuffer(output, NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)
            for output, tensor in zip(outputs, tensors, strict=True)
        ]

    def close(self) -> None:
        self._stack.close()


def create(port: str) -> Target:
    """The device server at a serial port."""
    return DeviceTarget(port)
