"""Imports PyTorch modules: `import_module` exports one to ONNX in memory and imports that."""

from __future__ import annotations

import io
import warnings
from typing import Any

from model_packager.errors import ImportRefused, UsageError
from model_packager.importers.onnx import import_onnx
from model_packager.model import Model

OPSET = 17


def import_module(module: Any, example: Any) -> Model:
    """The float ``Model`` of a ``torch.nn.Module``.

    example: one input tensor, or a tuple of them, float32 with a batch dimension of 1. The module is exported
    in evaluation mode and left in the mode it was in. Raises ``UsageError`` where PyTorch or ONNX is missing,
    ``ImportRefused`` where the module cannot be exported or uses what Thimble does not support.
    """
    try:
        import torch
    except ImportError as error:
        raise UsageError(
            "importing a PyTorch module needs PyTorch: install thimble-runtime with the extra 'train', "
            "pip install 'thimble-runtime[train]'"
        ) from error
    examples = example if isinstance(example, tuple) else (example,)
    file = io.BytesIO()
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # The exporter that traces, which needs no further package, announces its successor at each call.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(module, examples, file, opset_version=OPSET, dynamo=False)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ImportRefused(f"PyTorch cannot export the module to ONNX: {reason}") from error
    finally:
        module.train(was_training)
    return import_onnx(file.getvalue())
