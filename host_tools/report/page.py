"""The page: runs go in, one HTML document without anything from elsewhere comes out, and its figures.

The order is that of the runs, and nothing depends on time or place: the same runs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools.picture import COLOURS, Picture, style_sheet, svg, with_heading
from host_tools.report.accuracy_figure import accuracy_figure, accuracy_text
from host_tools.report.energy_figure import (
    energy_figure,
    energy_text,
    energy_title,
    estimate_table,
    estimate_text,
)
from host_tools.report.figure import NARROW, WIDE, Figure, Table, figure_name
from host_tools.report.latency_figure import comparison_figure, latency_figure, time_text
from host_tools.report.markup import Markup, joined, tag
from host_tools.report.memory_figure import memory_figure
from host_tools.report.models import Model, by_model, short_sha256
from host_tools.report.read_runs import Accuracy, Counts, Energy, Latency, Run, Sizes, Training
from host_tools.report.size_figure import size_figure

_LONG = 40  # letters in a cell that may be broken into lines
NOT_MEASURED = "not measured"
STYLE = Path(__file__).with_name("style.css")


@dataclass(frozen=True)
class Section:
    """One kind of figures; `missing`: what there is none of, each a sentence."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    missing: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Report:
    """The page as text, and its pictures by name, each with its title."""

    html: str
    pictures: dict[str, Picture]


def make_report(runs: Sequence[Run]) -> Report:
    """The report of `runs`, at least one."""
    models = by_model(runs)
    sections = list(_sections(models))
    figures = [figure for section in sections for figure in section.figures]
    more = ", ..." if len(models) > 3 else ""
    title = f"Thimble: {', '.join(model.label for model in models[:3])}{more}"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = joined(
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("title", title),
        tag("style", Markup(_style())),
    )
    body = tag(
        "body",
        _header(models, runs, sections),
        tag("main", *(_section(section) for section in sections), _sources(models)),
    )
    html = f'<!doctype html>\n<html lang="en">\n{tag("head", head)}\n{body}\n</html>\n'
    return Report(html, {figure.name: with_heading(figure.draw(WIDE)) for figure in figures})


def _style() -> str:
    """The style sheet with the colours of both schemes."""
    text = STYLE.read_text(encoding="utf-8")
    for number, scheme in enumerate(("LIGHT", "DARK")):
        variables = " ".join(f"--{name}: {values[number]};" for name, values in COLOURS.items())
        text = text.replace(f"VARIABLES_{scheme}", variables)
    return text + style_sheet()


# ----------------------------------------------------------------------------------------------- the sections


def _sections(models: Sequence[Model]) -> Iterator[Section]:
    packed = [model for model in models if model.is_packed]
    yield Section(
        "size",
        "Size by layer",
        tuple(
            size_figure(figure_name("size", number, model.label), model, sizes)
            for number, model in enumerate(packed, 1)
            if (sizes := model.sizes) is not None
        ),
        _missing(packed, Sizes, "thimble inspect"),
    )
    accuracy = accuracy_figure(packed)
    known = [model for model in packed if model.accuracy is not None]
    unknown = [model for model in packed if model not in known]
    yield Section(
        "accuracy",
        "Accuracy against size",
        (accuracy,) if accuracy is not None else (),
        _sentence(unknown, "thimble eval or thimble train"),
    )
    yield Section(
        "latency",
        "Latency by layer",
        tuple(_latency_figures(packed)),
        _missing(packed, Latency, "thimble bench"),
    )
    yield _energy_section(packed, [model for model in models if model.counts is not None])
    yield Section(
        "memory",
        "Memory map over time",
        tuple(
            memory_figure(figure_name("memory", number, model.label), model, sizes)
            for number, model in enumerate(packed, 1)
            if (sizes := model.sizes) is not None
        ),
        _missing(packed, Sizes, "thimble inspect"),
    )


def _latency_figures(models: Iterable[Model]) -> Iterator[Figure]:
    number = 0
    for model in models:
        for latency in model.all(Latency):
            number += 1
            label = f"{model.label} {latency.board}"
            yield latency_figure(figure_name("latency", number, label), model, latency)
            beside = comparison_figure(figure_name("published", number, label), model, latency)
            if beside is not None:
                yield beside


def _energy_section(models: Sequence[Model], counted: Sequence[Model]) -> Section:
    figures, tables, missing = [], [], []
    number = 0
    for model in models:
        for energy in model.all(Energy):
            number += 1
            name = figure_name("energy", number, f"{model.label} {energy.board or ''}")
            figure = energy_figure(name, model, energy)
            if figure is not None:
                figures.append(figure)
            else:
                missing.append(f"{energy_title(model, energy)}: {NOT_MEASURED}, there was no meter.")
            estimate = estimate_table(energy)
            if estimate is not None:
                caption = f"{estimate.caption}: {energy_title(model, energy)}"
                tables.append(Table(caption, estimate.columns, estimate.rows))
    tables += [_counted_energy(model, counts) for model in counted if (counts := model.counts) is not None]
    missing += _missing(models, Energy, "thimble energy")
    return Section("energy", "Energy", tuple(figures), tuple(missing), tuple(tables))


def _counted_energy(model: Model, counts: Counts) -> Table:
    """`analyze`'s estimate of one inference."""
    caption = (
        f"Estimate, not a measurement: {model.label}, {counts.macs:,} MACs, from the energies of single "
        f"operations, every value moved once ({counts.energy_estimate.source})"
    )
    rows = tuple(
        (each.precision, *(f"{pj / 1e6:,.2f}" for pj in (each.arithmetic_pj, each.memory_pj, each.dram_pj)))
        for each in counts.energy_estimate.precisions
    )
    columns = ("arithmetic, µJ", "memory: SRAM, µJ", "weights in DRAM, µJ")
    return Table(caption, (("precision", False), *((name, True) for name in columns)), rows)


def _missing(models: Sequence[Model], kind: type[object], command: str) -> tuple[str, ...]:
    return _sentence([model for model in models if not model.all(kind)], command)


def _sentence(models: Sequence[Model], command: str) -> tuple[str, ...]:
    if not models:
        return ()
    named = ", ".join(model.label for model in models)
    return (f"{named}: {NOT_MEASURED}, there is no result of {command} among the runs.",)


# -------------------------------------------------------------------------------------------------- the parts


def _header(models: Sequence[Model], runs: Sequence[Run], sections: Sequence[Section]) -> Markup:
    boards = {board for model in models for board in model.boards if board is not None}
    counts = [_count(len(models), "model"), _count(len(runs), "run")]
    if boards:
        counts.insert(1, _count(len(boards), "board"))
    links = [(section.name, section.title) for section in sections] + [("runs", "Runs")]
    items = [tag("li", tag("a", title, href=f"#{name}")) for name, title in links]
    return tag(
        "header",
        tag("h1", "Thimble report"),
        tag("p", ", ".join(counts), class_="lead"),
        _summary(models),
        tag("nav", tag("ul", *items), aria_label="Sections"),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _summary(models: Sequence[Model]) -> Markup:
    """A row for each model on each of its boards."""
    headings = ("Model", "Board", "File", "RAM", "Accuracy", "Latency", "Energy")
    rows = [_summary_row(model, board, headings) for model in models for board in model.boards]
    head = tag("thead", tag("tr", *(tag("th", heading, scope="col") for heading in headings)))
    return tag("table", head, tag("tbody", *rows), class_="summary", aria_label="Summary")


def _summary_row(model: Model, board: str | None, headings: Sequence[str]) -> Markup:
    name = tag(
        "th", model.label, tag("small", "SHA-256 ", tag("code", short_sha256(model.sha256))), scope="row"
    )
    cells = [
        tag("span", "none", class_="absent") if board is None else tag("span", board),
        _bytes_cell(model.file_bytes, _file_note(model)),
        _bytes_cell(model.ram_peak_bytes, "peak, with scratch"),
        _accuracy_cell(model.accuracy),
        _latency_cell([each for each in model.all(Latency) if each.board == board]),
        _energy_cell([each for each in model.all(Energy) if each.board == board]),
    ]
    named = zip(headings[1:], cells, strict=True)
    return tag("tr", name, *(tag("td", cell, data_heading=heading) for heading, cell in named))


def _figure_cell(figure: str | None, note: str) -> Markup:
    if figure is None:
        return tag("span", NOT_MEASURED, class_="absent")
    return joined(tag("b", figure), tag("small", note)) if note else tag("b", figure)


def _bytes_cell(count: int | None, note: str) -> Markup:
    if count is None:
        return tag("span", "not given", class_="absent")
    return _figure_cell(f"{count:,} bytes", note)


def _file_note(model: Model) -> str:
    packing, before = model.packing, None
    if packing is not None:
        before = packing.source_bytes
    for accuracy in model.all(Accuracy):
        before = before or accuracy.original_bytes
    size = model.file_bytes
    return f"{size / before:.1%} of {before:,}".replace("%", " %") if before and size else ""


def _accuracy_cell(accuracy: Accuracy | Training | None) -> Markup:
    if accuracy is None:
        return _figure_cell(None, "")
    figure, of = accuracy_text(accuracy).split(" of ", 1)
    note = f"of {of}"
    if isinstance(accuracy, Training):
        note += f"; float {accuracy.float_accuracy:.2f} %"
    elif accuracy.original_right is not None:
        note += f"; before {100 * accuracy.original_right / accuracy.count:.2f} %"
    return _figure_cell(figure, note)


def _latency_cell(latencies: Sequence[Latency]) -> Markup:
    if not latencies:
        return _figure_cell(None, "")
    first = latencies[0]
    return _figure_cell(time_text(first.median, first.unit), f"median of {first.runs:,}")


def _energy_cell(energies: Sequence[Energy]) -> Markup:
    for energy in energies:
        if energy.measurement is not None:
            net = energy.measurement.energy_per_inference_uj.net
            spread = f"± {energy_text(net.standard_deviation)}, idle power subtracted"
            return _figure_cell(energy_text(net.mean), spread)
    estimates = [text for each in energies if each.estimate and (text := estimate_text(each.estimate))]
    absent = tag("span", NOT_MEASURED, class_="absent")
    return joined(absent, tag("small", estimates[0])) if estimates else absent


def _section(section: Section) -> Markup:
    parts = [tag("h2", section.title, id=f"{section.name}-heading")]
    parts += [tag("p", sentence, class_="how") for sentence in section.missing]
    parts += [_figure(figure, section) for figure in section.figures]
    parts += [_tables(section.tables)] if section.tables else []
    return tag("section", *parts, id=section.name, aria_labelledby=f"{section.name}-heading")


def _figure(figure: Figure, section: Section) -> Markup:
    heading = [] if figure.title == section.title else [tag("h3", figure.title)]
    notes = [tag("p", note) for note in figure.notes]
    drawings = [
        tag("div", Markup(svg(figure.draw(width), f"{name}-{figure.name}")), class_=name)
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    ]
    return joined(*heading, *notes, tag("figure", *drawings), _tables(figure.tables))


def _tables(tables: Sequence[Table]) -> Markup:
    return tag("div", *map(_table, tables), class_="tables")


def _table(table: Table) -> Markup:
    def row(cells: Sequence[str], name: str, **attributes: str) -> Markup:
        written = []
        for cell, (_, is_number) in zip(cells, table.columns, strict=True):
            kind = "number" if is_number else "long" if len(cell) > _LONG else ""
            written.append(tag(name, cell, **attributes, **({"class_": kind} if kind else {})))
        return joined(*written)

    head = tag("thead", tag("tr", row([heading for heading, _ in table.columns], "th", scope="col")))
    first_total = len(table.rows) - table.totals
    rows = [
        tag("tr", row(cells, "td"), **({"class_": "total"} if number >= first_total else {}))
        for number, cells in enumerate(table.rows)
    ]
    whole = tag("table", tag("caption", table.caption), head, tag("tbody", *rows))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=table.caption)


def _sources(models: Sequence[Model]) -> Markup:
    """Which document says what of which model."""
    named = tuple((model.label, model.sha256 or "not recorded") for model in models)
    runs = tuple((run.source, run.kind, model.label, _board(run)) for model in models for run in model.runs)
    tables = (
        Table(
            "Models, told apart by the SHA-256 that their files end with", _texts("model", "SHA-256"), named
        ),
        Table("Documents that this page is made of", _texts("file", "command", "model", "board"), runs),
    )
    return tag("section", tag("h2", "Runs", id="runs-heading"), _tables(tables), id="runs")


def _board(run: Run) -> str:
    return (run.figures.board if isinstance(run.figures, Latency | Energy) else None) or ""


def _texts(*headings: str) -> tuple[tuple[str, bool], ...]:
    return tuple((heading, False) for heading in headings)
