"""`thimble export`: a .thimble file becomes C sources for a project of one's own."""

from __future__ import annotations

import argparse

HELP = "write a .thimble file as a C array, with a registry of what it needs, for any C or Arduino project"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL.thimble", help="the packed model")
    parser.add_argument(
        "--c-array", metavar="DIR", required=True, help="folder for the C sources; made if it is not there"
    )
    parser.add_argument(
        "--with-core",
        action="store_true",
        help="also the C core's own sources, all as an Arduino library (sources in DIR/src)",
    )
    parser.add_argument("--name", metavar="NAME", help="prefix of names in C (default: the file's name)")
    parser.add_argument(
        "--sha256",
        action="store_true",
        help="let the device check the file's SHA-256 too, not only the CRC-32 of every section",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that `export` did not write")


def run(arguments: argparse.Namespace) -> int:
    """Check, write beside and rename, say which files are there."""
    from pathlib import Path

    from host_tools.c_array import export, write_files
    from host_tools.packed_file import read_packed

    path, folder = Path(arguments.model), Path(arguments.c_array)
    file = read_packed(path)
    exported = export(file, arguments.name or path.stem, arguments.with_core, arguments.sha256)
    write_files(exported, folder, arguments.force)
    own = [name for name in exported.files if name not in exported.core_files]
    core = f", and {len(exported.core_files)} files of the core" if exported.core_files else ""
    print(f"{folder}: {', '.join(own)}{core}")
    print(
        f"  {exported.model_bytes:,} bytes of flash for the model, {exported.memory_bytes:,} of RAM to run it"
    )
    return 0
