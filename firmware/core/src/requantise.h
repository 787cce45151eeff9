/* From accumulators to activations, as docs/NUMERICS.md says: products rounded half up, shifts half away from zero.
 * Sums are formed modulo 2^32, as unsigned: the packager proves that a model's own do not leave 32 bits, and
 * whatever a hostile file does is at least defined. Shifts of negative numbers are arithmetic, as with all
 * compilers that this is meant for. */
#ifndef THIMBLE_REQUANTISE_H
#define THIMBLE_REQUANTISE_H

#include "program.h"

/* round(a * b / 2^31), b not negative. Machines without a long multiplication (Cortex-M0) take limbs of 15 bits, as
 * docs/NUMERICS.md derives them. */
static inline int32_t thimble_high_mul(int32_t a, int32_t b) {
#if defined(THIMBLE_NARROW_MULTIPLY) || (defined(__thumb__) && !defined(__thumb2__))
    int32_t ah = a >> 15, al = a & 0x7FFF, bh = b >> 15, bl = b & 0x7FFF;
    int32_t middle = al * bh + (al * bl >> 15);
    int32_t c = (middle >> 15) + ((ah * bl + (middle & 0x7FFF)) >> 15);
    return ah * (bh >> 1) + ((ah * (bh & 1) + c + 1) >> 1);
#else
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
#endif
}

/* x / 2^exponent, halves away from zero. x > -2^31. */
static inline int32_t thimble_divide_by_power(int32_t x, uint32_t exponent) {
    if (exponent == 0) {
        return x;
    }
    return (((x + (x >> 31)) >> (exponent - 1)) + 1) >> 1;
}

/* x * multiplier * 2^(shift - 31). */
static inline int32_t thimble_scale(uint32_t x, int32_t multiplier, int32_t shift) {
    if (shift > 0) {
        return thimble_high_mul((int32_t)(x << shift), multiplier);
    }
    return thimble_divide_by_power(thimble_high_mul((int32_t)x, multiplier), (uint32_t)-shift);
}

static inline int32_t thimble_clamp(int32_t x, int32_t low, int32_t high) {
    return x < low ? low : x > high ? high : x;
}

/* One channel's way from accumulator to activation; low and high are before the zero point is added. */
typedef struct {
    int32_t multiplier;
    int32_t shift; /* positive is left; with `power_of_two` a right shift */
    int32_t low;
    int32_t high;
    int32_t zero_point;
    int32_t power_of_two;
} thimble_output_stage;

static inline int8_t thimble_requantise(const thimble_output_stage *stage, uint32_t acc) {
    int32_t value;
    if (THIMBLE_HAS_FORM(POWER_OF_TWO) && stage->power_of_two) {
        value = (int32_t)acc >> stage->shift;
        value += stage->shift == 0 ? 0 : (int32_t)acc >> (stage->shift - 1) & 1; /* half up */
    } else {
        value = thimble_scale(acc, stage->multiplier, stage->shift);
    }
    return (int8_t)(thimble_clamp(value, stage->low, stage->high) + stage->zero_point);
}

/* Whether a stage is of the usual kind: a multiplier and a shift to the right. */
static inline int thimble_is_usual(const thimble_output_stage *stage) {
    return !(THIMBLE_HAS_FORM(POWER_OF_TWO) && stage->power_of_two) && stage->shift < 0;
}

/* thimble_requantise for a usual stage, without its branches. */
static inline int8_t thimble_requantise_usual(const thimble_output_stage *stage, uint32_t acc) {
    int32_t value = thimble_high_mul((int32_t)acc, stage->multiplier);
    value = (((value + (value >> 31)) >> (-stage->shift - 1)) + 1) >> 1;
    return (int8_t)(thimble_clamp(value, stage->low, stage->high) + stage->zero_point);
}

/* The usual case once more, in six instructions of a machine with SMMLAR: shifts to the right of 1 to
 * THIMBLE_NARROW_SHIFTS bits, no clamp but that of int8, and sums below 2^30 in magnitude, so that they can be doubled.
 * A sum of up to 2^14 products of an int8 and a difference of two keeps to that if its bias is below
 * THIMBLE_NARROW_BIAS. */
#define THIMBLE_NARROW_SHIFTS 22
#define THIMBLE_NARROW_BIAS (1u << 29)

/* offset + round(a * b / 2^32). */
static inline int32_t thimble_high_mul_add(int32_t a, int32_t b, int32_t offset) {
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
    int32_t sum;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(offset));
    return sum;
#else
    return offset + (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#endif
}

static inline int32_t thimble_saturate(int32_t x) {
#if defined(__ARM_FEATURE_SAT) && defined(__thumb2__)
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(x));
    return result;
#else
    return thimble_clamp(x, -128, 127);
#endif
}

/* `offset`: half a unit, which rounds, and the zero point, both as they are before the shift. */
static inline int8_t thimble_requantise_narrow(uint32_t acc, int32_t multiplier, uint32_t shift, int32_t offset) {
    int32_t doubled = (int32_t)(acc << 1);
    /* Halves go away from zero: one less than halves up where a sum is negative. */
    int32_t value = thimble_high_mul_add(doubled, multiplier, offset) + (doubled >> 31);
    return (int8_t)thimble_saturate(value >> shift);
}

#endif
