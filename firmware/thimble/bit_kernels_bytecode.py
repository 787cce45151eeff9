"""The functions of bit_kernels.py in plain Python, as kernels_bytecode.py has those of kernels.py."""

from micropython import const

_P_KERNEL_H = const(4)
_P_KERNEL_W = const(5)
_P_STRIDE_H = const(6)
_P_STRIDE_W = const(7)
_P_PAD_TOP = const(8)
_P_PAD_LEFT = const(9)
_P_CHANNELS = const(10)
_P_MASK = const(11)
_P_COLUMN = const(12)
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


def match(w, p, x, out, counts, bias):
    depth = p[_P_DEPTH]
    acc = bias
    for y in range(p[_P_Y_START], p[_P_Y_STOP]):
        for column in range(p[_P_OUT_W]):
            acc = bias
            row = p[_P_ROW]
            for ky in range(p[_P_KERNEL_H]):
                iy = y * p[_P_STRIDE_H] - p[_P_PAD_TOP] + ky
                for kx in range(p[_P_KERNEL_W]):
                    ix = (p[_P_COLUMN] + column) * p[_P_STRIDE_W] - p[_P_PAD_LEFT] + kx
                    if 0 <= iy < p[_P_IN_H] and 0 <= ix < p[_P_IN_W]:
                        acc += p[_P_CHANNELS]
                        cell = p[_P_X] + (iy * p[_P_IN_W] + ix) * depth
                        for index in range(depth):
                            acc -= counts[w[row + index] ^ x[cell + index]]
                    row += depth
            if acc >= 0:
                out[p[_P_OUT] + y * p[_P_OUT_STRIDE_Y] + column * p[_P_OUT_STRIDE_X]] |= p[_P_MASK]
    return acc


def merge(x, out, at, target, step, mask, count):
    for index in range(count):
        out[target + index * step] |= x[at + index] * mask
