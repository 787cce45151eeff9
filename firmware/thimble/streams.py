"""Weight streams: a WEIGHTS constant goes in, rows come out, one output channel at a time.

A `Stream` owns the state of one open stream: tables and row buffer lie in the caller's scratch, the payload
in memory or in a file that is read through a small window. Rows are dense two's complement bytes, or
(position, weight) pairs of a sparse row for the operator that asks for them. The bit-level work is done by
kernels.decode.
"""

from array import array

from micropython import const

from thimble.errors import ThimbleError

# generated:begin Layout Coder ValueMap Feature:SPARSE Limit:ROW_LENGTH,SPARSE_ROW_LENGTH,WEIGHTS
# generated:also ErrorCode:BAD_STREAM,BAD_CONSTANT,LIMIT_EXCEEDED
# generated:also Value:CLASS_GAP_MAX,CLASS_MAX_TOKENS,CLASS_MAX_LENGTH_BITS,HUFFMAN_MAX_LENGTH_BITS
_LAYOUT_DENSE = const(0)
_LAYOUT_SPARSE = const(1)
_LAYOUT_BITMAP = const(2)
_LAYOUT_BITS = const(3)
_CODER_FIXED = const(0)
_CODER_HUFFMAN = const(1)
_CODER_CLASS = const(2)
_CODER_RANGE = const(3)
_MAP_IDENTITY = const(0)
_MAP_CODEBOOK = const(1)
_MAP_TERNARY = const(2)
_MAP_LOG2 = const(3)
_MAP_BINARY = const(4)
_FEATURE_SPARSE = const(16)
_MAX_ROW_LENGTH = const(16777216)
_MAX_SPARSE_ROW_LENGTH = const(65536)
_MAX_WEIGHTS = const(134217728)
_ERROR_BAD_STREAM = const(-18)
_ERROR_BAD_CONSTANT = const(-15)
_ERROR_LIMIT_EXCEEDED = const(-13)
_CLASS_GAP_MAX = const(24)
_CLASS_MAX_TOKENS = const(32)
_CLASS_MAX_LENGTH_BITS = const(6)
_HUFFMAN_MAX_LENGTH_BITS = const(15)
# generated:end

# Fields of a WEIGHTS constant, the kind in front
_F_OFFSET = const(1)
_F_BYTES = const(2)
_F_ROWS = const(3)
_F_COLS = const(4)
_F_LAYOUT = const(5)
_F_CODER = const(6)
_F_MAP = const(7)
_F_VALUE_BITS = const(8)
_F_GAP_BITS = const(9)
_F_VALUE_COUNT = const(10)
_F_ENTRIES = const(11)
_F_MAX_ENTRIES = const(12)

_S_POSITION = const(0)
_S_LIMIT = const(1)
_S_SAFE = const(2)
_S_BITS = const(3)
_S_HELD = const(4)
_S_COLUMN = const(5)
_S_NEXT = const(6)
_S_STAGE = const(7)
_S_ENTRIES = const(8)
_S_KEPT = const(9)
_S_CLEAR = const(10)
_S_COLS = const(11)
_S_WORDS = const(12)
_S_END = const(13)
_S_LAYOUT = const(14)
_S_CODER = const(15)
_S_VALUE_BITS = const(16)
_S_GAP_BITS = const(17)
_S_FLAG_BITS = const(18)
_S_VALUE_COUNT = const(19)
_S_MAP = const(20)
_S_GAP_TABLE = const(21)
_S_VALUE_TABLE = const(22)
_S_SYMBOLS = const(23)
_S_ROW = const(25)
_S_PAIRS = const(26)
_S_MAX_ENTRIES = const(27)
_S_FORM = const(28)
_S_SIZE = const(29)

_ALL = const(0x3FFFFFFF)  # no symbol can run out of the buffer: it holds the payload's end
_LOOKAHEAD_BYTES = const(18)  # more than the longest entry takes: 5 + 1 + 8 chances of 7.05 bits, 23 raw bits
_MIN_WINDOW_BYTES = const(24)
_HUFFMAN_TABLE_BYTES = const(192)
_PROBABILITY_HALF = const(2048)
_LOG2_WEIGHTS = b"\x00\x01\xff\x02\xfe\x04\xfc\x08\xf8\x10\xf0\x20\xe0\x40\xc0\x80"


def _bad(where):
    raise ThimbleError(_ERROR_BAD_STREAM, where)


def check_stream(f):
    """Check the fields of a WEIGHTS constant against each other; returns the features that a reader needs."""
    rows = f[_F_ROWS]
    cols = f[_F_COLS]
    layout = f[_F_LAYOUT]
    coder = f[_F_CODER]
    kind = f[_F_MAP]
    if layout > _LAYOUT_BITS or coder > _CODER_RANGE or kind > _MAP_BINARY:
        raise ThimbleError(_ERROR_BAD_CONSTANT, "fields")
    sparse = layout == _LAYOUT_SPARSE
    if cols > (_MAX_SPARSE_ROW_LENGTH if sparse else _MAX_ROW_LENGTH) or rows * cols > _MAX_WEIGHTS:
        raise ThimbleError(_ERROR_LIMIT_EXCEEDED, "weights")
    by_map = kind - _MAP_CODEBOOK
    low, high = 0, 0
    if layout == _LAYOUT_BITS:
        low = high = 1 + (kind == _MAP_TERNARY)
    elif coder == _CODER_RANGE:
        low, high = 1, 8
    elif coder == _CODER_FIXED:
        low = b"\2\1\2\4\1"[kind]
        high = b"\x08\x08\2\4\x08"[kind]
    good = low <= f[_F_VALUE_BITS] <= high
    gaps = f[_F_GAP_BITS]
    if coder == _CODER_RANGE:
        good = good and 4 <= gaps & 7 and gaps >> 3 <= (0 if sparse else cols)
    elif sparse and coder != _CODER_CLASS:
        good = good and 1 <= gaps <= 8
    else:
        good = good and not gaps
    low, high = 0, 0
    if not by_map:
        low, high = 1, 256
    elif coder in (_CODER_HUFFMAN, _CODER_CLASS):
        low, high = 1, 3 if kind == _MAP_TERNARY else 16 if kind == _MAP_LOG2 else 256
    entries = f[_F_ENTRIES]
    good = good and low <= f[_F_VALUE_COUNT] <= high and rows and cols
    if sparse:
        good = good and (coder != _CODER_FIXED) <= entries <= rows * cols
        good = good and f[_F_MAX_ENTRIES] <= min(cols, entries)
    else:
        good = good and not entries and not f[_F_MAX_ENTRIES]
    if layout == _LAYOUT_BITS:
        good = good and kind in (_MAP_TERNARY, _MAP_BINARY) and coder == _CODER_FIXED
    elif kind == _MAP_BINARY:
        good = False
    if not good:
        _bad("fields")
    return 1 << coder | (_FEATURE_SPARSE << layout - 1 if layout else 0)


def _is_raw(f):
    return not (f[_F_LAYOUT] or f[_F_CODER] or f[_F_MAP]) and f[_F_VALUE_BITS] == 8


def stream_bytes(f):
    """Scratch of an open stream: (bytes of what is aligned to two, other bytes). The format's rule."""
    sparse = f[_F_LAYOUT] == _LAYOUT_SPARSE
    coder = f[_F_CODER]
    wide = narrow = 0
    if sparse:
        wide = 2 * f[_F_MAX_ENTRIES]
        narrow = f[_F_MAX_ENTRIES]
    elif f[_F_LAYOUT] != _LAYOUT_BITS and not _is_raw(f):
        narrow = f[_F_COLS]
    if coder == _CODER_RANGE:
        wide += 2 * _chances(f)
    elif coder == _CODER_CLASS:
        narrow += 128 if sparse else 64
    elif coder == _CODER_HUFFMAN:
        wide += _HUFFMAN_TABLE_BYTES * (1 + sparse)
        narrow += f[_F_VALUE_COUNT] + (1 << f[_F_GAP_BITS] if sparse else 0)
    return wide, narrow


def _chances(f):
    """Probabilities of a RANGE stream: the value tree, then what its layout adds."""
    return (1 << f[_F_VALUE_BITS]) + b"\x09\x40\x0d"[f[_F_LAYOUT]]


def row_bytes(f, in_file, pairs):
    """Scratch beyond `stream_bytes` that this executor takes: a dense row where the format's rule has none,
    and rows read from a file where they would be used in place."""
    layout = f[_F_LAYOUT]
    if layout == _LAYOUT_SPARSE:
        return 0 if pairs else max(0, f[_F_COLS] - 3 * f[_F_MAX_ENTRIES])
    return f[_F_COLS] if layout == _LAYOUT_BITS or (in_file and _is_raw(f)) else 0


class Stream:
    """One open stream. `buffer` and `row` (an offset into it) say where the row is that `next_row` has
    made."""

    def __init__(self, source, kernels, scratch, window_bytes):
        self._source = source
        self.kernels = kernels
        self._scratch = scratch
        self.state = array("i", bytes(4 * _S_SIZE))
        self._window = source.data
        if source.data is None:
            self._window = memoryview(bytearray(max(window_bytes, _MIN_WINDOW_BYTES)))

    def open(self, f, at, wide, narrow, pairs):
        """Open the stream of fields `f` whose payload starts at byte `at` of the file.

        Scratch from `wide` upwards (even) and below `narrow` is the stream's; returns what is left of it.
        """
        s = self.state
        self._fields = f
        in_file = self._source.data is None
        self._end = at + f[_F_BYTES]
        cols = s[_S_COLS] = f[_F_COLS]
        layout = s[_S_LAYOUT] = f[_F_LAYOUT]
        coder = s[_S_CODER] = f[_F_CODER]
        words = cols
        s[_S_VALUE_BITS] = planes = f[_F_VALUE_BITS]
        if layout == _LAYOUT_BITS:
            words = cols + 31 & ~31
            s[_S_VALUE_BITS] = 1
        else:
            planes = 1
        s[_S_WORDS] = words
        s[_S_END] = words * planes
        s[_S_FLAG_BITS] = 1
        s[_S_GAP_BITS] = f[_F_GAP_BITS]
        s[_S_MAX_ENTRIES] = f[_F_MAX_ENTRIES]
        s[_S_FORM] = int(pairs)
        self._raw = _is_raw(f)
        self.buffer = self._scratch
        if self._raw and not in_file:
            self.buffer = self._window
        else:
            narrow -= f[_F_MAX_ENTRIES] if pairs else cols
        self.row = s[_S_ROW] = narrow
        if pairs:
            s[_S_PAIRS] = wide
            wide += 2 * f[_F_MAX_ENTRIES]
        at = self._open_values(f, at)
        if layout == _LAYOUT_BITS:
            if f[_F_MAP] == _MAP_TERNARY:
                if self._end - at < 2 or any(self._source.read(at, 2)):
                    _bad("magnitudes")
                at += 2
        elif coder == _CODER_RANGE:
            s[_S_VALUE_TABLE] = wide
            wide += 2 * _chances(f)
        elif coder != _CODER_FIXED:
            for stage in (0, 1) if layout == _LAYOUT_SPARSE else (1,):
                if coder == _CODER_CLASS:
                    narrow -= 64
                    s[_S_GAP_TABLE + stage] = narrow
                    count = self._byte(at)
                    at += 1
                    if not 1 <= count <= (_CLASS_MAX_TOKENS if stage else _CLASS_GAP_MAX + 1):
                        _bad("code lengths")
                    at = self._table(at, count, narrow, -1)
                else:
                    count = f[_F_VALUE_COUNT] if stage else 1 << f[_F_GAP_BITS]
                    narrow -= count
                    s[_S_GAP_TABLE + stage] = wide
                    s[_S_SYMBOLS + stage] = narrow
                    at = self._table(at, count, wide, narrow)
                    wide += _HUFFMAN_TABLE_BYTES
        self._start = at
        if self._raw and self._end - at != f[_F_ROWS] * cols:
            _bad("payload")
        self.rewind()
        return wide, narrow

    def _byte(self, at):
        if at >= self._end:
            _bad("payload")
        return self._source.read(at, 1)[0]

    def _open_values(self, f, at):
        """The value map: how an index becomes a weight; returns where the payload goes on."""
        s = self.state
        kind = f[_F_MAP]
        bits = f[_F_VALUE_BITS]
        limit = f[_F_VALUE_COUNT]
        s[_S_MAP] = 0
        if kind == _MAP_CODEBOOK:
            if self._end - at < limit:
                _bad("payload")
            self.entries = self._source.read(at, limit)
            at += limit
        elif kind == _MAP_TERNARY:
            positive = self._byte(at)
            negative = self._byte(at + 1)
            if not (1 <= positive <= 127 and 1 <= negative <= 127):
                _bad("magnitudes")
            self.entries = bytes((0, positive, 256 - negative))
            at += 2
        elif kind == _MAP_IDENTITY:
            self.entries = b"\0"
            s[_S_MAP] = 2 if limit else 1
            limit = limit or 1 << bits
        else:
            self.entries = _LOG2_WEIGHTS if kind == _MAP_LOG2 else b"\xff\x01"
        if not s[_S_MAP]:
            limit = min(limit or 256, len(self.entries))
        s[_S_VALUE_COUNT] = limit
        return at

    def _table(self, at, count, table, symbols):
        """Build the decode table of `count` code lengths at byte `at`; `symbols` < 0: a CLASS table.

        CLASS: a byte for each 6 bits of the stream, token << 3 | length. HUFFMAN: two bytes, symbol << 4 |
        length or 0 for a longer code; then the number of codes of each length from 1, two bytes each; and at
        `symbols` the symbols in the order of their codes.
        """
        scratch = self._scratch
        wide = symbols >= 0
        longest = _HUFFMAN_MAX_LENGTH_BITS if wide else _CLASS_MAX_LENGTH_BITS
        stored = count + 1 >> 1
        if self._end - at < stored:
            _bad("code lengths")
        lengths = self._source.read(at, stored)
        for place in range(table, table + (_HUFFMAN_TABLE_BYTES if wide else 64)):
            scratch[place] = 0
        code = used = 0
        for length in range(1, longest + 1):
            code <<= 1
            before = used
            for symbol in range(count):
                if lengths[symbol >> 1] >> ((symbol & 1) << 2) & 15 != length:
                    continue
                if wide:
                    scratch[symbols + used] = symbol
                used += 1
                if length <= 6 and code < 1 << length:
                    place = 0
                    for bit in range(length):
                        place |= (code >> bit & 1) << length - 1 - bit
                    while place < 64:
                        if wide:
                            scratch[table + 2 * place] = symbol << 4 & 255 | length
                            scratch[table + 2 * place + 1] = symbol >> 4
                        else:
                            scratch[table + place] = symbol << 3 | length
                        place += 1 << length
                code += 1
            if wide:
                scratch[table + 126 + 2 * length] = used - before & 255
                scratch[table + 127 + 2 * length] = used - before >> 8
            if code > 1 << length:
                _bad("code lengths")
        for symbol in range(2 * stored):
            length = lengths[symbol >> 1] >> ((symbol & 1) << 2) & 15
            if length > (longest if symbol < count else 0):
                _bad("code lengths")
        # One symbol alone has a code of one bit, and leaves the other one unused.
        if code != 1 << longest and not (used == 1 and code == 1 << longest - 1):
            _bad("code lengths")
        return at + stored

    def rewind(self):
        """Start again with the first row."""
        s = self.state
        for index in range(_S_BITS, _S_COLS):
            s[index] = 0
        self._left = self._fields[_F_ROWS]
        s[_S_ENTRIES] = self._fields[_F_ENTRIES]
        s[_S_STAGE] = b"\2\1\0\2"[s[_S_LAYOUT]]
        s[_S_POSITION] = self._start
        s[_S_LIMIT] = self._end
        s[_S_SAFE] = _ALL
        self._next = self._start
        if self._raw:
            if self.buffer is not self._scratch:
                self.row = self._start - s[_S_COLS]
            return
        if self._source.data is None:
            s[_S_POSITION] = s[_S_LIMIT] = 0
            self._fill()
        if s[_S_CODER] == _CODER_RANGE:
            self._start_range()

    def _start_range(self):
        s = self.state
        scratch = self._scratch
        at = s[_S_VALUE_TABLE]
        for place in range(at, at + 2 * _chances(self._fields), 2):
            scratch[place] = 0
            scratch[place + 1] = _PROBABILITY_HALF >> 8
        if not s[_S_FORM]:
            for place in range(s[_S_ROW], s[_S_ROW] + s[_S_COLS]):
                scratch[place] = 0  # what lies before the first row counts as zero
        code = 0
        for _ in range(4):
            at = s[_S_POSITION]
            code = code << 8 | (self._window[at] if at < s[_S_LIMIT] else 0)
            s[_S_POSITION] = at + 1
        if code >= 0x7FFFFFFF:
            _bad("payload")
        s[_S_BITS] = code
        s[_S_HELD] = 0x7FFFFFFF

    def _fill(self):
        """Move what is left in the window to its front and fill it up from the file."""
        s = self.state
        window = self._window
        position = s[_S_POSITION]
        kept = s[_S_LIMIT] - position
        for index in range(kept):
            window[index] = window[position + index]
        size = min(len(window) - kept, self._end - self._next)
        self._source.readinto(self._next, window[kept : kept + size])
        self._next += size
        s[_S_POSITION] = 0
        s[_S_LIMIT] = kept + size
        s[_S_SAFE] = _ALL if self._next == self._end else kept + size - _LOOKAHEAD_BYTES

    def next_row(self):
        """Make the next row; returns its number of pairs."""
        s = self.state
        self._left -= 1
        if self._raw:
            if self.buffer is self._scratch:
                self._source.readinto(self._next, self.buffer[self.row : self.row + s[_S_COLS]])
                self._next += s[_S_COLS]
            else:
                self.row += s[_S_COLS]
            return 0
        s[_S_KEPT] = 0
        if s[_S_LAYOUT] == _LAYOUT_SPARSE and not s[_S_FORM]:
            s[_S_CLEAR] = s[_S_COLS]
        while True:
            result = self.kernels.decode(s, 0, self._window, self._scratch, self.entries)
            if result <= 0:
                break
            self._fill()
        # What has been taken beyond the end: up to four zero bytes of a range coder, nothing of the others.
        spare = s[_S_LIMIT] - s[_S_POSITION]
        if s[_S_CODER] == _CODER_RANGE:
            good = not result and spare >= -4 and (self._left or spare <= 0)
        else:
            spare = spare * 8 + s[_S_HELD]
            good = not result and spare >= 0 and (self._left or (spare < 8 and not s[_S_BITS]))
        if not good or (not self._left and (s[_S_ENTRIES] or s[_S_SAFE] != _ALL)):
            _bad("row")
        return s[_S_KEPT]
