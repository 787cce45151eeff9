"""Reads the annotated byte records of tests/vectors/frames for the tests of every codec."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "vectors" / "frames"


@dataclass
class FrameRecord:
    """One record: a name, the bytes on the wire, and the frames (message, sequence, payload) in them."""

    name: str
    wire: bytes = b""
    frames: list[tuple[int, int, bytes]] = field(default_factory=list)
    bad: int = 0


def _records(file_name: str) -> list[list[tuple[str, str]]]:
    """The records of a file as lists of (key, hexadecimal text); records stand apart by empty lines."""
    text = (FOLDER / file_name).read_text(encoding="utf-8")
    records = []
    for block in text.split("\n\n"):
        lines = [line.partition("#")[0].split(maxsplit=1) for line in block.splitlines()]
        pairs = [(line[0], line[1].strip() if len(line) > 1 else "") for line in lines if line]
        if pairs:
            records.append(pairs)
    return records


def _wire(pairs: list[tuple[str, str]]) -> bytes:
    return b"".join(bytes.fromhex(value) for key, value in pairs if key == "wire")


def valid_frames() -> list[FrameRecord]:
    """Frames that every codec encodes and decodes alike."""
    records = []
    for pairs in _records("valid.txt"):
        values = dict(pairs)
        frame = (int(values["message"], 16), int(values["sequence"], 16), bytes.fromhex(values["payload"]))
        records.append(FrameRecord(values["frame"], _wire(pairs), [frame]))
    return records


def received_streams() -> list[FrameRecord]:
    """Bytes as they arrive, with what a receiver must make of them."""
    records = []
    for pairs in _records("received.txt"):
        contents = [bytes.fromhex(value) for key, value in pairs if key == "frame"]
        frames = [(content[0], content[1], content[2:]) for content in contents]
        values = dict(pairs)
        records.append(FrameRecord(values["stream"], _wire(pairs), frames, int(values["bad"], 16)))
    return records
