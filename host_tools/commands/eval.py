"""`thimble eval`: accuracy of a packed model against labels, and its agreement with the original model."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host_tools.evaluate import Evaluation

HELP = "measure accuracy against labels and against the original model"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from host_tools.commands.run import add_target_option

    parser.add_argument("model", metavar="MODEL.thimble", help="the packed model")
    parser.add_argument(
        "--data",
        metavar="X.npz",
        required=True,
        help="inputs, and labels under the name labels, label, y or targets",
    )
    parser.add_argument("--labels", metavar="Y.npy", help="labels in a file of their own")
    parser.add_argument(
        "--original",
        metavar="FILE",
        help="the .tflite or .onnx to compare with (default: the one beside MODEL with its name)",
    )
    parser.add_argument(
        "--kernels",
        metavar="K",
        default="default",
        help="which kernels run an original .tflite: default or reference (tflite-runtime), or tflm "
        "(tflite-micro, TensorFlow Lite Micro itself)",
    )
    parser.add_argument("--limit", metavar="N", type=int, help="the first N samples only")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_target_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate with a progress bar on stderr, print the figures."""
    from pathlib import Path

    from host_tools.client import trailer_sha256
    from host_tools.evaluate import evaluate, split_labels
    from host_tools.judges import open_judge, original_beside
    from host_tools.packed_file import read_packed
    from host_tools.progress import progress_bar
    from host_tools.targets import open_target
    from model_packager import container
    from model_packager.errors import UsageError
    from model_packager.sample_arrays import load_arrays

    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"--limit is {arguments.limit}, not 1 or more")
    data = read_packed(arguments.model)
    model = container.load(data)
    arrays, labels = split_labels(load_arrays(arguments.data))
    if arguments.labels:
        labels = next(iter(load_arrays(arguments.labels).values()))
    original = Path(arguments.original) if arguments.original else original_beside(arguments.model)
    judge = open_judge(original, arguments.kernels) if original else None
    if labels is None and judge is None:
        raise UsageError("there is nothing to compare with: neither labels nor an original model")
    target = open_target(arguments.target)
    try:
        target.load(data)
        with progress_bar("evaluating") as progress:
            result = evaluate(target, model, arrays, labels, judge, arguments.limit, progress)
    finally:
        target.close()
    if arguments.json:
        figures = {
            "kind": "eval",
            "model": arguments.model,
            "sha256": trailer_sha256(data).hex(),
            "file_bytes": len(data),
            "data": arguments.data,
            "original": str(original) if original else None,
            "original_bytes": original.stat().st_size if original else None,
            "target": arguments.target,
        }
        print(json.dumps({**figures, **asdict(result)}))
    else:
        _print(arguments.model, arguments.target, str(original), result)
    return 0


def _print(model: str, target: str, original: str, result: Evaluation) -> None:
    if result.right is None:
        print(f"{model} on {target}: {result.count:,} samples, no labels")
    else:
        print(f"{model} on {target}: {_share(result.right, result.count)}")
    if result.judge is None:
        print("  no original model beside it; --original FILE compares with one")
        return
    if result.original_right is not None:
        print(f"{original} by {result.judge}: {_share(result.original_right, result.count)}")
    else:
        print(f"{original} by {result.judge}")
    print(f"  same class: {_share(result.same_class or 0, result.count)}")
    if result.identical is not None:
        print(f"  every bit the same: {_share(result.identical, result.count)}")
    print(f"  largest difference of an output: {result.largest_difference:g}")


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} % ({part:,} of {whole:,})"
