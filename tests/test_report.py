"""`thimble report`: the page holds what the runs say and nothing from elsewhere, reads well in a browser, and
bad input is one sentence without a half-written file.
"""

from __future__ import annotations

import copy
import io
import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host_tools import cli
from host_tools.client import trailer_sha256
from host_tools.energy import estimate_by_operations
from host_tools.exit_codes import ExitCode
from host_tools.inspect import inspect_file
from host_tools.meters.trace import save_trace
from host_tools.picture import COLOURS, Dot, Rectangle, Text, shortened, svg
from host_tools.report.energy_figure import energy_text
from host_tools.report.figure import NARROW, WIDE
from host_tools.report.memory_figure import memory_figure
from host_tools.report.models import by_model
from host_tools.report.page import make_report
from host_tools.report.read_runs import Sizes, read_run
from model_packager.errors import UsageError
from model_packager.format_table import PortFlag
from model_packager.model import Model
from model_packager.pack import pack
from tests.browser import Page, browser
from tests.conftest import require_module, require_tool
from tests.random_networks import NetworkBuilder, random_network
from tests.traces import rectangles, trace_of

Capture = pytest.CaptureFixture[str]
SECTIONS = ("size", "accuracy", "latency", "energy", "memory", "runs")
WINDOWS = ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))  # seconds, of 10 inferences each
IDLE_A, ACTIVE_A, VOLTS = 0.002, 0.012, 3.0


def small_model() -> Model:
    """A network with a depthwise layer, a shortcut and a classifier."""
    builder = NetworkBuilder(4)
    start = builder.conv(builder.input((1, 8, 8, 3)), 8, 3)
    total = builder.add(start, builder.conv(builder.depthwise(start, 3, 1), 8))
    pooled = builder.reshape(builder.global_pool(total), (1, 8))
    builder.output(builder.fully_connected(pooled, 4))
    builder.model.inputs[0].flags = PortFlag(0)
    return builder.model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands print for one model, in a folder; energy.json is of a recorded trace."""
    folder = tmp_path_factory.mktemp("runs")
    packed = pack(small_model())
    model = folder / "net.thimble"
    model.write_bytes(packed.data)
    inputs = np.random.default_rng(0).integers(-128, 128, (20, 8, 8, 3)).astype(np.int8)
    np.savez(folder / "data.npz", input=inputs, labels=np.arange(20) % 4)
    samples = rectangles(WINDOWS, 7.0, IDLE_A, ACTIVE_A, VOLTS)
    sha256 = trailer_sha256(packed.data).hex()
    save_trace(folder / "trace.npz", trace_of(samples, WINDOWS, board="a Pico", model_sha256=sha256))
    commands: dict[str, tuple[object, ...]] = {
        "inspect": (),
        "analyze": (),
        "eval": ("--data", folder / "data.npz"),
        "bench": ("--target", "native", "--runs", 5),
        "energy": ("--meter", f"replay:{folder / 'trace.npz'}"),
    }
    for command, options in commands.items():
        written = io.StringIO()
        with redirect_stdout(written):
            assert cli.main([command, str(model), "--json", *map(str, options)]) == 0
        (folder / f"{command}.json").write_text(written.getvalue())
    return folder


ALL = ("inspect", "eval", "bench", "energy", "analyze")


def run_report(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    code = cli.main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def page_of(*paths: Path) -> str:
    return make_report([read_run(path) for path in paths]).html


class _Outline(HTMLParser):
    """Tags, ids, and the text between tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._path: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._path.append(tag)

    def handle_data(self, data: str) -> None:
        if self._path[-1:] != ["style"]:
            self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


# ------------------------------------------------------------------------------------------------- the page


def test_report_shows_what_the_runs_say(runs: Path) -> None:
    text = _Outline(page_of(*(runs / f"{name}.json" for name in ALL))).text
    inspection = inspect_file((runs / "net.thimble").read_bytes())
    bench = json.loads((runs / "bench.json").read_text())
    evaluation = json.loads((runs / "eval.json").read_text())
    assert inspection.sha256 in text
    assert f"{inspection.file_bytes:,} bytes" in text and f"{inspection.ram_peak_bytes:,} bytes" in text
    for row in inspection.weights:
        assert row.encoding in text and f"{row.stored_bytes:,}" in text
    for part in inspection.parts:
        assert part.name in text
    assert f"{100 * evaluation['right'] / 20:.2f} %" in text
    assert f"{bench['median_us']:,.1f}" in text and "decoding, share of it" in text
    net_mj = (ACTIVE_A - IDLE_A) * VOLTS * 1000 / 10  # of a second's ten inferences
    assert f"{net_mj:.2f} mJ" in text and f"{ACTIVE_A * VOLTS * 1e6:,.0f}" in text
    assert "Measured by a test: 70,000 samples at 10,000 Hz, 0 lost" in text
    assert f"peak {inspection.peak.needed_bytes:,} bytes, operator {inspection.peak.operator}" in text


def test_report_page_holds_every_section_and_a_table_beside_every_figure(runs: Path) -> None:
    outline = _Outline(page_of(*(runs / f"{name}.json" for name in ALL)))
    assert [each["id"] for each in outline.named("section")] == list(SECTIONS)
    targets = [each["href"] for each in outline.named("a")]
    assert targets == [f"#{name}" for name in SECTIONS]
    figures = len(outline.named("figure"))
    assert figures == 5 and len(outline.named("table")) >= 2 * figures
    assert len(outline.named("svg")) == 2 * figures  # wide and narrow
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for drawing in outline.named("svg"):
        assert drawing["role"] == "img"
        assert set(str(drawing["aria-labelledby"]).split()) <= set(ids)


def test_report_page_asks_for_nothing_from_elsewhere(runs: Path) -> None:
    html = page_of(*(runs / f"{name}.json" for name in ALL))
    names = {tag for tag, _ in _Outline(html).tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"\b(src|srcset|action|xlink:href|data)=|@import|url\(|https?:", html)
    assert all(str(each["href"]).startswith("#") for each in _Outline(html).named("a"))


def test_report_same_runs_give_the_same_bytes(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    require_module("matplotlib")
    written = []
    for name in ("first", "second"):
        folder = tmp_path / name
        arguments = [runs / "inspect.json", runs / "energy.json", "-o", tmp_path / "report.html"]
        assert run_report(capsys, *arguments, "--png", folder)[0] == 0
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
        written[-1]["page"] = (tmp_path / "report.html").read_bytes()
    assert written[0] == written[1]


def test_report_thimble_file_counts_as_inspect_of_it(runs: Path) -> None:
    from_file = make_report([read_run(runs / "net.thimble")])
    from_json = make_report([read_run(runs / "inspect.json")])
    assert from_file.html.replace("net.thimble", "inspect.json") == from_json.html


def test_report_without_the_other_runs_says_not_measured(runs: Path) -> None:
    text = _Outline(page_of(runs / "inspect.json")).text
    assert text.count("not measured") >= 6  # the summary's three, and a sentence for each section
    for command in ("thimble eval", "thimble bench", "thimble energy"):
        assert f"net: not measured, there is no result of {command}" in text


def test_report_energy_without_meter_is_not_measured_and_estimates_are_labelled(
    runs: Path, tmp_path: Path
) -> None:
    current = {"estimated_uj": [2200.0, 3400.0], "supply_volts": 3.3, "active_milliamps": [12.0, 18.0]}
    operations = estimate_by_operations(small_model())
    document = json.loads((runs / "energy.json").read_text()) | {"measurement": None}
    document["estimate"] = {
        "active_current": {**current, "source": "the data sheet"},
        "operations": operations,
    }
    (tmp_path / "energy.json").write_text(json.dumps(document))
    outline = _Outline(page_of(runs / "inspect.json", tmp_path / "energy.json"))
    assert "not measured, there was no meter" in outline.text
    assert "Estimates, not measurements" in outline.text and "the data sheet" in outline.text
    assert not [each for each in outline.named("svg") if "energy" in str(each["class"])]
    assert "estimate: 2.20 mJ to 3.40 mJ" in outline.text  # in the summary
    figures = re.findall(r"[^ ]+ [mµ]J\b", outline.text)
    assert figures == ["2.20 mJ", "3.40 mJ"] * 2 + [
        energy_text(operations["estimated_uj"])
    ]  # there and in that table, and nowhere else


def test_report_summary_has_a_row_for_each_board_of_each_model(runs: Path, tmp_path: Path) -> None:
    bench = json.loads((runs / "bench.json").read_text())
    (tmp_path / "pico.json").write_text(json.dumps(bench | {"board": "a Pico", "median_us": 4_200_000}))
    other = bench | {"sha256": "ff" * 32, "board": "a Pico"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    html = page_of(
        runs / "inspect.json", runs / "bench.json", tmp_path / "pico.json", tmp_path / "other.json"
    )
    summary = html[html.index('class="summary"') : html.index("<nav")]
    rows = [_Outline(row).text for row in re.findall(r"<tr>.*?</tr>", summary)[1:]]
    assert len(rows) == 3
    assert "a Pico" in rows[1] and "4,200.00 ms" in rows[1]
    # Two models of one name are told apart by their SHA-256.
    assert f"net ({bench['sha256'][:8]})" in rows[0] and "net (ffffffff)" in rows[2]


def test_report_results_of_training_give_accuracy_against_size(repository: Path, tmp_path: Path) -> None:
    paths = sorted((repository / "benchmarks" / "training").glob("lenet300_*.json"))
    bad = json.loads(paths[0].read_text()) | {"accuracy": 60.0}  # would press the others together
    paths.append(tmp_path / "bad.json")
    paths[-1].write_text(json.dumps(bad))
    report = make_report([read_run(path) for path in paths])
    marks = report.pictures["accuracy"].marks
    dots = [mark.note for mark in marks if getattr(mark, "note", "")]
    assert len(dots) == len(paths)
    assert "lenet300_small: 4,704 bytes, 98.54 %" in dots
    assert any(isinstance(mark, Text) and mark.content == "float network 99.11 %" for mark in marks)
    assert any(note.startswith("bad: ") and note.endswith("60.00 %") for note in dots)
    assert any(isinstance(mark, Text) and mark.content == "bad: 60.0 %" for mark in marks)
    assert all(isinstance(mark, Text) or mark.y > 0 for mark in marks if isinstance(mark, Dot | Text))


def test_report_instructions_are_not_shown_as_time(runs: Path, tmp_path: Path) -> None:
    bench = json.loads((runs / "bench.json").read_text())
    text = json.dumps(bench).replace('_us"', '_instructions"').replace('"us"', '"instructions"')
    counted = json.loads(text) | {"median_instructions": 7_333_320, "macs_per_s": None}
    (tmp_path / "emulated.json").write_text(json.dumps(counted))
    shown = _Outline(page_of(tmp_path / "emulated.json")).text
    assert "7.33 million instructions" in shown and "7,333,320" in shown
    assert not re.search(r"\d (ms|µs)\b", shown)


def test_report_published_figure_stands_beside_ours(runs: Path, tmp_path: Path) -> None:
    other = {"benchmark": "kws", "milliseconds": 43.19, "system": "NUCLEO", "organisation": "ST"}
    other |= {"round": "v1.2", "text": "kws in 43.19 ms (ST, NUCLEO, MLPerf Tiny v1.2)"}
    bench = json.loads((runs / "bench.json").read_text()) | {"other_stack": other}
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    report = make_report([read_run(tmp_path / "bench.json")])
    assert any(name.startswith("published-1-net") for name in report.pictures)
    assert "ST, NUCLEO, MLPerf Tiny v1.2" in report.html


# ---------------------------------------------------------------------------------------- text is no markup


def test_report_escapes_every_text(runs: Path, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>\"'&\u202e\ud800"

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            fixed = {"kind", "unit"}
            return {k: v if k in fixed else replaced(v) for k, v in value.items()}
        if isinstance(value, list):
            return [replaced(each) for each in value]
        return value + attack if isinstance(value, str) else value

    paths = []
    for name in ALL:
        document = json.loads((runs / f"{name}.json").read_text())
        kinds = {"kind": document["kind"]}
        paths.append(tmp_path / f"<b>{name}.json")
        paths[-1].write_text(json.dumps(replaced(document) | kinds))
    html = page_of(*paths)
    assert not {tag for tag, _ in _Outline(html).tags} & {"script", "b" + "r", "img"}
    assert "<script" not in html and "<b>inspect" not in html
    assert "&lt;script&gt;" in html and "\u202e" not in html
    html.encode()


def test_picture_shortens_and_escapes() -> None:
    assert shortened("abc", 100) == "abc"
    assert shortened("a" * 100, 100).endswith("…") and len(shortened("a" * 100, 100)) < 20


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "run.json is empty; a report is made of what commands print with --json"),
        ("{", "run.json is not JSON, as commands print it with --json"),
        ("[" * 100_000, "run.json is not JSON, as commands print it with --json"),
        (
            "[]",
            "run.json holds no JSON object, as one of analyze, bench, energy, eval, ",
        ),
        ('{"kind": "devices"}', "run.json does not say that it is of a kind that a report shows: analyze, "),
        ('{"kind": ["bench"]}', "run.json does not say that it is of a kind that a report shows: analyze, "),
        ('{"kind": "bench"}', "run.json: model is missing"),
        ('{"kind": "train", "file_bytes": 1.5}', "run.json: file_bytes is not an integer"),
        ('{"kind": "train", "file_bytes": true}', "run.json: file_bytes is not an integer"),
        ('{"kind": "train", "file_bytes": -1}', "run.json: file_bytes is negative"),
        ('{"kind": "train", "file_bytes": 1e400}', "run.json: file_bytes is not an integer"),
        ('{"kind": "train", "file_bytes": 1, "accuracy": NaN}', "run.json: accuracy is out of range"),
        (f'{{"kind": "train", "file_bytes": {10**30}}}', "run.json: file_bytes is out of range"),
    ],
)
def test_report_bad_run_is_one_sentence_and_nothing_is_written(
    text: str, sentence: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "old.html").write_text("as it was")
    code, out, err = run_report(capsys, "run.json", "-o", "old.html", "--png", "png")
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith(f"thimble: {sentence}") and err.count("\n") == 1 and len(err) < 200
    assert (tmp_path / "old.html").read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.html", "run.json"]


@pytest.mark.parametrize(
    ("command", "change", "sentence"),
    [
        ("inspect", {"ram": []}, "a tensor lives during operators that there are not"),
        ("inspect", {"weights": [{}]}, "weights[0]: operator is missing"),
        ("inspect", {"parts": {}}, "parts is no list"),
        ("inspect", {"name": 5}, "name is not a text"),
        ("bench", {"unit": "hours"}, "min is missing"),
        ("bench", {"raw_operators_us": [1]}, "raw_operators has another length than operators"),
        ("bench", {"operators": [5]}, "operators[0] is no JSON object"),
        ("eval", {"right": 21}, "more samples are counted than there are"),
        ("energy", {"measurement": {}}, "measurement: meter is missing"),
    ],
)
def test_report_run_that_contradicts_itself_is_refused(
    command: str, change: dict[str, Any], sentence: str, runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    document = json.loads((runs / f"{command}.json").read_text()) | change
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document))
    code, _, err = run_report(capsys, path, "-o", tmp_path / "report.html")
    assert (code, err) == (ExitCode.USAGE, f"thimble: {path}: {sentence}\n")


_VALUES = (None, 0, 1, -1, 1e300, 2**62, "", "x" * 3000, [], {}, True, [None])


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document; of a list the first two."""
    keys = value if isinstance(value, dict) else range(min(len(value), 2)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from _places(value[key], (*path, key))


@pytest.mark.parametrize("command", ALL)
def test_report_any_value_anywhere_gives_a_page_or_a_named_error(
    command: str, runs: Path, tmp_path: Path
) -> None:
    document = json.loads((runs / f"{command}.json").read_text())
    random = np.random.default_rng(1)
    places = list(_places(document))
    outcomes = set()
    for number in range(60):
        changed = copy.deepcopy(document)
        *path, last = places[random.integers(len(places))]
        parent = changed
        for key in path:
            parent = parent[key]
        parent[last] = _VALUES[number % len(_VALUES)]
        (tmp_path / "run.json").write_text(json.dumps(changed))
        try:
            make_report([read_run(tmp_path / "run.json")]).html.encode()
            outcomes.add("page")
        except UsageError as error:
            assert str(error).startswith(str(tmp_path / "run.json"))
            outcomes.add("error")
    assert outcomes == {"page", "error"}


def test_report_energy_trace_that_is_no_trace_is_refused(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "run.json"
    for trace, sentence in (
        ({"time_s": [0.0, 1.0], "power_mw": [1.0]}, "the trace has not one power for each time"),
        ({"time_s": [1.0, 1.0], "power_mw": [1.0, 1.0]}, "the trace's times do not rise"),
    ):
        document = copy.deepcopy(json.loads((runs / "energy.json").read_text()))
        document["measurement"]["trace"] = trace
        path.write_text(json.dumps(document))
        _, _, err = run_report(capsys, path, "-o", tmp_path / "report.html")
        assert err == f"thimble: {path}: {sentence}\n"


def test_report_of_nothing_missing_files_and_damaged_models_is_one_sentence(
    runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    code, _, err = run_report(capsys)
    assert code == ExitCode.USAGE and "RUN.json" in err and err.count("\n") == 1
    code, _, err = run_report(capsys, tmp_path / "none.json")
    assert code == ExitCode.ERROR and err == f"thimble: {tmp_path / 'none.json'}: there is no such file\n"
    damaged = tmp_path / "bad.thimble"
    damaged.write_bytes((runs / "net.thimble").read_bytes()[:-1])
    code, _, err = run_report(capsys, damaged, "-o", tmp_path / "report.html")
    assert code == ExitCode.ERROR and f"{damaged}: " in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.thimble"]


def test_report_never_replaces_a_run(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "run.json"
    path.write_bytes((runs / "inspect.json").read_bytes())
    code, _, err = run_report(capsys, path, "-o", path)
    assert (code, err) == (
        ExitCode.USAGE,
        f"thimble: {path}: the page would replace a run that it is made of\n",
    )
    assert path.read_bytes() == (runs / "inspect.json").read_bytes()


def test_report_folder_that_cannot_be_written_leaves_no_file(
    runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    code, _, err = run_report(capsys, runs / "inspect.json", "-o", tmp_path / "none" / "report.html")
    assert code == ExitCode.ERROR and "there is no such folder" in err
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------- pictures


def test_report_png_are_the_page_s_figures(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    require_module("matplotlib")
    from matplotlib.image import imread

    paths = [runs / f"{name}.json" for name in ALL]
    code, out, _ = run_report(capsys, *paths, "-o", tmp_path / "page.html", "--png", tmp_path / "png")
    report = make_report([read_run(path) for path in paths])
    assert code == 0 and out.count("\n") == len(report.pictures) + 1 == 6
    for name, picture in report.pictures.items():
        pixels = imread(tmp_path / "png" / f"{name}.png")
        assert pixels.shape[:2] == (int(2 * picture.height), int(2 * WIDE))
        colours = {tuple(colour) for colour in (pixels[::3, ::3, :3].reshape(-1, 3) * 255).astype(int)}
        paper = tuple(bytes.fromhex(COLOURS["paper"][0][1:]))
        assert paper in colours and len(colours) > 5


def test_report_png_without_matplotlib_names_the_extra(
    runs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    output = tmp_path / "report.html"
    code, _, err = run_report(capsys, runs / "inspect.json", "-o", output, "--png", tmp_path / "png")
    assert code == ExitCode.USAGE and err.count("\n") == 1 and "pip install thimble-runtime[report]" in err
    assert not list(tmp_path.iterdir())
    assert run_report(capsys, runs / "inspect.json", "-o", output)[0] == 0  # the page needs nothing


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("seed", range(6))
def test_memory_map_draws_each_tensor_and_no_byte_twice(seed: int, width: float, tmp_path: Path) -> None:
    packed = pack(random_network(seed, 8))
    path = tmp_path / "net.thimble"
    path.write_bytes(packed.data)
    (model,) = by_model([read_run(path)])
    sizes = model.first(Sizes)
    assert sizes is not None
    picture = memory_figure("memory", model, sizes).draw(width)
    marks = [mark for mark in picture.marks if isinstance(mark, Rectangle)]
    tensors = [mark for mark in marks if mark.note.startswith("tensor")]
    assert len(tensors) == len(sizes.tensors)
    assert all(mark.width > 0 and 0 <= mark.x and mark.x + mark.width <= width for mark in tensors)
    tall = [mark for mark in tensors if mark.height > 1.6]  # those of a pixel are drawn higher than they are
    for one, other in itertools.combinations(tall, 2):
        across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        up = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert across < 0.01 or up < 0.01, (one.note, other.note)
    (outline,) = [mark for mark in marks if mark.fill is None]
    assert outline.y <= min(mark.y for mark in marks) + 0.01


def _luminance(colour: str) -> float:
    channels = [value / 255 for value in bytes.fromhex(colour[1:])]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_people_need(scheme: int) -> None:
    """WCAG 2.1: text 4.5 : 1 (1.4.3), marks 3 : 1 (1.4.11)."""
    colours = {name: pair[scheme] for name, pair in COLOURS.items()}
    for text, paper in itertools.product(("text", "muted"), ("paper", "stripe")):
        assert _contrast(colours[text], colours[paper]) >= 4.5, (text, paper)
    assert _contrast(colours["blue"], colours["paper"]) >= 4.5  # links
    for name in ("blue", "sky", "orange", "green", "grey", "violet"):
        assert _contrast(colours[name], colours["paper"]) >= 3, name
        if name not in ("sky", "orange"):
            assert _contrast(colours["on_fill"], colours[name]) >= 4.5, name  # names of tensors


def test_readme_picture_is_what_its_command_writes(
    repository: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "thimble report examples/digits/digits_int8.thimble --svg build"
    assert f"`{command}`" in (repository / "README.md").read_text(encoding="utf-8")
    arguments = command.split()[2:]
    monkeypatch.chdir(tmp_path)
    assert run_report(capsys, repository / arguments[0], *arguments[1:])[0] == 0
    drawn = (tmp_path / "build" / "memory-1-digits-int8.svg").read_text(encoding="utf-8")
    assert (repository / "docs" / "memory_map.svg").read_text(encoding="utf-8") == drawn


def test_svg_by_itself_is_xml_with_a_title(runs: Path) -> None:
    from xml.etree import ElementTree

    for picture in make_report([read_run(runs / f"{name}.json") for name in ALL]).pictures.values():
        root = ElementTree.fromstring(svg(picture))
        assert root[0].tag.endswith("title") and root[0].text == picture.title
        assert root[1].tag.endswith("desc") and root[1].text


# ---------------------------------------------------------------------------------------- in a real browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One tab for all tests of this module."""
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    program = next(map(Path, found), None) or require_tool("chromium")
    with browser(program, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def full_page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every kind of figure, and names that are as long as they get."""
    folder = tmp_path_factory.mktemp("page")
    document = json.loads((runs / "bench.json").read_text())
    long = document | {"board": "A" * 200, "model": f"{'long-name ' * 8}.thimble", "sha256": "ab" * 32}
    (folder / "long.json").write_text(json.dumps(long))
    page = folder / "report.html"
    paths = [runs / f"{name}.json" for name in ALL]
    page.write_text(page_of(*paths, folder / "long.json"), encoding="utf-8")
    return page


_NARROWEST_CELL = "Math.min(...Array.from(document.querySelectorAll('.summary td')).map(e => e.clientWidth))"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 760, 1600])
def test_report_in_chromium_fits_without_complaint_or_request(
    chromium: Page, full_page: Path, width: int, scheme: str
) -> None:
    chromium.open(full_page, width, scheme)
    assert chromium.complaints == []
    assert chromium.requests == [full_page.as_uri()]
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    narrowest = chromium.evaluate(_NARROWEST_CELL)
    assert narrowest >= 70, narrowest  # pixels
    shown = chromium.evaluate(
        "Array.from(document.querySelectorAll('section')).filter(s => s.offsetHeight > 50).map(s => s.id)"
    )
    assert shown == list(SECTIONS)
    colour = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    paper = COLOURS["paper"][scheme == "dark"]
    assert colour == f"rgb({', '.join(map(str, bytes.fromhex(paper[1:])))})"


@pytest.mark.parametrize(("width", "kind"), [(400, "narrow"), (1600, "wide")])
def test_report_in_chromium_shows_the_drawings_of_its_width_and_no_text_leaves_them(
    chromium: Page, full_page: Path, width: int, kind: str
) -> None:
    chromium.open(full_page, width)
    drawn = chromium.evaluate(
        """Array.from(document.querySelectorAll('figure > div')).filter(each => each.offsetHeight)
            .map(each => each.className)"""
    )
    assert len(drawn) >= 6 and set(drawn) == {kind}
    outside = chromium.evaluate(
        """Array.from(document.querySelectorAll('svg text')).filter(text => {
            const box = text.getBBox(), frame = text.ownerSVGElement.viewBox.baseVal;
            return box.width && (box.x < -1 || box.x + box.width > frame.width + 1 || box.y < -1
                || box.y + box.height > frame.height + 1);
        }).map(text => text.textContent)"""
    )
    assert outside == []
    smallest = chromium.evaluate(
        """Math.min(...Array.from(document.querySelectorAll('svg text')).filter(t => t.getBBox().width).map(
            t => t.getAttribute('font-size') * t.ownerSVGElement.clientWidth
                / t.ownerSVGElement.viewBox.baseVal.width))"""
    )
    assert smallest >= 10  # pixels


def test_report_in_chromium_prints_in_light_with_the_wide_drawings(chromium: Page, full_page: Path) -> None:
    chromium.open(full_page, 700, "dark", media="print")
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.evaluate("document.querySelector('nav').offsetHeight") == 0
    assert chromium.evaluate(_NARROWEST_CELL) >= 70
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 700
    assert chromium.evaluate("document.querySelector('.wide').offsetHeight > 0")
    assert chromium.evaluate("document.querySelector('.narrow').offsetHeight") == 0
