/* Channels from columns with SMLAD: two products an instruction. A group of four cells has two words for each position,
 * cells 0 and 2 and cells 1 and 3, as SXTB16 leaves those of a row's weights.
 *
 * The machine code sums six positions, or three, of a channel at a time: the fourteen registers are all taken all the
 * time. */
#include "columns.h"

#if THIMBLE_DSP

/* Four cells at `x`, less the zero point, become a group's words at `to`; both move on. */
#if THIMBLE_COLUMN_ASSEMBLY
#define WIDEN_FOUR()                                                                                                   \
    __asm__ volatile("ldr %[odd], [%[x]], #4\n\t"                                                                              \
            "sxtab16 %[even], %[offset], %[odd]\n\t"                                                                  \
            "sxtab16 %[odd], %[offset], %[odd], ror #8\n\t"                                                           \
            "strd %[even], %[odd], [%[to]]\n\t"                                                                       \
            "add %[to], %[to], %[step], lsl #2\n\t"                                                                   \
            : [x] "+r"(x), [to] "+r"(to), [even] "=&r"(even), [odd] "=&r"(odd)                                         \
            : [offset] "r"(offset), [step] "r"(step)                                                                   \
            : "memory")
#else
#define WIDEN_FOUR()                                                                                                   \
    do {                                                                                                               \
        even = thimble_sxtab16(offset, thimble_load4(x));                                                              \
        odd = thimble_sxtab16_ror8(offset, thimble_load4(x));                                                          \
        to[0] = even, to[1] = odd;                                                                                     \
        x += 4, to += step;                                                                                            \
    } while (0)
#endif

/* Words of a group of four cells. */
static inline int32_t group_words(const thimble_columns *columns) {
    return 2 * columns->positions;
}

/* Where the group that begins with `cell` has the words of `position`. */
static inline uint32_t *group_at(const thimble_columns *columns, int32_t position, int32_t cell) {
    return columns->cells + (cell >> 2) * group_words(columns) + 2 * position;
}

/* A window is widened as it comes if its runs are made of groups, or else when it is complete. */
void thimble_cells_open(const thimble_columns *columns) {
    if (columns->staged) {
        memset(columns->staged, columns->window->zero_point, (uint32_t)columns->length);
    }
}

static void widen(const thimble_columns *columns, uint32_t *to, const int8_t *x, int32_t count) {
    uint32_t offset = thimble_both(-columns->window->zero_point), even, odd;
    int32_t step = group_words(columns);
    const int8_t *end = x + count;
    if (count & 4) {
        WIDEN_FOUR();
    }
    while (x < end) {
        WIDEN_FOUR();
        WIDEN_FOUR();
    }
}

static inline void copy4(int8_t *to, const int8_t *from) {
    memcpy(to, from, 4);
}

void thimble_put_cells(const thimble_columns *columns, int32_t position, int32_t cell, const int8_t *x, int32_t count) {
    if (columns->staged == NULL) {
        uint32_t *to = group_at(columns, position, cell);
        if (x) {
            widen(columns, to, x, count);
        }
        for (; !x && count > 0; count -= 4, to += group_words(columns)) {
            to[0] = to[1] = 0;
        }
        return;
    }
    int8_t *to = columns->staged + cell, *end = to + count;
    if (x == NULL) {
        while (to < end) {
            *to++ = (int8_t)columns->window->zero_point;
        }
    } else if (count >= 4) {
        const int8_t *last = x + count - 4;
        for (; x < last; x += 4, to += 4) {
            copy4(to, x);
        }
        copy4(end - 4, last); /* which may be in part what was copied before */
    } else {
        while (to < end) {
            *to++ = *x++;
        }
    }
}

void thimble_put_end(const thimble_columns *columns, int32_t position) {
    if (columns->staged) {
        widen(columns, group_at(columns, position, 0), columns->staged, columns->length);
    }
}

/* The sums of a channel at all positions of the block, of which there are six or three: `start` plus the products of the
 * weights at `w` with the cells up to `end`. */
#if THIMBLE_COLUMN_ASSEMBLY

/* r4 to r9: sums. r10: weights. r11: cells. */
#define WEIGHTS                                                                                                        \
    "ldr r12, [r10], #4\n\t"                                                                                           \
    "sxtb16 lr, r12, ror #8\n\t"                                                                                       \
    "sxtb16 r12, r12\n\t"
#define PRODUCTS(sum, first, second)                                                                                   \
    "smlad " sum ", r12, " first ", " sum "\n\t"                                                                       \
    "smlad " sum ", lr, " second ", " sum "\n\t"
#define UNTIL_END(loop)                                                                                                \
    "ldr r0, [sp]\n\t"                                                                                                \
    "cmp r11, r0\n\t"                                                                                                 \
    "bne " loop "\n\t"

__attribute__((naked)) static void sum_cells(__attribute__((unused)) const int8_t *w,
                                             __attribute__((unused)) const uint32_t *cells,
                                             __attribute__((unused)) const uint32_t *end,
                                             __attribute__((unused)) uint32_t sums[THIMBLE_MOST_POSITIONS],
                                             __attribute__((unused)) uint32_t start,
                                             __attribute__((unused)) int32_t positions) {
    __asm__(".syntax unified\n\t"
            "push {r2-r11, lr}\n\t"
            "mov r10, r0\n\t"
            "mov r11, r1\n\t"
            "ldrd r4, r0, [sp, #44]\n\t" /* the arguments on the stack */
            "mov r5, r4\n\t"
            "mov r6, r4\n\t"
            "mov r7, r4\n\t"
            "mov r8, r4\n\t"
            "mov r9, r4\n\t"
            "cmp r0, #6\n\t"
            "beq 2f\n\t"
            "1:\n\t" WEIGHTS "ldm r11!, {r0-r3, r7, r8}\n\t" PRODUCTS("r4", "r0", "r1") PRODUCTS("r5", "r2", "r3")
            PRODUCTS("r6", "r7", "r8") UNTIL_END("1b")
            "b 3f\n\t"
            "2:\n\t" WEIGHTS
            "ldm r11!, {r0-r3}\n\t" PRODUCTS("r4", "r0", "r1") PRODUCTS("r5", "r2", "r3")
            "ldm r11!, {r0-r3}\n\t" PRODUCTS("r6", "r0", "r1") PRODUCTS("r7", "r2", "r3")
            "ldm r11!, {r0-r3}\n\t" PRODUCTS("r8", "r0", "r1") PRODUCTS("r9", "r2", "r3") UNTIL_END("2b")
            "3:\n\t"
            "pop {r2, r3}\n\t"
            "stm r3, {r4-r9}\n\t"
            "pop {r4-r11, pc}\n\t");
}

#else

static void sum_cells(const int8_t *w, const uint32_t *cells, const uint32_t *end, uint32_t sums[THIMBLE_MOST_POSITIONS],
                      uint32_t start, int32_t positions) {
    for (int32_t p = 0; p < positions; p++) {
        uint32_t sum = start;
        const int8_t *weights = w;
        for (const uint32_t *x = cells; x < end; x += 2 * positions, weights += 4) {
            uint32_t word = thimble_load4(weights);
            sum = thimble_smlad(thimble_sxtb16(word), x[2 * p], sum);
            sum = thimble_smlad(thimble_sxtb16_ror8(word), x[2 * p + 1], sum);
        }
        sums[p] = sum;
    }
}

#endif

void thimble_make_channels(const thimble_columns *columns, int8_t *out, int32_t step, int32_t count) {
    const uint32_t *end = columns->cells + columns->length / 4 * group_words(columns);
    const int8_t *w = columns->weights;
    thimble_rows *rows = columns->rows;
    for (int32_t channel = 0; channel < columns->count; channel++, w += rows->stream.cols) {
        uint32_t sums[THIMBLE_MOST_POSITIONS];
        sum_cells(w, columns->cells, end, sums, columns->starts[channel], columns->positions);
        thimble_find_stage(rows, (uint32_t)(columns->first + channel), &rows->stage);
        thimble_store_sums(&rows->stage, sums, count, out + channel, step);
    }
}

#endif
