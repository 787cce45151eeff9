"""RAM peak of the four networks, packed with the objective `size`, as a share of TFLM's arena.

    python benchmarks/ram.py

Counted on our side, in bytes, for the MicroPython executor:

- the arena: every activation tensor, the input and the output included;
- of the operator where the sum is largest: its *stream scratch* (decode tables and row buffer of its
  weights, of both streams in a fused pair) and its *kernel scratch* (planes and bands that its loop copies
  aside).

Not counted: the interpreter's own objects (heap on a board, see device_footprint.py) and the model file.
TFLM's arenas are the figures that the bars name: activations, kernels' scratch and TFLM's persistent
structures. The interpreter of the pinned wheel (PyPI tflite-micro), which records its allocations, refuses
arenas below 24,272, 55,984, 103,680 and 4,640 bytes; against those the shares would be smaller.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.networks import NETWORKS, packed
from model_packager.model import Model
from model_packager.passes.kernel_scratch import (
    kernel_scratch_bytes,
    operator_stream_scratch_bytes,
    ram_peak_bytes,
)

TFLM_ARENA_BYTES = {"kws": 22_820, "ic": 54_996, "vww": 100_708, "ad": 2_580}
EXECUTOR = "micropython"


def largest_scratch(model: Model) -> tuple[int, int, int]:
    """(stream scratch, kernel scratch, index) of the operator whose scratch is largest."""
    scratch = [
        (operator_stream_scratch_bytes(model, index), kernel_scratch_bytes(model, index, EXECUTOR), index)
        for index in range(len(model.operators))
    ]
    return max(scratch, key=lambda item: item[0] + item[1])


def main() -> int:
    print("net     arena  stream scratch  kernel scratch   peak     TFLM  share  peak scratch in")
    bars = []
    for network in NETWORKS:
        model = packed(network).model
        peak, tflm = ram_peak_bytes(model, EXECUTOR), TFLM_ARENA_BYTES[network.name]
        stream, kernel, index = largest_scratch(model)
        operator = model.operators[index]
        print(
            f"{network.name:4} {model.arena_bytes:8} {stream:15} {kernel:15} {peak:6} {tflm:8}  "
            f"{peak / tflm:.3f}  operator {index}, {operator.kind.name} {operator.schedule.name}",
            flush=True,
        )
        bars.append(f"bar ram_{network.name} {peak / tflm:.4f}")
    print("\n".join(bars))
    return 0


if __name__ == "__main__":
    sys.exit(main())
