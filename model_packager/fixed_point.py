"""Fixed-point primitives: int32 arrays in, int32 values (in int64 arrays) out; numerics.py uses them.

Every function reproduces one primitive of gemmlowp's `fixedpoint.h` with int32 raw values, on which
TensorFlow Lite Micro's integer kernels stand. Arrays are int64 so that NumPy can form products; each value
that is returned fits in int32, and docs/NUMERICS.md says how a machine with 32-bit integers only forms the
one 64-bit product. Qi.f below means i integer and f = 31 - i fractional bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

INT32_MIN = -(1 << 31)
INT32_MAX = (1 << 31) - 1

# exp(-1/8) and 1/3 in Q0.31, for exp on [-1/4, 0).
_EXP_MINUS_ONE_EIGHTH = 1895147668
_ONE_THIRD = 715827883
# exp(-2^k) in Q0.31 for k = -2 .. 4: the factors for the bits of the quarter count.
EXP_FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
# 48/17 and -32/17 in Q2.29: the first guess of Newton-Raphson division.
_FORTY_EIGHT_SEVENTEENTHS = 1515870810
_MINUS_THIRTY_TWO_SEVENTEENTHS = -1010580540
_ONE_Q2 = 1 << 29


def wrap_int32(x: Any) -> IntArray:
    """Reduce to int32 with two's-complement wrap-around, as the compiled kernels do; any integer array."""
    return (np.asarray(x, np.int64) + (1 << 31) & 0xFFFFFFFF) - (1 << 31)


def saturating_rounding_doubling_high_mul(a: Any, b: Any) -> IntArray:
    """High 32 bits of 2ab, rounded to nearest, halves upwards; (-2^31)^2 saturates. int32 values, broadcast.

    gemmlowp writes this with a truncating division and a nudge of 2^30 or 1 - 2^30; for every sign that
    equals floor((ab + 2^30) / 2^31), which is what is computed here.
    """
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.minimum((product + (1 << 30)) >> 31, INT32_MAX)


def rounding_divide_by_pot(x: Any, exponent: Any) -> IntArray:
    """x / 2^exponent rounded to nearest, halves away from zero. exponent 0 to 31, scalar or broadcast."""
    value = np.asarray(x, np.int64)
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    threshold = (mask >> 1) + (value < 0)
    return (value >> np.asarray(exponent, np.int64)) + ((value & mask) > threshold)


def saturating_multiply_by_pot(x: Any, exponent: int) -> IntArray:
    """x * 2^exponent clamped to int32; exponent >= 0."""
    threshold = (1 << (31 - exponent)) - 1
    value = np.asarray(x, np.int64)
    shifted = value << exponent
    return np.where(value > threshold, INT32_MAX, np.where(value < -threshold, INT32_MIN, shifted))


def _exp_near_zero(a: IntArray) -> IntArray:
    """exp(a) for a in [-1/4, 0), both Q0.31: a Taylor polynomial of degree 4 about -1/8."""
    x = a + (1 << 28)
    x2 = saturating_rounding_doubling_high_mul(x, x)
    x3 = saturating_rounding_doubling_high_mul(x2, x)
    x4_over_4 = rounding_divide_by_pot(saturating_rounding_doubling_high_mul(x2, x2), 2)
    tail = saturating_rounding_doubling_high_mul(x4_over_4 + x3, _ONE_THIRD) + x2
    factor = x + rounding_divide_by_pot(tail, 1)
    return _EXP_MINUS_ONE_EIGHTH + saturating_rounding_doubling_high_mul(_EXP_MINUS_ONE_EIGHTH, factor)


def exp_on_negative_values(a: Any, integer_bits: int) -> IntArray:
    """exp(a) in Q0.31 for a <= 0 with 1 to 5 integer bits; exp(0) is 2^31 - 1."""
    value = np.asarray(a, np.int64)
    fractional_bits = 31 - integer_bits
    quarter = 1 << (fractional_bits - 2)
    within = (value & (quarter - 1)) - quarter
    result = _exp_near_zero(saturating_multiply_by_pot(within, integer_bits))
    remainder = within - value
    for index, factor in enumerate(EXP_FACTORS[: integer_bits + 2]):
        bit = (remainder >> (fractional_bits + index - 2)) & 1
        result = np.where(bit == 1, saturating_rounding_doubling_high_mul(result, factor), result)
    return np.where(value == 0, INT32_MAX, result)


def _reciprocal_of_half_one_plus(a: Any) -> IntArray:
    """2 / (1 + a) in Q2.29 for a in [0, 1] in Q0.31: three Newton-Raphson steps."""
    half_denominator = (np.asarray(a, np.int64) + INT32_MAX + 1) >> 1
    x = _FORTY_EIGHT_SEVENTEENTHS + saturating_rounding_doubling_high_mul(
        half_denominator, _MINUS_THIRTY_TWO_SEVENTEENTHS
    )
    for _ in range(3):
        error = _ONE_Q2 - saturating_rounding_doubling_high_mul(half_denominator, x)
        x = wrap_int32(x + saturating_multiply_by_pot(saturating_rounding_doubling_high_mul(x, error), 2))
    return x


def one_over_one_plus_x(a: Any) -> IntArray:
    """1 / (1 + a) in Q0.31 for a in [0, 1] in Q0.31."""
    return saturating_multiply_by_pot(_reciprocal_of_half_one_plus(a), 1)


def logistic(a: Any, integer_bits: int) -> IntArray:
    """1 / (1 + exp(-a)) in Q0.31 for a in Q(integer_bits).(31 - integer_bits); integer_bits 1 to 5."""
    value = np.asarray(a, np.int64)
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(value), integer_bits))
    return np.where(value == 0, 1 << 30, np.where(value > 0, positive, INT32_MAX - positive))


def tanh(a: Any, integer_bits: int) -> IntArray:
    """tanh(a) in Q0.31 for a in Q(integer_bits).(31 - integer_bits); integer_bits 1 to 4.

    With e = exp(-2|a|), tanh|a| = (1 - e) / (1 + e) = 2 / (1 + e) - 1.
    """
    value = np.asarray(a, np.int64)
    e = exp_on_negative_values(-np.abs(value), integer_bits + 1)
    magnitude = saturating_multiply_by_pot(_reciprocal_of_half_one_plus(e) - _ONE_Q2, 2)
    return np.where(value == 0, 0, np.where(value > 0, magnitude, -magnitude))
