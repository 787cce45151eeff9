/* Channels from columns without DSP instructions: a cell's word for two positions, x[p] + x[p + 1] * 2^16, gives two
 * products in one multiplication. Two such words, from PAIR_START on, leave each half where it is; their upper half
 * and all of them are added up apart, from which both sums follow. */
#include "fast.h"

#include "columns.h"

#if !THIMBLE_DSP

/* Both halves of two products then fit 16 bits, the lower one unsigned, the upper one signed: a product lies between
 * -128 * 127 and 128 * 128. */
#define PAIR_BIAS 0x7FFFu
#define PAIR_START (PAIR_BIAS - 0x10000u)

/* Words of a cell. */
static inline int32_t cell_words(const thimble_columns *columns) {
    return columns->positions / 2;
}

void thimble_cells_open(const thimble_columns *columns) {
    uint32_t words = (uint32_t)(columns->length * cell_words(columns));
    memset(columns->cells, 0, words * sizeof *columns->cells);
}

void thimble_put_cells(const thimble_columns *columns, int32_t position, int32_t cell, const int8_t *x, int32_t count) {
    int32_t words = cell_words(columns), x_step = x ? 1 : 0;
    int8_t zero_point = (int8_t)columns->window->zero_point;
    uint32_t *to = columns->cells + cell * words + (position >> 1);
    x = x ? x : &zero_point;
    if (position & 1) {
        for (; count > 0; count--, to += words, x += x_step) {
            *to += (uint32_t)*x << 16;
        }
    } else {
        for (; count > 0; count--, to += words, x += x_step) {
            *to = (uint32_t)*x;
        }
    }
}

void thimble_put_end(const thimble_columns *columns, int32_t position) {
    (void)columns, (void)position;
}

/* Sums of pairs of products: `t` of both halves, `h` of the upper ones. */
#if THIMBLE_USES_THUMB1_ASSEMBLY
/* The eight low registers hold all that is loaded; `i` counts up to 0. */
#define LOAD_WEIGHT "ldrsb %[weight], [%[w], %[i]]\n\t"
#define ADD_UP(products, total, high)                                                                                  \
    "add " products ", %[start]\n\t"                                                                                  \
    "add " total ", " products "\n\t"                                                                                 \
    "asr " products ", #16\n\t"                                                                                       \
    "add " high ", " products "\n\t"
#define TWO_CELLS_OF_TWO_PAIRS                                                                                         \
    LOAD_WEIGHT "add %[i], #1\n\t"                                                                                    \
                "ldmia %[x]!, {r0, r1}\n\t"                                                                           \
                "mul r0, %[weight]\n\t"                                                                               \
                "mul r1, %[weight]\n\t" LOAD_WEIGHT "ldmia %[x]!, {r2, r3}\n\t"                                      \
                "mul r2, %[weight]\n\t"                                                                               \
                "mul r3, %[weight]\n\t"                                                                               \
                "add r0, r2\n\t"                                                                                      \
                "add r1, r3\n\t" ADD_UP("r0", "%[t0]", "%[h0]") ADD_UP("r1", "%[t1]", "%[h1]") "add %[i], #1\n\t"
#define TWO_CELLS_OF_A_PAIR                                                                                            \
    LOAD_WEIGHT "add %[i], #1\n\t"                                                                                    \
                "ldmia %[x]!, {r0, r1}\n\t"                                                                           \
                "mul r0, %[weight]\n\t" LOAD_WEIGHT "mul r1, %[weight]\n\t"                                          \
                "add r0, r1\n\t" ADD_UP("r0", "%[t0]", "%[h0]") "add %[i], #1\n\t"
#define PAIR_OPERANDS [x] "+l"(x), [i] "+l"(i), [weight] "=&l"(weight), [t0] "+h"(t0), [h0] "+h"(h0)
#define SUM_TWO_PAIRS()                                                                                                \
    do {                                                                                                               \
        int32_t i = -length, weight;                                                                                   \
        __asm__("1:\n\t" TWO_CELLS_OF_TWO_PAIRS TWO_CELLS_OF_TWO_PAIRS "bne 1b\n\t"                                   \
                : PAIR_OPERANDS, [t1] "+h"(t1), [h1] "+h"(h1)                                                          \
                : [w] "l"(w + length), [start] "h"(PAIR_START)                                                         \
                : "r0", "r1", "r2", "r3", "cc", "memory");                                                             \
    } while (0)
#define SUM_A_PAIR()                                                                                                   \
    do {                                                                                                               \
        int32_t i = -length, weight;                                                                                   \
        __asm__("1:\n\t" TWO_CELLS_OF_A_PAIR TWO_CELLS_OF_A_PAIR "bne 1b\n\t"                                         \
                : PAIR_OPERANDS                                                                                        \
                : [w] "l"(w + length), [start] "h"(PAIR_START)                                                         \
                : "r0", "r1", "cc", "memory");                                                                         \
    } while (0)
#elif defined(__thumb2__) && defined(__OPTIMIZE__) && !defined(__clang__)
#define LOAD_WEIGHTS                                                                                                   \
    "ldrsb %[w0], [%[w]], #1\n\t"                                                                                     \
    "ldrsb %[w1], [%[w]], #1\n\t"
#define PAIR(first, second, total, high)                                                                               \
    "mla " first ", " first ", %[w0], %[start]\n\t"                                                                   \
    "mla " first ", " second ", %[w1], " first "\n\t"                                                                 \
    "add " total ", " first "\n\t"                                                                                    \
    "add " high ", " high ", " first ", asr #16\n\t"
#define TWO_CELLS_OF_TWO_PAIRS                                                                                         \
    LOAD_WEIGHTS "ldmia %[x]!, {r0-r3}\n\t" PAIR("r0", "r2", "%[t0]", "%[h0]") PAIR("r1", "r3", "%[t1]", "%[h1]")
#define TWO_CELLS_OF_A_PAIR LOAD_WEIGHTS "ldmia %[x]!, {r0, r1}\n\t" PAIR("r0", "r1", "%[t0]", "%[h0]")
#define PAIR_OPERANDS                                                                                                  \
    [w] "+r"(at), [x] "+r"(x), [w0] "=&r"(w0), [w1] "=&r"(w1), [t0] "+r"(t0), [h0] "+r"(h0)
#define UNTIL_END "cmp %[w], %[end]\n\tbne 1b\n\t"
#define SUM_TWO_PAIRS()                                                                                                \
    do {                                                                                                               \
        const int8_t *at = w;                                                                                          \
        int32_t w0, w1;                                                                                                \
        __asm__("1:\n\t" TWO_CELLS_OF_TWO_PAIRS TWO_CELLS_OF_TWO_PAIRS UNTIL_END                                       \
                : PAIR_OPERANDS, [t1] "+r"(t1), [h1] "+r"(h1)                                                          \
                : [end] "r"(w + length), [start] "r"(PAIR_START)                                                       \
                : "r0", "r1", "r2", "r3", "cc", "memory");                                                             \
    } while (0)
#define SUM_A_PAIR()                                                                                                   \
    do {                                                                                                               \
        const int8_t *at = w;                                                                                          \
        int32_t w0, w1;                                                                                                \
        __asm__("1:\n\t" TWO_CELLS_OF_A_PAIR TWO_CELLS_OF_A_PAIR UNTIL_END                                             \
                : PAIR_OPERANDS                                                                                        \
                : [end] "r"(w + length), [start] "r"(PAIR_START)                                                       \
                : "r0", "r1", "cc", "memory");                                                                         \
    } while (0)
#else
#define PAIR(first, second, total, high)                                                                               \
    do {                                                                                                               \
        uint32_t products = (first) * w0 + (second) * w1 + PAIR_START;                                                 \
        total += products;                                                                                             \
        high += (uint32_t)((int32_t)products >> 16);                                                                   \
    } while (0)
#define SUM_TWO_PAIRS()                                                                                                \
    for (int32_t i = 0; i < length; i += 2, x += 4) {                                                                  \
        uint32_t w0 = (uint32_t)w[i], w1 = (uint32_t)w[i + 1];                                                         \
        PAIR(x[0], x[2], t0, h0);                                                                                      \
        PAIR(x[1], x[3], t1, h1);                                                                                      \
    }
#define SUM_A_PAIR()                                                                                                   \
    for (int32_t i = 0; i < length; i += 2, x += 2) {                                                                  \
        uint32_t w0 = (uint32_t)w[i], w1 = (uint32_t)w[i + 1];                                                         \
        PAIR(x[0], x[1], t0, h0);                                                                                      \
    }
#endif

#if THIMBLE_USES_THUMB1_ASSEMBLY
/* Whether scale, bias and clamp are such that no intermediate of the machine code leaves 32 bits. */
static inline int is_narrow(const thimble_output_stage *stage, uint32_t start) {
    return !stage->power_of_two && stage->shift < 0 && stage->shift >= -22 && start + (1u << 28) < 1u << 29 &&
           stage->low + stage->zero_point == -128 && stage->high + stage->zero_point == 127;
}

/* Sums become activations, for full int8 ranges. With a = ah * 2^16 + al, al signed, and m = mh * 2^16 + ml, the product
 * (a * m + 2^30) >> 31 is 2 ah mh + ((ah ml + al mh + (al ml >> 16) + 2^14) >> 15), which fits 32 bits for |a| < 2^29. */
static inline void store_narrow(const thimble_output_stage *stage, const uint32_t *sums, int32_t count, int8_t *out,
                                int32_t step) {
    const uint32_t *end = sums + count;
    int32_t high = stage->multiplier >> 16, low = stage->multiplier & 0xFFFF, shift = -stage->shift, part;
    int32_t rounding = (1 + 2 * stage->zero_point) * (1 << (shift - 1));
    __asm__ volatile("1:\n\t"
            "ldmia %[sums]!, {r0}\n\t"
            "asr r1, r0, #31\n\t"
            "add r1, %[rounding]\n\t"
            "mov %[part], r1\n\t"
            "sxth r1, r0\n\t"
            "sub r0, r0, r1\n\t"
            "asr r0, r0, #16\n\t" /* ah; r1: al */
            "mov r2, r1\n\t"
            "mul r2, %[low]\n\t"
            "asr r2, r2, #16\n\t"
            "mul r1, %[high]\n\t"
            "add r2, r1\n\t"
            "mov r1, r0\n\t"
            "mul r1, %[low]\n\t"
            "add r2, r1\n\t"
            "add r2, %[half]\n\t"
            "asr r2, r2, #15\n\t"
            "mul r0, %[high]\n\t"
            "lsl r0, r0, #1\n\t"
            "add r0, r2\n\t"
            "add r0, %[part]\n\t"
            "asr r0, %[shift]\n\t"
            "sxtb r1, r0\n\t"
            "cmp r1, r0\n\t"
            "beq 2f\n\t"
            "asr r0, r0, #31\n\t" /* -128 or 127 */
            "mov r1, #127\n\t"
            "eor r0, r1\n\t"
            "2:\n\t"
            "strb r0, [%[out]]\n\t"
            "add %[out], %[step]\n\t"
            "cmp %[sums], %[end]\n\t"
            "bne 1b\n\t"
            : [sums] "+l"(sums), [out] "+l"(out), [part] "=&h"(part)
            : [low] "l"(low), [high] "l"(high), [shift] "l"(shift), [rounding] "h"(rounding), [half] "h"(1 << 14),
              [step] "h"(step), [end] "h"(end)
            : "r0", "r1", "r2", "cc", "memory");
}
#endif

void thimble_make_channels(const thimble_columns *columns, int8_t *out, int32_t step, int32_t count) {
    const int8_t *w = columns->weights;
    const int32_t length = columns->length, cols = (int32_t)columns->rows->stream.cols;
    const uint32_t steps = (uint32_t)length / 2;
    thimble_output_stage *stage = &columns->rows->stage;
    for (int32_t channel = 0; channel < columns->count; channel++, w += cols) {
        const uint32_t *x = columns->cells;
        uint32_t sums[4], start = columns->starts[channel], t0 = 0, h0 = 0, t1 = 0, h1 = 0;
        if (columns->positions == 4) {
            SUM_TWO_PAIRS();
        } else {
            SUM_A_PAIR();
        }
        sums[0] = start + t0 - (h0 << 16) - steps * PAIR_BIAS;
        sums[1] = start + h0 + steps;
        sums[2] = start + t1 - (h1 << 16) - steps * PAIR_BIAS;
        sums[3] = start + h1 + steps;
        thimble_find_stage(columns->rows, (uint32_t)(columns->first + channel), stage);
#if THIMBLE_USES_THUMB1_ASSEMBLY
        if (is_narrow(stage, start)) {
            store_narrow(stage, sums, count, out + channel, step);
            continue;
        }
#endif
        thimble_store_sums(stage, sums, count, out + channel, step);
    }
}

#endif
