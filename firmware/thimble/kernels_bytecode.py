"""The functions of kernels.py in plain Python, for a board whose MicroPython makes no native code.

Same arguments, same results, same parameter arrays; much slower and much smaller. Integers of any size make
a few lines of what takes limbs in viper. See kernels.py for what each function does.
"""

from micropython import const

_P_ZERO = const(0)
_P_OUT_ZERO = const(1)
_P_LOW = const(2)
_P_HIGH = const(3)
_P_KERNEL_H = const(4)
_P_KERNEL_W = const(5)
_P_STRIDE_H = const(6)
_P_STRIDE_W = const(7)
_P_PAD_TOP = const(8)
_P_PAD_LEFT = const(9)
_P_DILATION_H = const(13)
_P_DILATION_W = const(14)
_P_ROW = const(15)
_P_X = const(16)
_P_OUT = const(17)
_P_OUT_STRIDE_X = const(18)
_P_OUT_STRIDE_Y = const(19)
_P_Y_START = const(20)
_P_Y_STOP = const(21)
_P_OUT_W = const(22)
_P_IN_H = const(23)
_P_IN_W = const(24)
_P_DEPTH = const(25)
_P_PIXEL = const(26)
_P_POWER_OF_TWO = const(27)
_P_MULTIPLIER = const(28)
_P_SHIFT = const(29)
_A_ZERO1 = const(0)
_A_ZERO2 = const(1)
_A_OUT_ZERO = const(2)
_A_SCALES = const(3)
_A_LEFT_SHIFT = const(9)
_A_LOW = const(10)
_A_HIGH = const(11)
_A_MODE = const(12)
_A_OUT = const(13)
_A_OUT_STRIDE = const(14)
_A_X1 = const(15)
_A_STRIDE1 = const(16)
_A_X2 = const(17)
_A_STRIDE2 = const(18)
_A_COUNT = const(19)
_W_OUT = const(0)
_W_X = const(1)
_W_MASK = const(2)
_W_TABLE = const(3)
_W_COUNTS = const(4)
_W_OUT_STRIDES = const(8)
_W_X_STRIDES = const(12)
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


def _scaled(acc, multiplier, shift):
    right = 32 - shift
    acc = ((acc << max(-right, 0)) * multiplier + 0x40000000) >> 31
    return (acc - (acc < 0) >> right - 1) + 1 >> 1 if right > 0 else acc


def _clamped(value, p, at):
    return min(max(value, p[at]), p[at + 1])


def convolve(w, p, x, out, bias):
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
            if p[_P_POWER_OF_TWO]:
                right = 32 - p[_P_SHIFT]
                acc = (acc >> right - 1) + 1 >> 1 if right else acc
            else:
                acc = _scaled(acc, p[_P_MULTIPLIER], p[_P_SHIFT])
            target = p[_P_OUT] + y * p[_P_OUT_STRIDE_Y] + column * p[_P_OUT_STRIDE_X]
            out[target] = _clamped(acc + p[_P_OUT_ZERO], p, _P_LOW)


def dot_pairs(weights, x, scratch, p, s, bias, count):
    for index in range(count):
        at = s[_S_PAIRS] + 2 * index
        value = x[p[_P_X] + (scratch[at] | scratch[at + 1] << 8)] - p[_P_ZERO]
        bias += ((weights[s[_S_ROW] + index] ^ 128) - 128) * value
    return bias


def arithmetic(p, acc, x1, x2, out):
    mode = p[_A_MODE]
    scales = [(p[at], p[at + 1]) for at in (3, 5, 7)]
    for index in range(p[_A_COUNT]):
        first = x1[p[_A_X1] + index * p[_A_STRIDE1]] - p[_A_ZERO1]
        second = x2[p[_A_X2] + index * p[_A_STRIDE2]] - p[_A_ZERO2]
        if mode < 2:
            first = _scaled(first << p[_A_LEFT_SHIFT], *scales[0])
            second = _scaled(second << p[_A_LEFT_SHIFT], *scales[1])
            first = _scaled(first - second if mode else first + second, *scales[2])
        elif mode == 2:
            first = _scaled(first * second, *scales[2])
        elif (second > first) == (mode == 3):
            first = second
        out[p[_A_OUT] + index * p[_A_OUT_STRIDE]] = _clamped(first + p[_A_OUT_ZERO], p, _A_LOW)


def walk(p, value, mode, x, table, out):
    total = 0
    for n0 in range(p[_W_COUNTS]):
        for n1 in range(p[_W_COUNTS + 1]):
            for n2 in range(p[_W_COUNTS + 2]):
                source = p[_W_X] + n0 * p[_W_X_STRIDES] + n1 * p[_W_X_STRIDES + 1] + n2 * p[_W_X_STRIDES + 2]
                target = p[_W_OUT] + n0 * p[_W_OUT_STRIDES] + n1 * p[_W_OUT_STRIDES + 1]
                target += n2 * p[_W_OUT_STRIDES + 2]
                for _ in range(p[_W_COUNTS + 3]):
                    value = x[source]
                    if mode:
                        if mode == 2:
                            value = table[p[_W_TABLE] + value]
                        out[target] = value ^ p[_W_MASK]
                        target += p[_W_OUT_STRIDES + 3]
                    total += value
                    source += p[_W_X_STRIDES + 3]
    return total


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
    if stage < 0 or s[_S_LAYOUT] == 3:
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


def decode(s, index, source, scratch, entries):
    layout = s[_S_LAYOUT]
    cols = s[_S_COLS]
    words = s[_S_WORDS]
    row = s[_S_ROW]
    for index in range(row, row + s[_S_CLEAR]):
        scratch[index] = 0
    s[_S_CLEAR] = 0
    while True:
        stage = s[_S_STAGE] - 1
        column = s[_S_COLUMN]
        if layout == 1:
            if not stage and not s[_S_ENTRIES]:
                break
            if stage and s[_S_NEXT] >= cols:
                s[_S_NEXT] -= cols
                break
        elif column == s[_S_END]:
            break
        if s[_S_POSITION] > s[_S_SAFE]:
            return 1
        value = _symbol(source, scratch, s, stage)
        if value < 0:
            return -1
        if stage < 0 and not value:
            scratch[row + column] = 0
            s[_S_COLUMN] = column + 1
        elif stage < 1:
            if not stage:
                s[_S_NEXT] += value
            s[_S_STAGE] = 2
        elif value >= s[_S_VALUE_COUNT]:
            return -1
        elif layout == 1:
            weight = _weight(s, entries, value)
            index = s[_S_NEXT]
            s[_S_NEXT] = index + 1
            s[_S_ENTRIES] -= 1
            s[_S_STAGE] = 1
            if weight:
                kept = s[_S_KEPT]
                if kept == s[_S_MAX_ENTRIES]:
                    return -1
                s[_S_KEPT] = kept + 1
                if s[_S_FORM]:
                    at = s[_S_PAIRS] + 2 * kept
                    scratch[at] = index & 255
                    scratch[at + 1] = index >> 8
                    index = kept
                scratch[row + index] = weight
        else:
            s[_S_COLUMN] = column + 1
            if layout == 2:
                s[_S_STAGE] = 0
            at = row + column % words
            signs = column >= words
            if signs and not value:
                continue
            if column % words >= cols or (signs and not scratch[at]):
                if value:
                    return -1
                continue
            scratch[at] = _weight(s, entries, value << signs)
    s[_S_COLUMN] = 0
    return 0
