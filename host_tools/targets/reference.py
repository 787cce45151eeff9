"""Target `reference`: the NumPy executor of the packager, vectorised over the batch."""

from __future__ import annotations

from collections.abc import Sequence

from host_tools.targets import Array, Target
from model_packager import container
from model_packager.errors import UsageError
from model_packager.model import Model
from model_packager.reference import run as run_reference


class ReferenceTarget:
    """Loads the file with the packager's own loader."""

    def __init__(self) -> None:
        self._model: Model | None = None

    def load(self, data: bytes) -> None:
        self._model = container.load(data)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        if self._model is None:
            raise UsageError("no model is loaded")
        return run_reference(self._model, list(inputs))

    def close(self) -> None:
        self._model = None


def create() -> Target:
    return ReferenceTarget()
