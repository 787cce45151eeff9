"""What packing of large networks rests on: entries read at once, encoders in other processes, progress."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.architectures.build import samples
from examples.architectures.networks import BLOCKS
from host_tools import cli, encoding_pool
from model_packager.encoders import Encoding, decode, dense, encode, entry_scan
from model_packager.encoders.entry_scan import PrefixTable, scan_entries
from model_packager.encoders.relative_index import find_entries, insert_fillers
from model_packager.encoders.stream import GAP_BITS_TRIED, Matrix, _gap_bits_worth_trying, _plan
from model_packager.errors import FormatError, PackError
from model_packager.format_table import Coder, Layout, ValueMap
from model_packager.model import Model
from model_packager.pack import pack
from tests.random_networks import NetworkBuilder

DEEP_COMPRESSION = Encoding(Layout.SPARSE, Coder.HUFFMAN, ValueMap.CODEBOOK)


def sparse_matrix(rows: int, cols: int, density: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.integers(-15, 16, (rows, cols)) * 8
    return np.where(random.random((rows, cols)) < density, values, 0).astype(np.int8)


def network() -> Model:
    builder = NetworkBuilder(4)
    inner = builder.conv(builder.conv(builder.input((1, 8, 8, 3)), 6, 3), 8, 3)
    builder.output(builder.fully_connected(builder.global_pool(inner), 5))
    return builder.model


@pytest.mark.parametrize("chunk_bits", [64, 1 << 19])
@pytest.mark.parametrize("density", [0.9, 0.2, 0.03])
def test_decode_of_entries_at_once_gives_the_weights_whatever_the_chunk(
    chunk_bits: int, density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_scan, "CHUNK_BITS", chunk_bits)
    values = sparse_matrix(40, 300, density)
    np.testing.assert_array_equal(decode(encode(values, DEEP_COMPRESSION)), values)


def test_scan_entries_reads_the_bits_that_it_says() -> None:
    # Gaps of one bit, values of two: 0b10_1 is gap 1 and value 2, then 0b01_0 gap 0 and value 1.
    gaps = PrefixTable(1, np.arange(2), np.full(2, 1))
    values = PrefixTable(2, np.arange(4), np.full(4, 2))
    found = scan_entries(bytes([0b11_010_101]), 2, gaps, values)
    assert found is not None
    assert (found[0].tolist(), found[1].tolist(), found[2]) == ([1, 0], [2, 1], 6)


def test_scan_entries_of_too_short_data_is_none() -> None:
    gaps = PrefixTable(1, np.arange(2), np.full(2, 1))
    values = PrefixTable(2, np.arange(4), np.full(4, 2))
    assert scan_entries(bytes(1), 3, gaps, values) is None
    assert scan_entries(b"", 1 << 26, gaps, values) is None


def test_scan_entries_of_a_code_without_symbol_is_none() -> None:
    gaps = PrefixTable(1, np.array([0, -1]), np.full(2, 1))
    values = PrefixTable(2, np.arange(4), np.full(4, 2))
    assert scan_entries(bytes([0b001]), 1, gaps, values) is None


@pytest.mark.parametrize("bits", range(1, 9))
def test_decode_of_fixed_values_at_once_gives_the_weights_and_the_same_errors(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "CHUNK_VALUES", 64)
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)
    values = np.random.default_rng(bits).integers(low, high, (9, 37)).astype(np.int8)
    values[0, :2] = low, high - 1
    stream = encode(values, Encoding(Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY))
    np.testing.assert_array_equal(decode(stream), values)
    for payload, error in ((stream.payload[:-1], "ends in the middle"), (stream.payload + b"\0", "are left")):
        with pytest.raises(FormatError, match=error):
            decode(type(stream)(stream.descriptor, payload))
    if values.size * bits % 8:
        with pytest.raises(FormatError, match="padding after the last weight"):
            decode(type(stream)(stream.descriptor, stream.payload[:-1] + bytes([stream.payload[-1] | 0x80])))


def test_decode_of_a_cut_stream_still_names_the_error() -> None:
    stream = encode(sparse_matrix(20, 100, 0.1), DEEP_COMPRESSION)
    with pytest.raises(FormatError, match=r"ends in the middle of a symbol|left after|no symbol"):
        decode(type(stream)(stream.descriptor, stream.payload[:-3]))


@pytest.mark.parametrize("density", [0.7, 0.1, 0.02, 0.003])
@pytest.mark.parametrize("coder", [Coder.FIXED, Coder.HUFFMAN])
def test_gap_bits_left_out_would_not_have_been_the_smallest(density: float, coder: Coder) -> None:
    matrix = Matrix(sparse_matrix(50, 400, density, seed=3))
    encoding = Encoding(Layout.SPARSE, coder, ValueMap.CODEBOOK)
    sizes = {gap_bits: _plan(matrix, encoding, gap_bits).stored_bytes for gap_bits in GAP_BITS_TRIED}
    tried = _gap_bits_worth_trying(matrix.entries.gaps)
    assert min(sizes[gap_bits] for gap_bits in tried) == min(sizes.values())


def test_entries_of_int8_and_int64_matrices_are_the_same() -> None:
    values = sparse_matrix(9, 70, 0.1)
    narrow, wide = find_entries(values), find_entries(values.astype(np.int64))
    np.testing.assert_array_equal(narrow.weights, wide.weights)
    assert insert_fillers(narrow, 2).weights.dtype == np.int64


def test_pack_with_an_executor_gives_the_same_file() -> None:
    with ProcessPoolExecutor(2) as executor:
        parallel = pack(network(), executor=executor)
    assert parallel.data == pack(network()).data


def test_pack_on_a_dask_cluster_gives_the_same_file() -> None:
    from distributed import Client

    with (
        Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client,
        client.get_executor() as executor,
    ):
        parallel = pack(network(), executor=executor)
    assert parallel.data == pack(network()).data


def test_cli_pack_encodes_in_processes_and_writes_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "net.onnx"
    graph = BLOCKS["fire_module"].build("fire_module")
    source.write_bytes(graph.SerializeToString())
    np.savez(tmp_path / "samples.npz", **samples(graph, 4))
    started: list[int] = []

    class CountedPool(ProcessPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Any:
            started.append(self._max_workers)
            return super().submit(*arguments, **named)

    monkeypatch.setattr(encoding_pool, "ProcessPoolExecutor", CountedPool)
    command = ["pack", str(source), "--calibration", str(tmp_path / "samples.npz"), "-o"]
    assert cli.main([*command, str(tmp_path / "small.thimble")]) == 0
    assert not started  # so small a network is encoded sooner than a process starts
    monkeypatch.setattr(encoding_pool, "LEAST_SOURCE_BYTES", 0)
    assert cli.main([*command, str(tmp_path / "one.thimble"), "--jobs", "1"]) == 0
    assert not started
    monkeypatch.setattr(encoding_pool, "usable_cores", lambda: 2)
    assert cli.main([*command, str(tmp_path / "all.thimble")]) == 0
    assert started == [2, 2, 2]  # one task for each of the module's three layers
    files = [(tmp_path / f"{name}.thimble").read_bytes() for name in ("small", "one", "all")]
    assert files[0] == files[1] == files[2]
    assert cli.main([*command, str(tmp_path / "none.thimble"), "--jobs", "0"]) != 0
    assert "--jobs is 0" in capsys.readouterr().err


def test_encoding_pool_that_loses_a_process_says_so() -> None:
    with (
        pytest.raises(PackError, match="a process that encoded tensors has ended"),
        encoding_pool.encoding_pool(encoding_pool.LEAST_SOURCE_BYTES, 2) as executor,
    ):
        assert executor is not None
        executor.submit(os._exit, 1).result()


def test_pack_reports_progress_up_to_all_weights() -> None:
    seen: list[tuple[int, int]] = []
    result = pack(network(), progress=lambda done, whole: seen.append((done, whole)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (result.report.weights_after, result.report.weights_after)
