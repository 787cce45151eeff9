"""Checkpoints: the whole state of a training after an epoch, written beside and renamed, so that a kill at
any moment leaves the last whole one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from model_packager.errors import UsageError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values); the file is replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    torch.save(state, beside)
    os.replace(beside, path)


def load_checkpoint(path: Path, recipe_text: str) -> dict[str, Any] | None:
    """The state in a file, None where there is none. Raises ``UsageError`` for one of another recipe."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    if state.get("recipe") != recipe_text:
        raise UsageError(f"{path} is the checkpoint of another recipe; delete it, or name another folder")
    return state
