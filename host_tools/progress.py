"""A progress bar on stderr for work that takes more than a second; nothing where stderr is no terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress

SHOW_AFTER_S = 1.0


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A function to be called with what is done and the whole; the bar is gone when the block ends."""
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(title, total=None)
    started = time.monotonic()

    def update(done: int, whole: int) -> None:
        bar.update(task, completed=done, total=whole)
        if not bar.live.is_started and time.monotonic() - started > SHOW_AFTER_S:
            bar.start()

    try:
        yield update
    finally:
        bar.stop()
