"""Compression with training: a torch module and a recipe go in, an integer ``Model`` comes out.

`compress` is the API, `thimble train RECIPE.yaml` the command. This package alone needs PyTorch (the extra
``train``); nothing outside it imports it except where a user asks for training.
"""

from __future__ import annotations

from model_packager.errors import UsageError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise UsageError(
        "training needs PyTorch: install thimble-runtime with the extra 'train', "
        "pip install 'thimble-runtime[train]'"
    ) from error

from model_packager.training.compress import Compressed, compress
from model_packager.training.recipe import TrainingRecipe, load_training_recipe, parse_training_recipe

__all__ = ["Compressed", "TrainingRecipe", "compress", "load_training_recipe", "parse_training_recipe"]
