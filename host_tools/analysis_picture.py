"""The picture of `thimble analyze --picture`: an ``Analysis`` goes in, an SVG text comes out.

Three columns of bars, a row for each operator: share of the weights, share of the multiply-accumulates,
activations that live while it runs.
"""

from __future__ import annotations

from host_tools.commands.analyze import kind_text
from host_tools.picture import Picture, Rectangle, Text, svg
from model_packager.analysis import Analysis, Layer

ROW_HEIGHT = 18
LABEL_WIDTH, COLUMN_WIDTH, VALUE_WIDTH = 260, 190, 66
HEAD_HEIGHT, MARGIN = 92, 24
COLOURS = ("blue", "orange", "green")
TITLES = ("weights", "multiply-accumulates", "live activations, int8 bytes")


def draw(analysis: Analysis) -> str:
    """The whole SVG document."""
    summary = (
        f"{analysis.weights:,} weights, {analysis.macs:,} multiply-accumulates, "
        f"at most {analysis.peak.live_activations:,} live activations"
    )
    picture = Picture(
        analysis.name or "network",
        summary,
        2 * MARGIN + LABEL_WIDTH + 3 * (COLUMN_WIDTH + VALUE_WIDTH),
        HEAD_HEIGHT + len(analysis.layers) * ROW_HEIGHT + MARGIN,
    )
    picture.add(Text(MARGIN, 34, picture.title, size=18, bold=True), Text(MARGIN, 54, summary, "muted"))
    for column, title in enumerate(TITLES):
        picture.add(Text(_column_left(column), HEAD_HEIGHT - 10, title, COLOURS[column], bold=True))
    most = max((max(_values(analysis, layer)[:2]) for layer in analysis.layers), default=0.0)
    for place, layer in enumerate(analysis.layers):
        top = HEAD_HEIGHT + place * ROW_HEIGHT
        if place % 2 == 1:
            picture.add(Rectangle(MARGIN, top, picture.width - 2 * MARGIN, ROW_HEIGHT, "stripe"))
        _draw_row(picture, analysis, layer, top, most)
    return svg(picture)


def _column_left(column: int) -> int:
    return MARGIN + LABEL_WIDTH + column * (COLUMN_WIDTH + VALUE_WIDTH)


def _values(analysis: Analysis, layer: Layer) -> tuple[float, float, float]:
    """Shares of weights, of MACs, and of the peak of activations."""
    return (
        layer.weights / max(analysis.weights, 1),
        layer.macs / max(analysis.macs, 1),
        layer.live_activations / max(analysis.peak.live_activations, 1),
    )


def _draw_row(picture: Picture, analysis: Analysis, layer: Layer, top: int, most: float) -> None:
    baseline = top + ROW_HEIGHT - 5
    size = "x".join(map(str, layer.output_shape[1:]))
    picture.add(
        Text(MARGIN + 26, baseline, str(layer.index), "muted", anchor="end"),
        Text(MARGIN + 36, baseline, kind_text(layer)),
        Text(MARGIN + LABEL_WIDTH - 14, baseline, size, "muted", anchor="end"),
    )
    values = _values(analysis, layer)
    labels = (f"{values[0]:.1%}", f"{values[1]:.1%}", f"{layer.live_activations:,}")
    for column, (value, label, scale) in enumerate(zip(values, labels, (most, most, 1.0), strict=True)):
        if column < 2 and layer.convolution is None:
            continue
        length = max(COLUMN_WIDTH * value / scale if scale else 0.0, 1.0)
        left = _column_left(column)
        picture.add(
            Rectangle(left, top + 4, length, ROW_HEIGHT - 8, COLOURS[column]),
            Text(left + length + 5, baseline, label),
        )
