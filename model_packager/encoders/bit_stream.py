"""The bit stream that every coder but the range coder writes: fields of 0 to 32 bits, least significant bit
first.

Bit i of the stream is bit i % 8 of byte i // 8. Encoders hand over whole arrays of (value, width) pairs;
decoders read field by field. Only this module touches the payload's bits, so that the end of the payload is
checked in one place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_packager.errors import FormatError
from model_packager.format_table import ErrorCode

IntArray = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]

# A column of fields: values and their widths in bits, two arrays of one shape.
Fields = list[tuple[IntArray, IntArray]]


def bad_stream(detail: str) -> FormatError:
    """The error of every stream that does not decode."""
    return FormatError(ErrorCode.BAD_STREAM, detail)


class BitWriter:
    """Collects fields and packs them all at once."""

    def __init__(self) -> None:
        self._values: list[IntArray] = []
        self._widths: list[IntArray] = []

    def write(self, value: int, width: int) -> None:
        """Appends one field of ``width`` bits."""
        self.write_arrays(np.array([value], np.int64), np.array([width], np.int64))

    def write_arrays(self, values: IntArray, widths: IntArray) -> None:
        """Appends many fields; ``values`` and ``widths`` have one shape (n,), 0 <= value < 2^width."""
        self._values.append(values)
        self._widths.append(widths)

    def write_records(self, columns: Fields) -> None:
        """Appends records field by field: record 0's field of each column, then record 1's, and so on."""
        if columns:
            self.write_arrays(
                np.stack([values for values, _ in columns], axis=1).ravel(),
                np.stack([widths for _, widths in columns], axis=1).ravel(),
            )

    def to_bytes(self) -> bytes:
        """The stream, padded with zero bits to a whole byte."""
        if not self._values:
            return b""
        values, widths = np.concatenate(self._values), np.concatenate(self._widths)
        ends = np.cumsum(widths)
        bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
        starts = ends - widths
        # One pass per bit of the widest field keeps the packing in NumPy whatever the mix of widths.
        for bit in range(int(widths.max(initial=0))):
            used = widths > bit
            bits[starts[used] + bit] = (values[used] >> bit) & 1
        return np.packbits(bits, bitorder="little").tobytes()


class BitReader:
    """Reads fields from ``data``; raises ``bad_stream`` rather than read past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._end = 8 * len(data)

    def peek(self, width: int) -> int:
        """The next ``width`` bits without taking them; bits past the end read as 0."""
        start = self._position >> 3
        window = int.from_bytes(self._data[start : (self._position + width + 7) >> 3], "little")
        return (window >> (self._position & 7)) & ((1 << width) - 1)

    def skip(self, width: int) -> None:
        """Takes ``width`` bits."""
        self._position += width
        if self._position > self._end:
            raise bad_stream("the payload ends in the middle of a symbol")

    def read(self, width: int) -> int:
        """Takes the next ``width`` bits as an unsigned number."""
        value = self.peek(width)
        self.skip(width)
        return value

    def finish(self) -> None:
        """Checks that nothing but fewer than eight zero bits is left."""
        left = self._end - self._position
        if left >= 8:
            raise bad_stream(f"{left // 8} bytes are left after the last weight")
        if self.peek(left):
            raise bad_stream("the padding after the last weight is not zero")
