"""Latency by layer: the time of each operator on one board, the part of it that decoding takes, the whole
with its spread, and what others have published."""

from __future__ import annotations

from host_tools.picture import Picture
from host_tools.report.bars import Bar, Group, draw_bars
from host_tools.report.figure import Figure, Table, kind_text, share_text
from host_tools.report.models import Model
from host_tools.report.read_runs import Latency, LayerTime

_TIME, _DECODING, _OTHER = "blue", "orange", "grey"


def time_text(time: float, unit: str) -> str:
    """Such as "12.3 ms" or "7.33 million instructions"."""
    if unit == "us":
        return f"{time / 1000:,.2f} ms" if time >= 1000 else f"{time:,.4g} µs"
    return f"{time / 1e6:,.2f} million instructions" if time >= 1e6 else f"{time:,.0f} instructions"


def latency_figure(name: str, model: Model, latency: Latency) -> Figure:
    """The figure of one benchmark."""

    def draw(width: float) -> Picture:
        title = f"Latency by layer of {model.label} on {latency.board}"
        entries = [(_TIME, "computing"), (_DECODING, "decoding the weights")]
        groups = [Group("" if latency.unit == "us" else "instructions", _bars(latency))]
        return draw_bars(title, _summary(latency), width, groups, entries if latency.raw_operators else ())

    title = f"{model.label} on {latency.board}"
    return Figure(name, title, draw, (_whole_table(latency), _layer_table(latency)), _notes(latency))


def comparison_figure(name: str, model: Model, latency: Latency) -> Figure | None:
    """Our median beside the other stack's figure; None where there is none, or no time but instructions."""
    other = latency.other_stack
    if other is None or other.milliseconds is None or latency.unit != "us":
        return None
    theirs_ms, where = other.milliseconds, other.where

    def draw(width: float) -> Picture:
        ours_ms = latency.median / 1000
        bars = (
            Bar(f"{model.label}, measured", latency.board, ours_ms, f"{ours_ms:,.2f} ms", _TIME),
            Bar("another stack, published", where, theirs_ms, f"{theirs_ms:,.2f} ms", _OTHER),
        )
        return draw_bars(
            f"{model.label} beside a published figure",
            f"{ours_ms:,.2f} ms beside {theirs_ms:,.2f} ms.",
            width,
            [Group("", bars)],
        )

    rows = (
        (f"{model.label}, measured", latency.board, f"{latency.median / 1000:,.3f}"),
        ("another stack, published", where, f"{theirs_ms:,.3f}"),
    )
    table = Table("One inference", (("stack", False), ("where", False), ("ms", True)), rows)
    note = "Somebody else's network of the same task, compiler, board and clock: a scale, not a contest."
    return Figure(name, f"{model.label} beside a published figure", draw, (table,), (note,))


def _bars(latency: Latency) -> tuple[Bar, ...]:
    total = sum(layer.time for layer in latency.operators)
    bars = []
    for layer in latency.operators:
        label = f"{layer.index}  {kind_text(layer.kind)}"
        note = f"{layer.macs:,} MACs" if layer.macs else ""
        if layer.fused:
            bars.append(Bar(label, note, None, "with the next", _TIME))
            continue
        text = f"{_short_time(layer.time, latency.unit)}, {share_text(layer.time, total)}"
        raw = latency.raw_operators[layer.index] if latency.raw_operators else None
        bars.append(Bar(label, note, layer.time, text, _TIME, raw, _DECODING))
    return tuple(bars)


def _short_time(time: float, unit: str) -> str:
    return f"{time:,.0f}" if unit == "instructions" else time_text(time, unit)


def _unit_word(latency: Latency) -> str:
    return "µs" if latency.unit == "us" else "instructions"


def _summary(latency: Latency) -> str:
    slowest = max(latency.operators, key=lambda layer: layer.time, default=None)
    most = f" Most for operator {slowest.index}, {kind_text(slowest.kind)}." if slowest else ""
    median = time_text(latency.median, latency.unit)
    return f"One inference takes {median}, the median of {latency.runs:,}.{most}"


def _notes(latency: Latency) -> tuple[str, ...]:
    notes = [_summary(latency)]
    if latency.unit == "instructions":
        notes.append("The board is emulated: it counts instructions, and has no milliseconds.")
    if latency.decode_share is not None:
        notes.append(
            f"Decoding the weights takes {share_text(latency.decode_share, 1)} of the time: the same network "
            f"with raw weights takes {time_text(latency.raw_median or 0, latency.unit)}."
        )
    elif latency.raw_refused:
        notes.append(
            f"What decoding costs was not measured: with raw weights the device refuses the model "
            f"({latency.raw_refused})."
        )
    else:
        notes.append("What decoding costs was not measured (thimble bench --decode).")
    other = latency.other_stack
    if other is not None and other.text:
        notes.append(f"Published for another stack: {other.text}.")
    else:
        why = f": {other.missing}" if other is not None and other.missing else ""
        notes.append(f"No published figure of another stack{why}.")
    return tuple(notes)


def _whole_table(latency: Latency) -> Table:
    unit = latency.unit

    def figure(time: float | None) -> str:
        return "not measured" if time is None else f"{time:,.1f}" if unit == "us" else f"{time:,.0f}"

    rows = [
        ("least", figure(latency.min)),
        ("median", figure(latency.median)),
        ("95 % of the runs take at most", figure(latency.p95)),
        ("median with raw weights", figure(latency.raw_median)),
        ("loading the model", figure(latency.load)),
    ]
    caption = f"One inference: {latency.runs:,} runs after {latency.warm_up_runs:,} to warm up"
    if latency.macs_per_s:
        caption += f"; {latency.macs_per_s / 1e6:,.2f} million MACs a second"
    elif latency.instructions_per_mac:
        caption += f"; {latency.instructions_per_mac:.2f} instructions for a MAC"
    return Table(caption, (("", False), (_unit_word(latency), True)), tuple(rows))


def _layer_table(latency: Latency) -> Table:
    raw = latency.raw_operators
    total = sum(layer.time for layer in latency.operators)

    def cells(layer: LayerTime) -> tuple[str, ...]:
        times = ["with the next", ""]
        if not layer.fused:
            times = [f"{layer.time:,.6g}" if latency.unit == "us" else f"{layer.time:,.0f}"]
            times.append(share_text(layer.time, total))
        decoding = [] if raw is None else [_decoding(layer, raw[layer.index])]
        return (str(layer.index), kind_text(layer.kind), f"{layer.macs:,}", *times, *decoding)

    sums = ["", "all", f"{latency.macs:,}", f"{total:,.1f}" if latency.unit == "us" else f"{total:,.0f}", ""]
    if raw is not None:
        sums.append(share_text(max(0.0, total - sum(raw)), total))
    columns = [("#", True), ("operator", False), ("MACs", True), (_unit_word(latency), True), ("share", True)]
    columns += [] if raw is None else [("decoding, share of it", True)]
    return Table("Operators", tuple(columns), (*map(cells, latency.operators), tuple(sums)), 1)


def _decoding(layer: LayerTime, raw_time: float) -> str:
    """Empty for operators without weights, and where raw weights are no faster."""
    if layer.fused or raw_time >= layer.time:
        return ""
    return share_text(layer.time - raw_time, layer.time)
