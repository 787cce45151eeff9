"""`thimble pack`: a trained network goes in, a .thimble file comes out."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

HELP = "compress a .tflite or .onnx network into a .thimble file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="MODEL", help="the trained network: .tflite or .onnx")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the file to write (default: MODEL with .thimble)"
    )
    parser.add_argument(
        "--objective",
        choices=("size", "speed"),
        default="size",
        help="size: the smallest file (default); speed: weights that decode fastest",
    )
    parser.add_argument(
        "--calibration",
        metavar="DATA.npz",
        help="sample inputs, .npz or .npy, with which a float network is quantised",
    )
    parser.add_argument(
        "--recipe", metavar="RECIPE.yaml", help="lossy steps and calibration settings (docs/RECIPES.md)"
    )
    parser.add_argument(
        "--storage",
        choices=("int8", "fp32", "fp16", "bfloat16"),
        default="int8",
        help="int8: quantised, for every executor (default); the others: a float network's weights as they "
        "are, without calibration, for --target reference alone",
    )
    parser.add_argument(
        "--name", help="the model's name in the file, such as kws01 for MLPerf Tiny (default: MODEL's)"
    )
    parser.add_argument(
        "--model-id",
        metavar="N",
        type=int,
        help="a number of your choice that stays the same over the model's versions (default: none)",
    )
    parser.add_argument(
        "--model-version",
        metavar="N",
        type=int,
        help="a device refuses to go back to a lower version of the same id (default: 0)",
    )
    parser.add_argument(
        "--board",
        metavar="NAME",
        help="fail, and write nothing, where the model does not fit this board's flash or RAM",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        help="processes that encode the tensors of a large network (default: one for each core)",
    )
    parser.add_argument(
        "--sign", metavar="KEY.pem", help="sign the file with this Ed25519 key (extra `sign`)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Pack, write beside and rename, print what was saved."""
    from host_tools.atomic_file import replacing
    from host_tools.boards import load_board
    from host_tools.client import trailer_sha256
    from host_tools.encoding_pool import encoding_pool
    from host_tools.fit import check_fit
    from host_tools.inspect import ram_text
    from host_tools.progress import progress_bar
    from host_tools.signing import load_signer
    from model_packager.errors import UsageError
    from model_packager.pack import check_importable, pack
    from model_packager.passes.kernel_scratch import ram_peak_bytes
    from model_packager.recipe import load_recipe
    from model_packager.sample_arrays import load_arrays

    started = time.monotonic()
    check_importable(arguments.source)
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs is {arguments.jobs}, not 1 or more")
    if arguments.board and arguments.storage != "int8":
        raise UsageError(f"no board runs a network that is stored as {arguments.storage}")
    board = load_board(arguments.board) if arguments.board else None
    calibration = load_arrays(arguments.calibration) if arguments.calibration else None
    recipe = load_recipe(arguments.recipe) if arguments.recipe else None
    signer = load_signer(arguments.sign) if arguments.sign else None
    if arguments.model_version is not None and arguments.model_id is None:
        raise UsageError("--model-version needs --model-id: devices compare versions of one id only")
    output = Path(arguments.output) if arguments.output else Path(arguments.source).with_suffix(".thimble")
    if output.exists() and Path(arguments.source).exists() and output.samefile(arguments.source):
        raise UsageError(f"{output}: the packed model would replace the network that it is made of")
    source_bytes = Path(arguments.source).stat().st_size if Path(arguments.source).is_file() else 0
    pool = encoding_pool(source_bytes, arguments.jobs)
    with pool as executor, progress_bar("encoding") as update:
        result = pack(
            arguments.source,
            arguments.objective,
            calibration,
            recipe,
            signer,
            model_id=arguments.model_id,
            model_version=arguments.model_version,
            executor=executor,
            progress=update,
            storage=arguments.storage,
            name=arguments.name,
        )
    needs = [] if board is None else check_fit(board, result.model, len(result.data))
    with replacing(output) as file:
        file.write(result.data)
    seconds = round(time.monotonic() - started, 2)
    report = result.report
    if arguments.json:
        identity = {"kind": "pack", "output": str(output), "sha256": trailer_sha256(result.data).hex()}
        figures = {**identity, **asdict(report), "seconds": seconds}
        if board is not None:
            figures["board"] = {"name": board.name, "needs": [asdict(need) for need in needs]}
        print(json.dumps(figures))
        return 0
    share = (
        f", {report.file_bytes / report.source_bytes:.1%} of {report.source_bytes:,}"
        if report.source_bytes
        else ""
    )
    print(f"{output}: {report.file_bytes:,} bytes{share}")
    removed = report.weights_before - report.weights_after
    if removed:
        weights = f"{removed:,} of {report.weights_before:,} weights"
        print(f"  {report.channels_removed:,} dead channels removed, with {weights}")
    if board is not None:
        shares = (f"{need.needed_bytes:,} of {need.room_bytes:,} ({need.where})" for need in needs)
        print(f"  fits {board.description}: {', '.join(shares)}")
    c_bytes = None if result.model.is_float else ram_peak_bytes(result.model, "c")
    print(f"  RAM peak {ram_text(report.ram_peak_bytes, c_bytes, report.arena_bytes)}")
    return 0
