"""The strict shim raises where a 32-bit board would go wrong in silence, and leaves the rest alone."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from host_tools.shim import HELPERS, strict_source


def viper(body: str, signature: str = "a: int, b: int") -> Any:
    """A viper function with the given body, as the shim makes it."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    source = f"import micropython\n@micropython.viper\ndef function({signature}):\n{lines}"
    names: dict[str, Any] = dict(HELPERS)
    exec(compile(strict_source(source, "example.py"), "example.py", "exec"), names)
    return names["function"]


BUFFER = "p: ptr8, a: int, b: int"
LARGEST, SMALLEST = (1 << 31) - 1, -(1 << 31)


@pytest.mark.parametrize(
    ("body", "a", "b", "expected"),
    [
        ("return a + b", LARGEST - 1, 1, LARGEST),
        ("return a * b", -(1 << 16), 1 << 15, SMALLEST),
        ("return a >> b", -5, 1, -3),
        ("c = a\nc -= b\nreturn c", SMALLEST + 1, 1, SMALLEST),
        ("return (a ^ 128) - 128", 200, 0, 72 - 128 + 0),
        ("return a // b + a % b", -7, 2, -3),
    ],
)
def test_shim_result_that_fits_is_returned(body: str, a: int, b: int, expected: int) -> None:
    assert viper(body)(a, b) == expected


@pytest.mark.parametrize(
    ("body", "a", "b"),
    [
        ("return a + b", LARGEST, 1),
        ("return a - b", SMALLEST, 1),
        ("return a * b", 1 << 16, 1 << 15),
        ("return a << b", 1, 31),
        ("return -a", SMALLEST, 0),
        ("a += b\nreturn a", LARGEST, 1),
        ("a *= b\nreturn a - a", 1 << 20, 1 << 20),
        ("return a", LARGEST + 1, 0),
    ],
)
def test_shim_overflow_raises(body: str, a: int, b: int) -> None:
    with pytest.raises(OverflowError, match="does not fit 32 bits"):
        viper(body)(a, b)


def test_shim_overflow_names_the_line() -> None:
    with pytest.raises(OverflowError, match=r"example\.py:6: "):
        viper("c = a\nif b:\n    c = c * c\nreturn c")(LARGEST, 1)


@pytest.mark.parametrize("count", [-1, 32])
def test_shim_shift_by_no_count_of_a_word_raises(count: int) -> None:
    with pytest.raises(OverflowError, match="a shift by"):
        viper("return a >> b")(1, count)


def test_shim_uint_wraps() -> None:
    assert viper("return uint(a)")(-1, 0) == 0xFFFFFFFF


def test_shim_pointer_reads_unsigned_and_stores_low_bits() -> None:
    data = bytearray(b"\xff\x00")
    assert viper("p[1] = a\nreturn p[0]", BUFFER)(data, -2, 0) == 255
    assert data[1] == 254


def test_shim_moved_pointer_reads_from_its_place() -> None:
    body = "q = ptr8(int(p) + a)\nend = int(p) + b\ntotal = 0\nwhile int(q) < end:\n    total += q[0]\n"
    body += "    q = ptr8(int(q) + 1)\nreturn total"
    assert viper(body, BUFFER)(bytes(range(10)), 4, 8) == 4 + 5 + 6 + 7


@pytest.mark.parametrize(
    "body",
    ["return p[a]", "p[a] = 1", "q = ptr8(int(p) + a)\nreturn q[0]", "q = ptr8(int(p) + a)\nq[0] = 1"],
)
@pytest.mark.parametrize("place", [4, 1000, -1])
def test_shim_access_out_of_range_raises(body: str, place: int) -> None:
    with pytest.raises(IndexError):
        viper(body, BUFFER)(bytearray(4), place, 0)


def test_shim_negative_index_raises_even_inside_the_buffer() -> None:
    with pytest.raises(IndexError):
        viper("q = ptr8(int(p) + 2)\nreturn q[a]", BUFFER)(bytearray(4), -1, 0)


def test_shim_pointer_past_the_end_raises_only_when_it_is_read() -> None:
    assert viper("q = ptr8(int(p) + a)\nreturn b", BUFFER)(bytearray(4), 9, 5) == 5


def test_shim_halfwords_are_little_endian_and_aligned() -> None:
    data = bytearray(b"\x01\x02\x03\x04\x05")
    function = viper("q = ptr16(int(p) + a)\nreturn q[b]", BUFFER)
    assert function(data, 2, 0) == 0x0403
    with pytest.raises(ValueError, match="words of 2 bytes at byte 1"):
        function(data, 1, 0)
    with pytest.raises(IndexError):
        function(data, 4, 0)


def test_shim_negative_word_raises_as_it_differs_on_64_bits() -> None:
    words = array("i", [7, -7])
    assert viper("return p[a]", "p: ptr32, a: int")(words, 0) == 7
    with pytest.raises(OverflowError, match="64 bits"):
        viper("return p[a]", "p: ptr32, a: int")(words, 1)
    with pytest.raises(OverflowError, match="64 bits"):
        viper("p[0] = a", "p: ptr32, a: int")(words, -1)


def test_shim_comparison_of_pointers_into_two_buffers_raises() -> None:
    with pytest.raises(ValueError, match="two buffers"):
        viper("return int(p) < int(q)", "p: ptr8, q: ptr8")(bytearray(4), bytearray(4))


def test_shim_augmented_store_is_refused() -> None:
    with pytest.raises(SyntaxError, match="augmented stores"):
        viper("p[0] += a", BUFFER)


def test_shim_kernels_are_strict_on_cpython() -> None:
    import thimble  # noqa: F401  (installs the shim)
    from thimble import kernels

    parameters = array("i", [0] * 32)
    with pytest.raises(IndexError):
        kernels.convolve(b"", array("i", [*parameters[:21], 1, 1, *parameters[23:]]), b"", bytearray(0), 0)
