"""`thimble inspect`: what every byte of a .thimble file is for, and the RAM that the model needs."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from host_tools.inspect import Inspection

HELP = "show what is in a .thimble file: tensors, coders, bytes, RAM"
BAR_CELLS = 12


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL.thimble", help="the packed model")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Read, check, print."""
    from dataclasses import asdict

    from host_tools.inspect import inspect_file
    from host_tools.packed_file import read_packed
    from host_tools.tables import stdout_console

    inspection = inspect_file(read_packed(arguments.model))
    if arguments.json:
        print(json.dumps({"kind": "inspect", "model": arguments.model, **asdict(inspection)}))
        return 0
    print_inspection(stdout_console(), inspection, arguments.model)
    return 0


def print_inspection(console: Console, inspection: Inspection, path: str) -> None:
    """All of it, in the console's width; a table that is wider loses columns, but no figure its digits."""
    from host_tools.tables import print_fitting

    _print_summary(console, inspection, path)
    spare = {_weights_table: ("share", "bits"), _ram_table: ("kernel", "stream"), _parts_table: ()}
    for make, columns in spare.items():
        console.print()
        print_fitting(console, partial(make, inspection), columns)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _print_summary(console: Console, inspection: Inspection, path: str) -> None:
    from host_tools.inspect import ram_text

    name = f" ({inspection.name})" if inspection.name else ""
    signed = "signed" if inspection.signed else "not signed"
    console.print(f"[bold]{path}[/bold]{name}: {inspection.file_bytes:,} bytes, {signed}")
    # One line at any width, to be copied.
    console.print(f"  SHA-256   {inspection.sha256}", soft_wrap=True)
    if inspection.model_id or inspection.model_version:
        console.print(f"  model     id {inspection.model_id}, version {inspection.model_version}")
    for port in inspection.ports:
        floats = ", floats outside" if port.is_float else ""
        console.print(
            f"  {port.direction:<9} {port.name}: {_shape(port.shape)} {port.dtype}, "
            f"scale {port.scale:.8g}, zero point {port.zero_point}{floats}"
        )
    bits = 8 * inspection.weight_bytes / inspection.weight_count if inspection.weight_count else 0.0
    console.print(
        f"  weights   {inspection.weight_count:,} in {inspection.weight_bytes:,} bytes, {bits:.2f} bits each"
    )
    peaks = (inspection.ram_peak_bytes, inspection.c_ram_peak_bytes)
    console.print(f"  RAM peak  {ram_text(*peaks, inspection.arena_bytes)}")
    console.print(f"  needs     {', '.join(inspection.features)}")


def _weights_table(inspection: Inspection, narrow: bool) -> Table:
    """Narrow: without the share that is not zero."""
    from host_tools.tables import make_table

    table = make_table(
        "Weights",
        narrow,
        *[("#", "right"), ("operator", "left"), ("matrix" if narrow else "rows x cols", "right")],
        *([] if narrow else [("non-zero", "right")]),
        *[("encoding", "left"), ("bits" if narrow else "bits each", "right")],
        *[("bytes", "right"), ("share", "right")],
    )
    for row in inspection.weights:
        encoding = row.encoding if row.shared_with is None else f"as operator {row.shared_with}"
        cells: list[Any] = [
            row.operator,
            row.kind,
            f"{row.rows}x{row.cols}" if narrow else f"{row.rows} x {row.cols}",
            *([] if narrow else [f"{row.non_zero_share:.1%}"]),
            encoding,
        ]
        cells += [f"{row.bits_per_weight:.2f}", f"{row.stored_bytes:,}", f"{row.share:.1%}"]
        table.add_row(*map(str, cells))
    total = sum(row.stored_bytes for row in inspection.weights)
    table.add_section()
    share = f"{total / inspection.file_bytes:.1%}"
    blanks = [""] * (3 if narrow else 4)
    table.add_row("", "total", *blanks, f"{total:,}", share, style="bold")
    return table


def _bar(part: int, whole: int) -> str:
    """A bar of eighths of a cell."""
    eighths = round(8 * BAR_CELLS * part / whole) if whole else 0
    rest = " ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else ""
    return "█" * (eighths // 8) + rest


def _ram_table(inspection: Inspection, narrow: bool) -> Table:
    """Narrow: without the bars."""
    from host_tools.tables import make_table

    peak = inspection.peak
    table = make_table(
        f"RAM: most is needed at operator {peak.operator} ({peak.kind})",
        narrow,
        *[("#", "right"), ("operator", "left"), ("output", "right"), ("schedule", "left")],
        *[("tensors", "right"), *([] if narrow else [("of the arena", "left")])],
        *[("stream", "right"), ("kernel", "right")],
        ("in all", "right"),
    )
    for row in inspection.ram:
        bar = _bar(row.occupied_bytes, inspection.arena_bytes)
        cells = [str(row.operator), row.kind, _shape(row.output_shape), row.schedule]
        cells += [f"{row.occupied_bytes:,}", *([] if narrow else [bar])]
        numbers = (row.stream_scratch_bytes, row.kernel_scratch_bytes, row.needed_bytes)
        table.add_row(*cells, *(f"{number:,}" for number in numbers), style="bold" if row == peak else None)
    return table


def _parts_table(inspection: Inspection, narrow: bool) -> Table:
    from host_tools.tables import make_table

    table = make_table("File", narrow, ("part", "left"), ("bytes", "right"), ("share", "right"))
    for part in inspection.parts:
        table.add_row(part.name, f"{part.stored_bytes:,}", f"{part.share:.1%}")
    table.add_section()
    total = sum(part.stored_bytes for part in inspection.parts)
    table.add_row("total", f"{total:,}", f"{total / inspection.file_bytes:.1%}", style="bold")
    return table
