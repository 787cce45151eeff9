"""What a power meter has recorded: samples of current and voltage in time, and the trigger pin beside them.

Every meter's driver gives its samples in this form, `thimble energy --save-trace` writes it into a file, and
the replay driver reads it back. The file is a NumPy archive (.npz) with five arrays of one length and `info`,
a JSON object in a string; docs/ENERGY.md shows how to make one from another instrument's table.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.atomic_file import replacing
from model_packager.errors import UsageError
from model_packager.sample_arrays import load_arrays

FORMAT = 1
Progress = Callable[[int, int], None]
# The trigger is on from the first sample of a window to its last; or on only where a window has just ended,
# from a meter that sees one edge: the window began as long before as the device says.
LEVEL, END = "level", "end"
# Where the supply voltage comes from.
SET, MEASURED, GIVEN, BOARD_FILE = "set", "measured", "given", "board file"


@dataclass(frozen=True)
class TraceInfo:
    """What belongs to the samples.

    `supply_source` says where `supply_volts` comes from: SET, MEASURED, GIVEN or BOARD_FILE. `runs`
    and `device_us` are what the device did in each trigger window: inferences, and microseconds by its own
    clock.
    """

    meter: str
    supply_volts: float
    supply_source: str
    trigger_marks: str = LEVEL
    model_sha256: str = ""
    board: str = ""
    runs: tuple[int, ...] = ()
    device_us: tuple[int, ...] = ()


@dataclass(frozen=True)
class Samples:
    """Arrays of one length N: `time_s` (float64, rising; seconds by the meter's clock), `current_amperes` and
    `voltage_volts` (float32), `trigger` (bool), and `clipped` (bool): the current may have been higher."""

    time_s: NDArray[np.float64]
    current_amperes: NDArray[np.float32]
    voltage_volts: NDArray[np.float32]
    trigger: NDArray[np.bool_]
    clipped: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time_s)


DTYPES = {
    "time_s": np.float64,
    "current_amperes": np.float32,
    "voltage_volts": np.float32,
    "trigger": np.bool_,
    "clipped": np.bool_,
}


def make_samples(**columns: Any) -> Samples:
    """Samples of anything that NumPy takes for an array, or of one number for all."""
    length = len(columns["time_s"])
    arrays = {
        name: np.broadcast_to(np.asarray(columns.get(name, False), dtype), length)
        for name, dtype in DTYPES.items()
    }
    return Samples(**arrays)


def join_samples(pieces: Sequence[Samples]) -> Samples:
    """All pieces behind each other."""
    if not pieces:
        return make_samples(time_s=[], current_amperes=0, voltage_volts=0)
    names = DTYPES if len(pieces) > 1 else ()
    joined = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names}
    return replace(pieces[0], **joined)


@dataclass(frozen=True)
class Trace:
    """A recording."""

    samples: Samples
    info: TraceInfo


def save_trace(path: str | Path, trace: Trace, progress: Progress = lambda done, whole: None) -> None:
    """Write a trace file; whole or not at all. `progress` is called with the bytes done and in all.

    Raises:
        UsageError: the name does not end in .npz.
        OSError: the file cannot be written.
    """
    check_trace_path(path)
    info = np.array(json.dumps({"format": FORMAT, **asdict(trace.info)}))
    arrays = {"info": info, **{name: getattr(trace.samples, name) for name in DTYPES}}
    done, whole = 0, sum(array.nbytes for array in arrays.values())
    # As np.savez_compressed, which takes three times as long for a tenth less.
    with (
        replacing(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)
            done += array.nbytes
            progress(done, whole)


def check_trace_path(path: str | Path) -> None:
    """Refuse before a long measurement what `save_trace` would refuse after it.

    Raises:
        UsageError: the name does not end in .npz, or there is no such folder.
    """
    if Path(path).suffix != ".npz":
        raise UsageError(f"{path}: the name of a trace file must end in .npz")
    if not Path(path).parent.is_dir():
        raise UsageError(f"{path}: there is no such folder")


def load_trace(path: str | Path) -> Trace:
    """Read a trace file.

    Raises:
        UsageError: it is none; the sentence says what is wrong with it.
        OSError: it cannot be read.
    """
    try:
        arrays = load_arrays(path)
    except UsageError as error:
        raise UsageError(f"no trace file: {error}") from None
    missing = [name for name in ("info", *DTYPES) if name not in arrays]
    if missing:
        raise UsageError(f"{path}: no trace file: it has no {missing[0]}")
    info = _info(path, str(arrays["info"]))
    return Trace(_checked(path, {name: arrays[name] for name in DTYPES}), info)


def _info(path: str | Path, text: str) -> TraceInfo:
    try:
        values = dict(json.loads(text))
        if values.pop("format", None) != FORMAT:
            raise UsageError(f"{path}: not of trace format {FORMAT}")
        unknown = sorted(set(values) - {field.name for field in fields(TraceInfo)})
        if unknown:
            raise UsageError(f"{path}: its info has the unknown field {unknown[0]}")
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        info = TraceInfo(**given)
        whole = all(isinstance(number, int) and number > 0 for number in (*info.runs, *info.device_us))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: its info is not whole: {error}") from None
    if not whole or len(info.runs) != len(info.device_us):
        raise UsageError(f"{path}: runs and device_us of its info must be whole numbers, one for each window")
    if info.trigger_marks not in (LEVEL, END):
        raise UsageError(f"{path}: trigger_marks of its info is neither {LEVEL} nor {END}")
    return info


def _checked(path: str | Path, columns: dict[str, Any]) -> Samples:
    lengths = {array.shape for array in columns.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise UsageError(f"{path}: its arrays are not of one length")
    try:
        samples = make_samples(**columns)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: its arrays are not of numbers: {error}") from None
    for name in ("time_s", "current_amperes", "voltage_volts"):
        if not np.isfinite(getattr(samples, name)).all():
            raise UsageError(f"{path}: {name} holds what is no number")
    if (np.diff(samples.time_s) <= 0).any():
        raise UsageError(f"{path}: time_s does not rise")
    return samples
