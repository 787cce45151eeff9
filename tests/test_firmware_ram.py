"""The RAM that a file asks for is the RAM that its run uses, to the byte: every byte of the one block that
the device package allocates is filled with a pattern, and a run leaves none of it alone but the gaps between
aligned tensors. That it uses no more is what the strict shim's bounds checks prove in every test that runs
there.
"""

from __future__ import annotations

import pytest
import thimble

from model_packager import container
from model_packager.golden import golden_inputs
from tests.file_vectors import ValidVector, valid_vectors

PATTERNS = (0x55, 0xAA)


def untouched_bytes(vector: ValidVector) -> set[int]:
    """Offsets in the block that keep two different patterns through a run."""
    data = vector.data
    inputs = [array.tobytes() for array in golden_inputs(container.load(data), vector.seed)]
    kept = []
    for pattern in PATTERNS:
        network = thimble.load(data)
        network.arena[:] = bytes([pattern]) * len(network.arena)
        network.reset()
        for view, content in zip(network.inputs, inputs, strict=True):
            view[:] = content
        network.invoke()
        assert tuple(bytes(view) for view in network.outputs) == vector.outputs
        kept.append({place for place, byte in enumerate(network.arena) if byte == pattern})
    return kept[0] & kept[1]


def alignment_gaps(vector: ValidVector) -> set[int]:
    """Offsets behind tensors up to the next multiple of 4."""
    tensors = container.parse(vector.data).tensors
    ends = [tensor.arena_offset + tensor.size_bytes for tensor in tensors]
    return {place for end in ends for place in range(end, (end + 3) // 4 * 4)}


@pytest.mark.parametrize(
    "vector",
    [vector for vector in valid_vectors() if "constant:FLOATS" not in vector.covers],  # refused by devices
    ids=lambda vector: vector.name,
)
def test_run_uses_all_ram_that_the_file_asks_for(vector: ValidVector) -> None:
    left = untouched_bytes(vector) - alignment_gaps(vector)
    # A Huffman table has room for every symbol of its alphabet, also for those that have no code.
    room = 0
    if "coder:HUFFMAN" in vector.covers:
        constants = [constant.fields for constant in container.parse(vector.data).constants]
        room = max(
            fields["value_count"] + (1 << fields["gap_bits"])
            for fields in constants
            if "value_count" in fields
        )
    assert len(left) <= room, sorted(left)
