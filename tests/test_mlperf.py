"""Devices for MLPerf Tiny (docs/MLPERF.md): the same transcripts against every server, then the benchmark's
three modes by a runner, on the benchmark's networks."""

from __future__ import annotations

import atexit
import functools
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from host_tools import device_package, firmware_image, serve
from host_tools.boards import load_board
from host_tools.firmware_image import Image, cached_image
from model_packager import container, reference
from model_packager.format_table import (
    MLPERF_BAUD,
    MLPERF_ENERGY_BAUD,
    MLPERF_FRACTION,
    WIRE_MIN_PAYLOAD_BYTES,
    WIRE_REPLY_BIT,
    Message,
)
from model_packager.pack import pack
from tests.conftest import require_tool
from tests.device_models import expected_outputs, random_inputs
from tests.mlperf_runner import READY, HostLine, Line, Runner, SerialLine
from tests.random_networks import NetworkBuilder
from tests.server_devices import CDevice

FOLDER = Path(__file__).parent / "vectors" / "mlperf"
TRANSCRIPTS = sorted(path.stem for path in FOLDER.glob("*.txt"))
SERVERS = ("c", "qemu:m4", "micropython", "micropython_built", "cpython")
ENERGY = "energy"
PERFORMANCE = "performance"
# Shows the edges: a real pin, too, has none where it is set to what it is.
PIN = (
    "(lambda levels: lambda level: levels.append(level) or levels[-2] == level or "
    "__import__('sys').stdout.buffer.write((b'<low>', b'<high>')[level]))([0])"
)
# Published network: name that the runner knows, names in the data folder, whether the buffer has pixels.
NETWORKS = {
    "kws01": ("kws_ref_model_int8", False),
    "ic01": ("ic_pretrainedResnet_int8", True),
    "vww01": ("vww_96_int8", True),
}


# -- networks and what they must answer


def _network(kind: str) -> bytes:
    builder = NetworkBuilder(3)

    def source(shape: tuple[int, ...]) -> int:
        tensor = builder.input(shape)
        if kind == "pixels":
            builder.model.tensors[tensor].zero_point = builder.model.inputs[-1].zero_point = -128
        return tensor

    if kind == "two_inputs":
        first, second = source((1, 2, 2, 2)), source((1, 2, 2, 2))
        builder.output(builder.conv(builder.add(first, second), 3))
        builder.output(builder.lookup(second))
    elif kind == "autoencoder":
        builder.output(builder.fully_connected(builder.fully_connected(source((1, 6)), 5), 6))
    else:
        builder.output(builder.conv(source((1, 2, 2, 3)), 2))
    return pack(builder.model, name="kws01").data


def _rounded(value: Fraction) -> int:
    """The nearest integer, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + Fraction(1, 2)), value))


def _decimal(millionths: int) -> str:
    sign = "-" if millionths < 0 else ""
    return f"{sign}{abs(millionths) // MLPERF_FRACTION}.{abs(millionths) % MLPERF_FRACTION:06d}"


def _exact(value: float) -> Fraction:
    """A number as a fraction; infinity as one beyond all that counts."""
    return Fraction(math.copysign(1e38, value)) if math.isinf(value) else Fraction(value)


def expected_results(file: bytes, data: bytes) -> str:
    """What stands in the brackets of m-results for an input, by docs/MLPERF.md, in exact fractions."""
    model = container.load(file)
    sizes = [model.tensors[port.tensor].size_bytes for port in model.inputs]
    arrays, reals, at = [], [], 0
    for port, size in zip(model.inputs, sizes, strict=True):
        scale = Fraction(float(np.float32(port.scale)))
        if len(data) == sum(sizes):
            integers = [
                byte - 128 if port.zero_point == -128 else (byte ^ 128) - 128 for byte in data[at : at + size]
            ]
            reals += [scale * (integer - port.zero_point) for integer in integers]
        else:
            given = np.frombuffer(data, "<f4", size, 4 * at)
            reals += [_exact(float(value)) for value in given]
            steps = [_rounded(value / scale) + port.zero_point for value in reals[at:]]
            integers = [max(-128, min(127, step)) for step in steps]
        arrays.append(np.array(integers, np.int8).reshape(model.tensors[port.tensor].shape))
        at += size
    outputs = reference.run(model, arrays)
    found = [
        Fraction(float(np.float32(port.scale))) * (int(value) - port.zero_point)
        for port, output in zip(model.outputs, outputs, strict=True)
        for value in output.ravel()
    ]
    if len(model.inputs) == len(model.outputs) == 1 and len(found) == sizes[0]:
        pairs = zip(reals, found, strict=True)
        differences = [abs(_rounded(x * 2**16) - _rounded(y * 2**16)) for x, y in pairs]
        mean = sum(min(d, 1 << 28) ** 2 >> 8 for d in differences) // len(found)
        return _decimal(_rounded(Fraction(mean, 2**24) * MLPERF_FRACTION))
    return ",".join(_decimal(_rounded(value * MLPERF_FRACTION)) for value in found)


# -- servers


@functools.cache
def _built_package() -> Path:
    """The package for this machine as `thimble flash --mlperf` installs it."""
    folder = Path(tempfile.mkdtemp(prefix="thimble-"))
    atexit.register(shutil.rmtree, folder)
    device_package.build_device_package("x64", folder / "thimble", mlperf=True)
    return folder / "thimble"


@contextmanager
def _device(
    server: str, mode: str, file: bytes | None, c_server: Path, folder: Path, patch: pytest.MonkeyPatch
) -> Iterator[tuple[Line, str]]:
    """A device that holds `file`, and what it said when it started."""
    if server == "c":
        device = CDevice(c_server, folder)
        if file is not None:
            device.store(file)
        host = device.start(WIRE_MIN_PAYLOAD_BYTES)
        greeting = host.command(b"m", (mode == ENERGY).to_bytes(4, "little")).decode("ascii")
        yield HostLine(host), greeting
        host.close()
        return
    target = server.removesuffix("_built")
    if server != target:
        patch.setattr(serve, "device_package_folder", _built_package)
    if target.startswith(serve.QEMU_TARGET):
        require_tool("arm-none-eabi-gcc")
        require_tool("qemu-system-arm")
    patch.setattr(serve, "NO_PIN", PIN)
    with serve.start(target, mlperf=mode) as started:
        line = SerialLine(started.port, shows_edges=not target.startswith(serve.QEMU_TARGET))
        greeting = line.exchange(b"").decode("ascii")
        if file is not None:
            line.close()
            with started.connect() as client:
                client.deploy(file)
            line = SerialLine(started.port, line.shows_edges)
        yield line, greeting
        line.close()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, micropython: Path, mpy_cross: Path) -> str:
    return request.param


Start = Callable[[str, bytes | None], tuple[Line, str]]


@pytest.fixture
def start(server: str, c_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    opened = []

    def started(mode: str, file: bytes | None) -> tuple[Line, str]:
        device = _device(server, mode, file, c_server, tmp_path, monkeypatch)
        opened.append(device)
        return device.__enter__()

    yield started
    for device in opened:
        device.__exit__(None, None, None)


# -- transcripts


def _steps(text: str) -> Iterator[tuple[bytes, list[str]]]:
    """Pairs of what the host sends and the lines that answer it."""
    sent, answer = b"", []
    for line in text.splitlines():
        if line.startswith("> "):
            if sent:
                yield sent, answer
            sent, answer = line[2:].encode().decode("unicode_escape").encode("latin-1"), []
        elif line.startswith("< "):
            answer.append(line[2:])
    yield sent, answer


def _pattern(line: str, file: bytes | None, shows_edges: bool) -> str:
    def placeholder(match: re.Match[str]) -> str:
        name, _, argument = match.group(1).partition(" ")
        if name == "results":
            assert file is not None
            return re.escape(expected_results(file, bytes.fromhex(argument)))
        return {"name": "[^]%]+", "number": "[0-9]+"}[name]

    if not shows_edges:
        line = line.replace("<low>", "").replace("<high>", "")
    pieces = re.split(r"(\{[^}]*\})", line)
    return "".join(
        re.sub(r"\{(.*)\}", placeholder, piece) if piece.startswith("{") else re.escape(piece)
        for piece in pieces
    )


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
def test_transcript(transcript: str, start: Start) -> None:
    text = (FOLDER / f"{transcript}.txt").read_text()
    kind = re.findall(r"^model (\w+)$", text, re.MULTILINE)[0]
    file = None if kind == "none" else _network(kind)
    line, _ = start(ENERGY if transcript == ENERGY else PERFORMANCE, file)
    for sent, answer in _steps(text):
        heard = line.exchange(sent, sent.count(b"%")).decode("ascii")
        expected = "".join(_pattern(one, file, line.shows_edges) + "\r\n" for one in answer)
        assert re.fullmatch(expected, heard), (sent, heard)


@pytest.mark.parametrize("mode", [PERFORMANCE, ENERGY])
def test_a_device_says_its_mode_when_it_starts(mode: str, start: Start) -> None:
    line, greeting = start(mode, None)
    pulse = "<high><low><high>" if line.shows_edges else ""
    stamp = pulse if mode == ENERGY else "m-lap-us-[0-9]+\r\n"
    assert re.fullmatch(f"m-timestamp-mode-{mode}\r\n{stamp}m-init-done\r\n{READY}\r\n", greeting)


# -- the modes


@pytest.fixture
def samples(data_dir: Path) -> Callable[[str], tuple[bytes, list[tuple[bytes, np.ndarray]]]]:
    """Of a published network: the packed file, and pairs of an input as the benchmark's data sets have it and
    TFLM's outputs."""

    def found(name: str) -> tuple[bytes, list[tuple[bytes, np.ndarray]]]:
        stem, has_pixels = NETWORKS[name]
        folder = data_dir / "mlperf_tiny"
        file = pack(folder / "models" / f"{stem}.tflite", name=name).data
        golden = np.load(folder / "golden" / f"{stem}.npz")
        inputs = golden["in0"].view(np.uint8) ^ (0x80 if has_pixels else 0)
        outputs = golden["out0_tflm"].reshape(len(inputs), -1)
        return file, [(given.tobytes(), output) for given, output in zip(inputs, outputs, strict=True)]

    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_accuracy_mode_gives_the_outputs_of_tflm(
    name: str,
    samples: Callable[[str], tuple[bytes, list[tuple[bytes, np.ndarray]]]],
    c_server: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, pairs = samples(name)
    for server in ("qemu:m4", "micropython") if name == "kws01" else ("qemu:m4",):
        with _device(server, PERFORMANCE, file, c_server, tmp_path, monkeypatch) as (line, _):
            runner = Runner(line)
            assert runner.value("profile", "model") == name
            for given, output in pairs[: 1 if name == "vww01" else 3]:
                runner.load(given)
                results = np.array(runner.infer(1, 0).results)
                # Softmax: scale 1/256, zero point -128.
                assert np.array_equal(np.rint(results * 256) - 128, output)


def test_anomaly_detector_takes_floats_and_gives_their_error(
    data_dir: Path, c_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The windows are 5 of the spectrogram's frames, one frame on each time; the reference quantises them and
    takes the mean of the squared differences in floats."""
    folder = data_dir / "mlperf_tiny"
    file = pack(folder / "models/ad01_int8.tflite", name="ad01").data
    spectrogram = np.fromfile(folder / "ad/normal_id_01_00000000_hist_librosa.bin", np.float32)
    port = container.load(file).outputs[0]
    golden = np.load(folder / "golden/ad01_int8.npz")["out0_tflm"].reshape(-1, 640)
    with _device("qemu:m4", PERFORMANCE, file, c_server, tmp_path, monkeypatch) as (line, _):
        runner = Runner(line)
        for index in range(3):
            window = spectrogram[128 * index : 128 * index + 640]
            runner.load(window.tobytes())
            (result,) = runner.infer(1, 0).results
            output = port.scale * (golden[index].astype(np.float64) - port.zero_point)
            assert result == pytest.approx(np.mean((window - output) ** 2), abs=1e-4)


def test_performance_mode_is_the_median_of_five_windows(
    samples: Callable[[str], tuple[bytes, list[tuple[bytes, np.ndarray]]]],
    c_server: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, pairs = samples("kws01")
    with _device("qemu:m4", PERFORMANCE, file, c_server, tmp_path, monkeypatch) as (line, _):
        runner = Runner(line)
        rate, times = runner.performance(pairs[0][0], count=4, warmups=1)
        _, longer = runner.performance(pairs[0][0], count=8, warmups=0, windows=1)
    # An emulated microsecond is a thousand instructions, and the same inference takes as many each time.
    assert len(times) == 5 and max(times) - min(times) <= 2
    assert longer[0] == pytest.approx(2 * times[0], rel=0.01)
    assert rate == pytest.approx(4e6 / sorted(times)[2])


def test_energy_mode_pulses_the_pin_and_tells_no_time(start: Start) -> None:
    line, _ = start(ENERGY, _network("features"))
    runner = Runner(line)
    runner.load(bytes(12))
    lines = runner.command("infer 3 2")
    at = lines.index("m-infer-start-3")
    assert lines[at - 2 : at] == ["m-warmup-start-2", "m-warmup-done"]
    done = lines[at + 1]
    assert done == ("<low><high>" * 2 if line.shows_edges else "") + "m-infer-done"
    assert not [one for one in lines if one.startswith("m-lap")]


# -- frames on the same line


def test_models_are_deployed_on_the_same_line(
    micropython: Path, c_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _network("features"), _network("pixels")
    data = bytes(range(12))
    for target in ("qemu:m4", "micropython"):
        with serve.start(target, mlperf=PERFORMANCE) as started:
            for file in (first, second):
                with started.connect() as client:
                    client.deploy(file, force=True)
                    inputs = random_inputs(file, 1)
                    assert client.infer(inputs)[0] == expected_outputs(file, inputs)
                line = SerialLine(started.port)
                runner = Runner(line)
                # What an earlier model had loaded is gone with it.
                assert runner.command("results") == ["e-[No inference has run]"]
                assert runner.command("infer 1 0")[0].startswith("e-[Input db has 0 bytes")
                runner.load(data)
                runner.infer(1, 0)
                assert runner.value("results", "results") == expected_results(file, data)
                # A frame that is cut off ends with the next line feed.
                heard = line.exchange(b"\n\x09half a frame%name%\nname%")
                complaint = heard[: heard.index(b"m-name")]
                assert complaint[1] == Message.ERROR | WIRE_REPLY_BIT and heard.count(b"m-name") == 1
                line.close()


def test_no_bytes_from_the_line_break_the_server_in_c(c_server: Path, tmp_path: Path) -> None:
    """Pieces of commands, frames and noise in any order; the sanitizers and the flash's rules judge."""
    device = CDevice(c_server, tmp_path)
    device.store(_network("autoencoder"))
    host = device.start(WIRE_MIN_PAYLOAD_BYTES)
    random = np.random.default_rng(9)
    pieces = [b"db", b"load", b"print", b"infer", b"results", b"name", b"profile", b"help", b"timestamp"]
    pieces += [b" ", b"%", b"%", b"0", b"6", b"24", b"7f80ffff", b"0000803f", b"4294967295", b"\n", b"\n\x01"]
    pieces += [
        b"db load 24%",
        b"db load 6%",
        b"db " + b"ffffffff" * 6 + b"%",
        b"db 00408000c010%",
        b"infer 1 0%",
    ]
    for energy in (0, 1):
        host.command(b"m", energy.to_bytes(4, "little"))
        for _ in range(60):
            chosen = [pieces[index] for index in random.integers(len(pieces), size=60)]
            chosen.insert(int(random.integers(60)), random.bytes(3))
            host.receive(b"".join(chosen))
        assert b"m-name-dut-[host]\r\nm-ready\r\n" in host.receive(b"\nname%")
    host.close()


# -- what an image without it does not pay


def test_only_an_image_for_mlperf_has_its_commands() -> None:
    require_tool("arm-none-eabi-gcc")
    board = load_board("qemu_m4")
    plain = Image(cached_image(board))
    assert not [name for name in plain.symbols if "mlperf" in name]
    sizes = {mode: Image(cached_image(board, mlperf=mode)) for mode in firmware_image.MLPERF_MODES}
    for image in sizes.values():
        assert "thimble_mlperf_receive" in image.symbols
        assert image.size(".data", ".bss") - plain.size(".data", ".bss") <= 32  # its own struct, no buffer


def test_the_line_has_the_rate_of_the_mode() -> None:
    assert (
        firmware_image.MLPERF_MODES
        == {PERFORMANCE: MLPERF_BAUD, ENERGY: MLPERF_ENERGY_BAUD}
        == {
            PERFORMANCE: 115200,
            ENERGY: 9600,
        }
    )


def test_only_a_package_for_mlperf_has_its_commands() -> None:
    assert "mlperf" not in device_package.device_sources()
    assert {"mlperf", "slots"} <= set(device_package.device_sources(slots=False, mlperf=True))
