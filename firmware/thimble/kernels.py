"""Inner loops in viper: weights and activations in buffers go in, activations, rows and sums come out.

The interpreter and the streams call these functions; they have checked every range before. Activations
are *offset binary* here: the arena holds q + 128 as an unsigned byte, since viper reads bytes unsigned;
weights are two's complement bytes, so that raw rows are used in place. All integers fit 32 bits at every
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
_S_NEXT = const(6)  # where the next gap starts, relative to the row
_S_PENDING = const(7)  # 1: an entry at _S_NEXT - 1 is decoded and not emitted
_S_WEIGHT = const(8)  # its weight
_S_ENTRIES = const(9)  # entries left
_S_KEPT = const(10)  # entries of the row
_S_COLS = const(11)
_S_LAYOUT = const(12)
_S_CODER = const(13)
_S_VALUE_BITS = const(14)
_S_GAP_BITS = const(15)
_S_VALUE_COUNT = const(16)
_S_MAP = const(17)  # 0 table, 1 two's complement (RANGE: sign first), 2 zigzag
_S_GAP_TABLE = const(18)
_S_VALUE_TABLE = const(19)
_S_SYMBOLS = const(20)  # HUFFMAN: sorted symbols of the gap table, then (21) of the value table
_S_ROW = const(22)  # dense row, or the weights of pairs
_S_PAIRS = const(23)  # positions of pairs
_S_MAX_ENTRIES = const(24)
_S_FORM = const(25)  # 1: pairs


@micropython.viper
def convolve(w: ptr8, x: ptr8, out: ptr8, p: ptr32, bias: int):
    """One output channel at every position of rows y_start to y_stop.

    out = clamp(out_zero + requantise(bias + sum((x - zero) * w))). The kernel cells of one row that lie in
    the image are one run of weights and activations where channels are adjacent: the dense dot product.
    """
    row = int(w) + p[_P_ROW]
    image = int(x) + p[_P_X]
    zero = p[_P_ZERO]
    depth = p[_P_DEPTH]
    kernel_w = p[_P_KERNEL_W]
    in_h = p[_P_IN_H]
    in_w = p[_P_IN_W]
    joined = 0
    if depth == p[_P_PIXEL] and p[_P_DILATION_W] == 1:
        joined = 1
    interior = bias
    if zero:
        stop = row + p[_P_KERNEL_H] * kernel_w * depth
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
            # At the border, where sums over the whole row do not hold, each input has the zero point taken
            # off.
            acc = interior
            border = 0
            if top < 0 or left < 0:
                border = zero
            if top + (p[_P_KERNEL_H] - 1) * p[_P_DILATION_H] >= in_h:
                border = zero
            if left + (kernel_w - 1) * p[_P_DILATION_W] >= in_w:
                border = zero
            if border:
                acc = bias
            iy = top
            cell = row
            ky = p[_P_KERNEL_H]
            while ky:
                if iy >= 0 and iy < in_h:
                    kx = 0
                    run = 1
                    if joined:
                        if left < 0:
                            kx = 0 - left
                        run = kernel_w - kx
                        if left + kernel_w > in_w:
                            run = in_w - left - kx
                        if run < 1:
                            kx = kernel_w
                    while kx < kernel_w:
                        ix = left + kx * p[_P_DILATION_W]
                        if ix >= 0 and ix < in_w:
                            w = ptr8(cell + kx * depth)
                            x = ptr8(image + (iy * in_w + ix) * p[_P_PIXEL])
                            stop = int(w) + run * depth
                            if border == 0:
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
                cell += kernel_w * depth
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
    index = 0
    while index < count:
        bias += ((weights[index] ^ 128) - 128) * (x[positions[index]] - zero)
        index += 1
    return bias


@micropython.viper
def arithmetic(out: ptr8, x1: ptr8, x2: ptr8, p: ptr32):
    """count elements of ADD, SUB, MUL, MAXIMUM or MINIMUM, each operand with a stride of its own."""
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
            if mode == 2:
                acc *= second
            else:
                k = _A_SCALES + 6
                if mode == 3 and second > acc or mode == 4 and second < acc:
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
            if k == _A_SCALES + 2:
                total = acc
                acc = second << p[_A_LEFT_SHIFT]
            elif k == _A_SCALES + 4:
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
def walk(out: ptr8, x: ptr8, table: ptr8, p: ptr32, mode: int) -> int:
    """A four-dimensional strided walk. Mode 0: the sum of x; 1: out = x ^ mask; 2: out = table[x] ^ mask."""
    total = 0
    table = ptr8(int(table) + p[_W_TABLE])
    n0 = 0
    while n0 < p[_W_COUNTS]:
        n1 = 0
        while n1 < p[_W_COUNTS + 1]:
            n2 = 0
            while n2 < p[_W_COUNTS + 2]:
                source = n0 * p[_W_X_STRIDES] + n1 * p[_W_X_STRIDES + 1] + n2 * p[_W_X_STRIDES + 2]
                target = n0 * p[_W_OUT_STRIDES] + n1 * p[_W_OUT_STRIDES + 1] + n2 * p[_W_OUT_STRIDES + 2]
                a = ptr8(int(x) + (p[_W_X] + source))
                o = ptr8(int(out) + (p[_W_OUT] + target))
                count = p[_W_COUNTS + 3]
                while count:
                    value = a[0]
                    if mode:
                        if mode == 2:
                            value = table[value]
                        o[0] = value ^ p[_W_MASK]
                        o = ptr8(int(o) + p[_W_OUT_STRIDES + 3])
                    total += value
                    a = ptr8(int(a) + p[_W_X_STRIDES + 3])
                    count -= 1
                n2 += 1
            n1 += 1
        n0 += 1
    return total


@micropython.viper
def decode(source: ptr8, scratch: ptr8, entries: ptr8, s: ptr32) -> int:
    """The next row of a stream: 1 done, 0 the buffer needs bytes, -1 bad stream.

    `entries` is the value map's table. After 0 the call is repeated: all progress is in the state. A *stage*
    reads one symbol: -1 the flag of a bitmap, 0 a gap, 1 a value. Layout BITS is read as values of one bit,
    the plane of signs after the plane of non-zeros, each filled up to whole words.
    """
    position = s[_S_POSITION]
    bits = s[_S_BITS]
    held = s[_S_HELD]
    column = s[_S_COLUMN]
    cols = s[_S_COLS]
    layout = s[_S_LAYOUT]
    coder = s[_S_CODER]
    row = ptr8(int(scratch) + s[_S_ROW])
    result = 1
    words = cols
    if layout == 3:
        words = ((cols + 31) >> 5) << 5
    end = words
    if layout == 3 and s[_S_VALUE_BITS] == 2:
        end += words
    if layout == 1 and column == 0:
        s[_S_KEPT] = 0
        if s[_S_FORM] == 0:
            index = 0
            while index < cols:
                row[index] = 0
                index += 1
        column = 1
    while result == 1:
        stage = 1
        if layout == 1:
            if s[_S_PENDING]:
                index = s[_S_NEXT] - 1
                if index >= cols:
                    break
                weight = s[_S_WEIGHT]
                if weight:
                    kept = s[_S_KEPT]
                    if kept == s[_S_MAX_ENTRIES]:
                        result = -1
                        break
                    if s[_S_FORM]:
                        pairs = ptr16(int(scratch) + s[_S_PAIRS])
                        pairs[kept] = index
                        row[kept] = weight
                    else:
                        row[index] = weight
                    s[_S_KEPT] = kept + 1
                s[_S_PENDING] = 0
            if s[_S_ENTRIES] == 0:
                break
            stage = 0
        else:
            if column == end:
                break
            if layout == 2:
                stage = -1
        if position > s[_S_SAFE]:
            result = 0
            break
        value = 0
        extra = 0
        place = 0
        while stage < 2:
            if coder == 3:
                chances = ptr16(int(scratch) + s[_S_VALUE_TABLE])
                shift = s[_S_GAP_BITS] & 7
                base = 1 << s[_S_VALUE_BITS]
                context = base + 1
                depth = 5
                node = 1
                if stage:
                    depth = s[_S_VALUE_BITS]
                    context = 1
                    if layout != 1:
                        index = column - 1
                        if index < 0:
                            index += cols
                        value = row[index]
                        index = column - (s[_S_GAP_BITS] >> 3)
                        if index < 0:
                            index += cols
                        back = 0
                        if s[_S_GAP_BITS] > 7:
                            back = row[index]
                        # of each neighbour the sign: 0 zero, 1 positive, 2 negative; for a flag, zero or not
                        context = base
                        length = 3
                        if stage < 0:
                            depth = 1
                            context = base + 9
                            length = 2
                        if value:
                            context += length
                            if value > 127 and length == 3:
                                context += 3
                        if back:
                            context += 1
                            if back > 127 and length == 3:
                                context += 1
                    base = 0
                length = 1
                while True:
                    if depth == 0:
                        if stage or length == 0:
                            break
                        # the class of a gap is known: its mantissa, the first bit by its chance
                        depth = node - 32
                        if depth > 24:
                            result = -1
                            break
                        context = base + node
                        length = 0
                        node = 1
                        continue
                    bound = held >> 1
                    if context >= 0:
                        chance = chances[context]
                        bound = (held >> 12) * chance
                        if bits < bound:
                            chances[context] = chance + ((4096 - chance) >> shift)
                        else:
                            chances[context] = chance - (chance >> shift)
                    node <<= 1
                    if bits < bound:
                        held = bound
                    else:
                        bits -= bound
                        held -= bound
                        node += 1
                    context = base + node
                    if length == 0:
                        context = -1
                    while held < 0x800000:
                        held <<= 8
                        bits <<= 8
                        if position < s[_S_LIMIT]:
                            bits |= source[position]
                        position += 1
                    depth -= 1
                if result != 1:
                    break
                value = node - 1
                if stage > 0:
                    value = node - (1 << s[_S_VALUE_BITS])
                elif stage < 0:
                    value = node - 2
            else:
                while held <= 22:
                    if position < s[_S_LIMIT]:
                        bits |= source[position] << held
                    position += 1
                    held += 8
                if extra:
                    # raw bits below the class of a gap or a large value, sixteen at a time
                    length = extra
                    if length > 16:
                        length = 16
                    value |= (bits & ((1 << length) - 1)) << place
                    place += length
                    extra -= length
                else:
                    length = 1
                    if stage < 0 or layout == 3:
                        value = bits & 1
                    elif coder == 0:
                        length = s[_S_GAP_BITS]
                        if stage:
                            length = s[_S_VALUE_BITS]
                        value = bits & ((1 << length) - 1)
                    else:
                        table = ptr8(int(scratch) + s[_S_GAP_TABLE + stage])
                        index = bits & 63
                        if coder == 2:
                            length = table[index]
                            value = length >> 3
                            length = length & 7
                            if stage == 0:
                                extra = value
                                value = 1
                            elif value > 15:
                                extra = (value >> 2) - 2
                                value = 4 + (value & 3)
                            value <<= extra
                            place = 0
                        else:
                            index <<= 1
                            length = table[index] | (table[index + 1] << 8)
                            value = length >> 4
                            length &= 15
                            if length == 0:
                                # a longer code, bit by bit: the counts of each length follow the table
                                code = 0
                                first = 0
                                index = 0
                                count = 0
                                while length < 15:
                                    code = (code << 1) | ((bits >> length) & 1)
                                    length += 1
                                    count = table[126 + (length << 1)] | (table[127 + (length << 1)] << 8)
                                    if code - first < count:
                                        break
                                    index += count
                                    first = (first + count) << 1
                                    count = 0
                                if count:
                                    table = ptr8(int(scratch) + s[_S_SYMBOLS + stage])
                                    value = table[index + code - first]
                                else:
                                    length = 0
                    if length == 0:
                        result = -1
                        break
                bits >>= length
                held -= length
                if extra:
                    continue
                if stage == 0 and coder == 2:
                    value -= 1
            if stage < 0:
                stage = 1
                if value == 0:
                    row[column] = 0
                    stage = 3
            else:
                if stage == 0:
                    s[_S_NEXT] = s[_S_NEXT] + value
                stage += 1
        if result == 1 and stage == 2:
            if value >= s[_S_VALUE_COUNT]:
                result = -1
                break
            place = value
            index = s[_S_MAP]
            if index == 0:
                if column >= words:
                    value <<= 1
                value = entries[value]
            elif index == 2:
                value = (value >> 1) ^ (0 - (value & 1))
            else:
                index = value & (1 << (s[_S_VALUE_BITS] - 1))
                if coder == 3 and index:
                    value = index - 1 - value
                else:
                    value |= 0 - index
            value &= 255
            index = column
            if column >= words:
                index -= words
            if layout == 1:
                s[_S_WEIGHT] = value
                s[_S_NEXT] = s[_S_NEXT] + 1
                s[_S_PENDING] = 1
                s[_S_ENTRIES] = s[_S_ENTRIES] - 1
            elif index >= cols:
                if place:  # a bit behind the last column of a word
                    result = -1
            elif column < words:
                row[index] = value
            elif place:
                if row[index] == 0:  # the sign of a zero
                    result = -1
                row[index] = value
        if layout != 1:
            column += 1
    if result == 1:
        column = 0
        if s[_S_PENDING]:
            s[_S_NEXT] = s[_S_NEXT] - cols
    s[_S_POSITION] = position
    s[_S_BITS] = bits
    s[_S_HELD] = held
    s[_S_COLUMN] = column
    return result
