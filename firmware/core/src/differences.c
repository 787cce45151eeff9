/* Bits of words that differ, counted: the inner loop of binary weights and activations. No Cortex-M counts bits. */
#include "fast.h"

#include "differences.h"

#if defined(__ARM_FEATURE_SIMD32)
#define SUM_BYTES(total, bytes) __asm__("usada8 %0, %1, %2, %0" : "+r"(total) : "r"(bytes), "r"(0))
#else
#define SUM_BYTES(total, bytes)                                                                                        \
    do {                                                                                                               \
        uint32_t halves_ = ((bytes) & 0x00FF00FF) + ((bytes) >> 8 & 0x00FF00FF);                                       \
        (total) += (halves_ & 0xFFFF) + (halves_ >> 16);                                                               \
    } while (0)
#endif

#if defined(__GNUC__)
#define KEEP_IN_REGISTER(value) __asm__("" : "+r"(value))
#else
#define KEEP_IN_REGISTER(value)
#endif

/* Counts of the bits set in each nibble. */
static inline uint32_t count_nibbles(uint32_t bits, uint32_t ones, uint32_t pairs) {
    bits -= bits >> 1 & ones;
    return (bits & pairs) + (bits >> 2 & pairs);
}

/* Three words are added bit by bit first (Harley and Seal), which leaves two whose bits are to be counted. */
void thimble_count_differences(const uint32_t *x, const uint32_t *w, uint32_t words, uint32_t step, uint32_t *sums,
                               uint32_t count) {
    uint32_t ones = 0x55555555, pairs = 0x33333333, nibbles = 0x0F0F0F0F;
    const uint32_t *threes = x + (words * 86 >> 8) * 3, *end = x + words; /* 86 / 256: a third of up to 30 words */
    /* In registers, a mask is combined with a shift in one instruction. */
    KEEP_IN_REGISTER(ones);
    KEEP_IN_REGISTER(pairs);
    KEEP_IN_REGISTER(nibbles);
    for (; count > 0; count--, w += step - words, sums++) {
        const uint32_t *at = x;
        uint32_t bytes = 0;
        while (at != threes) {
            uint32_t a = *at++ ^ *w++, b = *at++ ^ *w++, c = *at++ ^ *w++, either = a ^ b;
            uint32_t counts = count_nibbles(either ^ c, ones, pairs);
            counts += count_nibbles((a & b) | (either & c), ones, pairs) << 1;
            bytes += (counts & nibbles) + (counts >> 4 & nibbles);
        }
        while (at != end) {
            uint32_t counts = count_nibbles(*at++ ^ *w++, ones, pairs);
            bytes += (counts + (counts >> 4)) & nibbles;
        }
        SUM_BYTES(*sums, bytes);
    }
}
