"""Size by layer: the encoded bytes of each layer with the encoding's name, and what else is in the file."""

from __future__ import annotations

from host_tools.inspect import WeightsRow
from host_tools.picture import Picture
from host_tools.report.bars import Bar, Group, draw_bars
from host_tools.report.figure import Figure, Table, kind_text, share_text
from host_tools.report.models import Model
from host_tools.report.read_runs import Sizes

_WEIGHTS, _REST = "blue", "orange"


def size_figure(name: str, model: Model, sizes: Sizes) -> Figure:
    """The figure of one inspected model."""

    def draw(width: float) -> Picture:
        layers = tuple(
            Bar(
                _layer(row),
                _encoding(row),
                float(row.stored_bytes),
                f"{row.stored_bytes:,} bytes, {share_text(row.stored_bytes, sizes.file_bytes)}",
                _WEIGHTS,
            )
            for row in sizes.weights
        )
        rest = tuple(
            Bar(
                part.name,
                "",
                float(part.stored_bytes),
                f"{part.stored_bytes:,} bytes, {share_text(part.stored_bytes, sizes.file_bytes)}",
                _REST,
            )
            for part in sizes.parts
            if part.name != "weights"
        )
        groups = [Group("weights by layer", layers), Group("what else is in the file", rest)]
        return draw_bars(f"Size by layer of {model.label}", _summary(sizes), width, groups)

    return Figure(name, model.label, draw, (_layer_table(sizes), _part_table(sizes)), _notes(model, sizes))


def _summary(sizes: Sizes) -> str:
    weights = f"{sizes.weight_bytes:,} for {sizes.weight_count:,} weights"
    largest = max(sizes.weights, key=lambda row: row.stored_bytes, default=None)
    text = f"{sizes.file_bytes:,} bytes in all, of which {weights}."
    if largest is None:
        return text
    layer = f"operator {largest.operator}, {kind_text(largest.kind)}"
    return f"{text} Most are for {layer}: {largest.stored_bytes:,} bytes."


def _notes(model: Model, sizes: Sizes) -> tuple[str, ...]:
    notes = [_summary(sizes)]
    packing = model.packing
    if packing is not None:
        if packing.source_bytes:
            notes.append(f"The network that it was made of has {packing.source_bytes:,} bytes.")
        notes.append(f"With raw weights this file would have {packing.raw_file_bytes:,} bytes.")
        if packing.channels_removed:
            removed = packing.weights_before - packing.weights_after
            channels = f"{packing.channels_removed:,} dead channels"
            notes.append(f"{channels} were removed, with {removed:,} weights.")
    return tuple(notes)


def _layer(row: WeightsRow) -> str:
    return f"{row.operator}  {kind_text(row.kind)}"


def _encoding(row: WeightsRow) -> str:
    return row.encoding if row.shared_with is None else f"as operator {row.shared_with}"


def _layer_table(sizes: Sizes) -> Table:
    rows = [
        (
            str(row.operator),
            kind_text(row.kind),
            f"{row.rows} x {row.cols}",
            share_text(row.non_zero_share, 1),
            _encoding(row),
            f"{row.bits_per_weight:.2f}",
            f"{row.stored_bytes:,}",
            share_text(row.stored_bytes, sizes.file_bytes),
        )
        for row in sizes.weights
    ]
    total = sum(row.stored_bytes for row in sizes.weights)
    rows.append(("", "all weights", "", "", "", "", f"{total:,}", share_text(total, sizes.file_bytes)))
    columns = (
        *(("#", True), ("layer", False), ("weights", True), ("not zero", True), ("encoding", False)),
        *(("bits each", True), ("bytes", True), ("of the file", True)),
    )
    return Table("Weights by layer", columns, tuple(rows), 1)


def _part_table(sizes: Sizes) -> Table:
    rows = [
        (part.name, f"{part.stored_bytes:,}", share_text(part.stored_bytes, sizes.file_bytes))
        for part in sizes.parts
    ]
    rows.append(("the file", f"{sizes.file_bytes:,}", share_text(sizes.file_bytes, sizes.file_bytes)))
    return Table("The whole file", (("part", False), ("bytes", True), ("share", True)), tuple(rows), 1)
