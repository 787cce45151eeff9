/* Dot products of int8 vectors, several at once so that what is loaded of the first one is used several times.
 *
 * With THIMBLE_DSP, four products take two SMLAD instructions (ARMv7E-M and ARMv8-M with DSP: Cortex-M4, M7, M33);
 * without it they are plain C, which is all that Cortex-M0 and M3 have. THIMBLE_DSP_EMULATED compiles the first way for
 * any machine, for tests. Sums are modulo 2^32. */
#ifndef THIMBLE_DOT_H
#define THIMBLE_DOT_H

#include "registers.h"

#include <stdint.h>
#include <string.h>

#if !defined(THIMBLE_DSP)
#if defined(__ARM_FEATURE_SIMD32) || defined(THIMBLE_DSP_EMULATED)
#define THIMBLE_DSP 1
#else
#define THIMBLE_DSP 0
#endif
#endif

/* Without optimisation a compiler has no registers to spare, and clang keeps one or two for itself always. */
#if THIMBLE_DSP && !defined(THIMBLE_DSP_EMULATED) && defined(__OPTIMIZE__) && !defined(__clang__)
#define THIMBLE_USES_ASSEMBLY 1
#else
#define THIMBLE_USES_ASSEMBLY 0
#endif

/* Compiling for size, compilers keep high registers out of use. */
#if defined(__thumb__) && !defined(__thumb2__) && THIMBLE_HAS_HIGH_REGISTERS
#define THIMBLE_USES_THUMB1_ASSEMBLY 1
#else
#define THIMBLE_USES_THUMB1_ASSEMBLY 0
#endif

#define THIMBLE_BLOCK 4 /* vectors that are multiplied with one at a time */

#if THIMBLE_DSP

#if defined(THIMBLE_DSP_EMULATED)
static inline uint32_t thimble_pair(uint32_t low, uint32_t high) {
    return (low & 0xFFFF) | high << 16;
}

static inline uint32_t thimble_extend(uint32_t byte) {
    return ((byte & 0xFF) ^ 0x80) - 0x80;
}

/* Sign-extended bytes 0 and 2 of `x`. */
static inline uint32_t thimble_sxtb16(uint32_t x) {
    return thimble_pair(thimble_extend(x), thimble_extend(x >> 16));
}

static inline uint32_t thimble_sxtb16_ror8(uint32_t x) {
    return thimble_sxtb16(x >> 8);
}

/* Halves of `a` plus the sign-extended bytes 0 and 2 of `x`. */
static inline uint32_t thimble_sxtab16(uint32_t a, uint32_t x) {
    return thimble_pair(a + thimble_extend(x), (a >> 16) + thimble_extend(x >> 16));
}

static inline uint32_t thimble_sxtab16_ror8(uint32_t a, uint32_t x) {
    return thimble_sxtab16(a, x >> 8);
}

static inline uint32_t thimble_smlad(uint32_t x, uint32_t y, uint32_t sum) {
    return sum + (uint32_t)((int16_t)x * (int16_t)y) + (uint32_t)((int16_t)(x >> 16) * (int16_t)(y >> 16));
}
#else
static inline uint32_t thimble_sxtb16(uint32_t x) {
    uint32_t result;
    __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(x));
    return result;
}

static inline uint32_t thimble_sxtb16_ror8(uint32_t x) {
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(x));
    return result;
}

static inline uint32_t thimble_sxtab16(uint32_t a, uint32_t x) {
    uint32_t sum;
    __asm__("sxtab16 %0, %1, %2" : "=r"(sum) : "r"(a), "r"(x));
    return sum;
}

static inline uint32_t thimble_sxtab16_ror8(uint32_t a, uint32_t x) {
    uint32_t sum;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(sum) : "r"(a), "r"(x));
    return sum;
}

static inline uint32_t thimble_smlad(uint32_t x, uint32_t y, uint32_t sum) {
    uint32_t result;
    __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(x), "r"(y), "r"(sum));
    return result;
}
#endif

/* Four bytes, wherever they lie. */
static inline uint32_t thimble_load4(const int8_t *x) {
    uint32_t word;
    memcpy(&word, x, 4);
    return word;
}

/* The products of four bytes at `x` with two pairs of weights, those of the bytes 0 and 2 and of 1 and 3. */
static inline uint32_t thimble_products(uint32_t even, uint32_t odd, const int8_t *x, uint32_t sum) {
    uint32_t word = thimble_load4(x);
    return thimble_smlad(odd, thimble_sxtb16_ror8(word), thimble_smlad(even, thimble_sxtb16(word), sum));
}

/* The same number in both halves. */
static inline uint32_t thimble_both(int32_t value) {
    return ((uint32_t)value & 0xFFFF) | (uint32_t)value << 16;
}

#endif

/* sums[k] += sum of (w[i] + w_offset) * x[k * step + i], k below THIMBLE_BLOCK. */
void thimble_dot_block_offset(const int8_t *w, int32_t w_offset, const int8_t *x, int32_t step, int32_t count,
                              uint32_t *sums);

/* sum + sum of (w[i] + w_offset) * x[i]. */
uint32_t thimble_dot(const int8_t *w, int32_t w_offset, const int8_t *x, int32_t count, uint32_t sum);

/* Sum of w[i]. */
int32_t thimble_sum(const int8_t *w, int32_t count);

#endif
