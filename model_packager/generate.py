"""Generate what other components copy from the format table; ``--check`` only says what is stale.

    python -m model_packager.generate [--check]

In goes ``model_packager.format_table``; out come firmware/core/include/thimble_format.h (the whole file), the
marked regions of firmware/**/*.py, and the marked tables of docs/*.md. tests/test_generated.py and
``make check-generated`` run the check.

A region of a MicroPython module names what the module uses, and holds one ``const`` line for each:

    # generated:begin Coder OperatorKind:CONV_2D,ADD Attr:CONV_2D Struct:HEADER.VERSION Table:DEFAULTS
    # generated:also Value:FORMAT_VERSION
    _CODER_FIXED = const(0)
    ...
    # generated:end

Items are separated by spaces; ``generated:also`` lines continue the list. An item is a group, which takes all
of its names, or ``group:name,name``. The groups:

- every enumeration of the format table, by class name. ``Coder:FIXED`` gives ``_CODER_FIXED``; the prefixes
  are in ``ENUM_PREFIXES`` below (``Limit:TENSORS`` gives ``_MAX_TENSORS``, ``ErrorCode:BAD_HASH``
  ``_ERROR_BAD_HASH``).
- ``Value``: the integers and bytes of the table by their own name: ``Value:FORMAT_VERSION``, ``Value:MAGIC``.
- ``Attr``: indexes of operator attributes: ``Attr:CONV_2D`` gives all of them as ``_CONV_2D_KERNEL_H`` and so
  on, ``Attr:CONV_2D.STRIDE_H`` one.
- ``Field``: indexes of the fields of a constant: ``Field:WEIGHTS`` or ``Field:WEIGHTS.ROWS``
  (``_FIELD_WEIGHTS_ROWS``).
- ``Struct``: ``Struct:HEADER`` gives byte offsets (``_HEADER_VERSION_OFFSET``), ``_HEADER_BYTES`` and
  ``_HEADER_FORMAT`` (a ``struct`` format string); ``Struct:HEADER.VERSION``, ``.BYTES`` and ``.FORMAT`` give
  one. Structs: HEADER, SECTION_ENTRY, GOLDEN and whatever else ``format_table.STRUCTS`` holds.
- ``Table``: ``DEFAULTS`` (``_DEFAULTS``: for each operator kind, by number from 0, a tuple of its attributes'
  defaults), ``CONSTANT_COUNTS`` (for each operator kind, by number, (least, most) constants),
  ``FIELD_COUNTS`` (for each constant kind the number of its fields), ``ERROR_NAMES`` (a dict, code to
  lower-case name), and in few bytes ``ERROR_NAME_LIST`` (a string: the names of codes -1, -2, ... of files)
  and ``DEFAULT_RECORDS`` (bytes: kind, number of attributes, their defaults as int8, for every operator
  kind).

Names are upper case in the region and unknown ones are refused. A document's table stands between
``<!-- generated:begin NAME -->`` and ``<!-- generated:end -->``; NAME is an enumeration, a struct (lower
case), ``constant_fields``, ``operator_attributes``, ``operator_constants`` or ``values``.
"""

from __future__ import annotations

import argparse
import enum
import inspect
import re
import struct
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from model_packager import format_table
from model_packager.errors import UsageError
from model_packager.format_table import (
    CONSTANT_FIELDS,
    OPERATOR_ATTRIBUTES,
    OPERATOR_CONSTANTS,
    STRUCTS,
    ErrorCode,
    OperatorKind,
    struct_format,
)

REPOSITORY = Path(__file__).resolve().parent.parent
C_HEADER = Path("firmware/core/include/thimble_format.h")

ENUM_PREFIXES = {
    "SectionKind": "SECTION",
    "Limit": "MAX",
    "ConstantKind": "CONSTANT",
    "ValueMap": "MAP",
    "ScheduleKind": "SCHEDULE",
    "OperatorKind": "OPERATOR",
    "ErrorCode": "ERROR",
    "DType": "DTYPE",
}

Names = dict[str, dict[str, str]]  # item name within the group -> {constant name: literal}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def enumerations() -> dict[str, type[enum.IntEnum] | type[enum.IntFlag]]:
    """Every enumeration that the format table defines, by class name, in the table's order."""
    kinds = (enum.IntEnum, enum.IntFlag)
    return {
        name: item
        for name, item in vars(format_table).items()
        if inspect.isclass(item) and issubclass(item, kinds) and item.__module__ == format_table.__name__
    }


def enum_prefix(name: str) -> str:
    """The stem of the generated names of an enumeration's members."""
    return ENUM_PREFIXES.get(name, _snake(name))


def values() -> dict[str, int | bytes]:
    """The table's single integers and byte strings by name."""
    return {
        name: item
        for name, item in vars(format_table).items()
        if name.isupper() and isinstance(item, (int, bytes)) and not isinstance(item, enum.Enum)
    }


def comments(owner: type[enum.Enum] | None) -> dict[str, str]:
    """The comment behind each ``NAME = value`` line of an enumeration, or of the table's top level (None)."""
    lines = inspect.getsource(owner if owner is not None else format_table).splitlines()
    indent = "    " if owner is not None else ""
    found = {}
    for line in lines:
        match = re.match(indent + r"([A-Z][A-Z0-9_]*) = [^#]*(?:# (.*))?$", line)
        if match:
            found[match.group(1)] = (match.group(2) or "").strip()
    return found


# -------------------------------------------------------------------------------- names for the firmware


def _struct_offsets(fields: tuple[format_table.Field, ...]) -> dict[str, int]:
    offset = 0
    offsets = {}
    for item in fields:
        offsets[item.name.upper()] = offset
        offset += struct.calcsize("<" + item.code)
    return offsets


def _struct_names() -> Names:
    group: Names = {}
    for struct_name, fields in STRUCTS.items():
        stem = struct_name.upper()
        members = {f"{stem}_{name}_OFFSET": str(offset) for name, offset in _struct_offsets(fields).items()}
        whole = {
            f"{stem}_BYTES": str(struct.calcsize(struct_format(fields))),
            f"{stem}_FORMAT": f'"{struct_format(fields)}"',
        }
        group[stem] = members | whole
        for name in _struct_offsets(fields):
            group[f"{stem}.{name}"] = {f"{stem}_{name}_OFFSET": members[f"{stem}_{name}_OFFSET"]}
        for name, literal in whole.items():
            group[f"{stem}.{name.rpartition('_')[2]}"] = {name: literal}
    return group


def _index_names(prefix: str, tables: Iterable[tuple[str, Iterable[str]]]) -> Names:
    group: Names = {}
    for owner, names in tables:
        group[owner] = {f"{prefix}{owner}_{name.upper()}": str(index) for index, name in enumerate(names)}
        for name in names:
            key = f"{prefix}{owner}_{name.upper()}"
            group[f"{owner}.{name.upper()}"] = {key: group[owner][key]}
    return group


def constant_counts(kind: OperatorKind) -> tuple[int, int]:
    """Least and most constants that an operator of this kind takes."""
    names = OPERATOR_CONSTANTS.get(kind, ())
    return sum(not name.startswith("[") for name in names), len(names)


def _tuple_literal(items: Iterable[object]) -> str:
    texts = [str(item) for item in items]
    return "(" + ", ".join(texts) + ("," if len(texts) == 1 else "") + ")"


def _table_names() -> Names:
    by_number: list[OperatorKind | None] = [None] * (max(OperatorKind) + 1)
    for kind in OperatorKind:
        by_number[kind] = kind
    attributes = [OPERATOR_ATTRIBUTES[kind] if kind else () for kind in by_number]
    defaults = [_tuple_literal(item.default for item in items) for items in attributes]
    counts = [str(constant_counts(kind) if kind else (0, 0)) for kind in by_number]
    field_counts = [len(CONSTANT_FIELDS[kind]) for kind in sorted(CONSTANT_FIELDS)]
    return {
        "DEFAULTS": {"DEFAULTS": _tuple_literal(defaults)},
        "CONSTANT_COUNTS": {"CONSTANT_COUNTS": _tuple_literal(counts)},
        "FIELD_COUNTS": {"FIELD_COUNTS": _tuple_literal(field_counts)},
        "ERROR_NAMES": {
            "ERROR_NAMES": "{" + ", ".join(f'{int(code)}: "{code.name.lower()}"' for code in ErrorCode) + "}"
        },
        "ERROR_NAME_LIST": {"ERROR_NAME_LIST": _concatenated(_error_name_list())},
        "DEFAULT_RECORDS": {"DEFAULT_RECORDS": _concatenated(_default_records())},
    }


def _error_name_list() -> list[str]:
    """Pieces of one string: the names of codes -1, -2, ... with spaces between, up to the first number that
    is no code; the codes behind that one belong to the wire, where numbers travel."""
    names = {int(code): code.name.lower() for code in ErrorCode}
    words: list[str] = []
    while (code := -1 - len(words)) in names:
        words.append(names[code] + " ")
    return [repr("".join(words[start : start + 5])).replace("'", '"') for start in range(0, len(words), 5)]


def _default_records() -> list[str]:
    """Pieces of one bytes object: operator kind, number of attributes, defaults as int8, for every kind in
    order."""
    pieces = []
    for kind, attributes in OPERATOR_ATTRIBUTES.items():
        record = bytes([kind, len(attributes), *(item.default & 0xFF for item in attributes)])
        pieces.append('b"' + "".join(f"\\x{byte:02x}" for byte in record) + '"')
    return pieces


def _concatenated(pieces: Iterable[str]) -> str:
    """A literal of adjacent strings, one on a line."""
    return "(\n" + "".join(f"    {piece}\n" for piece in pieces) + ")"


def groups() -> dict[str, Names]:
    """Everything that a region can name: group, item, names without their underscore and literals."""
    found: dict[str, Names] = {
        name: {m: {f"{enum_prefix(name)}_{m}": str(int(v))} for m, v in kind.__members__.items()}
        for name, kind in enumerations().items()
    }
    found["Value"] = {name: {name: repr(item).replace("'", '"')} for name, item in values().items()}
    found["Attr"] = _index_names(
        "", ((kind.name, [a.name for a in attributes]) for kind, attributes in OPERATOR_ATTRIBUTES.items())
    )
    found["Field"] = _index_names(
        "FIELD_", ((kind.name, [name for name, _ in fields]) for kind, fields in CONSTANT_FIELDS.items())
    )
    found["Struct"] = _struct_names()
    found["Table"] = _table_names()
    return found


def _wanted(item: str, known: dict[str, Names], where: str) -> dict[str, str]:
    group, _, names = item.partition(":")
    if group not in known:
        raise UsageError(f"{where}: unknown group {group!r} in a generated region; known: {', '.join(known)}")
    result: dict[str, str] = {}
    for name in names.split(",") if names else known[group]:
        if name not in known[group]:
            raise UsageError(f"{where}: {group} has no {name!r}; it has: {', '.join(known[group])}")
        result |= known[group][name]
    return result


def region_lines(items: Iterable[str], where: str) -> list[str]:
    """The generated lines for the items of one marked region of a MicroPython module.

    Raises:
        UsageError: an item names nothing in the format table.
    """
    known = groups()
    wanted: dict[str, str] = {}
    for item in items:
        wanted |= _wanted(item, known, where)
    lines: list[str] = []
    for name, literal in wanted.items():
        # `const` of a number vanishes from the .mpy; containers are plain names.
        text = f"_{name} = const({literal})" if literal[0] not in "({" else f"_{name} = {literal}"
        lines += _wrapped(text)
    return lines


def _wrapped(text: str, width: int = 110) -> list[str]:
    """`text` broken at commas, outside of nested brackets, into lines of at most `width` characters."""
    if len(text) <= width or "\n" in text:
        return text.split("\n")
    start = re.search(r"[({]", text)
    if start is None:
        return [text]
    opening = start.start() + 1
    parts, depth, current = [], 0, ""
    for character in text[opening:-1]:
        depth += {"(": 1, ")": -1}.get(character, 0)
        current += character
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
    if current.strip():
        parts.append(current.strip() + ",")
    return [text[:opening], *(f"    {part}" for part in parts), text[-1]]


def python_text(text: str, where: str) -> str:
    """`text` of a MicroPython module with its regions brought up to date.

    Raises:
        UsageError: a region does not end, or names what does not exist.
    """
    result: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        result.append(line)
        if not line.startswith("# generated:begin"):
            continue
        items = line.split()[2:]
        for line in lines:
            if line.startswith("# generated:also"):
                result.append(line)
                items += line.split()[2:]
            elif line.startswith("# generated:end"):
                break
        else:
            raise UsageError(f"{where}: a generated region has no `# generated:end`")
        result += [*region_lines(items, where), line]
    return "\n".join(result) + "\n"


# ---------------------------------------------------------------------------------------------- C header


def _c_enum(name: str, kind: type[enum.IntEnum] | type[enum.IntFlag]) -> list[str]:
    docs = comments(kind)
    lines = [f"enum thimble_{_snake(name).lower()} {{"]
    for member, item in kind.__members__.items():
        comment = f" /* {docs[member]} */" if docs.get(member) else ""
        lines.append(f"    THIMBLE_{enum_prefix(name)}_{member} = {int(item)},{comment}")
    return [*lines, "};", ""]


def _c_index_enum(title: str, stem: str, names: Iterable[str]) -> list[str]:
    listed = [f"    THIMBLE_{stem}_{name.upper()} = {index}," for index, name in enumerate(names)]
    count = f"    THIMBLE_{title.upper()}_COUNT = {len(listed)},"
    return [f"enum thimble_{title} {{", *listed, count, "};", ""]


def _c_values() -> list[str]:
    lines = []
    for name, item in values().items():
        text = f'"{item.decode("ascii")}"' if isinstance(item, bytes) else str(item)
        lines.append(f"#define THIMBLE_{name} {text}")
    return [*lines, ""]


def _c_structs() -> list[str]:
    lines = []
    for name, fields in STRUCTS.items():
        stem = name.upper()
        for item in fields:
            offset = _struct_offsets(fields)[item.name.upper()]
            lines.append(f"#define THIMBLE_{stem}_{item.name.upper()}_OFFSET {offset} /* {item.doc} */")
        lines += [f"#define THIMBLE_{stem}_BYTES {struct.calcsize(struct_format(fields))}", ""]
    return lines


def c_header() -> str:
    """The text of thimble_format.h: C99, constants only."""
    lines = [
        "/* Constants of the Thimble format and protocol. Do not edit: generated from",
        " * model_packager/format_table.py by `python -m model_packager.generate`. */",
        "#ifndef THIMBLE_FORMAT_H",
        "#define THIMBLE_FORMAT_H",
        "",
        *_c_values(),
        "/* Byte offsets of the fixed little-endian structs. */",
        *_c_structs(),
    ]
    for name, kind in enumerations().items():
        lines += _c_enum(name, kind)
    lines.append("/* Positions of the fields of a constant in the PROGRAM section. */")
    for constant, fields in CONSTANT_FIELDS.items():
        stem = f"FIELD_{constant.name}"
        lines += _c_index_enum(f"{constant.name.lower()}_field", stem, (name for name, _ in fields))
    lines.append("/* Positions of operator attributes. */")
    for operator, attributes in OPERATOR_ATTRIBUTES.items():
        if attributes:
            title = f"{operator.name.lower()}_attribute"
            lines += _c_index_enum(title, operator.name, (item.name for item in attributes))
    lines.append("/* Attribute defaults in this order, each within a signed byte. */")
    for operator, attributes in OPERATOR_ATTRIBUTES.items():
        if attributes:
            defaults = ", ".join(str(item.default) for item in attributes)
            lines.append(f"#define THIMBLE_{operator.name}_DEFAULTS {{{defaults}}}")
    lines += ["", "#endif", ""]
    text = "\n".join(lines)
    _refuse_repeated_names(text)
    return text


def _refuse_repeated_names(text: str) -> None:
    """Two groups of the table must not give the same C name; the firmware's names have the same stems."""
    names = re.findall(r"^(?:#define|   ) (THIMBLE_\w+)", text, re.MULTILINE)
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UsageError(f"the format table gives these names twice: {', '.join(sorted(repeated))}")


# ---------------------------------------------------------------------------------------------- documents


def _markdown(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    body = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *body]


def _enum_table(kind: type[enum.IntEnum] | type[enum.IntFlag]) -> list[str]:
    docs = comments(kind)
    wide = issubclass(kind, enum.IntFlag)
    rows = [
        (f"0x{int(item):X}" if wide else int(item), f"`{name}`", docs.get(name, ""))
        for name, item in kind.__members__.items()
    ]
    return _markdown(("bit" if wide else "value", "name", "meaning"), rows)


_TYPES = dict(zip("BHIQbhiqf", ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32"), strict=True))


def _struct_table(fields: tuple[format_table.Field, ...]) -> list[str]:
    offsets = _struct_offsets(fields)
    rows = [
        (offsets[item.name.upper()], struct.calcsize("<" + item.code), _TYPES.get(item.code, "bytes"),
         f"`{item.name}`", item.doc)
        for item in fields
    ]  # fmt: skip
    return _markdown(("offset", "bytes", "type", "field", "meaning"), rows)


def _attribute_table() -> list[str]:
    rows: list[tuple[object, ...]] = []
    for kind, attributes in OPERATOR_ATTRIBUTES.items():
        for index, item in enumerate(attributes):
            operator = f"`{kind.name}`" if index == 0 else ""
            rows.append((operator, index, f"`{item.name}`", item.default, item.doc))
        if not attributes:
            rows.append((f"`{kind.name}`", "", "none", "", ""))
    return _markdown(("operator", "index", "attribute", "default", "meaning"), rows)


def document_tables() -> dict[str, Callable[[], list[str]]]:
    """The tables that a document can ask for, by the name in its marker."""
    tables: dict[str, Callable[[], list[str]]] = {}
    tables.update((name, partial(_enum_table, kind)) for name, kind in enumerations().items())
    tables.update((name, partial(_struct_table, fields)) for name, fields in STRUCTS.items())
    tables["constant_fields"] = lambda: _markdown(
        ("constant", "index", "field", "varint"),
        (
            (f"`{kind.name}`" if index == 0 else "", index, f"`{name}`", code)
            for kind, fields in CONSTANT_FIELDS.items()
            for index, (name, code) in enumerate(fields)
        ),
    )
    tables["operator_attributes"] = _attribute_table
    tables["operator_constants"] = lambda: _markdown(
        ("operator", "constants, in order"),
        ((f"`{kind.name}`", ", ".join(names)) for kind, names in OPERATOR_CONSTANTS.items()),
    )
    tables["values"] = partial(_value_table, False)
    tables["mlperf_values"] = partial(_value_table, True)
    return tables


def _value_table(is_of_mlperf: bool) -> list[str]:
    docs = comments(None)
    rows = (
        (f"`{name}`", item.decode("ascii") if isinstance(item, bytes) else item, docs.get(name, ""))
        for name, item in values().items()
        if name.startswith("MLPERF_") is is_of_mlperf
    )
    return _markdown(("name", "value", "meaning"), rows)


def document_text(text: str, where: str) -> str:
    """`text` of a document with its generated tables brought up to date.

    Raises:
        UsageError: a table does not end, or is not known.
    """
    tables = document_tables()

    def replaced(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in tables:
            raise UsageError(f"{where}: no generated table is called {name!r}; known: {', '.join(tables)}")
        return "\n".join([match.group(1), "", *tables[name](), "", "<!-- generated:end -->"])

    begun = re.compile(
        r"(<!-- generated:begin (\w+) -->)\n(?:(?!<!-- generated:begin).)*?<!-- generated:end -->", re.DOTALL
    )
    result = begun.sub(replaced, text)
    if result.count("<!-- generated:begin") != len(begun.findall(result)):
        raise UsageError(f"{where}: a generated table has no `<!-- generated:end -->`")
    return result


# ------------------------------------------------------------------------------------------------ command


def outputs(root: Path = REPOSITORY) -> dict[Path, str]:
    """Every generated file and every file with marked regions below `root`, with the text it should have."""
    expected = {root / C_HEADER: c_header()}
    for path in sorted((root / "firmware").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "# generated:begin" in text:
            expected[path] = python_text(text, str(path.relative_to(root)))
    for path in sorted((root / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if "<!-- generated:begin" in text:
            expected[path] = document_text(text, str(path.relative_to(root)))
    return expected


def stale(root: Path = REPOSITORY) -> list[Path]:
    """The files whose generated parts differ from the format table."""
    return [
        path
        for path, text in outputs(root).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write all generated parts; with --check only compare them, and return 1 when one is stale."""
    parser = argparse.ArgumentParser(
        prog="python -m model_packager.generate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a part is stale")
    options = parser.parse_args(arguments)
    try:
        changed = stale()
        if not options.check:
            expected = outputs()
            for path in changed:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(expected[path], encoding="utf-8")
    except UsageError as error:
        print(error, file=sys.stderr)
        return 1
    for path in changed:
        print(f"{'stale' if options.check else 'wrote'}: {path.relative_to(REPOSITORY)}", file=sys.stderr)
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
