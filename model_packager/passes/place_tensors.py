"""Offsets in the arena: blocks with sizes and lifetimes go in, offsets without conflicts come out;
plan_memory calls it.

Greedy placement after Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (2020),
section 5: blocks are taken in some order and each is put at the lowest offset where it meets no block that is
alive with it. No one order is best, so several are tried, then random ones from a fixed seed until the lower
bound is met.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

ALIGNMENT_BYTES = 4  # so that executors may read whole words, whatever the dtype
RANDOM_ORDERS = 200


@dataclass(frozen=True)
class Span:
    """One tensor's need: `size_bytes` from the block's offset, alive from step `first` to step `last`, both
    included.
    """

    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Block:
    """Tensors that share one offset: one tensor, or a chain of tensors that are computed in place."""

    spans: tuple[Span, ...]

    @cached_property
    def size_bytes(self) -> int:
        return max(span.size_bytes for span in self.spans)

    @cached_property
    def first(self) -> int:
        return min(span.first for span in self.spans)

    @cached_property
    def last(self) -> int:
        return max(span.last for span in self.spans)


def aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


# For each block, the others that are alive with it, and the open intervals, relative to the other's offset,
# at which the block would meet it.
Conflicts = list[list[tuple[int, list[tuple[int, int]]]]]


def _conflicts(blocks: Sequence[Block]) -> Conflicts:
    found: Conflicts = [[] for _ in blocks]
    for index, block in enumerate(blocks):
        for number, other in enumerate(blocks):
            if number == index or block.last < other.first or other.last < block.first:
                continue
            intervals = [
                (-aligned(mine.size_bytes), aligned(theirs.size_bytes))
                for mine in block.spans
                for theirs in other.spans
                if mine.first <= theirs.last and theirs.first <= mine.last
            ]
            if intervals:
                found[index].append((number, intervals))
    return found


def _lowest_offset(intervals: list[tuple[int, int]]) -> int:
    """The lowest offset >= 0 that lies inside none of the open `intervals`."""
    offset = 0
    for low, high in sorted(intervals):
        if low < offset < high:
            offset = high
    return offset


def _place_in_order(
    blocks: Sequence[Block], conflicts: Conflicts, order: Sequence[int]
) -> tuple[list[int], int]:
    offsets = [-1] * len(blocks)  # not placed
    total = 0
    for index in order:
        intervals = [
            (offsets[other] + low, offsets[other] + high)
            for other, pairs in conflicts[index]
            if offsets[other] >= 0
            for low, high in pairs
        ]
        offsets[index] = _lowest_offset(intervals)
        total = max(total, offsets[index] + aligned(blocks[index].size_bytes))
    return offsets, total


def live_bytes(blocks: Sequence[Block], step_count: int) -> list[int]:
    """Bytes alive at each step; spans of one block overlap, so the block counts with its largest living
    one.
    """
    live = [0] * step_count
    for block in blocks:
        needs: dict[int, int] = {}
        for span in block.spans:
            for step in range(max(0, span.first), min(step_count - 1, span.last) + 1):
                needs[step] = max(needs.get(step, 0), aligned(span.size_bytes))
        for step, size in needs.items():
            live[step] += size
    return live


@dataclass(frozen=True)
class Placement:
    """``offsets`` per block; ``arena_bytes``: the end of the last block; ``ends`` per step: the end of the
    highest block that is alive, where scratch can begin; ``peak_bytes``: the most that any step needs,
    scratch included."""

    offsets: list[int]
    arena_bytes: int
    ends: list[int]
    peak_bytes: int


def _placement(
    blocks: Sequence[Block], conflicts: Conflicts, order: Sequence[int], scratch: Sequence[int]
) -> Placement:
    offsets, arena_bytes = _place_in_order(blocks, conflicts, order)
    ends = [0] * len(scratch)
    for block, offset in zip(blocks, offsets, strict=True):
        for span in block.spans:
            for step in range(max(0, span.first), min(len(scratch) - 1, span.last) + 1):
                ends[step] = max(ends[step], offset + aligned(span.size_bytes))
    needs = (end + extra for end, extra in zip(ends, scratch, strict=True))
    return Placement(offsets, arena_bytes, ends, max(arena_bytes, *needs))


def place_tensors(blocks: Sequence[Block], scratch: Sequence[int]) -> Placement:
    """Offsets of all blocks for the smallest peak; `scratch`: bytes that each step needs above what is alive.

    Meets the lower bound (the most bytes alive and scratch at any step) for most networks; deterministic.
    """
    live = live_bytes(blocks, len(scratch))
    bound = max(alive + extra for alive, extra in zip(live, scratch, strict=True))
    need = [
        max(a + e for a, e in zip(live[b.first : b.last + 1], scratch[b.first : b.last + 1], strict=True))
        for b in blocks
    ]
    keys: list[Callable[[int], tuple[int, ...]]] = [
        lambda i: (-blocks[i].size_bytes, blocks[i].first),
        lambda i: (-blocks[i].size_bytes * (blocks[i].last - blocks[i].first + 1), blocks[i].first),
        lambda i: (-need[i], -blocks[i].size_bytes),
        lambda i: (blocks[i].first, -blocks[i].size_bytes),
        lambda i: (-blocks[i].last, -blocks[i].size_bytes),
        lambda i: (blocks[i].first - blocks[i].last, -blocks[i].size_bytes),
    ]
    best: Placement | None = None
    conflicts = _conflicts(blocks)
    shuffler = random.Random(1)
    for attempt in range(len(keys) + RANDOM_ORDERS):
        order = list(range(len(blocks)))
        if attempt < len(keys):
            order.sort(key=keys[attempt])
        else:
            order.sort(key=lambda i: -blocks[i].size_bytes * shuffler.uniform(0.3, 1.0))
        candidate = _placement(blocks, conflicts, order, scratch)
        if best is None or candidate.peak_bytes < best.peak_bytes:
            best = candidate
        if best.peak_bytes <= bound:
            break
    assert best is not None
    return best
