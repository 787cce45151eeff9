"""`thimble analyze`: what each layer of a network costs, before and after packing, and in other forms."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from model_packager.analysis import Analysis, Layer

HELP = "count weights, multiply-accumulates, bytes, memory and energy of a network, layer by layer"
FORM_COLUMNS = ("grouped by 2", "depthwise separable", "3x3", "1xn")
NARROW_FORMS = {"grouped by 2": "by 2", "depthwise separable": "separable"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL", help="a .tflite, .onnx or .thimble file")
    parser.add_argument(
        "--layer", type=int, metavar="N", help="only this operator, in every form it could have"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--picture", metavar="FILE.svg", help="also draw the layers' shares, as SVG")


def run(arguments: argparse.Namespace) -> int:
    """Import, count, print; the picture is written last."""
    from pathlib import Path

    from host_tools.analysis_picture import draw
    from host_tools.atomic_file import replacing
    from host_tools.client import trailer_sha256
    from host_tools.tables import stdout_console
    from model_packager.errors import UsageError

    if arguments.picture and not arguments.picture.lower().endswith(".svg"):
        raise UsageError(f"{arguments.picture}: a picture's name must end in .svg")
    analysis = analyse_file(Path(arguments.model))
    if arguments.layer is not None and not 0 <= arguments.layer < len(analysis.layers):
        raise UsageError(f"there is no operator {arguments.layer}, only 0 to {len(analysis.layers) - 1}")
    if arguments.picture:
        with replacing(arguments.picture) as file:
            file.write(draw(analysis).encode())
    if arguments.json:
        data = Path(arguments.model).read_bytes()
        is_packed = arguments.model.lower().endswith(".thimble")
        sha256 = trailer_sha256(data).hex() if is_packed else None
        identity = {"kind": "analyze", "model": arguments.model, "sha256": sha256}
        print(json.dumps({**identity, **as_dictionary(analysis, arguments.layer)}))
    elif arguments.layer is not None:
        print_layer(stdout_console(), analysis.layers[arguments.layer])
    else:
        print_analysis(stdout_console(), analysis, arguments.model)
    return 0


def analyse_file(path: Path) -> Analysis:
    """Analyse a file of any format that Thimble reads.

    Raises:
        UsageError, ImportRefused, FormatError, OSError: as the importers and the loader.
    """
    from host_tools.inspect import inspect_file
    from host_tools.packed_file import read_packed
    from model_packager import container
    from model_packager.analysis import analyse
    from model_packager.errors import UsageError
    from model_packager.pack import IMPORTERS, import_model

    suffix = path.suffix.lower()
    if suffix in IMPORTERS:
        return analyse(import_model(path))
    if suffix != ".thimble":
        known = ", ".join([*IMPORTERS, ".thimble"])
        raise UsageError(f"{path}: the name must end in one of {known}")
    data = read_packed(path)
    stored = {row.operator: row.stored_bytes for row in inspect_file(data).weights}
    return analyse(container.load(data), stored)


def as_dictionary(analysis: Analysis, only: int | None = None) -> dict[str, Any]:
    """What `--json` prints: counts in values, sizes in bytes, energies in picojoules."""
    from dataclasses import asdict

    from model_packager.analysis import OPERATION_PJ, PRECISION_BITS, SOURCE

    def layer(each: Layer) -> dict[str, Any]:
        fields = asdict(each) | {"intensity": each.intensity}
        fields["weight_bytes"] = {name: each.weight_bytes(name) for name in PRECISION_BITS}
        fields["weight_share"] = each.weights / max(analysis.weights, 1)
        fields["mac_share"] = each.macs / max(analysis.macs, 1)
        fields["forms"] = [
            {
                "name": form.name,
                "weights": form.weights,
                "macs": form.macs,
                "additions": form.additions,
                "macs_and_additions_of_last_part": form.macs + form.parts[-1].additions,
                "parts": [asdict(part) for part in form.parts],
            }
            for form in each.forms
        ]
        return fields

    return {
        "name": analysis.name,
        "weights": analysis.weights,
        "parameters": analysis.parameters,
        "macs": analysis.macs,
        "intensity": analysis.intensity,
        "weight_bytes": {name: analysis.weight_bytes(name) for name in PRECISION_BITS},
        "stored_bytes": analysis.stored_bytes,
        "peak_operator": analysis.peak.index,
        "peak_activations": analysis.peak.live_activations,
        "energy_estimate": {
            "source": SOURCE,
            "operations_pj": OPERATION_PJ,
            "precisions": [asdict(energy) for energy in analysis.energy()],
        },
        "layers": [layer(each) for each in analysis.layers if only in (None, each.index)],
    }


def print_analysis(console: Console, analysis: Analysis, path: str) -> None:
    """Totals, then a table of the layers, of their other forms, and of precisions."""
    from host_tools.tables import print_fitting

    peak = analysis.peak
    console.print(f"[bold]{path}[/bold]: {len(analysis.layers)} operators")
    console.print(f"  weights    {analysis.weights:,}, with biases {analysis.parameters:,} parameters")
    console.print(f"  MACs       {analysis.macs:,} multiply-accumulates, products with padding counted")
    console.print(f"  intensity  {analysis.intensity:.1f} MACs for each byte, if each int8 value moves once")
    console.print(
        f"  peak       {peak.live_activations:,} activations live at operator {peak.index}: "
        f"{peak.live_activations:,} bytes as int8, {4 * peak.live_activations:,} as fp32"
    )
    spare = {
        _layer_table: ("share", "MAC/B", "proven", "output"),
        _form_table: ("standard MACs",),
        _precision_table: (),
    }
    for make, columns in spare.items():
        console.print()
        print_fitting(console, partial(make, analysis), columns)
    console.print()
    _print_notes(console)


def _print_notes(console: Console) -> None:
    from model_packager.analysis import SOURCE

    notes = (
        "live: activations in memory while the operator runs. acc: accumulator bits for int8, "
        "2N + log2(CRS); proven: what this model's weights can reach. Other forms are other networks, to be "
        "trained anew.",
        "Energy is an estimate from single operations, without instructions and leakage, and every value "
        "moves once. "
        f"{SOURCE}.",
    )
    for note in notes:
        console.print(note, style="dim")


def kind_text(layer: Layer) -> str:
    """Such as "depthwise 3x3 /2": what the layer is, its kernel, its stride."""
    shape = layer.convolution
    if shape is None:
        return layer.kind.lower().replace("_2d", "").replace("_", " ")
    if shape.kind == "fully connected":
        return shape.kind
    groups = f" by {shape.groups}" if shape.kind == "grouped" else ""
    window = "" if shape.kind == "pointwise" else f" {shape.kernel_h}x{shape.kernel_w}"
    stride = f" /{shape.stride_h}" if max(shape.stride_h, shape.stride_w) > 1 else ""
    return f"{shape.kind}{groups}{window}{stride}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _layer_table(analysis: Analysis, narrow: bool) -> Table:
    """Narrow: without the shares' spaces; the stored bytes and proven bits only where there are any."""
    from host_tools.tables import make_table

    stored = analysis.stored_bytes is not None
    proven = any(layer.proven_bits is not None for layer in analysis.layers)
    table = make_table(
        "Layers",
        narrow,
        *[("#", "right"), ("layer", "left"), ("output", "right"), ("weights", "right"), ("share", "right")],
        *[("MACs", "right"), ("share", "right"), ("MAC/B", "right"), ("live", "right"), ("acc", "right")],
        *([("proven", "right")] if proven else []),
        *([("stored", "right")] if stored else []),
    )
    for layer in analysis.layers:
        weighted = layer.convolution is not None
        cells = [str(layer.index), kind_text(layer), "x".join(map(str, layer.output_shape[1:]))]
        cells += [f"{layer.weights:,}", _share(layer.weights, analysis.weights)] if weighted else ["", ""]
        cells += [f"{layer.macs:,}", _share(layer.macs, analysis.macs)] if weighted else ["", ""]
        cells += [f"{layer.intensity:.1f}" if weighted else "", f"{layer.live_activations:,}"]
        cells += [_or_nothing(layer.accumulator_bits)]
        cells += [_or_nothing(layer.proven_bits)] if proven else []
        cells += [_or_nothing(layer.stored_bytes)] if stored else []
        table.add_row(*cells)
    return table


def _or_nothing(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _form_table(analysis: Analysis, narrow: bool) -> Table:
    """Narrow: without the weights, and with shorter names."""
    from host_tools.tables import make_table

    table = make_table(
        "Layers in other forms: share of the standard form's MACs" + ("" if narrow else " / of its weights"),
        narrow,
        *[("#", "right"), ("layer", "left"), ("standard MACs", "right")],
        ("as it is", "right"),
        *((NARROW_FORMS.get(name, name) if narrow else name, "right") for name in FORM_COLUMNS),
    )
    for layer in analysis.layers:
        if layer.convolution is None or layer.convolution.kind == "fully connected":
            continue
        standard = layer.forms[0]

        def cell(macs: int, weights: int, standard: Any = standard) -> str:
            return f"{macs / standard.macs:.0%}" + ("" if narrow else f" / {weights / standard.weights:.0%}")

        cells = [str(layer.index), kind_text(layer), f"{standard.macs:,}", cell(layer.macs, layer.weights)]
        for column in FORM_COLUMNS:
            found = [form for form in layer.forms if _column(form.name) == column]
            cells.append(cell(found[0].macs, found[0].weights) if found else "")
        table.add_row(*cells)
    return table


def _column(form: str) -> str:
    if form.endswith("of 3x3"):
        return "3x3"
    return "1xn" if form.startswith("1x") else form


def _precision_table(analysis: Analysis, narrow: bool) -> Table:
    from host_tools.tables import make_table
    from model_packager.analysis import PRECISION_BITS

    energies = {energy.precision: energy for energy in analysis.energy()}
    names = ["weights, bytes", "of fp32", "arithmetic, µJ", "memory: SRAM, µJ", "weights in DRAM, µJ"]
    if narrow:
        names = ["weights", "of fp32", "arithmetic", "SRAM", "DRAM"]
    table = make_table(
        "Precisions" + narrow * ": bytes of the weights, µJ of arithmetic and memory",
        narrow,
        ("precision", "left"),
        *((name, "right") for name in names),
    )
    for precision, bits in PRECISION_BITS.items():
        energy = energies.get(precision)
        numbers = [energy.arithmetic_pj, energy.memory_pj, energy.dram_pj] if energy else []
        size = f"{analysis.weight_bytes(precision):,}"
        table.add_row(precision, size, f"{bits / 32:.1%}", *(f"{number / 1e6:,.2f}" for number in numbers))
    if analysis.stored_bytes is not None:
        share = analysis.stored_bytes / max(analysis.weight_bytes("fp32"), 1)
        table.add_row("in this file", f"{analysis.stored_bytes:,}", f"{share:.1%}", style="bold")
    return table


def print_layer(console: Console, layer: Layer) -> None:
    """One operator in all its forms."""
    from host_tools.tables import print_fitting

    shape = layer.convolution
    console.print(f"operator {layer.index} [bold]{kind_text(layer)}[/bold] {layer.name}")
    if shape is None:
        console.print("  has no weights, and so no other form")
        return
    console.print(
        f"  {shape.input_h}x{shape.input_w}x{shape.inputs} to "
        f"{shape.output_h}x{shape.output_w}x{shape.outputs}, {layer.weights:,} weights, "
        f"{layer.macs:,} multiplications"
    )
    console.print()
    print_fitting(console, partial(_all_forms_table, layer))


def _all_forms_table(layer: Layer, narrow: bool) -> Table:
    from host_tools.tables import make_table

    table = make_table(
        "Forms",
        narrow,
        *[("form", "left"), ("weights", "right"), ("share", "right"), ("multiplications", "right")],
        *[("share", "right"), ("additions", "right"), ("with the last part's additions", "right")],
    )
    standard = layer.forms[0]
    for form in layer.forms:
        table.add_row(
            *[form.name, f"{form.weights:,}", _share(form.weights, standard.weights), f"{form.macs:,}"],
            *[_share(form.macs, standard.macs), f"{form.additions:,}"],
            f"{form.macs + form.parts[-1].additions:,}",
        )
    return table
