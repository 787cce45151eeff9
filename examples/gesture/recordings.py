"""Accelerometer gestures as NumPy arrays: windows of 128 readings of x, y and z, in g.

In: ``gesture/*.jsonl.gz`` of the data folder (values are milli-g). Recordings of 200 readings are cut to the
128 in their middle, those of training at eight places, so that a recording's length tells nothing.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from examples.image_sets import data_folder

CLASSES = ("negative", "ring", "slope", "wing")
WINDOW = 128
_CROPS = 8  # of each training recording


def load_windows(part: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Windows (N, 3, 128, 1) float32 in g and labels (N,) int64; part: "train", "valid" or "test"."""
    windows, labels = [], []
    with gzip.open(data_folder() / "gesture" / f"{part}.jsonl.gz", "rt", encoding="utf-8") as stream:
        for line in stream:
            record = json.loads(line)
            readings = np.array(record["accel_ms2_xyz"], np.float32) / 1000
            spare = len(readings) - WINDOW
            places = np.linspace(0, spare, _CROPS).round() if part == "train" else [spare // 2]
            for start in map(int, places):
                windows.append(readings[start : start + WINDOW].T[:, :, np.newaxis])
                labels.append(CLASSES.index(record["gesture"]))
    return np.stack(windows), np.array(labels, np.int64)
