"""`thimble run`: a packed model and input arrays go in, output arrays come out, from any target."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_packager.model import Array, Model

HELP = "run a .thimble file on input arrays"
SHOWN_SAMPLES = 10


def add_target_option(parser: argparse.ArgumentParser) -> None:
    """Declare --target and its alias --port, the same on every command; $THIMBLE_TARGET is the default."""
    import os

    parser.add_argument(
        "--target",
        "--port",
        metavar="T",
        default=os.environ.get("THIMBLE_TARGET", "reference"),
        help="what runs the model: reference, cpython, micropython, native, qemu:m0, qemu:m3, qemu:m4, "
        "qemu:m7, qemu:microbit, or a serial port "
        "(default: $THIMBLE_TARGET, else reference)",
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL.thimble", help="the packed model")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--input",
        metavar="X",
        help=".npy, or .npz for several inputs: one sample or a batch; floats are quantised",
    )
    what.add_argument(
        "--golden",
        action="store_true",
        help="run the test that is stored in the file instead, and compare with what the packager computed",
    )
    parser.add_argument("-o", "--output", metavar="Y", help="write the outputs to this .npy or .npz")
    parser.add_argument("--json", action="store_true", help="print the outputs as JSON")
    add_target_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Load the model into the target, run it, save or print."""
    from host_tools.packed_file import read_packed
    from host_tools.ports import check_output_path, quantised_inputs, real_outputs, save_outputs
    from host_tools.targets import open_target
    from model_packager import container
    from model_packager.sample_arrays import load_arrays

    data = read_packed(arguments.model)
    model = container.load(data)
    if arguments.output:
        check_output_path(arguments.output, model)
    inputs = _golden(model) if arguments.golden else quantised_inputs(load_arrays(arguments.input), model)
    target = open_target(arguments.target)
    try:
        target.load(data)
        integers = target.run(inputs)
    finally:
        target.close()
    if arguments.golden:
        _compare(model, integers)
        print(f"golden test passed on {arguments.target}", file=sys.stderr)
    outputs = real_outputs(integers, model)
    if arguments.output:
        save_outputs(arguments.output, outputs, model)
    if arguments.json:
        named = zip(model.outputs, outputs, strict=True)
        print(json.dumps({port.name: output.tolist() for port, output in named}))
    elif not arguments.output:
        _print(outputs, [port.name for port in model.outputs])
    return 0


def _golden(model: Model) -> list[Array]:
    from model_packager.errors import UsageError
    from model_packager.golden import golden_inputs

    if model.golden is None:
        raise UsageError("the file holds no golden test")
    return golden_inputs(model, model.golden[0])


def _compare(model: Model, outputs: list[Array]) -> None:
    from model_packager.errors import FormatError
    from model_packager.format_table import ErrorCode
    from model_packager.golden import output_crc32

    found = output_crc32(outputs)
    if model.golden is not None and found != model.golden[1]:
        detail = f"the outputs have CRC-32 {found:08x}, the packager's {model.golden[1]:08x}"
        raise FormatError(ErrorCode.GOLDEN_MISMATCH, detail)


def _print(outputs: list[Any], names: list[str]) -> None:
    import numpy as np

    for name, output in zip(names, outputs, strict=True):
        print(f"{name}: {output.shape[0]} x {output.shape[1:]} {output.dtype}")
        for index, sample in enumerate(output[:SHOWN_SAMPLES]):
            best = f"  largest at {sample.argmax()}" if sample.size > 1 else ""
            print(f"  {index}: {np.array2string(sample.ravel(), threshold=16, max_line_width=10**6)}{best}")
        if len(output) > SHOWN_SAMPLES:
            print(f"  ... {len(output) - SHOWN_SAMPLES} more; --output FILE keeps all of them")
