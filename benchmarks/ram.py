"""RAM peak of the four networks, packed with the objective `size`, as a share of TFLM's arena.

    python benchmarks/ram.py

Counted on our side, in bytes, for the MicroPython executor, which allocates one block: every activation
tensor (the input and the output included) and, above the tensors that live while an operator runs, that
operator's scratch: its *stream scratch* (decode tables and row buffer of its weights, of both streams in a
fused pair) and its *kernel scratch* (planes and bands that its loop copies aside). The table shows the
operator that needs most.

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
from model_packager.passes.lifetimes import living_ends

TFLM_ARENA_BYTES = {"kws": 22_820, "ic": 54_996, "vww": 100_708, "ad": 2_580}
EXECUTOR = "micropython"


def fullest(model: Model) -> tuple[int, int, int, int]:
    """(end of the living tensors, stream scratch, kernel scratch, index) of the neediest operator."""
    needs = [
        (
            end,
            operator_stream_scratch_bytes(model, index),
            kernel_scratch_bytes(model, index, EXECUTOR),
            index,
        )
        for index, end in enumerate(living_ends(model))
    ]
    return max(needs, key=lambda need: sum(need[:3]))


def main() -> int:
    print("net   tensors  stream scratch  kernel scratch   peak     TFLM  share  at")
    bars = []
    for network in NETWORKS:
        model = packed(network).model
        peak, tflm = ram_peak_bytes(model, EXECUTOR), TFLM_ARENA_BYTES[network.name]
        tensors, stream, kernel, index = fullest(model)
        operator = model.operators[index]
        print(
            f"{network.name:4} {tensors:8} {stream:15} {kernel:15} {peak:6} {tflm:8}  "
            f"{peak / tflm:.3f}  operator {index}, {operator.kind.name} {operator.schedule.name}",
            flush=True,
        )
        bars.append(f"bar ram_{network.name} {peak / tflm:.4f}")
    print("\n".join(bars))
    return 0


if __name__ == "__main__":
    sys.exit(main())
