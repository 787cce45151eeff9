"""Write tests/vectors/files: valid files of the models in tests/tiny_models.py, and hostile changes of them.

Usage: python tests/vectors/make_files.py. Only what is not there yet is written: a released vector stays as
it is, and a hostile case whose error is no longer the one it was released with stops the script. The expected
errors of single cases are written down here by hand; those of the families (every bit, every length) are what
``container.load`` gives, frozen when they are first written."""

from __future__ import annotations

import difflib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from model_packager import container, reference  # noqa: E402
from model_packager.errors import FormatError  # noqa: E402
from model_packager.golden import golden_inputs, output_crc32  # noqa: E402
from tests.file_vectors import FOLDER, family_members, fixed, materialise  # noqa: E402
from tests.hostile_files import covers_of, hostile_files  # noqa: E402
from tests.tiny_models import TINY_FILES  # noqa: E402

SEED = 2026
FAMILIES = (
    ("cut_raw", "cut", "unnamed_raw", "none"),
    ("flip_raw", "flip", "unnamed_raw", "none"),
    ("flip_raw_rehashed", "flip", "unnamed_raw", "hash"),
    ("flip_raw_fixed", "flip", "unnamed_raw", "all"),
    ("flip_sparse_fixed", "flip", "unnamed_sparse", "all"),
)


def error_of(data: bytes) -> str | None:
    """The name of the error that loading gives, or None."""
    try:
        container.load(data)
    except FormatError as error:
        return error.code.name.lower()
    return None


def _read(path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return entries


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def write_valid() -> None:
    """One file and one entry for each tiny model that has none yet."""
    entries = _read(FOLDER / "valid.json")
    known = {entry["name"] for entry in entries}
    for name, make in TINY_FILES.items():
        if name in known:
            continue
        model, finish = make()
        arrays = golden_inputs(model, SEED)
        batches = [array if array.shape[:1] == (1,) else array[None] for array in arrays]
        outputs = reference.run(model, batches)
        model.golden = SEED, output_crc32(outputs)
        data = finish(model)
        (FOLDER / f"{name}.thimble").write_bytes(data)
        entries.append(
            {
                "name": name,
                "seed": SEED,
                "outputs": [output.tobytes().hex() for output in outputs],
                "covers": covers_of(data),
            }
        )
    _write(FOLDER / "valid.json", entries)


def _section_count(data: bytes) -> int:
    return int.from_bytes(data[6:8], "little")


def _neutral(data: bytes, section_count: int) -> bytes:
    """The file with its checksums zeroed."""
    neutral = bytearray(data)
    for start, length in [
        (36, 4),
        *((40 + 16 * i + 12, 4) for i in range(section_count)),
        (len(data) - 32, 32),
    ]:
        neutral[start : start + length] = bytes(length)
    return bytes(neutral)


def splices(base: bytes, target: bytes) -> list[list[Any]]:
    """What turns `base` into `target`: [offset, bytes removed, hexadecimal bytes inserted], in order."""
    if len(base) == len(target):
        runs = itertools.groupby(range(len(base)), key=lambda i: base[i] != target[i])
        changed = [list(positions) for differs, positions in runs if differs]
        return [[run[0], len(run), target[run[0] : run[-1] + 1].hex()] for run in changed]
    codes = difflib.SequenceMatcher(None, base, target, autojunk=False).get_opcodes()
    return [[i, j - i, target[k:m].hex()] for tag, i, j, k, m in codes if tag != "equal"]


def _hostile_entry(name: str, base_name: str, target: bytes, fix: str, error: str | None) -> dict[str, Any]:
    base = (FOLDER / f"{base_name}.thimble").read_bytes()
    entry: dict[str, Any] = {"name": name, "base": base_name}
    before, after = base, target
    if fix == "all":
        # Checksums need no splices. Where only a header field was changed, section_count may be the lie.
        same_places = len(base) == len(target)
        before = _neutral(base, _section_count(base)) if same_places else base
        after = _neutral(target, _section_count(base if same_places else target))
    entry["splices"] = splices(before, after)
    entry |= {"fix": fix, "error": error}
    made = materialise(entry, base)
    if made != fixed(target, fix):
        raise SystemExit(f"{name}: the splices do not give the file")
    if error_of(made) != error:
        raise SystemExit(f"{name}: loading gives {error_of(made)}, not {error}")
    return entry


def _family_entry(name: str, family: str, base_name: str, fix: str) -> dict[str, Any]:
    base = (FOLDER / f"{base_name}.thimble").read_bytes()
    errors = [error_of(data) for data in family_members(family, base, fix)]
    runs = [[error, len(list(group))] for error, group in itertools.groupby(errors)]
    return {"name": name, "family": family, "base": base_name, "fix": fix, "errors": runs}


def write_hostile() -> None:
    """One entry for each hostile file and family that has none yet."""
    entries = _read(FOLDER / "hostile.json")
    known = {entry["name"] for entry in entries}
    for case in hostile_files():
        if case.name not in known:
            known.add(case.name)
            entry = _hostile_entry(case.name, case.base, case.target, case.fix, case.error)
            if case.covers:
                entry["covers"] = sorted(case.covers)
            entries.append(entry)
    for name, family, base, fix in FAMILIES:
        if name not in known:
            entries.append(_family_entry(name, family, base, fix))
    _write(FOLDER / "hostile.json", entries)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_valid()
    write_hostile()
