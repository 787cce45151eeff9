"""Target `native`: the C core on this machine, the same source that runs on a microcontroller.

A batch is one call into C for each thread, which needs no Python while it runs; so 10,000 images take as long
as the core takes for them. host_tools/native_extension.py provides the core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np

from host_tools import native_extension
from host_tools.c_array import core_features
from host_tools.packed_file import missing_features
from host_tools.targets import Array, Target
from model_packager import container
from model_packager.errors import FormatError, UsageError
from model_packager.format_table import ErrorCode, Feature, TensorFlag
from model_packager.model import NUMPY_DTYPES, Model


class NativeTarget:
    """One model in the C core. Each thread has a block of memory of just the size that the core asks for.

    Args:
        threads: that a batch is spread over; None for as many as this process may use cores. A model with
            persistent tensors always has one, as its samples depend on each other.
    """

    def __init__(self, threads: int | None = None) -> None:
        extension = native_extension.load()
        self._ffi, self._lib = extension.ffi, extension.lib
        self._threads = threads or _core_count()
        self._model: Model | None = None
        self.memory_bytes = 0
        self.arena_bytes = 0
        self.load_us = 0.0  # of the core alone: checking the file and finding its parts

    def load(self, data: bytes) -> None:
        self._model = None
        # The core reads the file in place: it has to stay, at an address that is a multiple of 4.
        self._file = self._words(len(data))
        self._ffi.memmove(self._file, data, len(data))
        handle = self._ffi.new("thimble_model *")
        started = time.perf_counter_ns()
        result = self._lib.thimble_native_load(handle, self._file, len(data))
        self.load_us = (time.perf_counter_ns() - started) / 1000
        if result == ErrorCode.UNSUPPORTED_FEATURE:
            _refuse_features(data)
        _check(result)
        self.memory_bytes, self.arena_bytes = handle.memory_bytes, handle.arena_bytes
        model = container.load(data)
        persistent = any(tensor.flags & TensorFlag.PERSISTENT for tensor in model.tensors)
        # A handle remembers places in the file, so that each thread needs a copy.
        self._workers = [
            (self._ffi.new("thimble_model *", handle[0]), self._words(self.memory_bytes))
            for _ in range(1 if persistent else self._threads)
        ]
        for copy, memory in self._workers:
            _check(self._lib.thimble_reset(copy, memory, self.memory_bytes))
        self._model = model

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        model = self._loaded()
        count = len(inputs[0])
        batches = [np.ascontiguousarray(array) for array in inputs]
        for batch, port in zip(batches, model.inputs, strict=True):
            size_bytes = model.tensors[port.tensor].size_bytes
            if batch.nbytes != count * size_bytes:
                found = batch.nbytes // max(count, 1)
                raise FormatError(ErrorCode.BAD_INPUT, f"an input of {found} bytes, not {size_bytes}")
        tensors = [model.tensors[port.tensor] for port in model.outputs]
        results: list[Array] = [
            np.empty((count * tensor.shape[0], *tensor.shape[1:]), NUMPY_DTYPES[tensor.dtype])
            for tensor in tensors
        ]
        share = -(-count // len(self._workers)) or 1
        starts = range(0, count, share)
        if len(starts) == 1:
            codes = [self._run_part(0, batches, results, 0, count)]
        else:
            with ThreadPoolExecutor(len(self._workers)) as pool:
                codes = list(
                    pool.map(
                        lambda worker: self._run_part(worker, batches, results, worker * share, share),
                        range(len(starts)),
                    )
                )
        for code in codes:
            _check(code)
        return results

    def _run_part(
        self, worker: int, inputs: list[Array], outputs: list[Array], start: int, count: int
    ) -> int:
        """Samples `start` to `start` + `count`, or to the last one; gives the core's error or 0."""
        handle, memory = self._workers[worker]
        parts = [[array[start : start + count] for array in arrays] for arrays in (inputs, outputs)]
        ins, outs = ([self._ffi.from_buffer("uint8_t[]", part) for part in group] for group in parts)
        return self._lib.thimble_native_run(
            handle,
            memory,
            self.memory_bytes,
            self._ffi.new("uint8_t *[]", ins),
            self._ffi.new("uint8_t *[]", outs),
            len(parts[0][0]),
        )

    def bench(self, runs: int) -> tuple[list[float], list[float]]:
        """Microseconds of each of `runs` inferences, and of each operator: the medians of as many others,
        which stop at each operator; the head of a fused pair has 0, its tail the time of both. One thread, on
        whatever is in the memory.
        """
        self._loaded()
        handle, memory = self._workers[0]
        times = []
        for _ in range(runs):
            started = time.perf_counter_ns()
            code = self._lib.thimble_run(handle, memory, self.memory_bytes)
            times.append((time.perf_counter_ns() - started) / 1000)
            _check(code)
        profiles = [self._profiled_run() for _ in range(runs)]
        return times, [median(operator) for operator in zip(*profiles, strict=True)]

    def _profiled_run(self) -> list[float]:
        handle, memory = self._workers[0]
        progress = self._ffi.new("thimble_progress *")
        _check(self._lib.thimble_begin(progress, handle, memory, self.memory_bytes))
        times: list[float] = []
        while True:
            started = time.perf_counter_ns()
            operators = self._lib.thimble_step(progress)
            elapsed = (time.perf_counter_ns() - started) / 1000
            _check(operators)
            if operators == 0:
                return times
            times += [0.0] * (operators - 1) + [elapsed]

    def close(self) -> None:
        self._model = None

    def _loaded(self) -> Model:
        if self._model is None:
            raise UsageError("no model is loaded")
        return self._model

    def _words(self, size_bytes: int) -> Any:
        """Zeroed memory of at least `size_bytes`, aligned to 8."""
        return self._ffi.new("uint64_t[]", size_bytes // 8 + 1)


def _refuse_features(data: bytes) -> None:
    known = sum(Feature[name] for name in core_features())
    detail = missing_features(data, known, "the C core") or "in a part of the file, undeclared"
    raise FormatError(ErrorCode.UNSUPPORTED_FEATURE, detail)


def _check(result: int) -> None:
    if result < 0:
        raise FormatError(ErrorCode(result), "says the C core")


def _core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def create() -> Target:
    return NativeTarget()
