#include "fast.h"

#include "dot.h"

#if THIMBLE_USES_ASSEMBLY
/* Products of one loaded vector: compilers run out of registers here, of which this takes all but the stack pointer. */
#define PRODUCTS(place, sum)                                                                                           \
    "ldr %[a], " place "\n\t"                                                                                          \
    "sxtb16 %[b], %[a]\n\t"                                                                                            \
    "sxtb16 %[a], %[a], ror #8\n\t"                                                                                    \
    "smlad " sum ", %[even], %[b], " sum "\n\t"                                                                        \
    "smlad " sum ", %[odd], %[a], " sum "\n\t"
#define ALL_PRODUCTS                                                                                                   \
    PRODUCTS("[%[x], %[step]]", "%[s1]")                                                                               \
    PRODUCTS("[%[x], %[step], lsl #1]", "%[s2]")                                                                       \
    PRODUCTS("[%[x], %[step3]]", "%[s3]")                                                                              \
    PRODUCTS("[%[x]], #4", "%[s0]")
#define FOUR_WEIGHTS                                                                                                   \
    "ldr %[odd], [%[w]], #4\n\t"                                                                                       \
    "sxtab16 %[even], %[both], %[odd]\n\t"                                                                             \
    "sxtab16 %[odd], %[both], %[odd], ror #8\n\t" ALL_PRODUCTS
#define AGAIN                                                                                                          \
    "cmp %[w], %[end]\n\t"                                                                                             \
    "bne 1b\n\t"
#define OPERANDS                                                                                                       \
    [w] "+r"(w), [x] "+r"(x), [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [even] "=&r"(even),          \
        [odd] "=&r"(odd), [a] "=&r"(a), [b] "=&r"(b)
#endif

#if THIMBLE_USES_THUMB1_ASSEMBLY
#define PRODUCT(place, sum)                                                                                            \
    "ldrsb %[product], [%[" place "], %[i]]\n\t"                                                                       \
    "mul %[product], %[weight]\n\t"                                                                                    \
    "add %[" sum "], %[product]\n\t"
#define ALL_PRODUCTS                                                                                                   \
    PRODUCT("x", "s0") PRODUCT("x1", "s1") PRODUCT("x2", "s2") PRODUCT("x3", "s3")                                     \
    "add %[i], #1\n\t"
#define ONE_WEIGHT "ldrsb %[weight], [%[w], %[i]]\n\tadd %[weight], %[offset]\n\t" ALL_PRODUCTS
#define THUMB1_OPERANDS                                                                                                \
    [s0] "+h"(s0), [s1] "+h"(s1), [s2] "+h"(s2), [s3] "+h"(s3), [i] "+l"(i), [weight] "=&l"(loaded),                   \
        [product] "=&l"(product)
#define THUMB1_PLACES                                                                                                  \
    [w] "l"(w), [x] "l"(x), [x1] "l"(x + step), [x2] "l"(x + 2 * step), [x3] "l"(x + 3 * step)
#endif

void thimble_dot_block_offset(const int8_t *w, int32_t w_offset, const int8_t *x, int32_t step, int32_t count,
                              uint32_t *sums) {
    uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
#if THIMBLE_USES_ASSEMBLY
    if (count >= 8) {
        uint32_t even, odd, a, b;
        __asm__("1:\n\t" FOUR_WEIGHTS FOUR_WEIGHTS AGAIN
                : OPERANDS
                : [step] "r"(step), [step3] "r"(3 * step), [end] "r"(w + (count & ~7)),
                  [both] "r"(thimble_both(w_offset))
                : "cc", "memory");
    }
    count &= 7;
#elif THIMBLE_DSP
    uint32_t both = thimble_both(w_offset);
    for (; count >= 4; count -= 4, w += 4, x += 4) {
        uint32_t word = thimble_load4(w);
        uint32_t even = thimble_sxtab16(both, word), odd = thimble_sxtab16_ror8(both, word);
        s0 = thimble_products(even, odd, x, s0);
        s1 = thimble_products(even, odd, x + step, s1);
        s2 = thimble_products(even, odd, x + 2 * step, s2);
        s3 = thimble_products(even, odd, x + 3 * step, s3);
    }
#elif THIMBLE_USES_THUMB1_ASSEMBLY
    int32_t whole = count & ~3, loaded, product;
    if (whole > 0) {
        int32_t i = -whole;
        w += whole, x += whole;
        __asm__("1:\n\t" ONE_WEIGHT ONE_WEIGHT ONE_WEIGHT ONE_WEIGHT "bne 1b\n\t"
                : THUMB1_OPERANDS
                : THUMB1_PLACES, [offset] "h"(w_offset)
                : "cc", "memory");
    }
    count &= 3;
#endif
    const int8_t *x1 = x + step, *x2 = x1 + step, *x3 = x2 + step;
    for (int32_t i = 0; i < count; i++) {
        int32_t weight = w[i] + w_offset;
        s0 += (uint32_t)(weight * x[i]);
        s1 += (uint32_t)(weight * x1[i]);
        s2 += (uint32_t)(weight * x2[i]);
        s3 += (uint32_t)(weight * x3[i]);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

uint32_t thimble_dot(const int8_t *w, int32_t w_offset, const int8_t *x, int32_t count, uint32_t sum) {
    const int8_t *end = w + count;
#if THIMBLE_DSP
    uint32_t both = thimble_both(w_offset);
    for (; w < end - 3; w += 4, x += 4) {
        uint32_t a = thimble_load4(w), b = thimble_load4(x);
        sum = thimble_smlad(thimble_sxtab16(both, a), thimble_sxtb16(b), sum);
        sum = thimble_smlad(thimble_sxtab16_ror8(both, a), thimble_sxtb16_ror8(b), sum);
    }
#endif
    while (w < end) {
        sum += (uint32_t)((*w++ + w_offset) * *x++);
    }
    return sum;
}

int32_t thimble_sum(const int8_t *w, int32_t count) {
    const int8_t *end = w + count;
    int32_t sum = 0;
#if THIMBLE_DSP
    for (; w < end - 3; w += 4) {
        uint32_t a = thimble_load4(w);
        sum = (int32_t)thimble_smlad(thimble_sxtb16(a), 0x00010001, (uint32_t)sum);
        sum = (int32_t)thimble_smlad(thimble_sxtb16_ror8(a), 0x00010001, (uint32_t)sum);
    }
#endif
    while (w < end) {
        sum += *w++;
    }
    return sum;
}
