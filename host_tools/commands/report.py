"""`thimble report`: one page, and pictures, of what other commands measured."""

from __future__ import annotations

import argparse

HELP = "make a web page of sizes, accuracy, latency, energy and memory from other commands' --json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "runs",
        metavar="RUN.json",
        nargs="+",
        help="what bench, energy, eval, inspect, pack, analyze or train printed with --json; a .thimble file "
        "counts as inspect of it",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE.html", default="report.html", help="the page (default: report.html)"
    )
    parser.add_argument("--svg", metavar="FOLDER", help="also write each figure as SVG")
    parser.add_argument("--png", metavar="FOLDER", help="also write each figure as PNG (extra `report`)")


def run(arguments: argparse.Namespace) -> int:
    """Read and draw everything, then write all files or none."""
    from contextlib import ExitStack
    from pathlib import Path

    from host_tools.atomic_file import replacing
    from host_tools.picture import svg
    from host_tools.png_picture import png
    from host_tools.progress import progress_bar
    from host_tools.report.page import make_report
    from host_tools.report.read_runs import read_run
    from model_packager.errors import UsageError

    output = Path(arguments.output)
    paths = [Path(name) for name in arguments.runs]
    if any(output.exists() and path.exists() and output.samefile(path) for path in paths):
        raise UsageError(f"{output}: the page would replace a run that it is made of")
    report = make_report([read_run(path) for path in paths])
    files = {output: report.html.encode()}
    with progress_bar("drawing") as progress:
        for number, (name, picture) in enumerate(report.pictures.items()):
            progress(number, len(report.pictures))
            if arguments.svg:
                files[Path(arguments.svg) / f"{name}.svg"] = svg(picture).encode()
            if arguments.png:
                files[Path(arguments.png) / f"{name}.png"] = png(picture)
    for folder in filter(None, (arguments.svg, arguments.png)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for path, data in files.items():
            stack.enter_context(replacing(path)).write(data)
    for path, data in files.items():
        print(f"{path}: {len(data):,} bytes")
    return 0
