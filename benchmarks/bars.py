"""The bars: what Thimble promises in figures, what was measured, and with which command.

In goes benchmarks/bars.toml; out come the tables between the markers in docs/MEASURED.md, of all of them,
and in README.md, of the headlines. tests/test_bars.py makes the checks of --check, `make bench` calls
--measure. A measuring command prints a line `bar NAME FIGURE` for every bar that it measures, and may print
anything else beside.

    python benchmarks/bars.py --check              fail when a table is stale or an entry is not in order
    python benchmarks/bars.py --write              regenerate the tables
    python benchmarks/bars.py --list               print the whole table
    python benchmarks/bars.py --measure [PATTERN]  run the commands of the matching bars and print the figures
    python benchmarks/bars.py --measure --record   the same, then write figures and commit, and the tables
    python benchmarks/bars.py --set NAME=FIGURE    record a figure measured by hand with the entry's command

Fields of an entry: topic, name, what (one line for a reader), unit, comparison (<=, <, ==, >=), bar, aim
(optional, a figure better than the bar), before (optional, the figure without Thimble), headline (whether
README shows it), command (absent as long as nothing measures it); figure and commit (what was measured, and
on which commit), or not_met (why the bar is missed or not measured).
"""

from __future__ import annotations

import argparse
import fnmatch
import operator
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
BARS_PATH = ROOT / "benchmarks" / "bars.toml"
README_PATH, ALL_PATH = ROOT / "README.md", ROOT / "docs" / "MEASURED.md"
BEGIN, END = "<!-- bars:begin -->", "<!-- bars:end -->"
COMPARISONS = {"<=": operator.le, "<": operator.lt, "==": operator.eq, ">=": operator.ge}
BAR_LINE = re.compile(r"^bar (\S+) (-?\d+(?:\.\d+)?)\s*$", re.MULTILINE)
HEADER = "# Every bar. bars.py explains the fields, and rewrites this file: comments are lost.\n"


@dataclass
class Bar:
    """One entry of bars.toml; the fields are explained in this module's docstring."""

    topic: str
    name: str
    what: str
    unit: str
    comparison: str
    bar: float
    command: str | None = None
    aim: float | None = None
    before: float | None = None
    headline: bool | None = None
    figure: float | None = None
    commit: str | None = None
    not_met: str | None = None

    def is_met(self) -> bool:
        """Whether the figure is on the right side of the bar. False without a figure."""
        return self.figure is not None and COMPARISONS[self.comparison](self.figure, self.bar)


def load(path: Path = BARS_PATH) -> list[Bar]:
    """The entries of a bars file, in its order. Raises TypeError for a missing or an unknown field."""
    return [Bar(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["bar"]]


def save(bars: list[Bar], path: Path = BARS_PATH) -> None:
    """Write the entries as TOML, fields in the order of `Bar`, absent ones left out."""
    blocks = []
    for bar in bars:
        lines = ["[[bar]]"]
        for field in fields(Bar):
            value = getattr(bar, field.name)
            if value is not None:
                lines.append(f"{field.name} = {_toml(value)}")
        blocks.append("\n".join(lines) + "\n")
    path.write_text("\n".join([HEADER, *blocks]), encoding="utf-8")


def _toml(value: str | float) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value).lower()


def problems(bars: list[Bar]) -> list[str]:
    """One sentence for each thing that is wrong with the entries; empty when all is in order."""
    found = []
    names = [bar.name for bar in bars]
    found += [f"{name}: the name occurs twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for bar in bars:
        if bar.comparison not in COMPARISONS:
            found.append(f"{bar.name}: comparison {bar.comparison!r} is none of {', '.join(COMPARISONS)}")
            continue
        if bar.figure is None and not bar.not_met:
            found.append(f"{bar.name}: neither measured nor explained by not_met")
        elif bar.figure is not None and not bar.is_met() and not bar.not_met:
            found.append(f"{bar.name}: {bar.figure} is not {bar.comparison} {bar.bar}, without a not_met")
        elif bar.is_met() and bar.not_met:
            found.append(f"{bar.name}: not_met stays although {bar.figure} meets the bar")
        if bar.figure is not None and bar.command is None:
            found.append(f"{bar.name}: no command measures the figure")
        if bar.figure is not None and not re.fullmatch(r"[0-9a-f]{7,40}", bar.commit or ""):
            found.append(f"{bar.name}: the figure names no commit")
        found += [
            f"{bar.name}: the command names {word}, which does not exist"
            for word in shlex.split(bar.command or "")
            if word.endswith(".py") and not (ROOT / word).is_file()
        ]
    return found


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _row(bar: Bar) -> list[str]:
    measured = _number(bar.figure)
    if bar.is_met():
        measured = f"**{measured}**"
    if bar.not_met:
        measured += f" (not met: {bar.not_met})"
    limit = f"{'' if bar.comparison == '==' else bar.comparison + ' '}{_number(bar.bar)}"
    return [f"{bar.what} ({bar.unit})", _number(bar.before), limit, _number(bar.aim), measured]


def table(bars: list[Bar]) -> str:
    """The Markdown table of all: a row for each measured bar, then the number of the others."""
    rows = ["| what | before | bar | aim | measured | command |", "|---|---:|---:|---:|---:|---|"]
    measured = [bar for bar in bars if bar.figure is not None]
    rows += [f"| {' | '.join(_row(bar))} | `{bar.command}` |" for bar in measured]
    waiting = len(bars) - len(measured)
    if waiting:
        rows += ["", f"{waiting} more bars wait for what they measure; each entry says for what."]
    return "\n".join(rows)


def headline_table(bars: list[Bar]) -> str:
    """The Markdown table of the headlines, without commands and aims."""
    rows = ["| what | before | bar | measured |", "|---|---:|---:|---:|"]
    for bar in (bar for bar in bars if bar.headline):
        what, before, limit, _, measured = _row(bar)
        rows.append(f"| {what} | {before} | {limit} | {measured} |")
    return "\n".join(rows)


TABLES = {README_PATH: headline_table, ALL_PATH: table}


def with_region(page: str, content: str) -> str:
    """`page` with the region between the markers replaced. Raises ValueError when a marker is missing."""
    begin, end = page.find(BEGIN), page.find(END)
    if not 0 <= begin < end:
        raise ValueError(f"the page lacks the region {BEGIN} ... {END}")
    return f"{page[: begin + len(BEGIN)]}\n{content}\n{page[end:]}"


def stale_pages(bars: list[Bar]) -> list[str]:
    """Names of the pages that hold another table than that of `bars`."""
    pages = {path: path.read_text(encoding="utf-8") for path in TABLES}
    return [path.name for path, page in pages.items() if with_region(page, TABLES[path](bars)) != page]


def write_tables(bars: list[Bar]) -> None:
    """Regenerate the tables in place."""
    for path, make in TABLES.items():
        page = path.read_text(encoding="utf-8")
        path.write_text(with_region(page, make(bars)), encoding="utf-8")


def measure(command: str) -> dict[str, float]:
    """Run one measuring command in the repository root; the figures of its `bar NAME FIGURE` lines.

    `python` as the first word is the running interpreter. Raises CalledProcessError when the command fails.
    """
    words = shlex.split(command)
    words = [sys.executable, *words[1:]] if words[0] == "python" else words
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {name: _parse(figure) for name, figure in BAR_LINE.findall(done.stdout)}


def _parse(text: str) -> float:
    return float(text) if "." in text else int(text)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def head_commit() -> str:
    """Short hash of the commit that is checked out; says on stderr when the sources differ from it."""
    commit = _git("rev-parse", "--short=10", "HEAD").strip()
    changed = _git(
        "status", "--porcelain", "--", ".", ":!README.md", ":!docs/MEASURED.md", ":!benchmarks/bars.toml"
    )
    if changed:
        print(f"bars: recorded for {commit}, though the sources differ from it:\n{changed}", file=sys.stderr)
    return commit


def record(bars: list[Bar], figures: dict[str, float]) -> None:
    """Put figures and the current commit into the entries; a not_met that is no longer true is dropped.

    Raises KeyError for a figure whose name no entry has.
    """
    by_name = {bar.name: bar for bar in bars}
    commit = head_commit()
    for name, figure in figures.items():
        bar = by_name[name]
        bar.figure, bar.commit = figure, commit
        if bar.is_met():
            bar.not_met = None


def _measure_matching(bars: list[Bar], pattern: str) -> dict[str, float]:
    wanted = [bar for bar in bars if bar.command is not None and fnmatch.fnmatch(bar.name, pattern)]
    figures: dict[str, float] = {}
    for command in dict.fromkeys(bar.command for bar in wanted if bar.command):
        print(f"$ {command}", file=sys.stderr)
        figures.update(measure(command))
    for bar in wanted:
        if bar.name not in figures:
            raise SystemExit(f"bars: {bar.command} printed no line `bar {bar.name} FIGURE`")
        limit = f"{bar.comparison} {_number(bar.bar)}"
        print(f"{bar.name}: {_number(figures[bar.name])} {bar.unit} (bar: {limit})")
    return {bar.name: figures[bar.name] for bar in wanted}


def _assignment(item: str, bars: list[Bar]) -> tuple[str, float]:
    name, _, figure = item.partition("=")
    if name not in {bar.name for bar in bars} or not re.fullmatch(r"-?\d+(\.\d+)?", figure):
        raise SystemExit(f"bars: --set takes NAME=FIGURE with the name of a bar, not {item!r}")
    return name, _parse(figure)


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(description="The bars of bars.toml and the tables of them.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail when a table or an entry is not in order")
    action.add_argument("--write", action="store_true", help="regenerate the tables")
    action.add_argument("--list", action="store_true", help="print the whole table")
    action.add_argument("--measure", nargs="?", const="*", metavar="PATTERN", help="run these bars' commands")
    action.add_argument("--set", action="append", metavar="NAME=FIGURE", help="record a figure")
    parser.add_argument("--record", action="store_true", help="with --measure: keep the figures")
    options = parser.parse_args(arguments)
    bars = load()
    if options.list:
        print(table(bars))
    elif options.check:
        found = problems(bars)
        for name in stale_pages(bars):
            found.append(f"{name}: the table is stale; run `python benchmarks/bars.py --write`")
        print("\n".join(found), file=sys.stderr, end="\n" if found else "")
        return 1 if found else 0
    elif options.measure or options.set:
        if options.measure:
            figures = _measure_matching(bars, options.measure)
        else:
            figures = dict(_assignment(item, bars) for item in options.set)
        if options.set or options.record:
            record(bars, figures)
            save(bars)
            write_tables(bars)
    else:
        write_tables(bars)
    return 0


if __name__ == "__main__":
    sys.exit(main())
