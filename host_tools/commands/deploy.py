"""`thimble deploy`: a .thimble file goes into a running device server, which verifies it first."""

from __future__ import annotations

import argparse
import json

from host_tools.devices import add_device_option

HELP = "send a .thimble file to a device, verified; skipped when the device runs it already"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL.thimble", help="the packed model")
    add_device_option(parser)
    parser.add_argument(
        "--force", action="store_true", help="replace a newer version too, and send what is there already"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, send, have it verified, print the speed."""
    from host_tools.devices import deploy_with_bar, open_device
    from host_tools.packed_file import read_packed
    from model_packager import container

    file = read_packed(arguments.model)
    container.load(file)  # says what is wrong with it, before a device is asked
    with open_device(arguments.target) as client:
        deployment = deploy_with_bar(client, file, arguments.force)
        hello, unit = client.hello, client.time_unit
    if arguments.json:
        figures = {
            "sha256": hello.model_sha256.hex(),
            "board": hello.board,
            "skipped": deployment.skipped,
            "sent_bytes": deployment.sent_bytes,
            "seconds": round(deployment.seconds, 6),
            f"load_{unit}": deployment.load_us,
        }
        print(json.dumps(figures))
    elif deployment.skipped:
        print(f"{arguments.model}: the device runs it already")
    else:
        speed = deployment.sent_bytes / deployment.seconds
        load = f"{deployment.load_us / 1e6:.3f} s" if unit == "us" else f"{deployment.load_us:,} {unit}"
        print(
            f"{arguments.model}: {deployment.sent_bytes:,} bytes in {deployment.seconds:.3f} s "
            f"({speed:,.0f} bytes/s), verified and loaded in {load}"
        )
    return 0
