"""Inner loops for tensors of bits in viper: see kernels.py for what holds here too."""

import micropython
from micropython import const

_P_KERNEL_H = const(4)
_P_KERNEL_W = const(5)
_P_STRIDE_H = const(6)
_P_STRIDE_W = const(7)
_P_PAD_TOP = const(8)
_P_PAD_LEFT = const(9)
_P_CHANNELS = const(10)  # of a cell
_P_MASK = const(11)  # of the output's bit in its byte; 0: nothing is written
_P_COLUMN = const(12)  # the first output of each row of outputs
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
_P_DEPTH = const(25)  # bytes of a cell, a multiple of 4


@micropython.viper
def match(w: ptr8, p: ptr32, x: ptr8, out: ptr8, counts: ptr8, bias: int) -> int:
    """One output channel of a binary convolution at every position of rows y_start to y_stop.

    acc = bias + channels * cells - 2 * differing bits, over the cells inside the image; where it is not
    negative, the channel's bit of the output is set. `counts`: for each byte twice its number of bits.
    Returns the last acc.
    """
    row = int(w) + p[_P_ROW]
    image = int(x) + p[_P_X]
    depth = p[_P_DEPTH]
    acc = bias
    y = p[_P_Y_START]
    while y < p[_P_Y_STOP]:
        left = p[_P_COLUMN] * p[_P_STRIDE_W] - p[_P_PAD_LEFT]
        target = int(out) + p[_P_OUT] + y * p[_P_OUT_STRIDE_Y]
        column = p[_P_OUT_W]
        while column:
            acc = bias
            iy = y * p[_P_STRIDE_H] - p[_P_PAD_TOP]
            cell = row
            ky = p[_P_KERNEL_H]
            while ky:
                if (iy | (p[_P_IN_H] - 1 - iy)) >= 0:
                    kx = 0
                    if left < 0:
                        kx = 0 - left
                    run = p[_P_KERNEL_W] - kx
                    if left + kx + run > p[_P_IN_W]:
                        run = p[_P_IN_W] - left - kx
                    if run > 0:
                        acc += run * p[_P_CHANNELS]
                        w = ptr8(cell + kx * depth)
                        x = ptr8(image + (iy * p[_P_IN_W] + left + kx) * depth)
                        stop = int(w) + run * depth
                        while int(w) < stop:
                            acc -= counts[w[0] ^ x[0]]
                            acc -= counts[w[1] ^ x[1]]
                            acc -= counts[w[2] ^ x[2]]
                            acc -= counts[w[3] ^ x[3]]
                            w = ptr8(int(w) + 4)
                            x = ptr8(int(x) + 4)
                cell += p[_P_KERNEL_W] * depth
                iy += 1
                ky -= 1
            if acc >= 0:
                if p[_P_MASK]:
                    o = ptr8(target)
                    o[0] = o[0] | p[_P_MASK]
            target += p[_P_OUT_STRIDE_X]
            left += p[_P_STRIDE_W]
            column -= 1
        y += 1
    return acc


@micropython.viper
def merge(x: ptr8, out: ptr8, at: int, target: int, step: int, mask: int, count: int):
    """out |= x * mask: `count` bytes of x from `at` on; those of out, from `target` on, are `step` apart."""
    x = ptr8(int(x) + at)
    out = ptr8(int(out) + target)
    while count:
        out[0] = out[0] | x[0] * mask
        x = ptr8(int(x) + 1)
        out = ptr8(int(out) + step)
        count -= 1
