"""Between a user's arrays and a model's ports: float arrays go in, batches of integers come out, and back
again.

A batch is (N, *shape[1:]) for a tensor of shape (1, ...). Float arrays are quantised with the port's scale
and zero point (`quantised_batch` says what integers mean). Callers are `thimble run`, `thimble eval` and
their tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from host_tools.atomic_file import replacing
from model_packager.errors import UsageError
from model_packager.format_table import PortFlag
from model_packager.model import Array, Model, Port
from model_packager.numerics import dequantise
from model_packager.sample_arrays import batches_for_inputs, has_channels_first, quantised_batch


def quantised_inputs(arrays: Mapping[str, Array], model: Model) -> list[Array]:
    """Integer batches for all inputs of an integer model.

    Raises:
        UsageError: as `batches_for_inputs` and `quantised_batch`.
    """
    batches = batches_for_inputs(arrays, model)
    return [quantised_batch(batch, model, port) for batch, port in zip(batches, model.inputs, strict=True)]


def real_outputs(outputs: Sequence[Array], model: Model) -> list[Array]:
    """What the user of the original model would see: float32 where a port is FLOAT, else the integers
    themselves; images with channels first where the original has them first.
    """
    real = []
    for output, port in zip(outputs, model.outputs, strict=True):
        values = dequantise(output, port.scale, port.zero_point) if port.flags & PortFlag.FLOAT else output
        real.append(in_original_layout(values, model, port))
    return real


def in_original_layout(batch: Array, model: Model, port: Port) -> Array:
    """A port's batch (N, *shape[1:]) as the original model counts its axes: channels first where it does."""
    return batch.transpose(0, 3, 1, 2) if has_channels_first(model, port) else batch


def check_output_path(path: str | Path, model: Model) -> None:
    """Refuse early, before a long run, what `save_outputs` would refuse.

    Raises:
        UsageError: a path with another ending than .npy or .npz, or .npy for several outputs.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz"):
        raise UsageError(f"{path}: the name of the output file must end in .npy or .npz")
    if len(model.outputs) > 1 and path.suffix != ".npz":
        raise UsageError(f"{path}: the model has {len(model.outputs)} outputs, so the name must end in .npz")


def save_outputs(path: str | Path, outputs: Sequence[Array], model: Model) -> None:
    """One output as .npy, several (or a path that ends in .npz) as .npz under the ports' names; whole or not
    at all.

    Raises:
        UsageError: as `check_output_path`.
        OSError: the file cannot be written.
    """
    path = Path(path)
    check_output_path(path, model)
    with replacing(path) as file:
        if path.suffix == ".npz":
            named = {port.name: output for port, output in zip(model.outputs, outputs, strict=True)}
            np.savez(file, **named)  # type: ignore[arg-type]
        else:
            np.save(file, outputs[0])
