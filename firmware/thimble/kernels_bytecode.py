"""The functions of kernels.py in plain Python, for a board whose MicroPython makes no native code.

Same arguments, same results, same parameter arrays; much slower and much smaller. Integers of any size make a few
lines of what takes limbs in viper. See kernels.py for what each function does.
"""

from micropython import const

_P_ROW = const(0)
_P_X = const(1)
_P_OUT = const(2)
_P_OUT_STRIDE_X = const(3)
_P_OUT_STRIDE_Y = const(4)
_P_Y_START = const(5)
_P_Y_STOP = const(6)
_P_OUT_W = const(7)
_P_STRIDE_H = const(8)
_P_STRIDE_W = const(9)
_P_PAD_TOP = const(10)
_P_PAD_LEFT = const(11)
_P_KERNEL_H = const(12)
_P_KERNEL_W = const(13)
_P_DILATION_H = const(14)
_P_DILATION_W = const(15)
_P_IN_H = const(16)
_P_IN_W = const(17)
_P_DEPTH = const(18)
_P_PIXEL = const(19)
_P_ZERO = const(20)
_P_OUT_ZERO = const(21)
_P_LOW = const(22)
_P_HIGH = const(23)
_P_MODE = const(24)
_P_SCALE = const(25)
_P_X2 = const(5)
_P_STRIDE1 = const(6)
_P_STRIDE2 = const(7)
_P_COUNT = const(8)
_P_ZERO2 = const(9)
_P_LEFT_SHIFT = const(10)
_P_COUNTS = const(3)
_P_OUT_STRIDES = const(7)
_P_X_STRIDES = const(11)
_P_XOR = const(15)
_P_OUT_H = const(18)
_P_CHANNELS = const(19)

_S_POSITION = const(0)
_S_LIMIT = const(1)
_S_SAFE = const(2)
_S_BITS = const(3)
_S_HELD = const(4)
_S_COLUMN = const(5)
_S_NEXT = const(6)
_S_PENDING = const(7)
_S_WEIGHT = const(8)
_S_ENTRIES = const(9)
_S_KEPT = const(10)
_S_COLS = const(11)
_S_LAYOUT = const(12)
_S_CODER = const(13)
_S_VALUE_BITS = const(14)
_S_GAP_BITS = const(15)
_S_VALUE_COUNT = const(16)
_S_MAP = const(17)
_S_GAP_TABLE = const(18)
_S_VALUE_TABLE = const(19)
_S_SYMBOLS = const(20)
_S_ROW = const(22)
_S_PAIRS = const(23)
_S_MAX_ENTRIES = const(24)
_S_FORM = const(25)


def _scaled(acc, p, at):
    acc = ((acc << p[at + 2]) * (p[at] << 16 | p[at + 1]) + 0x40000000) >> 31
    right = p[at + 3]
    return (acc - (acc < 0) >> right - 1) + 1 >> 1 if right else acc


def _clamped(value, p):
    return min(max(value + p[_P_OUT_ZERO], p[_P_LOW]), p[_P_HIGH])


def convolve(w, x, out, p, bias):
    depth = p[_P_DEPTH]
    for y in range(p[_P_Y_START], p[_P_Y_STOP]):
        for column in range(p[_P_OUT_W]):
            acc = bias
            row = p[_P_ROW]
            for ky in range(p[_P_KERNEL_H]):
                iy = y * p[_P_STRIDE_H] - p[_P_PAD_TOP] + ky * p[_P_DILATION_H]
                for kx in range(p[_P_KERNEL_W]):
                    ix = column * p[_P_STRIDE_W] - p[_P_PAD_LEFT] + kx * p[_P_DILATION_W]
                    if 0 <= iy < p[_P_IN_H] and 0 <= ix < p[_P_IN_W]:
                        cell = p[_P_X] + (iy * p[_P_IN_W] + ix) * p[_P_PIXEL]
                        for index in range(depth):
                            acc += ((w[row + index] ^ 128) - 128) * (x[cell + index] - p[_P_ZERO])
                    row += depth
            if p[_P_MODE]:
                right = p[_P_SCALE + 3]
                acc = (acc >> right - 1) + 1 >> 1 if right else acc
            else:
                acc = _scaled(acc, p, _P_SCALE)
            out[p[_P_OUT] + y * p[_P_OUT_STRIDE_Y] + column * p[_P_OUT_STRIDE_X]] = _clamped(acc, p)


def dot_pairs(weights, x, scratch, p, s, bias, count):
    for index in range(count):
        at = s[_S_PAIRS] + 2 * index
        value = x[p[_P_X] + (scratch[at] | scratch[at + 1] << 8)] - p[_P_ZERO]
        bias += ((weights[s[_S_ROW] + index] ^ 128) - 128) * value
    return bias


def arithmetic(out, x1, x2, p):
    mode = p[_P_MODE]
    for index in range(p[_P_COUNT]):
        first = x1[p[_P_X] + index * p[_P_STRIDE1]] - p[_P_ZERO]
        second = x2[p[_P_X2] + index * p[_P_STRIDE2]] - p[_P_ZERO2]
        if mode < 2:
            first = _scaled(first << p[_P_LEFT_SHIFT], p, _P_SCALE)
            second = _scaled(second << p[_P_LEFT_SHIFT], p, _P_SCALE + 4)
            first = _scaled(first - second if mode else first + second, p, _P_SCALE + 8)
        elif mode == 2:
            first = _scaled(first * second, p, _P_SCALE + 8)
        elif (second > first) == (mode == 3):
            first = second
        out[p[_P_OUT] + index * p[_P_OUT_STRIDE_X]] = _clamped(first, p)


def pool(out, x, p):
    target = p[_P_OUT]
    channels = p[_P_CHANNELS]
    for y in range(p[_P_OUT_H]):
        top = y * p[_P_STRIDE_H] - p[_P_PAD_TOP]
        rows = range(max(top, 0), min(top + p[_P_KERNEL_H], p[_P_IN_H]))
        for column in range(p[_P_OUT_W]):
            left = column * p[_P_STRIDE_W] - p[_P_PAD_LEFT]
            columns = range(max(left, 0), min(left + p[_P_KERNEL_W], p[_P_IN_W]))
            for channel in range(channels):
                total = largest = count = 0
                for iy in rows:
                    for ix in columns:
                        value = x[p[_P_X] + (iy * p[_P_IN_W] + ix) * channels + channel]
                        total += value - 128
                        largest = max(largest, value)
                        count += 1
                if not p[_P_MODE]:
                    half = count >> 1
                    largest = 128 + ((total + half) // count if total > 0 else -((half - total) // count))
                out[target] = min(max(largest, p[_P_LOW]), p[_P_HIGH])
                target += 1


def walk(out, x, p, store):
    total = 0
    for n0 in range(p[_P_COUNTS]):
        for n1 in range(p[_P_COUNTS + 1]):
            for n2 in range(p[_P_COUNTS + 2]):
                source = p[_P_X] + n0 * p[_P_X_STRIDES] + n1 * p[_P_X_STRIDES + 1] + n2 * p[_P_X_STRIDES + 2]
                target = p[_P_OUT] + n0 * p[_P_OUT_STRIDES] + n1 * p[_P_OUT_STRIDES + 1]
                target += n2 * p[_P_OUT_STRIDES + 2]
                for _ in range(p[_P_COUNTS + 3]):
                    if store:
                        out[target] = x[source] ^ p[_P_XOR]
                        target += p[_P_OUT_STRIDES + 3]
                    else:
                        total += x[source]
                    source += p[_P_X_STRIDES + 3]
    return total


def lookup(out, x, table, out_offset, x_offset, table_offset, count):
    for index in range(count):
        out[out_offset + index] = table[table_offset + x[x_offset + index]] ^ 128


def bits_row(source, out, s, words, positive, negative):
    cols = s[_S_COLS]
    for index in range((cols + 31 >> 5) << 5):
        at = s[_S_POSITION] + (index >> 3)
        bit = source[at] >> (index & 7) & 1
        sign = not bit
        weight = bit
        if words:
            sign = source[at + words] >> (index & 7) & 1
            if sign > bit:
                return 0
        else:
            weight = 1
        if index < cols:
            out[s[_S_ROW] + index] = (negative if sign else positive) if weight else 0
        elif bit:
            return 0
    return 1


def _fill(source, s):
    at = s[_S_POSITION]
    s[_S_POSITION] = at + 1
    return source[at] if at < s[_S_LIMIT] else 0


def _take(source, s, count):
    """The next bits, at most 15."""
    while s[_S_HELD] < count:
        s[_S_BITS] |= _fill(source, s) << s[_S_HELD]
        s[_S_HELD] += 8
    bits = s[_S_BITS] & (1 << count) - 1
    s[_S_BITS] >>= count
    s[_S_HELD] -= count
    return bits


def _chance(source, scratch, s, context):
    """One bit of the range coder; no context: an even chance."""
    bound = s[_S_HELD] >> 1
    code = s[_S_BITS]
    if context >= 0:
        at = s[_S_VALUE_TABLE] + 2 * context
        chance = scratch[at] | scratch[at + 1] << 8
        bound = (s[_S_HELD] >> 12) * chance
        shift = s[_S_GAP_BITS] & 7
        chance += 4096 - chance >> shift if code < bound else -(chance >> shift)
        scratch[at] = chance & 255
        scratch[at + 1] = chance >> 8
    bit = int(code >= bound)
    held = s[_S_HELD] - bound if bit else bound
    code -= bound * bit
    while held < 0x800000:
        held <<= 8
        code = code << 8 | _fill(source, s)
    s[_S_BITS] = code
    s[_S_HELD] = held
    return bit


def _tree(source, scratch, s, base, depth, context):
    node = 1
    for _ in range(depth):
        node = 2 * node + _chance(source, scratch, s, context)
        context = base + node
    return node - (1 << depth)


def _range_symbol(source, scratch, s, stage):
    base = 1 << s[_S_VALUE_BITS]
    if not stage:
        size = _tree(source, scratch, s, base, 5, base + 1)
        if size > 24:
            return -1
        value = 1
        context = base + 32 + size
        for _ in range(size):
            value = 2 * value + _chance(source, scratch, s, context)
            context = -1
        return value - 1
    context = 1
    if s[_S_LAYOUT] != 1:
        column = s[_S_COLUMN]
        distance = s[_S_GAP_BITS] >> 3
        before = scratch[s[_S_ROW] + (column - 1) % s[_S_COLS]]
        back = scratch[s[_S_ROW] + (column - distance) % s[_S_COLS]] if distance else 0
        if stage < 0:
            return _chance(source, scratch, s, base + 9 + 2 * (before != 0) + (back != 0))
        context = base + 3 * ((before != 0) + (before >> 7)) + (back != 0) + (back >> 7)
    return _tree(source, scratch, s, 0, s[_S_VALUE_BITS], context)


def _symbol(source, scratch, s, stage):
    """One symbol, or -1: see kernels.decode for the stages."""
    coder = s[_S_CODER]
    if coder == 3:
        return _range_symbol(source, scratch, s, stage)
    if stage < 0:
        return _take(source, s, 1)
    if coder == 0:
        return _take(source, s, s[_S_VALUE_BITS] if stage else s[_S_GAP_BITS])
    table = s[_S_GAP_TABLE + stage]
    code = _take(source, s, 6)
    s[_S_BITS] = s[_S_BITS] << 6 | code  # only looked at
    s[_S_HELD] += 6
    if coder == 2:
        value = scratch[table + code]
        if not value & 7:
            return -1
        _take(source, s, value & 7)
        value >>= 3
        extra = 0
        base = value
        if not stage:
            extra = value
            base = 1
        elif value > 15:
            extra = (value >> 2) - 2
            base = 4 + (value & 3)
        low = _take(source, s, min(extra, 12))
        low |= _take(source, s, max(extra - 12, 0)) << 12
        return (base << extra | low) - (not stage)
    code = first = index = 0
    for length in range(15):
        code = code << 1 | _take(source, s, 1)
        at = table + 128 + 2 * length
        count = scratch[at] | scratch[at + 1] << 8
        if code - first < count:
            return scratch[s[_S_SYMBOLS + stage] + index + code - first]
        index += count
        first = first + count << 1
    return -1


def _weight(s, entries, value):
    """The weight of a value index, as a byte."""
    kind = s[_S_MAP]
    if kind == 0:
        return entries[value]
    if kind == 2:
        return (value >> 1 ^ -(value & 1)) & 255
    half = value & 1 << s[_S_VALUE_BITS] - 1
    return (half - 1 - value if s[_S_CODER] == 3 and half else value - 2 * half) & 255


def decode(source, scratch, entries, s):
    sparse = s[_S_LAYOUT] == 1
    cols = s[_S_COLS]
    row = s[_S_ROW]
    if sparse and not s[_S_COLUMN]:
        s[_S_COLUMN] = 1
        s[_S_KEPT] = 0
        if not s[_S_FORM]:
            for index in range(row, row + cols):
                scratch[index] = 0
    while True:
        if sparse:
            if s[_S_PENDING]:
                index = s[_S_NEXT] - 1
                if index >= cols:
                    break
                weight = s[_S_WEIGHT]
                kept = s[_S_KEPT]
                if weight:
                    if kept == s[_S_MAX_ENTRIES]:
                        return -1
                    if s[_S_FORM]:
                        at = s[_S_PAIRS] + 2 * kept
                        scratch[at] = index & 255
                        scratch[at + 1] = index >> 8
                        scratch[row + kept] = weight
                    else:
                        scratch[row + index] = weight
                    s[_S_KEPT] = kept + 1
                s[_S_PENDING] = 0
            if not s[_S_ENTRIES]:
                break
        elif s[_S_COLUMN] == cols:
            break
        if s[_S_POSITION] > s[_S_SAFE]:
            return 0
        weight = 0
        if sparse:
            gap = _symbol(source, scratch, s, 0)
            if gap < 0:
                return -1
            s[_S_NEXT] += gap + 1
        if s[_S_LAYOUT] != 2 or _symbol(source, scratch, s, -1):
            value = _symbol(source, scratch, s, 1)
            if not 0 <= value < s[_S_VALUE_COUNT]:
                return -1
            weight = _weight(s, entries, value)
        if sparse:
            s[_S_WEIGHT] = weight
            s[_S_PENDING] = 1
            s[_S_ENTRIES] -= 1
        else:
            scratch[row + s[_S_COLUMN]] = weight
            s[_S_COLUMN] += 1
    s[_S_COLUMN] = 0
    if sparse:
        s[_S_NEXT] -= cols
    return 1
