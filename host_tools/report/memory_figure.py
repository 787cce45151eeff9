"""Memory over time: the arena's addresses upwards, operators to the right; a rectangle for each tensor where
and while it lives, the scratch of each operator above them, and the peak."""

from __future__ import annotations

from collections.abc import Sequence

from host_tools.inspect import RamRow, TensorRow
from host_tools.picture import Line, Picture, Rectangle, Text, legend, round_steps, text_width
from host_tools.report.figure import BREAK, Figure, Table, kind_text, shape_text
from host_tools.report.models import Model
from host_tools.report.read_runs import Sizes

_COLOURS = {"input": "green", "inner": "blue", "output": "violet", "state": "grey"}
_MEANINGS = {"input": "input", "inner": "between operators", "output": "output", "state": "kept state"}
_SCRATCH = "orange"
_LEFT, _RIGHT, _BOTTOM = 56.0, 8.0, 44.0
_LEAST = 1.5  # pixels of what is there at all


def memory_figure(name: str, model: Model, sizes: Sizes) -> Figure:
    """The figure of one inspected model."""

    def draw(width: float) -> Picture:
        return _Map(model, sizes, width).draw()

    tables = (_operator_table(sizes), _tensor_table(sizes))
    notes = (
        _summary(sizes),
        "An operator that works in place turns its input into its output, in the same bytes: the rectangles "
        "share its column. Scratch is what an operator needs beside them, to decode weights and to compute.",
    )
    return Figure(name, model.label, draw, tables, notes)


def _peak(sizes: Sizes) -> RamRow | None:
    return max(sizes.ram, key=lambda row: row.needed_bytes, default=None)


def _summary(sizes: Sizes) -> str:
    peak = _peak(sizes)
    text = f"{sizes.ram_peak_bytes:,} bytes of RAM, scratch included; {sizes.arena_bytes:,} for tensors."
    if peak is None:
        return text
    scratch = peak.stream_scratch_bytes + peak.kernel_scratch_bytes
    return (
        f"{text} Most is needed at operator {peak.operator}, {kind_text(peak.kind)}: "
        f"{peak.free_from:,} bytes for tensors and {scratch:,} of scratch."
    )


def _schedule(row: RamRow) -> str:
    return row.schedule.replace("_", " ")


class _Map:
    """The scales of one map, and its marks."""

    def __init__(self, model: Model, sizes: Sizes, width: float) -> None:
        self._sizes = sizes
        self._picture = Picture(f"Memory map over time of {model.label}", _summary(sizes), width)
        self._columns = max(len(sizes.ram), 1)
        ends = [row.needed_bytes for row in sizes.ram]
        ends += [row.arena_offset + row.size_bytes for row in sizes.tensors]
        self._most = max(max(ends, default=0), 1)
        self._height = 380.0 if width >= BREAK else 300.0
        self._texts: list[Text] = []  # drawn last

    def draw(self) -> Picture:
        picture = self._picture
        roles = [role for role in _COLOURS if any(row.role == role for row in self._sizes.tensors)]
        entries = [(_COLOURS[role], "square", _MEANINGS[role]) for role in roles]
        top = legend(picture, 4, 16, [*entries, (_SCRATCH, "square", "scratch")], picture.width)
        self._top = top + 30
        self._bottom = self._top + self._height
        picture.height = self._bottom + _BOTTOM
        self._draw_axes()
        for row in self._sizes.tensors:
            self._draw_tensor(row)
        for ram in self._sizes.ram:
            self._draw_scratch(ram)
        self._draw_peak()
        picture.add(*self._texts)
        return picture

    def _x(self, operator: float) -> float:
        """Where the column of an operator begins."""
        return _LEFT + (self._picture.width - _LEFT - _RIGHT) * operator / self._columns

    def _y(self, address: float) -> float:
        return self._bottom - self._height * address / self._most

    def _draw_axes(self) -> None:
        right = self._picture.width - _RIGHT
        self._picture.add(Text(4, self._top - 12, "bytes", "muted", 11))
        for address in round_steps(0, self._most, 6):
            y = self._y(address)
            self._picture.add(
                Line(((_LEFT, y), (right, y)), "grid"),
                Text(_LEFT - 6, y + 4, f"{address:,.0f}", "muted", 11, anchor="end"),
            )
        column = self._x(1) - self._x(0)
        every = max(1, -(-22 // max(int(column), 1)))
        for row in self._sizes.ram[::every]:
            middle = self._x(row.operator + 0.5)
            label = Text(middle, self._bottom + 16, str(row.operator), "muted", 11, anchor="middle")
            self._picture.add(label)
        center = (_LEFT + right) / 2
        self._picture.add(Text(center, self._bottom + 34, "operator", "muted", 11, anchor="middle"))

    def _draw_tensor(self, row: TensorRow) -> None:
        first, last = max(row.first_operator, 0), min(row.last_operator, self._columns - 1)
        left, right = (self._x(time) for time in self._times(row, first, last + 1))
        y = self._y(row.arena_offset + row.size_bytes)
        height = max(self._y(row.arena_offset) - y, _LEAST)
        colour = _COLOURS.get(row.role, "grey")
        shape = shape_text(row.shape)
        note = (
            f"tensor {row.tensor}, {_MEANINGS.get(row.role, row.role)}, {shape} {row.dtype}: "
            f"{row.size_bytes:,} bytes from {row.arena_offset:,}, operators {first} to {last}"
        )
        self._picture.add(Rectangle(left, y, right - left, height, colour, _edge(height), note))
        for words in (f"{shape}, {row.size_bytes:,} bytes", f"{row.size_bytes:,}"):
            if height >= 14 and text_width(words, 11) <= right - left - 6:
                at = ((left + right) / 2, y + height / 2 + 4)
                self._texts.append(Text(*at, words, "on_fill", 11, anchor="middle"))
                break

    def _times(self, row: TensorRow, start: float, end: float) -> tuple[float, float]:
        """When the rectangle begins and ends. A tensor that takes the place of another while that still lives
        shares the operators of both with it, half and half."""
        for other in self._sizes.tensors:
            if other is row or not _overlap(other, row):
                continue
            middle = (max(other.first_operator, row.first_operator, 0) + self._end(other, row)) / 2
            if other.first_operator < row.first_operator <= other.last_operator:
                start = max(start, middle)
            elif row.first_operator < other.first_operator <= row.last_operator:
                end = min(end, middle)
        return start, end

    def _end(self, one: TensorRow, other: TensorRow) -> int:
        return min(one.last_operator + 1, other.last_operator + 1, self._columns)

    def _draw_scratch(self, row: RamRow) -> None:
        scratch = row.stream_scratch_bytes + row.kernel_scratch_bytes
        if not scratch:
            return
        left, right = self._x(row.operator), self._x(row.operator + 1)
        y = self._y(row.free_from + scratch)
        note = (
            f"operator {row.operator}, {kind_text(row.kind)}: {row.stream_scratch_bytes:,} bytes of scratch "
            f"to decode, {row.kernel_scratch_bytes:,} to compute"
        )
        height = max(self._y(row.free_from) - y, _LEAST)
        self._picture.add(Rectangle(left, y, right - left, height, _SCRATCH, _edge(height), note))

    def _draw_peak(self) -> None:
        peak = _peak(self._sizes)
        if peak is None:
            return
        left, right = self._x(peak.operator), self._x(peak.operator + 1)
        y = self._y(peak.needed_bytes)
        edges = _LEFT, self._picture.width - _RIGHT
        self._picture.add(
            Line(((edges[0], y), (edges[1], y)), "text", dashed=True),
            Rectangle(left, y, right - left, self._bottom - y, None, "text"),
        )
        words = f"peak {peak.needed_bytes:,} bytes, operator {peak.operator}"
        half = text_width(words) / 2
        middle = min(max((left + right) / 2, edges[0] + half), edges[1] - half)
        self._picture.add(Text(middle, y - 6, words, bold=True, anchor="middle"))


def _edge(height: float) -> str | None:
    """The colour between rectangles, where there is room for it."""
    return "paper" if height >= 4 else None


def _overlap(one: TensorRow, other: TensorRow) -> bool:
    start = max(one.arena_offset, other.arena_offset)
    return start < min(one.arena_offset + one.size_bytes, other.arena_offset + other.size_bytes)


def _operator_table(sizes: Sizes) -> Table:
    peak = _peak(sizes)
    rows = [
        (
            str(row.operator),
            kind_text(row.kind),
            shape_text(row.output_shape),
            _schedule(row),
            f"{row.occupied_bytes:,}",
            f"{row.free_from:,}",
            f"{row.stream_scratch_bytes:,}",
            f"{row.kernel_scratch_bytes:,}",
            f"{row.needed_bytes:,}" + (" (peak)" if row is peak else ""),
        )
        for row in sizes.ram
    ]
    columns = (
        *(("#", True), ("operator", False), ("output", True), ("schedule", False), ("tensors, bytes", True)),
        *(("they end at", True), ("to decode", True), ("to compute", True), ("in all", True)),
    )
    return Table("RAM while each operator runs", columns, tuple(rows))


def _tensor_table(sizes: Sizes) -> Table:
    rows: Sequence[tuple[str, ...]] = [
        (
            str(row.tensor),
            _MEANINGS.get(row.role, row.role),
            f"{shape_text(row.shape)} {row.dtype}",
            f"{row.arena_offset:,}",
            f"{row.size_bytes:,}",
            "before" if row.first_operator < 0 else str(row.first_operator),
            "after" if row.last_operator >= len(sizes.ram) else str(row.last_operator),
        )
        for row in sizes.tensors
    ]
    columns = (
        *(("tensor", True), ("what", False), ("shape", False), ("address", True), ("bytes", True)),
        *(("from operator", True), ("to operator", True)),
    )
    return Table("Tensors in the arena", columns, tuple(rows))
