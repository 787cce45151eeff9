"""README tells the truth: its links and folders exist, and its commands are commands with those options."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import pytest

from benchmarks import bars
from model_packager import reference
from model_packager.pack import pack
from tests.random_networks import NetworkBuilder, random_inputs

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^thimble (\w+)([^#\n]*)#?(.*)$", CODE, re.MULTILINE)
FIRST_STEPS = re.findall(r"^thimble .*", README.split("## First steps")[1].split("##")[0], re.MULTILINE)
MAKE_TARGETS = re.findall(r"^make (\w+)", CODE, re.MULTILINE)


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)", README))
def test_readme_relative_link_exists(target: str) -> None:
    assert (REPOSITORY / target).exists()


@pytest.mark.parametrize("folder", re.findall(r"\b(?:model_packager|firmware|host_tools)(?:/[\w.]+)?", CODE))
def test_readme_data_path_folder_exists(folder: str) -> None:
    assert (REPOSITORY / folder).exists()


@pytest.mark.parametrize("target", MAKE_TARGETS)
def test_readme_make_target_exists(target: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(("command", "arguments", "comment"), COMMANDS, ids=[name for name, _, _ in COMMANDS])
def test_readme_command_has_a_help_that_names_its_options(command: str, arguments: str, comment: str) -> None:
    program = "import sys; from host_tools.cli import main; sys.exit(main())"
    command_line = [sys.executable, "-c", program, command, "--help"]
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for option in re.findall(r"(?<!\S)--?[a-z-]+", f"{arguments} {comment}"):
        assert option in done.stdout


def test_readme_compressed_networks_are_the_recorded_ones() -> None:
    rows = re.findall(r"\| ([\d,]+) \| 1/\d+ \| ([\d.]+) % \| ([\d.]+) % \|$", README, re.MULTILINE)
    shown = {(int(size.replace(",", "")), float(after), float(before)) for size, after, before in rows}
    results = [
        json.loads(path.read_text()) for path in (REPOSITORY / "benchmarks" / "training").glob("*.json")
    ]
    trained = {
        (each["file_bytes"], round(each["accuracy"], 2), round(each["float_accuracy"], 2)) for each in results
    }
    figures = {bar.name: bar.figure for bar in bars.load()}
    untrained = {
        size: figures[name.replace("bytes", "loss")]
        for name, size in figures.items()
        if name.endswith("post_training_bytes")
    }
    assert len(shown) >= 12
    for size, after, before in shown - trained:
        assert round(before - after, 2) == untrained[size]


@pytest.mark.parametrize("line", FIRST_STEPS, ids=[" ".join(line.split()[1:3]) for line in FIRST_STEPS])
def test_readme_first_step_works(line: str, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        line.split(),
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_readme_extras_are_those_for_users() -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) == extras.keys() - {"dev", "demo"}


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
def test_readme_python_gives_the_outputs_of_the_reference(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = NetworkBuilder(6)
    builder.output(builder.fully_connected(builder.conv(builder.input((1, 5, 4, 3)), 4, 3), 6))
    model = pack(builder.model)
    (tmp_path / "model.thimble").write_bytes(model.data)
    monkeypatch.chdir(tmp_path)
    (inputs,) = random_inputs(model.model, 1)
    names: dict[str, Any] = {"inputs": inputs}
    exec(block, names)
    assert bytes(names["outputs"]) == reference.run(model.model, [inputs])[0].tobytes()
