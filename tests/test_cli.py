"""The `thimble` command: pack, inspect and run on files, and one sentence on stderr for everything that is
wrong.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import resource
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from host_tools import cli
from host_tools.atomic_file import replacing
from host_tools.boards import all_boards
from host_tools.commands.analyze import analyse_file, print_analysis
from host_tools.commands.boards import print_boards
from host_tools.commands.inspect import print_inspection
from host_tools.exit_codes import ExitCode
from host_tools.inspect import RamRow, WeightsRow, inspect_file
from host_tools.meters.meter import DRIVERS
from model_packager import container, reference
from model_packager.errors import UsageError
from model_packager.format_table import PortFlag
from model_packager.pack import pack
from model_packager.sample_arrays import load_arrays
from tests import tflite_models
from tests.conftest import skip_or_fail
from tests.random_networks import NetworkBuilder

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[1]
# Every command that takes a packed model, which the test appends.
LOADERS = (
    ["inspect"],
    ["run", "--golden"],
    ["eval", "--data", "x.npz"],
    ["bench", "--target", "native"],
    ["energy"],
    ["deploy", "--port", "/dev/none"],
    ["export", "--c-array", "c"],
    ["flash", "--mip", "m", "--board", "pico", "--model"],
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A .tflite with one convolution, 8x8x2 to 8x8x3."""
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (3, 3, 3, 2)).astype(np.int8)
    path = tmp_path / "small.tflite"
    path.write_bytes(tflite_models.conv_2d((1, 8, 8, 2), weights, None, (0.1, 3), [0.01] * 3, (0.2, -5)))
    return path


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A packed network with two float ports in and one out."""
    builder = NetworkBuilder(20)
    first, second = builder.input((1, 4, 4, 3)), builder.input((1, 4, 4, 3))
    builder.output(builder.fully_connected(builder.global_pool(builder.add(first, second)), 5))
    for port in [*builder.model.inputs, *builder.model.outputs]:
        port.flags = PortFlag.FLOAT
    path = tmp_path / "two.thimble"
    path.write_bytes(pack(builder.model).data)
    return path


def run_cli(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def assert_one_sentence(err: str) -> None:
    assert err.startswith("thimble: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_cli_version_names_package_format_and_protocol(capsys: Capture) -> None:
    code, out, _ = run_cli(capsys, "--version")
    assert code == 0
    assert out.startswith("thimble ")
    assert "format 1, protocol 1" in out


def test_cli_help_lists_every_command_with_its_line(capsys: Capture) -> None:
    code, out, _ = run_cli(capsys, "--help")
    assert code == 0
    for name, module in cli.command_modules().items():
        assert name in out
        assert module.HELP.split()[0] in out


def test_cli_help_of_every_command_names_documents_that_are_there(capsys: Capture) -> None:
    named = set()
    for name in cli.command_modules():
        code, out, _ = run_cli(capsys, name, "--help")
        assert code == 0
        named |= set(re.findall(r"\w+/[\w/]+\.md", re.sub(r"/\n +", "/", out)))
    assert {"docs/ENERGY.md", "docs/RECIPES.md", "docs/TRAINING.md"} <= named
    assert all((ROOT / path).is_file() for path in named)


def test_every_meter_that_the_help_names_has_a_driver() -> None:
    folder = ROOT / "host_tools" / "meters"
    others = {"__init__", "meter", "replay", "trace"}
    assert {path.stem for path in folder.glob("*.py")} - others == set(DRIVERS)
    for name in DRIVERS:  # what a driver needs beside the usual is imported when a meter is opened
        driver = importlib.import_module(f"host_tools.meters.{name}")
        assert is_dataclass(driver.Options) and callable(driver.open_meter)


def test_cli_without_command_is_a_usage_error(capsys: Capture) -> None:
    code, out, err = run_cli(capsys)
    assert code == ExitCode.USAGE
    assert not out
    assert "COMMAND" in err


def test_cli_pack_inspect_run_agree_with_the_reference(source: Path, tmp_path: Path, capsys: Capture) -> None:
    model_path, x_path, y_path = tmp_path / "m.thimble", tmp_path / "x.npy", tmp_path / "y.npy"
    code, out, _ = run_cli(capsys, "pack", source, "-o", model_path)
    assert code == 0
    assert f"{model_path.stat().st_size:,} bytes" in out
    x = np.random.default_rng(1).integers(-128, 128, (5, 8, 8, 2)).astype(np.int8)
    np.save(x_path, x)
    assert run_cli(capsys, "run", model_path, "--input", x_path, "-o", y_path)[0] == 0
    expected = reference.run(container.load(model_path.read_bytes()), [x])[0]
    np.testing.assert_array_equal(np.load(y_path), expected)
    code, out, _ = run_cli(capsys, "inspect", model_path)
    assert code == 0
    assert "3 x 18" in out
    assert all(len(line) <= 100 for line in out.splitlines())


def test_cli_pack_default_output_stands_beside_the_source(source: Path, capsys: Capture) -> None:
    assert run_cli(capsys, "pack", source, "--objective", "speed", "--json")[0] == 0
    assert container.load(source.with_suffix(".thimble").read_bytes()).operators


def test_cli_pack_json_gives_the_figures(source: Path, capsys: Capture) -> None:
    figures = json.loads(run_cli(capsys, "pack", source, "--json")[1])
    assert figures["file_bytes"] == source.with_suffix(".thimble").stat().st_size
    assert figures["source_bytes"] == source.stat().st_size


def test_cli_inspect_json_accounts_for_every_byte(packed: Path, capsys: Capture) -> None:
    figures = json.loads(run_cli(capsys, "inspect", packed, "--json")[1])
    assert sum(part["stored_bytes"] for part in figures["parts"]) == packed.stat().st_size
    assert sum(row["stored_bytes"] for row in figures["weights"]) == figures["weight_bytes"]
    assert max(row["occupied_bytes"] for row in figures["ram"]) == figures["arena_bytes"]


def test_inspect_file_shared_weights_are_counted_once() -> None:
    builder = NetworkBuilder(21)
    tensor = builder.input((1, 4, 4, 4))
    tensor = builder.conv(tensor, 4)
    builder.output(builder.conv(tensor, 4))
    first, second = builder.model.operators
    second.weights = first.weights
    inspection = inspect_file(pack(builder.model).data)
    assert [row.shared_with for row in inspection.weights] == [None, 0]
    assert inspection.weights[1].stored_bytes == 0
    assert sum(part.stored_bytes for part in inspection.parts) == inspection.file_bytes


def test_cli_run_float_ports_take_and_give_floats(packed: Path, tmp_path: Path, capsys: Capture) -> None:
    model = container.load(packed.read_bytes())
    random = np.random.default_rng(2)
    a, b = (random.normal(size=(3, 4, 4, 3)).astype(np.float32) for _ in range(2))
    np.savez(tmp_path / "x.npz", input1=b, input0=a)
    code, out, _ = run_cli(capsys, "run", packed, "--input", tmp_path / "x.npz", "--json")
    assert code == 0
    quantised = [
        np.clip(np.round(x / np.float32(p.scale)) + p.zero_point, -128, 127).astype(np.int8)
        for x, p in zip((a, b), model.inputs, strict=True)
    ]
    port = model.outputs[0]
    expected = (reference.run(model, quantised)[0].astype(np.float64) - port.zero_point) * port.scale
    np.testing.assert_allclose(json.loads(out)["output0"], expected, rtol=1e-6)


def test_cli_run_output_npz_has_the_names_of_the_ports(packed: Path, tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "x.npz", np.zeros((4, 4, 3)), np.zeros((4, 4, 3)))
    y_path = tmp_path / "y.npz"
    assert run_cli(capsys, "run", packed, "--input", tmp_path / "x.npz", "--output", y_path)[0] == 0
    assert np.load(y_path)["output0"].shape == (1, 5)


@pytest.mark.parametrize("target", ["reference", "cpython"])
def test_cli_run_golden_compares_with_the_packager(packed: Path, capsys: Capture, target: str) -> None:
    code, _, err = run_cli(capsys, "run", packed, "--golden", "--target", target)
    assert (code, err) == (0, f"golden test passed on {target}\n")


def test_cli_run_golden_mismatch_is_named(packed: Path, capsys: Capture) -> None:
    model = container.load(packed.read_bytes())
    assert model.golden is not None
    model.golden = (model.golden[0], model.golden[1] ^ 1)
    packed.write_bytes(container.dump(model))
    code, out, err = run_cli(capsys, "run", packed, "--golden")
    assert code == ExitCode.ERROR
    assert not out
    assert "golden_mismatch" in err
    assert_one_sentence(err)


def _arrays(tmp_path: Path, *arrays: np.ndarray) -> Path:
    path = tmp_path / "x.npz"
    np.savez(path, *arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.zeros((4, 4, 3))], "the file holds 'arr_0'"),
        ([np.zeros((4, 4, 3)), np.zeros((4, 4, 2))], r"takes arrays of shape (1, 4, 4, 3) or (N, 4, 4, 3)"),
        ([np.zeros((2, 4, 4, 3)), np.zeros((3, 4, 4, 3))], "different numbers of samples: [2, 3]"),
        ([np.full((4, 4, 3), np.nan), np.zeros((4, 4, 3))], "not finite"),
        ([np.full((4, 4, 3), "a"), np.zeros((4, 4, 3))], "takes integers or floats, not <U1"),
    ],
    ids=["count", "shape", "batches", "nan", "text"],
)
def test_cli_run_input_that_does_not_fit_is_one_sentence(
    packed: Path, tmp_path: Path, capsys: Capture, arrays: list[np.ndarray], message: str
) -> None:
    code, out, err = run_cli(capsys, "run", packed, "--input", _arrays(tmp_path, *arrays))
    assert code == ExitCode.USAGE
    assert not out
    assert message in err
    assert_one_sentence(err)


def test_cli_run_integers_out_of_range_are_refused(source: Path, tmp_path: Path, capsys: Capture) -> None:
    model_path, x_path = tmp_path / "m.thimble", tmp_path / "x.npy"
    model_path.write_bytes(pack(source).data)
    np.save(x_path, np.full((8, 8, 2), 200))
    code, _, err = run_cli(capsys, "run", model_path, "--input", x_path)
    assert code == ExitCode.USAGE
    assert "integers from -128 to 127, or floats; it got 200" in err
    assert_one_sentence(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pack", "{tmp}/no.tflite"], "no.tflite: there is no such file"),
        (["pack", "{tmp}/model.h5"], "must end in one of .tflite, .onnx"),
        (["pack", "{tmp}/junk.tflite"], "junk.tflite"),
        (["pack", "{source}", "-o", "{tmp}/none/m.thimble"], "none: there is no such folder"),
        (["inspect", "{tmp}/junk.tflite"], "bad_magic"),
        (["inspect", "{tmp}"], "Is a directory"),
        (["pack", "."], ".: the name must end in one of .tflite, .onnx"),
        (["pack", "{source}", "-o", "."], ".: Is a directory"),
        (["train", "."], ".: Is a directory"),
        (["export", ".", "--c-array", "{tmp}/c"], ".: Is a directory"),
        (["analyze", "x.nope"], "must end in one of .tflite, .onnx, .thimble"),
        *(
            ([*words, "{source}"], "small.tflite: this is a .tflite file, not a packed model")
            for words in LOADERS
        ),
        (["inspect", "{tmp}/text.onnx"], "text.onnx: this is a .onnx file, not a packed model"),
        (["deploy", "{tmp}/short.thimble", "--port", "/dev/none"], "short.thimble: truncated: "),
        (["flash", "fw.uf2"], "unrecognized arguments: fw.uf2 (`thimble flash --help` explains)"),
        (["run", "{packed}", "--input", "{tmp}/junk.tflite"], "not a .npy or .npz file"),
        (["run", "{packed}", "--input", "{tmp}/none.npy"], "none.npy: there is no such file"),
        (
            ["run", "{packed}", "--input", "{tmp}/two.npz", "--target", "toaster"],
            "no target 'toaster'; known are",
        ),
        (
            ["run", "{packed}", "--input", "{tmp}/two.npz", "--output", "{tmp}/y.txt"],
            "must end in .npy or .npz",
        ),
    ],
)
def test_cli_bad_input_is_one_sentence_and_a_failure(
    source: Path, packed: Path, tmp_path: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    (tmp_path / "junk.tflite").write_bytes(bytes(range(256)))
    (tmp_path / "text.onnx").write_bytes(b"\x08\x07" * 9)
    (tmp_path / "short.thimble").write_bytes(packed.read_bytes()[:-40])
    np.savez(tmp_path / "two.npz", np.zeros((4, 4, 3)), np.zeros((4, 4, 3)))
    before = sorted(tmp_path.iterdir())
    filled = [text.format(tmp=tmp_path, source=source, packed=packed) for text in arguments]
    code, _, err = run_cli(capsys, *filled)
    assert code != 0
    assert message in err
    assert_one_sentence(err)
    assert sorted(tmp_path.iterdir()) == before


NPY = io.BytesIO()
np.save(NPY, np.zeros((4, 4, 3), np.int8))


def _zip(member: bytes = NPY.getvalue(), compression: int = zipfile.ZIP_STORED, name: str = "a.npy") -> bytes:
    """A .npz of one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, member)
    return buffer.getvalue()


def _patched(data: bytes, offset: int, value: int) -> bytes:
    """With another byte at `offset` of the member's entry in the directory, and at its place in the member's
    own header, which has all fields but the first two bytes further on."""
    entry = data.index(b"PK\1\2")
    patched = bytearray(data)
    patched[entry + offset] = patched[offset - 2] = value
    return bytes(patched)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_patched(_zip(), 10, zipfile.ZIP_DEFLATED), id="deflate"),
        pytest.param(_patched(_zip(), 10, zipfile.ZIP_BZIP2), id="bzip2"),
        pytest.param(_patched(_zip(), 10, zipfile.ZIP_LZMA), id="lzma"),
        pytest.param(NPY.getvalue().replace(b"(4, 4, 3), }", b"(4, 4, 3 , }"), id="header"),
        pytest.param(NPY.getvalue()[:-1], id="short"),
        pytest.param(_patched(_zip(), 6, 99), id="zip_version"),
        pytest.param(_patched(_zip(), 10, 99), id="zip_method"),
        pytest.param(_patched(_zip(), 8, 1), id="encrypted"),
        pytest.param(_zip(b"no array"), id="text"),
        pytest.param(_zip()[:-30], id="cut"),
    ],
)
def test_cli_damaged_arrays_are_one_sentence(packed: Path, capsys: Capture, data: bytes) -> None:
    path = packed.parent / "x.npz"
    path.write_bytes(data)
    code, _, err = run_cli(capsys, "run", packed, "--input", path)
    assert (code, err) == (ExitCode.USAGE, f"thimble: {path} is not a .npy or .npz file of plain arrays\n")


def test_load_arrays_of_files_with_wrong_bytes_gives_arrays_or_one_sentence(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    whole = [_zip(), _zip(compression=zipfile.ZIP_DEFLATED), NPY.getvalue()]
    for attempt in range(600):
        data = bytearray(whole[attempt % 3])
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        path = tmp_path / "x.npz"
        path.write_bytes(data[: random.integers(len(data) // 2, 2 * len(data))])
        with suppress(UsageError):
            assert all(isinstance(array, np.ndarray) for array in load_arrays(path).values())


def test_cli_pack_onto_its_own_source_is_refused(source: Path, capsys: Capture) -> None:
    before = source.read_bytes()
    code, _, err = run_cli(capsys, "pack", source, "-o", source.parent / "." / source.name)
    assert code == ExitCode.USAGE
    assert "would replace the network that it is made of" in err
    assert_one_sentence(err)
    assert source.read_bytes() == before


def test_cli_pack_model_id_and_version_reach_the_header(source: Path, capsys: Capture) -> None:
    numbers = ["--model-id", 7, "--model-version", 4294967295]
    assert run_cli(capsys, "pack", source, *numbers)[0] == 0
    figures = json.loads(run_cli(capsys, "inspect", source.with_suffix(".thimble"), "--json")[1])
    assert (figures["model_id"], figures["model_version"]) == (7, 4294967295)
    assert "id 7, version 4294967295" in run_cli(capsys, "inspect", source.with_suffix(".thimble"))[1]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (["--model-id", -1], "the model id is -1, not 0 to 4294967295"),
        (["--model-id", 1 << 32], "the model id is 4294967296"),
        (["--model-id", 1, "--model-version", 1 << 32], "the model version is 4294967296"),
        (["--model-version", 1], "--model-version needs --model-id"),
        (["--model-id", "x"], "argument --model-id: invalid int value: 'x'"),
    ],
)
def test_cli_pack_model_numbers_that_do_not_fit_are_one_sentence(
    source: Path, capsys: Capture, numbers: list[object], message: str
) -> None:
    code, _, err = run_cli(capsys, "pack", source, *numbers)
    assert code == ExitCode.USAGE
    assert message in err
    assert_one_sentence(err)
    assert not source.with_suffix(".thimble").exists()


def test_cli_output_that_is_a_folder_is_named_as_the_user_did(source: Path, capsys: Capture) -> None:
    folder = source.parent / "folder"
    folder.mkdir()
    code, _, err = run_cli(capsys, "pack", source, "-o", folder)
    assert (code, err) == (ExitCode.ERROR, f"thimble: {folder}: Is a directory\n")
    assert sorted(source.parent.iterdir()) == sorted([folder, source])


def test_cli_array_file_that_claims_too_much_is_one_sentence(packed: Path, capsys: Capture) -> None:
    path = packed.parent / "x.npy"
    np.save(path, np.zeros((4, 4, 3), np.int8))
    path.write_bytes(path.read_bytes().replace(b"(4, 4, 3), }", b"(%d,), }" % 10**16))
    code, _, err = run_cli(capsys, "run", packed, "--input", path)
    assert code == ExitCode.USAGE
    assert "x.npy claims more data than this machine has memory" in err
    assert_one_sentence(err)


def test_cli_run_huge_floats_saturate_in_silence(packed: Path, capsys: Capture) -> None:
    path = packed.parent / "x.npz"
    np.savez(path, np.full((4, 4, 3), 1e300), np.full((4, 4, 3), -1e300))
    code, _, err = run_cli(capsys, "run", packed, "--input", path)
    assert (code, err) == (0, "")


def run_process(arguments: list[object], limit_bytes: int | None = None, stdout: str = "") -> tuple[int, str]:
    """(exit code, stderr) of the command in a process of its own, perhaps with a limit on what it may
    write."""

    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    with open(stdout or os.devnull, "wb") as sink:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "host_tools.cli", *map(os.fsencode, map(str, arguments))],
            stdout=sink, stderr=subprocess.PIPE, preexec_fn=limit, timeout=60, check=False,
        )  # fmt: skip
    return done.returncode, done.stderr.decode()


def test_cli_pack_full_disk_is_one_sentence_and_leaves_nothing(source: Path) -> None:
    before = sorted(source.parent.iterdir())
    code, err = run_process(["pack", source], limit_bytes=100)
    assert code == ExitCode.ERROR
    assert f"{source.with_suffix('.thimble')}: File too large" in err
    assert_one_sentence(err)
    assert sorted(source.parent.iterdir()) == before


def test_cli_stdout_on_a_full_disk_is_one_sentence(packed: Path) -> None:
    if not Path("/dev/full").exists():
        skip_or_fail("there is no /dev/full here")
    for arguments in (["inspect", packed], ["--help"]):
        code, err = run_process(arguments, stdout="/dev/full")
        assert code == ExitCode.ERROR
        assert "No space left on device" in err
        assert_one_sentence(err)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_cli_closed_streams_are_no_failure(packed: Path, closed: str) -> None:
    command = f"{sys.executable} -m host_tools.cli inspect {packed} {closed}"
    finished = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_cli_file_name_that_is_no_text_works(packed: Path) -> None:
    name = packed.parent / os.fsdecode(b"caf\xe9.thimble")
    packed.rename(name)
    assert run_process(["inspect", name]) == (0, "")
    assert run_process(["inspect", name, "--json"]) == (0, "")


def test_cli_inspect_narrow_character_set_is_no_failure(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert run_process(["inspect", packed]) == (0, "")


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_inspect_prints_every_figure_whole_at_any_width(packed: Path, columns: int) -> None:
    inspection = inspect_file(packed.read_bytes())
    kind = "DEPTHWISE_CONV_2D"
    weights = WeightsRow(27, kind, 1024, 4608, 0.999, "bitmap-huffman-codebook", 103_123, 7.55, 0.155, None)
    ram = RamRow(27, kind, (1, 112, 112, 32), "fused_depthwise", 401_408, 401_408, 1_234, 12_544)
    inspection = replace(inspection, weights=(weights,), ram=(ram,))
    console = Console(width=columns, file=io.StringIO(), highlight=False)
    print_inspection(console, inspection, "m.thimble")
    text = console.file.getvalue()
    assert "…" not in text
    figures = ["bitmap-huffman-codebook", "7.55", "103,123", "15.5%", "1x112x112x32", "415,186", "12,544"]
    for figure in figures:
        assert figure in text
    assert max(map(len, text.splitlines())) <= columns


def test_tables_fit_60_columns_by_what_they_name_as_lost() -> None:
    path = ROOT / "examples" / "resnet8" / "resnet8_small.thimble"
    inspection, analysis = inspect_file(path.read_bytes()), analyse_file(path)
    for show, lost in (
        (lambda console: print_inspection(console, inspection, "m"), ["share, bits", "kernel, stream"]),
        (lambda console: print_analysis(console, analysis, "m"), ["share, MAC/B, proven", "standard MACs"]),
        (lambda console: print_boards(console, all_boards()), ["core"]),
    ):
        console = Console(width=60, file=io.StringIO(), highlight=False)
        show(console)
        text = console.file.getvalue()
        lines = [line for line in text.splitlines() if not line.startswith("  SHA-256   ")]
        assert max(map(len, lines)) <= 60 and "…" not in text
        assert all(f"without {names}" in text for names in lost)
        assert ("SHA-256 " in text) == (f"  SHA-256   {inspection.sha256}\n" in text)


def test_inspect_and_pack_say_the_ram_that_export_says(source: Path, tmp_path: Path, capsys: Capture) -> None:
    path = source.with_suffix(".thimble")
    printed = run_cli(capsys, "pack", source)[1]
    needed = re.search(r"([\d,]+) of RAM", run_cli(capsys, "export", path, "--c-array", tmp_path / "c")[1])
    assert needed is not None
    for text in (printed, run_cli(capsys, "inspect", path)[1]):
        assert f" on MicroPython, {needed[1]} in the C core, scratch included" in text


def test_cli_damaged_model_names_the_check(packed: Path, capsys: Capture) -> None:
    data = bytearray(packed.read_bytes())
    data[-40] ^= 1
    packed.write_bytes(data)
    code, _, err = run_cli(capsys, "inspect", packed)
    assert code == ExitCode.ERROR
    assert "bad_section_crc" in err or "bad_hash" in err
    assert str(packed) in err
    assert_one_sentence(err)


def test_cli_interrupt_is_one_word(monkeypatch: pytest.MonkeyPatch, packed: Path, capsys: Capture) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(container, "parse", interrupt)
    code, _, err = run_cli(capsys, "inspect", packed)
    assert (code, err) == (130, "thimble: interrupted\n")


@pytest.mark.parametrize("module", ["host_tools.cli", "argparse"])
def test_cli_interrupt_while_it_is_imported_is_one_word(module: str) -> None:
    program = f"""
import sys
from host_tools.__main__ import main
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.exit(main())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (ExitCode.INTERRUPTED, "thimble: interrupted\n")


def test_cli_parser_loads_only_what_parsing_needs() -> None:
    heavy = ("numpy", "serial", "yaml", "rich", "tflite", "onnx", "torch", "cffi")
    program = f"""
import sys
from host_tools import cli
cli.build_parser()
print([name for name in {heavy} if name in sys.modules])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_cli_closed_pipe_is_no_traceback(packed: Path) -> None:
    command = f"{sys.executable} -m host_tools.cli inspect {packed} | true"
    finished = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in finished.stderr


def test_replacing_failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.thimble"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
