"""Builds the C firmware of a board: its file goes in, an ELF image of core, server and platform comes out.

`--target qemu:m4` builds what it starts when it is first needed, and keeps it in the user's cache folder
by the hash of its sources; `make firmware` runs this module, which builds all images and prints their sizes:

    python -m host_tools.firmware_image [--toolchain gcc|zig] [--output FOLDER] [--mlperf MODE] [BOARD ...]

Compilers are Debian's arm-none-eabi-gcc (with libnewlib-arm-none-eabi), or PyPI's ziglang where that is not
there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from host_tools.boards import Board, Firmware, board_names, load_board
from host_tools.cache import cache_folder
from host_tools.shipped import core_folder, platform_folder, server_folder
from model_packager.errors import UsageError
from model_packager.format_table import MLPERF_BAUD, MLPERF_ENERGY_BAUD

MLPERF_SOURCE = "mlperf.c"  # of the server: only in images for MLPerf Tiny (docs/MLPERF.md)
MLPERF_MODES = {"performance": MLPERF_BAUD, "energy": MLPERF_ENERGY_BAUD}  # and what the line's rate is
FLAGS = ("-std=gnu99", "-mthumb", "-ffunction-sections", "-fdata-sections")
LINK_FLAGS = ("-nostartfiles", "-Wl,--gc-sections", "-Wl,--entry=reset")


@dataclass(frozen=True)
class Toolchain:
    """A compiler for bare metal: its command and what it needs beside FLAGS."""

    name: str
    command: tuple[str, ...]
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]

    def cpu_flag(self, cpu: str) -> str:
        """The flag for a core, which is named as GCC names it."""
        return f"-mcpu={cpu.replace('-', '_') if self.name == 'zig' else cpu}"

    def run(self, arguments: Sequence[str | Path], folder: Path | None = None) -> None:
        """Run the compiler.

        Raises:
            UsageError: it fails; its first words are in the message.
        """
        command = [*self.command, *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise UsageError(f"the firmware does not compile: {done.stderr.strip()[:2000]}")

    def version(self) -> str:
        """What identifies the compiler."""
        command = [*self.command[:-1], "version"] if self.name == "zig" else [*self.command, "--version"]
        return subprocess.run(command, capture_output=True, text=True).stdout


def _gcc() -> Toolchain:
    libc = ("-specs=nano.specs", "-specs=nosys.specs")
    return Toolchain("gcc", ("arm-none-eabi-gcc",), (), libc)


def _zig() -> Toolchain:
    # Without libc, zig makes a call of every memcpy, also of those of four bytes that stand for a load.
    freestanding = platform_folder() / "freestanding"
    target = ("-target", "thumb-freestanding-eabi")
    flags = (*target, "-Dmemcpy=__builtin_memcpy", f"-I{freestanding}")
    return Toolchain("zig", (sys.executable, "-m", "ziglang", "cc"), flags, target)


def find_toolchain(name: str | None = None) -> Toolchain:
    """The toolchain of that name ("gcc" or "zig"); without a name the one that is installed, gcc first.

    Raises:
        UsageError: it is not installed.
    """
    if name in (None, "gcc") and shutil.which("arm-none-eabi-gcc"):
        return _gcc()
    if name in (None, "zig") and find_spec("ziglang"):
        return _zig()
    raise UsageError(
        "the C firmware needs a compiler for Cortex-M: install gcc-arm-none-eabi and "
        "libnewlib-arm-none-eabi (Debian), or ziglang (pip)"
    )


def _sources(firmware: Firmware, mlperf: str | None) -> list[Path]:
    platform = platform_folder()
    server = sorted((server_folder() / "src").glob("*.c"))
    return [
        *sorted((core_folder() / "src").glob("*.c")),
        *(path for path in server if mlperf or path.name != MLPERF_SOURCE),
        *sorted(platform.glob("*.c")),
        *sorted((platform / "cortex_m").glob("*.c")),
        *sorted((platform / firmware.platform).glob("*.c")),
    ]


def _fast() -> list[str]:
    """Names of the core's sources whose loops run once for each weight or activation: -O2, the rest -Os."""
    return (core_folder() / "fast.mk").read_text(encoding="utf-8").partition(":=")[2].split()


def _includes() -> list[Path]:
    core, server, platform = core_folder(), server_folder(), platform_folder()
    return [core / "include", core / "src", server / "include", platform, platform / "cortex_m"]


def _defines(board: Board, firmware: Firmware, mlperf: str | None) -> list[str]:
    names = [f'-DTHIMBLE_BOARD_NAME="{board.description}"', f"-DTHIMBLE_MAX_PAYLOAD={firmware.max_payload}"]
    if mlperf:
        names += [
            f"-DTHIMBLE_MLPERF_ENERGY={int(mlperf == 'energy')}",
            f"-DTHIMBLE_BAUD={MLPERF_MODES[mlperf]}",
        ]
    return names


def _firmware_of(board: Board) -> Firmware:
    if board.firmware is None:
        raise UsageError(f"the board {board.name} has no C firmware")
    return board.firmware


def build(board: Board, toolchain: Toolchain, image: Path, mlperf: str | None = None) -> None:
    """Compile and link the firmware of a board; `mlperf`: as a device for that mode of MLPerf Tiny too, one
    of `MLPERF_MODES`.

    Raises:
        UsageError: the board has none, or the compiler fails.
    """
    firmware = _firmware_of(board)
    cpu = toolchain.cpu_flag(firmware.cpu)
    includes = [f"-I{path}" for path in _includes()]
    flags = [*FLAGS, *toolchain.flags, cpu, *_defines(board, firmware, mlperf), *includes]
    fast = _fast()
    with tempfile.TemporaryDirectory(dir=image.parent) as name:
        folder = Path(name)

        def compiled(source: Path) -> Path:
            built = folder / f"{source.parent.parent.name}_{source.parent.name}_{source.stem}.o"
            level = "-O2" if source.stem in fast else "-Os"
            toolchain.run([*flags, level, "-c", source, "-o", built])
            return built

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, _sources(firmware, mlperf)))
        linked = folder / image.name
        script = platform_folder() / firmware.platform / f"{firmware.platform}.ld"
        link: list[str | Path] = [
            *FLAGS,
            *toolchain.link_flags,
            cpu,
            *LINK_FLAGS,
            "-T",
            script,
            *objects,
            "-o",
            linked,
        ]
        # Linkers look for what a script includes in the folder where they run.
        toolchain.run(link, platform_folder() / "cortex_m")
        os.replace(linked, image)


def cached_image(board: Board, toolchain_name: str | None = None, mlperf: str | None = None) -> Path:
    """The image of a board, built now if its sources, its board file or the compiler are new; `mlperf` as of
    `build`.

    Raises:
        UsageError: as `find_toolchain` and `build`.
    """
    toolchain = find_toolchain(toolchain_name)
    firmware = _firmware_of(board)
    what = (board, FLAGS, LINK_FLAGS, _fast(), toolchain, toolchain.version(), mlperf)
    digest = hashlib.sha256(repr(what).encode())
    scripts = [*platform_folder().rglob("*.ld"), *platform_folder().rglob("*.h")]
    headers = [path for folder in (core_folder(), server_folder()) for path in folder.rglob("*.h")]
    for path in [*_sources(firmware, mlperf), *sorted(scripts), *sorted(headers)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    image = cache_folder() / f"{board.name}-{digest.hexdigest()[:16]}.elf"
    if not image.exists():
        image.parent.mkdir(parents=True, exist_ok=True)
        build(board, toolchain, image, mlperf)
    return image


# ------------------------------------------------------------------------------------------------- ELF images


class Image:
    """An ELF file's sections and symbols: 32 bits, little-endian (System V ABI, chapters 4 and 5).

    `sections`: name to (address, bytes); `symbols`: name to value; `symbol_sizes`: name to bytes.
    """

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        table_offset, entry_bytes, count, names_index = struct.unpack_from("<I10xHHH", data, 32)
        headers = [struct.unpack_from("<10I", data, table_offset + i * entry_bytes) for i in range(count)]

        def text(table: int, offset: int) -> str:
            start = headers[table][4] + offset
            return data[start : data.index(b"\0", start)].decode()

        self.sections = {text(names_index, header[0]): (header[3], header[5]) for header in headers}
        self.symbols: dict[str, int] = {}
        self.symbol_sizes: dict[str, int] = {}
        for header in headers:
            if header[1] == 2:  # SHT_SYMTAB; its link names the strings
                for at in range(header[4], header[4] + header[5], header[9]):
                    name, value, size = struct.unpack_from("<III", data, at)
                    self.symbols[text(header[6], name)] = value
                    self.symbol_sizes[text(header[6], name)] = size

    def size(self, *names: str) -> int:
        """Bytes of the named sections together."""
        return sum(self.sections.get(name, (0, 0))[1] for name in names)


def firmware_boards() -> list[str]:
    """The boards that the C firmware is built for."""
    return [name for name in board_names() if load_board(name).firmware is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the images of some or all boards and print their sizes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("boards", metavar="BOARD", nargs="*", help="default: all that have C firmware")
    parser.add_argument("--toolchain", choices=("gcc", "zig"), help="default: gcc, else zig")
    parser.add_argument("--output", type=Path, default=Path("build/firmware"), help="default: %(default)s")
    parser.add_argument("--mlperf", choices=MLPERF_MODES, help="as a device for MLPerf Tiny, for this mode")
    options = parser.parse_args(arguments)
    try:
        toolchain = find_toolchain(options.toolchain)
        options.output.mkdir(parents=True, exist_ok=True)
        for name in options.boards or firmware_boards():
            stem = f"{name}-mlperf-{options.mlperf}" if options.mlperf else name
            path = options.output.resolve() / f"{stem}.elf"
            build(load_board(name), toolchain, path, options.mlperf)
            image = Image(path)
            code, data, zeroed = image.size(".text", ".ARM.exidx"), image.size(".data"), image.size(".bss")
            print(f"{options.output / path.name}: {code + data:,} bytes of flash, {data + zeroed:,} of RAM")
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
