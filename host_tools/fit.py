"""Whether a packed model fits a board: both go in, what it takes, and what is too much, comes out.

`thimble pack --board` prints it. A board's RAM and flash are upper limits where its file does not know what a
program leaves of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from host_tools.boards import Board
from model_packager.errors import PackError
from model_packager.model import Model
from model_packager.passes.kernel_scratch import ram_peak_bytes


@dataclass(frozen=True)
class Need:
    """`needed_bytes` of the model (`what`: file or RAM) beside `room_bytes` of the board (`where`)."""

    what: str
    where: str
    needed_bytes: int
    room_bytes: int

    @property
    def missing_bytes(self) -> int:
        """Bytes by which it does not fit; 0 where it does."""
        return max(0, self.needed_bytes - self.room_bytes)


def needs(board: Board, model: Model, file_bytes: int) -> list[Need]:
    """What the board's file knows of: flash for the file, RAM for arena and scratch."""
    found = []
    for place, room_bytes in list(board.model.places().items())[:1]:
        found.append(Need("file", place.replace("_", " "), file_bytes, room_bytes))
    ram_bytes = board.heap_bytes or board.mcu.ram_bytes
    if ram_bytes:
        executor = "micropython" if board.micropython else "c"
        # A float model, which only the packager's own executor runs, has no scratch of its own.
        peak_bytes = model.arena_bytes if model.is_float else ram_peak_bytes(model, executor)
        where = "RAM for models" if board.heap_bytes else "RAM, programs included"
        found.append(Need("RAM peak", where, peak_bytes, ram_bytes))
    return found


def check_fit(board: Board, model: Model, file_bytes: int) -> list[Need]:
    """`needs`, all met.

    Raises:
        PackError: something does not fit; says what, and by how much.
    """
    found = needs(board, model, file_bytes)
    short = [
        f"its {need.what} of {need.needed_bytes:,} bytes is {need.missing_bytes:,} more than the "
        f"{need.room_bytes:,} of {need.where}"
        for need in found
        if need.missing_bytes
    ]
    if short:
        raise PackError(f"the model does not fit {board.description}: {'; '.join(short)}")
    return found
