"""The measurement of the micro:bit's RAM: what it finds of a stack, and that the bar's network runs in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.microbit_ram import stack_bytes
from tests.conftest import require_tool

RAM_BYTES = 4096


def test_stack_bytes_are_those_above_the_untouched_pattern() -> None:
    assert stack_bytes(b"\xa5" * 100) == 0
    assert stack_bytes(b"\xa5" * 60 + b"\x01" + b"\xa5" * 30 + b"\x02" * 9) == 40


def test_lenet300_runs_on_the_microbit_machine_in_its_bar_of_ram(data_dir: Path, repository: Path) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    command = [sys.executable, "benchmarks/microbit_ram.py"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    name, figure = done.stdout.splitlines()[-1].split()[1:]
    assert name == "core_microbit_ram" and int(figure) <= RAM_BYTES
