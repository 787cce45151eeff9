"""A .thimble file from its path, and what an executor lacks to run it: `read_packed` and `missing_features`
serve every command that takes a packed model.
"""

from __future__ import annotations

from pathlib import Path

from host_tools.codec import unpack
from model_packager.errors import UsageError
from model_packager.format_table import HEADER, MAGIC, Feature

TFLITE_IDENTIFIER = b"TFL3"  # at byte 4


def read_packed(path: str | Path) -> bytes:
    """The file's bytes, which the loader still has to check.

    Raises:
        UsageError: it is a network that has yet to be packed.
        OSError: it cannot be read.
    """
    path = Path(path)
    data = path.read_bytes()
    is_tflite = data[4:8] == TFLITE_IDENTIFIER
    if data[:4] != MAGIC and (is_tflite or path.suffix.lower() == ".onnx"):
        kind = ".tflite" if is_tflite else ".onnx"
        raise UsageError(
            f"{path}: this is a {kind} file, not a packed model: `thimble pack` makes one of it, "
            "`thimble analyze` reads it as it is"
        )
    return data


def required_features(data: bytes) -> Feature:
    """What a reader of this file, whose header has been checked, must be able to do."""
    return Feature(unpack(HEADER, data)[0]["required_features"])


def missing_features(data: bytes, known: int, executor: str) -> str:
    """What `executor`, which has the features `known`, lacks for the file, and who has it; "" where it lacks
    nothing."""
    missing = required_features(data) & ~known
    names = " and ".join(str(feature.name).lower() for feature in Feature if feature & missing)
    return names and f"needs {names}, which {executor} does not run; `thimble run --target reference` does"
