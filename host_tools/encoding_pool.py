"""The processes in which `thimble pack` encodes tensors: the size of the source and how many may run go in,
an executor for ``pack`` comes out, or None where one process is faster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from model_packager.errors import PackError

# A process takes a second to start. Networks whose files are smaller are encoded in less.
LEAST_SOURCE_BYTES = 4 << 20


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def encoding_pool(source_bytes: int, jobs: int | None) -> Iterator[Executor | None]:
    """`jobs` processes, by default one for each core, that end with the block; None for small sources and for
    one job. They are started afresh, since a copy of a process with threads may hang.

    Raises:
        PackError: a process was ended, as systems do that have no more memory.
    """
    count = usable_cores() if jobs is None else jobs
    if count == 1 or source_bytes < LEAST_SOURCE_BYTES:
        yield None
        return
    try:
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as executor:
            yield executor
    except BrokenProcessPool as error:
        raise PackError(
            "a process that encoded tensors has ended, perhaps for want of memory; fewer --jobs need less"
        ) from error
