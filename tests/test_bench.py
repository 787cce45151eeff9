"""`thimble bench`: what it measures beside the times, and the published figure that it prints beside them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from host_tools import cli, serve
from host_tools.commands import bench
from host_tools.exit_codes import ExitCode
from host_tools.published import FILE, Published, benchmark_of, nearest, read_results
from model_packager import container, reference
from model_packager.golden import golden_inputs
from model_packager.model import Model
from model_packager.pack import pack, with_raw_weights
from tests.conftest import require_tool
from tests.device_models import packed_model
from tests.random_networks import NetworkBuilder

Capture = pytest.CaptureFixture[str]
HEADER = ["round", "org", "system", "bench", "inf_per_s", "ms", "uJ", "acc"]
ROWS = [
    ["v1.2", "ST", "NUCLEO_L4R5ZI", "kws", "20", "50", "1", "90"],
    ["v1.0", "TVM", "NUCLEO-L4R5ZI_MICROTVM", "kws", "10", "100", "", "90"],
    ["v1.2", "ST", "NUCLEO_H7A3ZI_Q", "kws", "100", "10", "", "90"],
    ["v1.2", "ST", "NUCLEO_H7A3ZI_Q", "ic", "10", "", "", "90"],
]
TWO = Published("kws", 50.0, "NUCLEO_L4R5ZI", "ST", "v1.2")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with four published results."""
    path = tmp_path / FILE
    path.parent.mkdir()
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *ROWS])
    monkeypatch.setenv("THIMBLE_DATA", str(tmp_path))
    return path


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "network.thimble"
    path.write_bytes(packed_model())
    return path


def keyword_network() -> Model:
    """A small network with the shapes of the keyword benchmark."""
    builder = NetworkBuilder(3)
    builder.output(builder.fully_connected(builder.global_pool(builder.input((1, 49, 10, 1))), 12))
    return builder.model


def run_bench(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main(["bench", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_with_raw_weights_is_the_same_network() -> None:
    file = packed_model()
    raw = with_raw_weights(container.load(file))
    model, same = container.load(file), container.load(raw)
    assert raw != file and model.golden == same.golden
    inputs = golden_inputs(model, 5)
    for ours, theirs in zip(reference.run(model, inputs), reference.run(same, inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nearest_is_the_same_board_then_its_core_then_the_nearest_time(data: Path) -> None:
    results = read_results(data)
    assert len(results) == 3  # one row has no latency
    assert nearest(results, "kws", "nucleo_l4r5zi", "Cortex-M4", 60.0) == TWO
    slower = nearest(results, "kws", "nucleo_l4r5zi", "Cortex-M4", 90.0)
    assert slower is not None and slower.organisation == "TVM"
    assert nearest(results, "kws", "qemu_m4", "Cortex-M4", None) == TWO  # the fastest of its core's board
    other = nearest(results, "kws", "esp32", "Xtensa LX6", 12.0)
    assert other is not None and other.system == "NUCLEO_H7A3ZI_Q"
    assert nearest(results, "vww", "pico", None, 1.0) is None


def test_benchmark_of_goes_by_shapes() -> None:
    assert benchmark_of(keyword_network()) == "kws"
    assert benchmark_of(container.load(packed_model())) is None


def test_bench_in_the_c_core_prints_all_lines(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    require_tool("gcc")
    path = tmp_path / "keywords.thimble"
    path.write_bytes(pack(keyword_network()).data)
    code, out, err = run_bench(capsys, path, "--target", "native", "--runs", "3", "--warm-up", "1")
    assert "clock         this machine's" in out
    assert (code, err) == (0, "")
    assert "3 runs after 1 to warm up" in out
    assert re.search(r"all in all +[\d,.]+ million MACs a second", out)
    assert re.search(r"loading +[\d,.]+ us", out)
    assert re.search(r"decoding +\d+\.\d%: raw weights take [\d,.]+ us", out)
    assert re.search(r"other stack +kws in [\d.]+ ms \(.*MLPerf Tiny v1", out)
    assert max(map(len, out.splitlines()[1:])) <= 100  # the first line has the file's path
    monkeypatch.setenv("THIMBLE_DATA", str(tmp_path / "nowhere"))
    code, out, _ = run_bench(capsys, path, "--target", "native", "--runs", "1", "--warm-up", "0")
    assert code == 0 and "other stack   no mlperf_tiny/published_results.csv in $THIMBLE_DATA" in out


def test_bench_on_an_emulated_board_counts_loading_and_decoding_the_same_each_time(
    model_path: Path, capsys: Capture
) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    arguments = (model_path, "--target", "qemu:m4", "--runs", "2", "--json")
    first, second = (json.loads(run_bench(capsys, *arguments)[1]) for _ in range(2))
    assert first == second
    assert first["load_instructions"] > 10_000
    assert 0 <= first["decode_share"] < 1
    assert first["decode_share"] == max(
        0.0, round(1 - first["raw_median_instructions"] / first["median_instructions"], 4)
    )
    assert first["instructions_per_mac"] == round(first["median_instructions"] / first["macs"], 3)
    assert first["warm_up_runs"] == bench.WARM_UP_RUNS and len(first["times_instructions"]) == 2


def test_bench_on_a_device_leaves_its_model_and_says_what_was_not_measured(
    model_path: Path, micropython: Path, capsys: Capture
) -> None:
    with serve.start("micropython") as server:
        arguments = (model_path, "--port", server.port, "--runs", "2")
        assert re.search(r"loading +[\d,]+ us", run_bench(capsys, *arguments)[1])
        shown = run_bench(capsys, *arguments)[1]
        assert "loading       not measured: it ran already (--load)" in shown
        assert "decoding      not measured (--decode)" in shown
        figures = json.loads(run_bench(capsys, *arguments, "--decode", "--load", "--json")[1])
        assert figures["load_us"] > 0 and figures["raw_median_us"] > 0
        with server.connect() as client:
            assert client.hello.model_sha256.hex() == figures["sha256"]


def test_bench_where_raw_weights_do_not_fit_says_so(tmp_path: Path, capsys: Capture) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    path = Path(__file__).parents[1] / "examples" / "lenet300" / "lenet300_accurate.thimble"
    code, out, _ = run_bench(capsys, path, "--target", "qemu:microbit", "--runs", "1", "--warm-up", "0")
    assert code == 0, out
    assert "with raw weights the device refuses it (no_space)" in out


def test_bench_with_numbers_that_make_no_sense_is_a_usage_error(model_path: Path, capsys: Capture) -> None:
    for option in (("--runs", "0"), ("--warm-up", "-1")):
        assert run_bench(capsys, model_path, "--target", "native", *option)[0] == ExitCode.USAGE


@pytest.mark.parametrize(
    ("operators", "rates"),
    [([(10, 0, True), (30, 20, False)], ["2.00"]), ([(0, 0, False), (30, 60, False)], ["0.50"])],
)
def test_bench_table_counts_a_fused_pair_together(
    operators: list[tuple[int, int, bool]], rates: list[str], capsys: Capture
) -> None:
    rows = [
        {"index": i, "kind": "CONV_2D", "macs": macs, "us": time, "fused": fused}
        for i, (macs, time, fused) in enumerate(operators)
    ]
    table = bench._table({"unit": "us", "operators": rows, "macs": 40}, False)
    shown = [list(column.cells) for column in table.columns]
    assert ("with next" in shown[3]) == operators[0][2]
    # The rate is in products for a microsecond, without decimals.
    assert shown[5][1] == f"{float(rates[0]):,.0f}"
