"""The tools that other tests stand on do what those tests take for granted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

VIPER_SUM = """
import micropython

@micropython.viper
def total(data: ptr8, count: int) -> int:
    result = 0
    for index in range(count):
        result += data[index]
    return result

print(total(bytes(range(100)), 100))
"""


def test_micropython_viper_function_runs_and_sums(micropython: Path, tmp_path: Path) -> None:
    script = tmp_path / "viper_sum.py"
    script.write_text(VIPER_SUM)
    done = subprocess.run([micropython, script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.strip()) == (0, str(sum(range(100)))), done.stderr


@pytest.mark.parametrize("architecture", ["armv6m", "armv7emsp", "xtensawin", "rv32imc"])
def test_mpy_cross_viper_function_compiles(mpy_cross: Path, tmp_path: Path, architecture: str) -> None:
    script = tmp_path / "viper_sum.py"
    script.write_text(VIPER_SUM)
    compiled = tmp_path / "viper_sum.mpy"
    command = [mpy_cross, f"-march={architecture}", "-o", compiled, script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert compiled.read_bytes()[:1] == b"M"


def test_tflite_micro_keyword_model_equals_its_golden_outputs(
    data_dir: Path, require_module: Callable[[str], ModuleType]
) -> None:
    runtime = require_module("tflite_micro").runtime
    folder = data_dir / "mlperf_tiny"
    golden = np.load(folder / "golden/kws_ref_model_int8.npz")
    interpreter = runtime.Interpreter.from_file(str(folder / "models/kws_ref_model_int8.tflite"))
    for sample, expected in zip(golden["in0"], golden["out0_tflm"], strict=True):
        interpreter.set_input(sample, 0)
        interpreter.invoke()
        np.testing.assert_array_equal(interpreter.get_output(0), expected)
