"""Gets firmware onto a board with the tools that people have: a board file goes in, a command comes out.

Nothing here knows a chip: `[flash]` of the board file names the tool and its arguments, or the UF2 drive
onto which the image is copied; without an image `mpflash` fetches MicroPython, or the C firmware of this
project is built.
"""

from __future__ import annotations

import os
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from host_tools.boards import Board
from host_tools.firmware_image import cached_image
from model_packager.errors import DeviceError, NoDeviceError, UsageError

Progress = Callable[[int, int], None]

UF2_INFO = "INFO_UF2.TXT"
COPY_BYTES = 65536
DOWNLOADS = "https://micropython.org/download"
# How the tools are installed that are no command of their own package's name.
HINTS = {
    "esptool": "pip install esptool",
    "mpflash": "pip install mpflash",
    "pyocd": "pip install pyocd",
    "dfu-util": "install dfu-util (Debian)",
    "st-flash": "install stlink-tools (Debian)",
    "teensy_loader_cli": "install teensy-loader-cli (Debian)",
    "bossac": "install Arduino's bossac, https://github.com/arduino/BOSSA/releases",
}


@dataclass(frozen=True)
class Copy:
    """Copying an image onto the drive that a board's boot loader shows."""

    image: Path
    drive: Path

    def text(self) -> str:
        """As a shell says it."""
        return shlex.join(["cp", str(self.image), f"{self.drive}/"])

    def do(self, progress: Progress = lambda done, whole: None) -> None:
        """Copy, and wait until it is on the drive; the board restarts by itself then."""
        whole = self.image.stat().st_size
        with self.image.open("rb") as source, (self.drive / self.image.name).open("wb") as target:
            while block := source.read(COPY_BYTES):
                target.write(block)
                target.flush()
                os.fsync(target.fileno())
                progress(target.tell(), whole)


@dataclass(frozen=True)
class Command:
    """Running a tool."""

    words: tuple[str, ...]

    def text(self) -> str:
        """As a shell says it."""
        return shlex.join(self.words)

    def do(self, progress: Progress = lambda done, whole: None) -> None:
        """Run it, which shows a progress of its own; what it prints goes to stderr.

        Raises:
            UsageError: it is not installed.
            DeviceError: it fails.
        """
        beside_python = Path(sys.prefix) / "bin" / self.words[0]
        tool = str(beside_python) if beside_python.exists() else shutil.which(self.words[0])
        if tool is None:
            hint = HINTS.get(self.words[0])
            raise UsageError(f"no `{self.words[0]}` here{hint and ': ' + hint}")
        done = subprocess.run([tool, *self.words[1:]], stdout=sys.stderr.fileno())
        if done.returncode:
            raise DeviceError(f"{self.words[0]} failed with exit code {done.returncode}")


def plan(board: Board, image: Path | None, port: str | None, drive: Path | None = None) -> Copy | Command:
    """What flashes `image` onto a board; without one MicroPython, or the C firmware of the board.

    Args:
        port: the board's serial port; needed where the tool takes one.
        drive: of the boot loader; None looks for it.

    Raises:
        UsageError: the board cannot be flashed, or not with this image; the C firmware cannot be built.
        NoDeviceError: the tool needs a port, or there is no drive of the boot loader or several.
    """
    flash = board.flash
    if flash is None:
        raise UsageError(f"{board.description} has nothing to be flashed")
    if image is None and board.firmware is None:
        if not (flash.by_mpflash and board.micropython and board.micropython.board):
            name = board.micropython.board if board.micropython else None
            where = f": MicroPython's are at {DOWNLOADS}/{name}/" if name else ""
            raise UsageError(f"give an image ({flash.image}) for {board.description} with --image{where}")
        at_port = ("--serial", port) if port else ()
        return Command(("mpflash", "flash", "--board", board.micropython.board, *at_port))
    if image is None:
        image = cached_image(board)
    if image.suffix != flash.image:
        raise UsageError(f"{image}: {board.description} takes {flash.image} files")
    if not image.is_file():
        raise UsageError(f"{image}: there is no such file")
    if flash.drive:
        return Copy(image, drive or _only_drive(board, flash.drive))
    words = " ".join(flash.command)
    if "{port}" in words and port is None:
        raise NoDeviceError(f"{flash.command[0]} needs the port of {board.description}: give it with --port")
    return Command(tuple(word.format(image=image, port=port) for word in flash.command))


def _only_drive(board: Board, board_id: str) -> Path:
    found = [drive for drive in _mounted_drives() if _board_id(drive) == board_id]
    if not found:
        raise NoDeviceError(
            f"no drive of {board.description}'s boot loader: plug it in with its boot button held, or name "
            "the drive with --drive"
        )
    if len(found) > 1:
        raise NoDeviceError(
            f"there are {len(found)} drives: choose with --drive {' or '.join(map(str, found))}"
        )
    return found[0]


def _board_id(drive: Path) -> str | None:
    """What the boot loader calls its board (UF2 specification, INFO_UF2.TXT)."""
    try:
        lines = (drive / UF2_INFO).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    values = [line.partition(":")[2].strip() for line in lines if line.startswith("Board-ID:")]
    return values[0] if values else None


def _mounted_drives() -> Iterator[Path]:
    """Folders where this machine mounts removable drives."""
    if sys.platform == "win32":
        yield from (Path(f"{letter}:/") for letter in string.ascii_uppercase)
        return
    for parent in ("/media", "/run/media", "/Volumes", "/mnt"):
        yield from Path(parent).glob("*")
        yield from Path(parent).glob("*/*")
