"""Users' NumPy files as batches for a model's inputs: .npy or .npz files go in, one array (N, *shape[1:]) per
input comes out. Callers are calibration (`pack`) and the commands that run models (host_tools/ports.py).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_packager.errors import UsageError
from model_packager.format_table import PortFlag
from model_packager.model import NUMPY_DTYPES, Array, Model, Port
from model_packager.numerics import quantise_float


def load_arrays(path: str | Path) -> dict[str, Array]:
    """Arrays of a .npz by name, or of a .npy under the name "".

    Raises:
        UsageError: not a NumPy file, or one that holds Python objects.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"": loaded}
        except MemoryError as error:
            raise UsageError(f"{path} claims more data than this machine has memory") from error
        except Exception as error:  # NumPy, zipfile and the decompressors raise classes of every kind
            # A damaged file may send zipfile to a place before its start.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise UsageError(f"{path} is not a .npy or .npz file of plain arrays") from error
    # NumPy gives a member that is no array as its bytes.
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise UsageError(f"{path} is not a .npy or .npz file of plain arrays")
    return arrays


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def has_channels_first(model: Model, port: Port) -> bool:
    """Whether the original model counts a port's axes N, C, H, W, where the tensor has N, H, W, C.

    ``metadata["channels_first"]`` says so: {"inputs": [positions], "outputs": [positions]}.
    """
    noted = model.metadata.get("channels_first")
    if not isinstance(noted, dict) or len(model.tensors[port.tensor].shape) != 4:
        return False
    for side, ports in (("inputs", model.inputs), ("outputs", model.outputs)):
        positions = noted.get(side)
        for position, other in enumerate(ports):
            if other is port and isinstance(positions, list) and position in positions:
                return True
    return False


def _with_samples(array: Array, shape: tuple[int, ...]) -> Array | None:
    """The array as (N, *shape[1:]), None if it is not that but for dimensions of 1."""
    sample = _squeezed(shape[1:])
    if _squeezed(array.shape) == sample and array.size == int(np.prod(shape)):
        return array.reshape(1, *shape[1:])
    if array.ndim and array.size and _squeezed(array.shape[1:]) == sample:
        return array.reshape(len(array), *shape[1:])
    return None


def batch_of(array: Array, model: Model, port: Port) -> Array:
    """The array as (N, *shape[1:]) of the port's tensor; dimensions of 1 may be missing or added.

    Arrays are taken in the original model's layout (channels first where it has them), else in the tensor's.

    Raises:
        UsageError: the shape does not fit, or there is no sample.
    """
    shape = stored = model.tensors[port.tensor].shape
    if has_channels_first(model, port):
        shape = (1, stored[3], stored[1], stored[2])
        images = _with_samples(array, shape)
        if images is not None:
            return images.transpose(0, 2, 3, 1)
    batch = _with_samples(array, stored)
    if batch is not None:
        return batch
    several = ", ".join(map(str, ("N", *shape[1:])))
    raise UsageError(f"input {port.name!r} takes arrays of shape {shape} or ({several}), not {array.shape}")


def batches_for_inputs(arrays: Mapping[str, Array], model: Model) -> list[Array]:
    """One batch per model input: arrays are matched by the ports' names, or by order where the names do not
    match.

    Raises:
        UsageError: the wrong number of arrays, shapes that do not fit, or different numbers of samples.
    """
    names = [port.name for port in model.inputs]
    if len(set(names)) == len(names) and set(arrays) >= set(names):
        chosen = [arrays[name] for name in names]
    elif len(arrays) == len(names):
        chosen = list(arrays.values())
    else:
        given = ", ".join(map(repr, arrays)) or "none"
        raise UsageError(f"the model has the inputs {', '.join(map(repr, names))}; the file holds {given}")
    batches = [batch_of(array, model, port) for array, port in zip(chosen, model.inputs, strict=True)]
    if len({len(batch) for batch in batches}) > 1:
        raise UsageError(f"the inputs hold different numbers of samples: {[len(batch) for batch in batches]}")
    return batches


def quantised_batch(batch: Array, model: Model, port: Port) -> Array:
    """A user's batch as the port's integers, or as float32 where the port takes floats.

    Floats are real numbers, and so are integers of another dtype (pixels in uint8, say) where the original
    took floats; integers of the port's own dtype are taken as quantised already.

    Raises:
        UsageError: a dtype that is no number, values that are not finite, or integers out of range.
    """
    dtype = NUMPY_DTYPES[model.tensors[port.tensor].dtype]
    takes_floats = port.flags & PortFlag.FLOAT or dtype is np.float32
    real_integers = takes_floats and np.issubdtype(batch.dtype, np.integer) and batch.dtype != dtype
    if np.issubdtype(batch.dtype, np.floating) or real_integers:
        if not np.isfinite(batch).all():
            raise UsageError(f"input {port.name!r} got values that are not finite")
        if dtype is np.float32:
            return batch.astype(dtype)
        return quantise_float(batch, port.scale, port.zero_point, dtype)
    if not np.issubdtype(batch.dtype, np.integer):
        raise UsageError(f"input {port.name!r} takes integers or floats, not {batch.dtype}")
    limits: Any = np.iinfo(dtype)
    if batch.min() < limits.min or batch.max() > limits.max:
        raise UsageError(
            f"input {port.name!r} takes integers from {limits.min} to {limits.max}, or floats; "
            f"it got {batch.min()} to {batch.max()}"
        )
    return batch.astype(dtype)
