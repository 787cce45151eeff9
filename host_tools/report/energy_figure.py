"""Energy: power over time with the windows in which inferences ran, and the energy of one inference.

What a meter measured and what was only estimated are kept apart; without a meter it says "not measured".
"""

from __future__ import annotations

from host_tools.picture import Line, Picture, Rectangle, Text, legend, round_steps
from host_tools.report.figure import BREAK, Figure, Table, number_text
from host_tools.report.models import Model
from host_tools.report.read_runs import Energy, Estimate, Measurement

_POWER, _WINDOW = "blue", "orange"
_LEFT, _RIGHT, _BOTTOM = 56.0, 8.0, 40.0


def energy_text(microjoules: float) -> str:
    """Such as "12.3 µJ" or "1.20 mJ"."""
    if abs(microjoules) >= 1000:
        return f"{microjoules / 1000:,.2f} mJ"
    return f"{microjoules:,.3g} µJ"


def estimate_text(estimate: Estimate) -> str | None:
    """Such as "estimate: 10 µJ to 12 µJ"; the board's current counts before single operations."""
    current = estimate.active_current
    if current is not None and current.estimated_uj:
        ends = [energy_text(each) for each in sorted({min(current.estimated_uj), max(current.estimated_uj)})]
        return f"estimate: {' to '.join(ends)}"
    if estimate.operations is not None:
        return f"estimate: {energy_text(estimate.operations.estimated_uj)}"
    return None


def energy_title(model: Model, energy: Energy) -> str:
    """The model, and the board where one is named."""
    return f"{model.label} on {energy.board or 'a board that is not named'}"


def energy_figure(name: str, model: Model, energy: Energy) -> Figure | None:
    """The figure of one measurement; None where there was no meter."""
    measured = energy.measurement
    if measured is None:
        return None

    def draw(width: float) -> Picture:
        return _draw(f"Power over time of {energy_title(model, energy)}", measured, width)

    tables = (_energy_table(measured), _window_table(measured))
    return Figure(name, energy_title(model, energy), draw, tables, _notes(measured))


def estimate_table(energy: Energy) -> Table | None:
    """What was estimated, with its source; None where nothing was."""
    rows = []
    estimate = energy.estimate
    if estimate is not None and estimate.active_current is not None:
        current = estimate.active_current
        milliamps = " to ".join(f"{each:,.3g}" for each in current.active_milliamps)
        how = f"{milliamps} mA at {current.supply_volts:.2f} V for the measured latency"
        rows.append((" to ".join(energy_text(each) for each in current.estimated_uj), how, current.source))
    if estimate is not None and estimate.operations is not None:
        how = "energies of single operations"
        rows.append((energy_text(estimate.operations.estimated_uj), how, estimate.operations.source))
    columns = (("one inference, estimate", True), ("from", False), ("source", False))
    return Table("Estimates, not measurements", columns, tuple(rows)) if rows else None


def _summary(measured: Measurement) -> str:
    net, gross = measured.energy_per_inference_uj.net, measured.energy_per_inference_uj.gross
    return (
        f"One inference takes {energy_text(net.mean)} without idle power (standard deviation "
        f"{energy_text(net.standard_deviation)}), {energy_text(gross.mean)} with it, at "
        f"{measured.supply_volts:.2f} V ({measured.supply_source})."
    )


def _notes(measured: Measurement) -> tuple[str, ...]:
    notes = [_summary(measured)]
    notes.append(
        f"Measured by {measured.meter}: {measured.sample_count:,} samples at "
        f"{measured.sample_rate_hz:,.0f} Hz, {measured.lost_samples:,} lost, "
        f"{measured.clipped_samples:,} out of range."
    )
    return tuple(notes)


def _draw(title: str, measured: Measurement, width: float) -> Picture:
    picture = Picture(title, _summary(measured), width)
    entries = [(_POWER, "square", "power"), (_WINDOW, "square", "windows in which inferences ran")]
    top = legend(picture, 4, 16, entries, width) + 28
    height = 260.0 if width >= BREAK else 220.0
    bottom, right = top + height, width - _RIGHT
    picture.height = bottom + _BOTTOM
    trace = measured.trace
    times = [*trace.time_s, *(edge for window in measured.windows for edge in (window.start_s, window.end_s))]
    first, last = min(times, default=0.0), max(times, default=1.0)
    least, most = min(0.0, *trace.power_mw, 0.0), 1.08 * max(*trace.power_mw, 1e-6, 0.0)

    def x(time_s: float) -> float:
        return _LEFT + (right - _LEFT) * (time_s - first) / ((last - first) or 1.0)

    def y(power_mw: float) -> float:
        return bottom - height * (power_mw - least) / (most - least)

    for number, window in enumerate(measured.windows):
        left, wide = x(window.start_s), x(window.end_s) - x(window.start_s)
        note = f"window {number + 1}: {window.runs:,} inferences, {energy_text(window.gross_uj)}"
        picture.add(Rectangle(left, top, wide, height, _WINDOW, None, note, 0.22))
        picture.add(Text(left + wide / 2, top - 6, str(number + 1), "muted", 11, anchor="middle"))
    picture.add(Text(4, top - 8, "mW", "muted", 11))
    for power_mw in round_steps(least, most, 5):
        line = Line(((_LEFT, y(power_mw)), (right, y(power_mw))), "grid")
        picture.add(line, Text(_LEFT - 6, y(power_mw) + 4, f"{power_mw:,g}", "muted", 11, anchor="end"))
    for time_s in round_steps(first, last, 8 if width >= BREAK else 4):
        picture.add(Text(x(time_s), bottom + 16, f"{time_s:,g}", "muted", 11, anchor="middle"))
    picture.add(Text((_LEFT + right) / 2, bottom + 34, "seconds", "muted", 11, anchor="middle"))
    points = tuple((x(a), y(b)) for a, b in zip(trace.time_s, trace.power_mw, strict=True))
    if len(points) > 1:
        picture.add(Line(points, _POWER, 1.2))
    return picture


def _energy_table(measured: Measurement) -> Table:
    spreads = (
        ("without idle power", measured.energy_per_inference_uj.net),
        ("with idle power", measured.energy_per_inference_uj.gross),
    )
    rows = tuple(
        (name, *(number_text(each) for each in (of.mean, of.standard_deviation, of.min, of.max)))
        for name, of in spreads
    )
    columns = (("µJ", False), ("mean", True), ("standard deviation", True), ("least", True), ("most", True))
    return Table("Energy of one inference", columns, rows)


def _window_table(measured: Measurement) -> Table:
    rows = tuple(
        (
            str(number + 1),
            f"{window.start_s:,.3f}",
            f"{window.end_s - window.start_s:,.3f}",
            f"{window.runs:,}",
            number_text(window.gross_uj),
            number_text(window.net_uj),
            number_text(window.idle_mw),
        )
        for number, window in enumerate(measured.windows)
    )
    columns = (
        "window",
        "starts at, s",
        "lasts, s",
        "inferences",
        "with idle, µJ",
        "without idle, µJ",
        "idle, mW",
    )
    return Table("Windows", tuple((heading, True) for heading in columns), rows)
