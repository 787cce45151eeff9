"""The shared vectors of the file format: what every loader and executor is run against.

tests/vectors/files holds one ``.thimble`` file for each model of tests/tiny_models.py and two lists:

- ``valid.json``: for each file the seed of the golden inputs and the outputs' bytes in hexadecimal.
- ``hostile.json``: files that a loader must refuse, as a valid file and what is changed in it, with the
error.

A hostile case has ``base`` (name of the valid file) and, applied in this order: ``splices``, a list of
[offset, bytes removed, bytes inserted in hexadecimal], whose offsets count in the base; ``fix``: "all" sets
section CRCs, header CRC and SHA-256 right again, "hash" the SHA-256 only, "none" nothing; ``cut``, the length
that is left of the result. ``error`` is the name of the error that ``load``, or reading all weights, must
give; null when the file is valid although it differs. A *family* stands for many cases: "cut" for the file
cut at every length from 0 on, "flip" for each bit flipped, from bit 0 of byte 0 on; its ``errors`` are run
lengths [[error, count], ...].

Every case is one that a loader without INT16 activations and without a key judges in the same way, and no
case depends on what is inside METADATA, which a device does not read.

Both lists only grow: a released vector keeps its bytes and its result.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_packager.format_table import HEADER, SECTION_ENTRY, SHA256_BYTES, HeaderFlag, struct_format

FOLDER = Path(__file__).resolve().parent / "vectors" / "files"
HEADER_BYTES = struct.calcsize(struct_format(HEADER))
ENTRY_BYTES = struct.calcsize(struct_format(SECTION_ENTRY))
HEADER_CRC_OFFSET = HEADER_BYTES - 4


@dataclass(frozen=True)
class ValidVector:
    """A valid file; ``inputs`` and ``outputs`` are the tensors' bytes in order, ``covers`` what it exercises,
    for example ``coder:RANGE`` or ``operator:ADD``."""

    name: str
    seed: int
    outputs: tuple[bytes, ...]
    covers: frozenset[str]

    @property
    def data(self) -> bytes:
        return (FOLDER / f"{self.name}.thimble").read_bytes()


@dataclass(frozen=True)
class HostileVector:
    """A file and the error it must give, in lower case; None: it is valid."""

    name: str
    data: bytes
    error: str | None
    covers: frozenset[str]


def valid_vectors() -> list[ValidVector]:
    """All valid files."""
    return [
        ValidVector(
            entry["name"],
            entry["seed"],
            tuple(bytes.fromhex(output) for output in entry["outputs"]),
            frozenset(entry["covers"]),
        )
        for entry in json.loads((FOLDER / "valid.json").read_text(encoding="utf-8"))
    ]


def hostile_entries() -> list[dict[str, Any]]:
    """The list as it is stored."""
    entries: list[dict[str, Any]] = json.loads((FOLDER / "hostile.json").read_text(encoding="utf-8"))
    return entries


def hostile_vectors() -> Iterator[HostileVector]:
    """All hostile files, families included, one after the other."""
    for entry in hostile_entries():
        base = (FOLDER / f"{entry['base']}.thimble").read_bytes()
        if "family" in entry:
            yield from _family(entry, base)
        else:
            yield HostileVector(
                entry["name"], materialise(entry, base), entry["error"], frozenset(entry.get("covers", ()))
            )


def materialise(entry: dict[str, Any], base: bytes) -> bytes:
    """The bytes of one hostile case."""
    data = bytearray(base)
    for offset, removed, inserted in reversed(entry.get("splices", [])):
        data[offset : offset + removed] = bytes.fromhex(inserted)
    return fixed(bytes(data), entry["fix"])[: entry.get("cut")]


def family_members(family: str, base: bytes, fix: str) -> Iterator[bytes]:
    """The files of a family, in the order of its run lengths."""
    if family == "cut":
        yield from (base[:length] for length in range(len(base)))
        return
    for position in range(len(base) * 8):
        data = bytearray(base)
        data[position // 8] ^= 1 << position % 8
        yield fixed(bytes(data), fix)


def _family(entry: dict[str, Any], base: bytes) -> Iterator[HostileVector]:
    errors = [error for error, count in entry["errors"] for _ in range(count)]
    members = family_members(entry["family"], base, entry["fix"])
    for number, (data, error) in enumerate(zip(members, errors, strict=True)):
        yield HostileVector(f"{entry['name']}_{number}", data, error, frozenset())


def fixed(data: bytes, fix: str) -> bytes:
    """`data` with its checksums made right where its table says they are: "all", "hash" or "none"."""
    if fix == "none" or len(data) < HEADER_BYTES:
        return data
    fixed_data = bytearray(data)
    if fix == "all":
        _fix_crcs(fixed_data)
    trailer_bytes = SHA256_BYTES + (64 if data[5] & HeaderFlag.SIGNED else 0)
    end = len(data) - trailer_bytes
    if end >= HEADER_BYTES:
        fixed_data[end : end + SHA256_BYTES] = hashlib.sha256(fixed_data[:end]).digest()
    return bytes(fixed_data)


def _fix_crcs(data: bytearray) -> None:
    (section_count,) = struct.unpack_from("<H", data, 6)
    table_end = HEADER_BYTES + section_count * ENTRY_BYTES
    if table_end > len(data):
        return
    for entry in range(HEADER_BYTES, table_end, ENTRY_BYTES):
        offset, length = struct.unpack_from("<II", data, entry + 4)
        struct.pack_into("<I", data, entry + 12, zlib.crc32(data[offset : offset + length]))
    covered = data[:HEADER_CRC_OFFSET] + data[HEADER_BYTES:table_end]
    struct.pack_into("<I", data, HEADER_CRC_OFFSET, zlib.crc32(covered))
