"""A progress bar on stderr for work that takes more than a second; nothing where stderr is no terminal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress

SHOW_AFTER_S = 1.0


class ProgressBar:
    """To be called with what is done and the whole; until then, and after `wait`, it only moves."""

    def __init__(self, bar: Progress, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=None)

    def __call__(self, done: int, whole: int) -> None:
        self._bar.update(self._task, completed=done, total=whole)

    def wait(self, title: str) -> None:
        """What comes now has another name, and says nothing until it is over."""
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(title, total=None)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[ProgressBar]:
    """The bar; it is gone when the block ends."""
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    # Whoever waits for a device calls nothing meanwhile: the bar shows itself.
    timer = threading.Timer(SHOW_AFTER_S, bar.start)
    timer.daemon = True
    if console.is_terminal:
        timer.start()
    try:
        yield ProgressBar(bar, title)
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()
        bar.stop()
