"""Packs the four networks losslessly with the objective `size`: bytes of each file, and where they go.

    python benchmarks/sizes.py

Prints, for each network, the bytes of the .tflite, of the file, and of the file with raw weights alone; of
the file, what is weights and what is everything else; and the bytes that `thimble inspect` leaves
out or counts twice. `before` in the table of bars is the .tflite's size.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.networks import NETWORKS, packed, source_of
from host_tools.inspect import inspect_file
from model_packager import container
from model_packager.format_table import ConstantKind


def unaccounted_bytes(data: bytes) -> int:
    """Bytes that no span of the byte map covers or more than one does, and those by which the parts that
    `thimble inspect` lists differ from the file's length."""
    counts = bytearray(len(data))
    for offset, length, _ in container.byte_map(data):
        for position in range(offset, offset + length):
            counts[position] = min(counts[position] + 1, 2)
    listed = sum(part.stored_bytes for part in inspect_file(data).parts)
    return sum(count != 1 for count in counts) + abs(len(data) - listed)


def weight_bytes(data: bytes) -> int:
    """Bytes of the payloads of all weight streams, their tables and codebooks included."""
    constants = container.parse(data).constants
    return sum(constant.length for constant in constants if constant.kind is ConstantKind.WEIGHTS)


def main() -> int:
    print("net     .tflite     file  of it weights  of it other  with raw weights  channels removed")
    bars: list[str] = []
    unaccounted = 0
    for network in NETWORKS:
        result = packed(network)
        before, size, weights = source_of(network).stat().st_size, len(result.data), weight_bytes(result.data)
        unaccounted += unaccounted_bytes(result.data)
        print(
            f"{network.name:4} {before:10} {size:8} {weights:14} {size - weights:12} "
            f"{result.report.raw_file_bytes:17} {result.report.channels_removed:17}",
            flush=True,
        )
        bars.append(f"bar size_{network.name} {size}")
    print("\n".join([*bars, f"bar size_unaccounted {unaccounted}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
