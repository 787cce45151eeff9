"""A ``Picture`` as PNG: drawn by matplotlib, which brings its own font, so that it is the same everywhere."""

from __future__ import annotations

import io
from typing import Any

from host_tools.picture import COLOURS, Line, Mark, Picture, Rectangle, Text, corners
from model_packager.errors import UsageError

_SCALE = 2  # pixels of the PNG for one of the picture
_POINTS = 72  # of an inch: one for each pixel of the picture
_FONT_SHARE = 0.92  # DejaVu Sans is wider than what browsers take
_ALIGNMENT: dict[str, Any] = {"start": "left", "middle": "center", "end": "right"}


def png(picture: Picture) -> bytes:
    """The picture on white paper.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        cure = "pip install thimble-runtime[report]"
        raise UsageError(f"PNG pictures need matplotlib, which the extra 'report' brings: {cure}") from error
    size = (picture.width / _POINTS, picture.height / _POINTS)
    figure = Figure(figsize=size, dpi=_POINTS, facecolor=COLOURS["paper"][0])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, picture.width)
    axes.set_ylim(picture.height, 0)
    axes.set_axis_off()
    for order, mark in enumerate(picture.marks):
        axes.add_artist(_artist(mark, order))
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=_SCALE * _POINTS, metadata={"Software": None})
    return data.getvalue()


def _colour(name: str | None) -> str:
    return COLOURS[name][0] if name else "none"


def _artist(mark: Mark, order: int) -> Any:
    """Later marks lie above earlier ones."""
    from matplotlib import lines, patches, text

    if isinstance(mark, Text):
        return text.Text(
            mark.x,
            mark.y,
            mark.content,
            color=_colour(mark.colour),
            fontsize=_FONT_SHARE * mark.size,
            fontfamily="DejaVu Sans",
            fontweight="bold" if mark.bold else "normal",
            horizontalalignment=_ALIGNMENT[mark.anchor],
            verticalalignment="baseline",
            parse_math=False,
            zorder=order,
        )
    if isinstance(mark, Line):
        xs, ys = zip(*mark.points, strict=True)
        style: Any = (0, (5, 4)) if mark.dashed else "solid"
        return lines.Line2D(
            xs, ys, color=_colour(mark.colour), linewidth=mark.width, linestyle=style, zorder=order
        )
    paint: Any = {"zorder": order, "linewidth": 0.0}
    if isinstance(mark, Rectangle):
        paint |= {"facecolor": _colour(mark.fill), "alpha": mark.opacity}
        if mark.stroke:
            paint |= {"edgecolor": _colour(mark.stroke), "linewidth": 1.0}
        return patches.Rectangle((mark.x, mark.y), mark.width, mark.height, **paint)
    paint["facecolor"] = _colour(mark.colour)
    if mark.shape == "circle":
        return patches.Circle((mark.x, mark.y), mark.radius, **paint)
    return patches.Polygon(corners(mark), closed=True, **paint)
