"""`thimble train`: a training recipe goes in, a compressed .thimble file comes out."""

from __future__ import annotations

import argparse
import errno
import json
import os
from pathlib import Path

HELP = "compress a network while training it, as a recipe says (needs the extra 'train')"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", metavar="RECIPE.yaml", help="the training recipe (docs/TRAINING.md)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the file to write (default: RECIPE with .thimble)"
    )
    parser.add_argument(
        "--network", metavar="FILE", help="the float network, in place of the one that the recipe names"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="write the state after each epoch, and go on from there if the file exists",
    )
    parser.add_argument(
        "--threads", metavar="N", type=int, default=None, help="processor cores to use (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each epoch on stderr")


def run(arguments: argparse.Namespace) -> int:
    """Train with a progress bar on stderr, write beside and rename, print the figures."""
    import sys

    from host_tools.atomic_file import replacing
    from host_tools.client import trailer_sha256
    from host_tools.progress import progress_bar
    from model_packager.errors import UsageError

    if arguments.threads is not None and arguments.threads < 1:
        raise UsageError(f"--threads is {arguments.threads}, not 1 or more")
    recipe = Path(arguments.recipe)
    if recipe.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(recipe))
    output = Path(arguments.output) if arguments.output else recipe.with_suffix(".thimble")

    from model_packager.training.compress import Epoch
    from model_packager.training.task import run_recipe

    if arguments.threads is not None:
        import torch

        torch.set_num_threads(arguments.threads)

    def report(epoch: Epoch) -> None:
        if arguments.verbose:
            print(
                f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation {epoch.valid_accuracy:.2f} %, "
                f"{epoch.nonzero_count:,} weights",
                file=sys.stderr,
                flush=True,
            )

    checkpoint = Path(arguments.checkpoint) if arguments.checkpoint else None
    with progress_bar("training") as progress:
        network = Path(arguments.network) if arguments.network else None
        result = run_recipe(recipe, network=network, checkpoint=checkpoint, progress=progress, report=report)
    with replacing(output) as file:
        file.write(result.packed.data)
    figures = {
        "kind": "train",
        "output": str(output),
        "sha256": trailer_sha256(result.packed.data).hex(),
        "file_bytes": len(result.packed.data),
        "accuracy": round(result.accuracy, 3),
        "float_accuracy": round(result.float_accuracy, 3),
        "agreement": round(result.agreement, 3),
        "test_count": result.test_count,
        "nonzero_count": result.trained.history[-1].nonzero_count if result.trained.history else None,
        "valid_accuracy": result.trained.history[-1].valid_accuracy if result.trained.history else None,
        "epochs": len(result.trained.history),
        "seconds": round(result.seconds, 1),
    }
    if arguments.json:
        print(json.dumps(figures))
        return 0
    print(f"{output}: {figures['file_bytes']:,} bytes")
    print(f"  accuracy {result.accuracy:.2f} % of {result.test_count:,}")
    print(f"  accuracy of the float network {result.float_accuracy:.2f} %")
    print(f"  the training graph gives the same class for {result.agreement:.2f} %")
    return 0
