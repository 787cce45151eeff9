"""The demo's data: scikit-learn's ``load_digits``, split once and for all into train and test rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SPLIT_SEED = 7
TEST_COUNT = 360


def load_split() -> tuple[npt.NDArray[Any], ...]:
    """Train images, train labels, test images, test labels.

    Images are (N, 1, 8, 8) float32 in 0..1 (NCHW, as the ONNX file takes them), labels int64 (N,).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, np.newaxis]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    test, train = order[:TEST_COUNT], order[TEST_COUNT:]
    return images[train], labels[train], images[test], labels[test]
