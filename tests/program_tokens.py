"""A PROGRAM section as labelled pieces: every field with its bytes, so that tests can name, change or drop
one.

Written from docs/FORMAT.md, section 4, apart from the packager's writer: joined pieces must equal what it
wrote."""

from __future__ import annotations

import struct

from model_packager.container import ParsedFile
from model_packager.format_table import CONSTANT_FIELDS, OPERATOR_ATTRIBUTES

Token = tuple[str, bytes]


def u(value: int) -> bytes:
    """An unsigned LEB128 varint."""
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def s(value: int) -> bytes:
    """A zigzag varint."""
    return u(2 * value if value >= 0 else -2 * value - 1)


def tokens(parsed: ParsedFile) -> list[Token]:
    """The PROGRAM section of a file in order: (label, bytes), for example ``("operator0.stride_h",
    b"\\x04")``.
    """
    found: list[Token] = [("tensor_count", u(len(parsed.tensors)))]
    for index, tensor in enumerate(parsed.tensors):
        owner = f"tensor{index}"
        found += [(f"{owner}.dtype", u(tensor.dtype)), (f"{owner}.flags", u(tensor.flags))]
        found += _listed(owner, "dimension", tensor.shape)
        found.append((f"{owner}.arena_offset", u(tensor.arena_offset)))
    found.append(("constant_count", u(len(parsed.constants))))
    for index, constant in enumerate(parsed.constants):
        owner = f"constant{index}"
        found.append((f"{owner}.kind", u(constant.kind)))
        for name, code in CONSTANT_FIELDS[constant.kind]:
            value = constant.fields[name]
            found.append((f"{owner}.{name}", s(value) if code == "s" else u(value)))
    return found + _operators(parsed) + _ports(parsed)


def _listed(owner: str, name: str, values: tuple[int, ...]) -> list[Token]:
    count = [(f"{owner}.{name}_count", u(len(values)))]
    return count + [(f"{owner}.{name}{index}", u(value)) for index, value in enumerate(values)]


def _operators(parsed: ParsedFile) -> list[Token]:
    found: list[Token] = [("operator_count", u(len(parsed.operators)))]
    for index, operator in enumerate(parsed.operators):
        owner = f"operator{index}"
        found += [(f"{owner}.kind", u(operator.kind)), (f"{owner}.schedule", u(operator.schedule))]
        if operator.schedule:
            found.append((f"{owner}.schedule_parameter", u(operator.schedule_parameter)))
        found += _listed(owner, "input", operator.inputs) + _listed(owner, "output", operator.outputs)
        references = tuple(0 if constant is None else constant + 1 for constant in operator.constants)
        found += _listed(owner, "constant", references)
        stored = [(item, operator.attributes[item.name]) for item in OPERATOR_ATTRIBUTES[operator.kind]]
        while stored and stored[-1][1] == stored[-1][0].default:
            stored.pop()
        found.append((f"{owner}.attribute_count", u(len(stored))))
        found += [(f"{owner}.{item.name}", s(value)) for item, value in stored]
    return found


def _ports(parsed: ParsedFile) -> list[Token]:
    found: list[Token] = []
    for name, ports in (("input", parsed.inputs), ("output", parsed.outputs)):
        found.append((f"{name}_count", u(len(ports))))
        for index, port in enumerate(ports):
            owner = f"{name}{index}"
            found += [(f"{owner}.tensor", u(port.tensor)), (f"{owner}.flags", u(port.flags))]
            found += [
                (f"{owner}.zero_point", s(port.zero_point)),
                (f"{owner}.scale", struct.pack("<f", port.scale)),
            ]
    return found
