"""docs/ENERGY.md says what the code does: meters and their options, limits, keys, and its example runs."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from host_tools import energy
from host_tools.commands.energy import IDLE_S, MOST_RUNS, SECONDS, WINDOWS
from host_tools.meters.meter import DRIVERS, REPLAY, parse_name
from host_tools.meters.trace import TraceInfo, load_trace
from tests.conftest import REPOSITORY
from tests.traces import rectangles, trace_of

DOCUMENT = (REPOSITORY / "docs" / "ENERGY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", DRIVERS)
def test_document_names_every_option_of_a_meter(kind: str) -> None:
    section = re.search(rf"^\*\*{kind}\*\*.*?(?=^\*\*|^## )", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert section is not None
    for field in fields(importlib.import_module(f"host_tools.meters.{kind}").Options):
        assert re.search(rf"`{field.name}[`=]", section[0]), field.name


@pytest.mark.parametrize("name", re.findall(r"--meter (\S+)", DOCUMENT.partition("## What is measured")[0]))
def test_document_examples_name_meters(name: str) -> None:
    assert parse_name(name).kind in (*DRIVERS, REPLAY)


def test_document_states_the_limits() -> None:
    assert f"at least {SECONDS:g} s" in DOCUMENT and f"There are {WINDOWS} windows" in DOCUMENT
    assert IDLE_S == 1 and f"at most {MOST_RUNS:,} inferences" in DOCUMENT
    assert f"more than {energy.MOST_LOST:.1%} of a window" in DOCUMENT.replace(" %", "%")
    assert energy.MOST_LOST == energy.MOST_CLIPPED
    assert f"more than {energy.MOST_CLOCK_DIFFERENCE:.0%} (clocks" in DOCUMENT.replace(" %", "%")
    assert f"but for {energy.GUARD_S:g} s at each end" in DOCUMENT
    assert f"fewer than {energy.LEAST_SAMPLES} samples" in DOCUMENT
    assert f"at most {energy.TRACE_POINTS:,}" in DOCUMENT


def test_document_names_every_key() -> None:
    for field in fields(TraceInfo):
        assert f"`{field.name}`" in DOCUMENT
    windows = [(1.0, 2.0)]
    trace = trace_of(rectangles(windows, 3.0), windows)
    figures = energy.measurement_figures(trace, energy.measure(trace))
    for key in (*figures, *figures["windows"][0], *figures["energy_per_inference_uj"]["net"]):
        assert f"`{key}`" in DOCUMENT, key


def test_document_example_makes_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    rows = np.array([[index / 1000, 0.01, 3.3, index % 3 == 0] for index in range(300)])
    np.savetxt(tmp_path / "table.csv", rows, delimiter=",", header="s,A,V,pin")
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    trace = load_trace(tmp_path / "run.npz")
    assert trace.info.runs == (812, 812) and trace.samples.trigger.sum() == 100
    assert json.dumps(trace.info.meter) == '"my oscilloscope"'
