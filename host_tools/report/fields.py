"""JSON becomes dataclasses, every field checked against its annotation: a document and a dataclass go in, an
instance or a ``UsageError`` that names the field comes out.

Annotations may be int, float, str, bool, ``X | None``, ``tuple[X, ...]`` and other dataclasses. Fields with a
default may be missing, keys without a field are ignored. Numbers are finite and, but for fields with
``metadata=SIGNED``, not negative. Characters that control how text is shown are replaced.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
import unicodedata
from typing import Any, TypeVar

from model_packager.errors import UsageError

SIGNED = {"signed": True}
_MOST = 2**63  # larger integers are no counts of ours, and no floats
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # categories of what changes how other text is shown
_NAMES = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}

T = TypeVar("T")


def plain(text: str) -> str:
    """`text` with a replacement character for each control character, half surrogate and direction mark."""
    return "".join("\ufffd" if unicodedata.category(letter) in _HIDDEN else letter for letter in text)


def read_fields(kind: type[T], value: Any, where: str) -> T:
    """An instance of the dataclass `kind`.

    Args:
        where: the file, and the way to `value` in it, for the sentence.

    Raises:
        UsageError: a field is missing, has another type, or is out of range.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{where} is no JSON object")
    hints = typing.get_type_hints(kind)
    found = {}
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        if not each.init:
            continue
        if each.name in value:
            signed = bool(each.metadata.get("signed"))
            found[each.name] = _checked(hints[each.name], value[each.name], f"{where}: {each.name}", signed)
        elif each.default is dataclasses.MISSING:
            raise UsageError(f"{where}: {each.name} is missing")
    return kind(**found)


def _checked(hint: Any, value: Any, where: str, signed: bool) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _checked(next(each for each in arguments if each is not type(None)), value, where, signed)
    if origin is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} is no list")
        return tuple(_checked(arguments[0], each, f"{where}[{n}]", signed) for n, each in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return read_fields(typing.cast(type, hint), value, where)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {int: isinstance(value, int) and is_number, float: is_number}.get(hint, isinstance(value, hint))
    if not fits:
        raise UsageError(f"{where} is not {_NAMES[hint]}")
    if is_number:
        if not math.isfinite(value) or abs(value) >= _MOST:
            raise UsageError(f"{where} is out of range")
        if value < 0 and not signed:
            raise UsageError(f"{where} is negative")
    return plain(value) if hint is str else value
