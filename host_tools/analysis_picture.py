"""The picture of `thimble analyze --picture`: an ``Analysis`` goes in, an SVG text comes out.

Three columns of bars, a row for each operator: share of the weights, share of the multiply-accumulates,
activations that live while it runs. Plain SVG 1.1 with text in the reader's sans-serif font, so that no
plotting library is needed.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from host_tools.commands.analyze import kind_text
from model_packager.analysis import Analysis, Layer

ROW_HEIGHT = 18
LABEL_WIDTH, COLUMN_WIDTH, VALUE_WIDTH = 260, 190, 66
HEAD_HEIGHT, MARGIN = 92, 24
COLOURS = ("#2a6f97", "#d1603d", "#5b8c5a")
TITLES = ("weights", "multiply-accumulates", "live activations, int8 bytes")


def draw(analysis: Analysis) -> str:
    """The whole SVG document."""
    width = 2 * MARGIN + LABEL_WIDTH + 3 * (COLUMN_WIDTH + VALUE_WIDTH)
    height = HEAD_HEIGHT + len(analysis.layers) * ROW_HEIGHT + MARGIN
    body = [
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(MARGIN, 34, analysis.name or "network", size=18, weight="bold"),
        _text(
            MARGIN,
            54,
            f"{analysis.weights:,} weights, {analysis.macs:,} multiply-accumulates, "
            f"at most {analysis.peak.live_activations:,} live activations",
            colour="#555555",
        ),
    ]
    for column, title in enumerate(TITLES):
        body.append(
            _text(_column_left(column), HEAD_HEIGHT - 10, title, colour=COLOURS[column], weight="bold")
        )
    most = max((max(_values(analysis, layer)[:2]) for layer in analysis.layers), default=0.0)
    for place, layer in enumerate(analysis.layers):
        body += _row(analysis, layer, HEAD_HEIGHT + place * ROW_HEIGHT, most, place % 2 == 1, width)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" font-size="12">\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _column_left(column: int) -> int:
    return MARGIN + LABEL_WIDTH + column * (COLUMN_WIDTH + VALUE_WIDTH)


def _values(analysis: Analysis, layer: Layer) -> tuple[float, float, float]:
    """Shares of weights, of MACs, and of the peak of activations."""
    return (
        layer.weights / max(analysis.weights, 1),
        layer.macs / max(analysis.macs, 1),
        layer.live_activations / max(analysis.peak.live_activations, 1),
    )


def _row(analysis: Analysis, layer: Layer, top: int, most: float, shaded: bool, width: int) -> list[str]:
    baseline = top + ROW_HEIGHT - 5
    parts = []
    if shaded:
        parts.append(
            f'<rect x="{MARGIN}" y="{top}" width="{width - 2 * MARGIN}" height="{ROW_HEIGHT}" '
            'fill="#f4f5f7"/>'
        )
    parts.append(_text(MARGIN + 26, baseline, str(layer.index), colour="#888888", anchor="end"))
    parts.append(_text(MARGIN + 36, baseline, kind_text(layer)))
    size = "x".join(map(str, layer.output_shape[1:]))
    parts.append(_text(MARGIN + LABEL_WIDTH - 14, baseline, size, colour="#888888", anchor="end"))
    values = _values(analysis, layer)
    labels = (f"{values[0]:.1%}", f"{values[1]:.1%}", f"{layer.live_activations:,}")
    for column, (value, label, scale) in enumerate(zip(values, labels, (most, most, 1.0), strict=True)):
        if column < 2 and layer.convolution is None:
            continue
        length = COLUMN_WIDTH * value / scale if scale else 0.0
        left = _column_left(column)
        parts.append(
            f'<rect x="{left}" y="{top + 4}" width="{max(length, 1):.1f}" height="{ROW_HEIGHT - 8}" '
            f'fill="{COLOURS[column]}"/>'
        )
        parts.append(_text(left + max(length, 1) + 5, baseline, label, colour="#333333"))
    return parts


def _text(
    x: float,
    y: float,
    content: str,
    size: int = 12,
    colour: str = "#222222",
    weight: str = "normal",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(content)}</text>'
    )
