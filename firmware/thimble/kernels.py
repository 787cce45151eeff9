"""Inner loops in viper: weights and activations in buffers go in, activations, rows and sums come out.

The interpreter and the streams call these functions; they have checked every range before. Activations
are *offset binary* here: the arena holds q + 128 as an unsigned byte, since viper reads bytes unsigned;
weights are two's complement bytes, so that raw rows are used in place. Tests of `x - 3` for
zero stand for `x == 3`: compared numbers take more code. All integers fit 32 bits at every
step: no constant and no intermediate value relies on the 64-bit words of a PC. Parameters come in an array of
non-negative ints (`ptr32` reads negative ones differently on 32 and 64 bits); the indexes below are the
fields of that array, and the modules that fill it repeat the ones they use (tests/test_firmware_sources.py
compares them).

kernels_bytecode.py is made from this file by host_tools/bytecode_kernels.py; edit this one.
"""

import micropython
from micropython import const

# convolve: the first fields are the attributes of CONV_2D in their order, zero points and bounds plus 128
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
_P_ROW = const(15)  # first weight in its buffer
_P_X = const(16)  # first activation
_P_OUT = const(17)  # first output
_P_OUT_STRIDE_X = const(18)
_P_OUT_STRIDE_Y = const(19)
_P_Y_START = const(20)
_P_Y_STOP = const(21)
_P_OUT_W = const(22)
_P_IN_H = const(23)
_P_IN_W = const(24)
_P_DEPTH = const(25)  # weights per kernel cell
_P_PIXEL = const(26)  # activations from one cell to the next
_P_POWER_OF_TWO = const(27)  # 1: the scale is a right shift alone
_P_MULTIPLIER = const(28)
_P_SHIFT = const(29)  # plus 32, positive is left
# arithmetic: the attributes of ADD in their order, zero points and bounds plus 128, shifts plus 32
_A_ZERO1 = const(0)
_A_ZERO2 = const(1)
_A_OUT_ZERO = const(2)
_A_SCALES = const(3)  # three times multiplier and shift; multiplying uses the last ones
_A_LEFT_SHIFT = const(9)
_A_LOW = const(10)
_A_HIGH = const(11)
_A_MODE = const(12)  # 0 add, 1 subtract, 2 multiply, 3 maximum, 4 minimum
_A_OUT = const(13)
_A_OUT_STRIDE = const(14)
_A_X1 = const(15)
_A_STRIDE1 = const(16)
_A_X2 = const(17)
_A_STRIDE2 = const(18)
_A_COUNT = const(19)
# walk
_W_OUT = const(0)
_W_X = const(1)
_W_MASK = const(2)
_W_TABLE = const(3)
_W_COUNTS = const(4)
_W_OUT_STRIDES = const(8)
_W_X_STRIDES = const(12)

# State of a stream
_S_POSITION = const(0)  # next byte in the buffer
_S_LIMIT = const(1)  # end of the bytes in the buffer
_S_SAFE = const(2)  # beyond it a symbol may need bytes that are not in the buffer yet
_S_BITS = const(3)  # bits taken from the buffer and not used yet; range coder: code
_S_HELD = const(4)  # how many; range coder: range
_S_COLUMN = const(5)  # progress within the row
_S_NEXT = const(6)  # sparse: where the next entry lies, or its gap starts, relative to the row
_S_STAGE = const(7)  # which symbol comes next, plus 1: see decode
_S_ENTRIES = const(8)  # entries left
_S_KEPT = const(9)  # entries of the row
_S_CLEAR = const(10)  # columns of the row to set to zero first
_S_COLS = const(11)
_S_WORDS = const(12)  # BITS: columns with those that fill up the last word, else cols
_S_END = const(13)  # _S_WORDS, twice that for two planes
_S_LAYOUT = const(14)
_S_CODER = const(15)
_S_VALUE_BITS = const(16)
_S_GAP_BITS = const(17)
_S_FLAG_BITS = const(18)  # 1; these three are read by stage
_S_VALUE_COUNT = const(19)
_S_MAP = const(20)  # 0 table, 1 two's complement (RANGE: sign first), 2 zigzag
_S_GAP_TABLE = const(21)
_S_VALUE_TABLE = const(22)
_S_SYMBOLS = const(23)  # HUFFMAN: sorted symbols of the gap table, then (24) of the value table
_S_ROW = const(25)  # dense row, or the weights of pairs
_S_PAIRS = const(26)  # positions of pairs
_S_MAX_ENTRIES = const(27)
_S_FORM = const(28)  # 1: pairs


@micropython.viper
def convolve(w: ptr8, p: ptr32, x: ptr8, out: ptr8, bias: int):
    """One output channel at every position of rows y_start to y_stop.

    out = clamp(out_zero + requantise(bias + sum((x - zero) * w))). The kernel cells of one row that lie in
    the image are one run of weights and activations where channels are adjacent: the dense dot product.
    """
    row = int(w) + p[_P_ROW]
    image = int(x) + p[_P_X]
    zero = p[_P_ZERO]
    kernel_w = p[_P_KERNEL_W]
    reach_h = (p[_P_KERNEL_H] - 1) * p[_P_DILATION_H]
    reach_w = (kernel_w - 1) * p[_P_DILATION_W]
    joined = 0
    if not p[_P_DEPTH] - p[_P_PIXEL] and not p[_P_DILATION_W] - 1:
        joined = 1
    interior = bias
    if zero:
        stop = row + p[_P_KERNEL_H] * kernel_w * p[_P_DEPTH]
        w = ptr8(row)
        while int(w) < stop:
            interior -= ((w[0] ^ 128) - 128) * zero
            w = ptr8(int(w) + 1)
    y = p[_P_Y_START]
    while y < p[_P_Y_STOP]:
        top = y * p[_P_STRIDE_H] - p[_P_PAD_TOP]
        left = 0 - p[_P_PAD_LEFT]
        target = int(out) + p[_P_OUT] + y * p[_P_OUT_STRIDE_Y]
        column = p[_P_OUT_W]
        while column:
            # At the border, where the sum over the whole row does not hold, the zero point is taken off each
            # input.
            border = top | left | (p[_P_IN_H] - 1 - reach_h - top) | (p[_P_IN_W] - 1 - reach_w - left)
            acc = bias
            if border >= 0:
                acc = interior
                border = 0
            else:
                border = zero
            iy = top
            cell = row
            ky = p[_P_KERNEL_H]
            while ky:
                if (iy | (p[_P_IN_H] - 1 - iy)) >= 0:
                    kx = 0
                    run = 1
                    if joined:
                        if left < 0:
                            kx = 0 - left
                        run = kernel_w - kx
                        if left + kernel_w > p[_P_IN_W]:
                            run = p[_P_IN_W] - left - kx
                        if run < 1:
                            kx = kernel_w
                    while kx < kernel_w:
                        ix = left + kx * p[_P_DILATION_W]
                        if (ix | (p[_P_IN_W] - 1 - ix)) >= 0:
                            w = ptr8(cell + kx * p[_P_DEPTH])
                            x = ptr8(image + (iy * p[_P_IN_W] + ix) * p[_P_PIXEL])
                            stop = int(w) + run * p[_P_DEPTH]
                            if not border:
                                stop -= 3
                                while int(w) < stop:
                                    acc = ((w[0] ^ 128) - 128) * x[0] + acc
                                    acc = ((w[1] ^ 128) - 128) * x[1] + acc
                                    acc = ((w[2] ^ 128) - 128) * x[2] + acc
                                    acc = ((w[3] ^ 128) - 128) * x[3] + acc
                                    w = ptr8(int(w) + 4)
                                    x = ptr8(int(x) + 4)
                                stop += 3
                            while int(w) < stop:
                                acc = ((w[0] ^ 128) - 128) * (x[0] - border) + acc
                                w = ptr8(int(w) + 1)
                                x = ptr8(int(x) + 1)
                        kx += run
                cell += kernel_w * p[_P_DEPTH]
                iy += p[_P_DILATION_H]
                ky -= 1
            right = 32 - p[_P_SHIFT]
            if p[_P_POWER_OF_TWO]:
                if right:
                    acc = ((acc >> (right - 1)) + 1) >> 1
            else:
                # round(acc * multiplier / 2^31): limbs of 17 and 15 bits times limbs of 15 and 16 bits, and
                # the lowest bit of the multiplier apart, so that no product leaves 32 bits.
                if right < 0:
                    acc <<= 0 - right
                high = acc >> 15
                acc &= 0x7FFF
                lower = p[_P_MULTIPLIER]
                upper = lower >> 16
                lower &= 0xFFFF
                a = high * (lower >> 1)
                b = acc * upper
                tail = ((a & 0x7FFF) << 1) + high * (lower & 1) + ((b & 0x7FFF) << 1)
                tail = (tail + ((acc * lower) >> 15) + 0x8000) >> 16
                acc = high * upper + (b >> 15) + tail + (a >> 15)
                if right > 0:
                    acc = (((acc + (acc >> 31)) >> (right - 1)) + 1) >> 1
            acc += p[_P_OUT_ZERO]
            if acc < p[_P_LOW]:
                acc = p[_P_LOW]
            if acc > p[_P_HIGH]:
                acc = p[_P_HIGH]
            o = ptr8(target)
            o[0] = acc
            target += p[_P_OUT_STRIDE_X]
            left += p[_P_STRIDE_W]
            column -= 1
        y += 1


@micropython.viper
def dot_pairs(weights: ptr8, x: ptr8, scratch: ptr8, p: ptr32, s: ptr32, bias: int, count: int) -> int:
    """bias + sum over the pairs of a sparse row of (x[position] - zero) * weight."""
    zero = p[_P_ZERO]
    x = ptr8(int(x) + p[_P_X])
    weights = ptr8(int(weights) + s[_S_ROW])
    positions = ptr16(int(scratch) + s[_S_PAIRS])
    while count:
        count -= 1
        bias += ((weights[count] ^ 128) - 128) * (x[positions[count]] - zero)
    return bias


@micropython.viper
def arithmetic(p: ptr32, acc: int, x1: ptr8, x2: ptr8, out: ptr8):
    """count elements of ADD, SUB, MUL, MAXIMUM or MINIMUM, each operand with a stride of its own.

    `acc` is an argument only to have a register.
    """
    x1 = ptr8(int(x1) + p[_A_X1])
    x2 = ptr8(int(x2) + p[_A_X2])
    out = ptr8(int(out) + p[_A_OUT])
    mode = p[_A_MODE]
    count = p[_A_COUNT]
    while count:
        acc = x1[0] - p[_A_ZERO1]
        second = x2[0] - p[_A_ZERO2]
        total = 0
        k = _A_SCALES
        if mode > 1:
            k = _A_SCALES + 4
            if not mode - 2:
                acc *= second
            else:
                k = _A_SCALES + 6
                if not mode - 3 and second > acc or not mode - 4 and second < acc:
                    acc = second
        else:
            acc <<= p[_A_LEFT_SHIFT]
        while k < _A_SCALES + 6:
            lower = p[k]
            right = 32 - p[k + 1]
            if right < 0:
                acc <<= 0 - right
            high = acc >> 15
            acc &= 0x7FFF
            upper = lower >> 16
            lower &= 0xFFFF
            a = high * (lower >> 1)
            b = acc * upper
            tail = ((a & 0x7FFF) << 1) + high * (lower & 1) + ((b & 0x7FFF) << 1)
            tail = (tail + ((acc * lower) >> 15) + 0x8000) >> 16
            acc = high * upper + (b >> 15) + tail + (a >> 15)
            if right > 0:
                acc = (((acc + (acc >> 31)) >> (right - 1)) + 1) >> 1
            k += 2
            if not k - (_A_SCALES + 2):
                total = acc
                acc = second << p[_A_LEFT_SHIFT]
            elif not k - (_A_SCALES + 4):
                if mode:
                    acc = 0 - acc
                acc += total
        acc += p[_A_OUT_ZERO]
        if acc < p[_A_LOW]:
            acc = p[_A_LOW]
        if acc > p[_A_HIGH]:
            acc = p[_A_HIGH]
        out[0] = acc
        out = ptr8(int(out) + p[_A_OUT_STRIDE])
        x1 = ptr8(int(x1) + p[_A_STRIDE1])
        x2 = ptr8(int(x2) + p[_A_STRIDE2])
        count -= 1


@micropython.viper
def walk(p: ptr32, value: int, mode: int, x: ptr8, table: ptr8, out: ptr8) -> int:
    """A four-dimensional strided walk. Mode 0: the sum of x; 1: out = x ^ mask; 2: out = table[x] ^ mask.

    `value` is an argument only to have a register.
    """
    total = 0
    table = ptr8(int(table) + p[_W_TABLE])
    n0 = p[_W_COUNTS]
    while n0:
        n0 -= 1
        n1 = p[_W_COUNTS + 1]
        while n1:
            n1 -= 1
            n2 = p[_W_COUNTS + 2]
            while n2:
                n2 -= 1
                source = n0 * p[_W_X_STRIDES] + n1 * p[_W_X_STRIDES + 1] + n2 * p[_W_X_STRIDES + 2]
                target = n0 * p[_W_OUT_STRIDES] + n1 * p[_W_OUT_STRIDES + 1] + n2 * p[_W_OUT_STRIDES + 2]
                a = ptr8(int(x) + (p[_W_X] + source))
                o = ptr8(int(out) + (p[_W_OUT] + target))
                count = p[_W_COUNTS + 3]
                while count:
                    value = a[0]
                    if mode:
                        if not mode - 2:
                            value = table[value]
                        o[0] = value ^ p[_W_MASK]
                        o = ptr8(int(o) + p[_W_OUT_STRIDES + 3])
                    total += value
                    a = ptr8(int(a) + p[_W_X_STRIDES + 3])
                    count -= 1
    return total


@micropython.viper
def decode(s: ptr32, index: int, source: ptr8, scratch: ptr8, entries: ptr8) -> int:
    """The next row of a stream: 0 done, 1 the buffer needs bytes, -1 bad stream.

    `entries` is the value map's table; `index` is an argument only to have a register. After 1 the call is
    repeated: all progress is in the state. Every turn of the loop reads one symbol, or raw bits of one; the
    *stage* says which: -1 the flag of a bitmap, 0 a gap, 1 a value. Layout BITS is read as values of one bit,
    the plane of signs after the plane of non-zeros.
    """
    bits = s[_S_BITS]
    position = s[_S_POSITION]
    held = s[_S_HELD]
    column = s[_S_COLUMN]
    stage = s[_S_STAGE] - 1
    row = ptr8(int(scratch) + s[_S_ROW])
    index = s[_S_CLEAR]
    while index:
        index -= 1
        row[index] = 0
    s[_S_CLEAR] = 0
    value = 0
    extra = 0
    result = 0
    while not result:
        if not extra:
            if not s[_S_LAYOUT] - 1:
                if not stage:
                    if not s[_S_ENTRIES]:
                        break
                elif s[_S_NEXT] >= s[_S_COLS]:
                    break
            elif column == s[_S_END]:
                break
            if position > s[_S_SAFE]:
                result = 1
                break
        if not s[_S_CODER] - 3:
            chances = ptr16(int(scratch) + s[_S_VALUE_TABLE])
            base = 1 << s[_S_VALUE_BITS]
            context = base + 1
            depth = 5
            if stage:
                depth = s[_S_VALUE_BITS]
                context = 1
                if s[_S_LAYOUT] - 1:
                    # of both neighbours the signs (zero 0, positive 1, negative 2); for a flag, whether they
                    # are 0
                    index = column - 1
                    value = row[index + (s[_S_COLS] & (index >> 31))]
                    index = 0
                    if s[_S_GAP_BITS] > 7:
                        index = column - (s[_S_GAP_BITS] >> 3)
                        index = row[index + (s[_S_COLS] & (index >> 31))]
                    context = base + 9 + (((value + 255) >> 8) << 1) + ((index + 255) >> 8)
                    if stage < 0:
                        depth = 1
                    else:
                        context += (value >> 7) * 3 + ((value + 255) >> 8) + (index >> 7) - 9
                base = 0
            top = 1 << depth
            node = 1
            while depth:
                bound = held >> 1
                if context:
                    chance = chances[context]
                    bound = (held >> 12) * chance
                    index = s[_S_GAP_BITS] & 7
                    if bits < bound:
                        chance += (4096 - chance) >> index
                    else:
                        chance -= chance >> index
                    chances[context] = chance
                node <<= 1
                held -= bound
                if bits < bound:
                    held = bound
                else:
                    bits -= bound
                    node += 1
                while held < 0x800000:
                    held <<= 8
                    bits <<= 8
                    if position < s[_S_LIMIT]:
                        bits |= source[position]
                    position += 1
                depth -= 1
                context = base + node
                if not top - 1:
                    context = 0
                elif not depth + stage:
                    # the class of a gap is known: its mantissa, the first bit by its chance, the others even
                    depth = node - 32
                    top = 1
                    node = 1
                    if depth > 24:
                        depth = 0
                        result = -1
            value = node - top
        else:
            while held <= 22:
                if position < s[_S_LIMIT]:
                    bits |= source[position] << held
                position += 1
                held += 8
            if extra:
                # raw bits below the class of a gap or a large value, sixteen at a time at most
                length = extra
                if length > 16:
                    length = 16
                value |= (bits & ((1 << length) - 1)) << index
                index += length
                extra -= length
            elif not s[_S_CODER] or stage < 0:
                length = s[_S_GAP_BITS - stage]
                value = bits & ((1 << length) - 1)
            else:
                index = int(scratch) + s[_S_GAP_TABLE + stage]
                if not s[_S_CODER] - 2:
                    table = ptr8(index)
                    length = table[bits & 63]
                    index = 0
                    value = length >> 3
                    length &= 7
                    if not stage:
                        extra = value
                        value = 1
                    elif value > 15:
                        extra = (value >> 2) - 2
                        value = 4 + (value & 3)
                    value <<= extra
                else:
                    chances = ptr16(index)
                    length = chances[bits & 63]
                    value = length >> 4
                    length &= 15
                    if not length:
                        # a longer code, bit by bit: the counts of each length follow the table
                        code = 0
                        count = 0
                        index = 0
                        while code >= count and length < 15:
                            index += count
                            code = ((code - count) << 1) | ((bits >> length) & 1)
                            length += 1
                            count = chances[63 + length]
                        if code < count:
                            table = ptr8(int(scratch) + s[_S_SYMBOLS + stage])
                            value = table[index + code]
                        else:
                            length = 0
                if not length:
                    result = -1
                    break
            bits >>= length
            held -= length
            if extra:
                continue
        if stage < 0:
            stage = 1
            if not value:
                row[column] = 0
                column += 1
                stage = -1
        elif not stage:
            stage = 1
            if not s[_S_CODER] - 2:
                value -= 1
            s[_S_NEXT] = s[_S_NEXT] + value
        elif value >= s[_S_VALUE_COUNT]:
            result = -1
        else:
            code = value
            index = s[_S_MAP]
            if not index:
                if column >= s[_S_WORDS]:
                    value <<= 1
                value = entries[value]
            elif not index - 2:
                value = (value >> 1) ^ (0 - (value & 1))
            else:
                index = value & (1 << (s[_S_VALUE_BITS] - 1))
                value |= 0 - index
                if not s[_S_CODER] - 3 and index:
                    value = -1 - index - value
            value &= 255
            if not s[_S_LAYOUT] - 1:
                index = s[_S_NEXT]
                s[_S_NEXT] = index + 1
                s[_S_ENTRIES] = s[_S_ENTRIES] - 1
                stage = 0
                if value:
                    code = s[_S_KEPT]
                    if code == s[_S_MAX_ENTRIES]:
                        result = -1
                        break
                    s[_S_KEPT] = code + 1
                    if s[_S_FORM]:
                        chances = ptr16(int(scratch) + s[_S_PAIRS])
                        chances[code] = index
                        index = code
                    row[index] = value
            else:
                index = column
                column += 1
                if not s[_S_LAYOUT] - 2:
                    stage = -1
                if index >= s[_S_WORDS]:
                    # the plane of signs: only ones count, and not where the weight is zero
                    index -= s[_S_WORDS]
                    if not code:
                        continue
                    if index < s[_S_COLS] and not row[index]:
                        index = s[_S_COLS]
                if index < s[_S_COLS]:
                    row[index] = value
                elif code:
                    result = -1
    if not result:
        column = 0
        if not s[_S_LAYOUT] - 1 and stage:
            s[_S_NEXT] = s[_S_NEXT] - s[_S_COLS]
    s[_S_POSITION] = position
    s[_S_BITS] = bits
    s[_S_HELD] = held
    s[_S_COLUMN] = column
    s[_S_STAGE] = stage + 1
    return result
