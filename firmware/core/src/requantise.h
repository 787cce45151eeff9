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
    uint32_t left = shift > 0 ? (uint32_t)shift : 0, right = shift < 0 ? (uint32_t)-shift : 0;
    return thimble_divide_by_power(thimble_high_mul((int32_t)(x << left), multiplier), right);
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

/* One sum. */
int8_t thimble_requantise(const thimble_output_stage *stage, uint32_t acc);

/* `count` sums, whose activations are `out_step` apart. */
void thimble_store_sums(const thimble_output_stage *stage, const uint32_t *sums, int32_t count, int8_t *out,
                        int32_t out_step);

/* The usual case in few instructions, of which SMMLAR is one: a multiplier and a shift to the right of 1 to
 * THIMBLE_USUAL_SHIFTS bits, and sums that can be doubled. Of a doubled sum, SMMLAR rounds the product with the
 * multiplier as docs/NUMERICS.md does, (2 a * m + 2^31) >> 32 = (a * m + 2^30) >> 31 = t. The division by 2^e that
 * follows, halves away from zero, and the output's zero point z come to (t + (t >> 31) + ((1 + 2 z) << (e - 1))) >> e;
 * t >> 31 may be taken from the sum, whose sign t has, unless it is 0, where the two give the same. */
#define THIMBLE_USUAL_SHIFTS 22
#define THIMBLE_DOUBLED_END (1u << 30) /* sums from minus this up to this can be doubled */

static inline int thimble_is_usual(const thimble_output_stage *stage) {
    return !(THIMBLE_HAS_FORM(POWER_OF_TWO) && stage->power_of_two) && stage->shift < 0 &&
           stage->shift >= -THIMBLE_USUAL_SHIFTS;
}

/* Half a unit, which rounds, and the zero point, both as they are before the shift. */
static inline int32_t thimble_rounding_of(const thimble_output_stage *stage) {
    return (1 + 2 * stage->zero_point) * (1 << (-stage->shift - 1));
}

/* Of a sum that can be doubled: what is left is to clamp. */
static inline int32_t thimble_scale_doubled(int32_t doubled, int32_t multiplier, int32_t rounding, int32_t shift) {
    int32_t value;
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
    __asm__("smmlar %0, %1, %2, %3" : "=r"(value) : "r"(doubled), "r"(multiplier), "r"(rounding));
#else
    value = rounding + thimble_high_mul(doubled >> 1, multiplier);
#endif
    return (value + (doubled >> 31)) >> shift;
}

#endif
