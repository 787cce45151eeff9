/* Channels from columns with SMLAD: two products an instruction. A group of four cells has two words for each position,
 * cells 0 and 2 and cells 1 and 3, as SXTB16 leaves those of a row's weights.
 *
 * The machine code makes six positions, or three, of a channel at a time: the fourteen registers are all taken all the
 * time. Of a doubled sum, SMMLAR rounds the product with the multiplier as docs/NUMERICS.md does,
 * (2 a * m + 2^31) >> 32 = (a * m + 2^30) >> 31 = t. The division by 2^e that follows, halves away from zero, the output's
 * zero point z and the clamp to 8 bits come to (t + (t >> 31) + ((1 + 2 z) << (e - 1))) >> e and SSAT; t >> 31 may be
 * taken from the sum, whose sign t has, unless it is 0, where the two give the same. */
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

#if THIMBLE_COLUMN_ASSEMBLY

/* r4 to r9: sums. r10: weights. r11: cells. */
#define WEIGHTS                                                                                                        \
    "ldr r12, [r10], #4\n\t"                                                                                           \
    "sxtb16 lr, r12, ror #8\n\t"                                                                                       \
    "sxtb16 r12, r12\n\t"
#define PRODUCTS(sum, first, second)                                                                                   \
    "smlad " sum ", r12, " first ", " sum "\n\t"                                                                       \
    "smlad " sum ", lr, " second ", " sum "\n\t"
/* 72 bytes, and 40: the jump into the loop relies on it. */
#define GROUP_OF_SIX                                                                                                   \
    WEIGHTS "ldm.w r11!, {r0-r3}\n\t" PRODUCTS("r4", "r0", "r1") PRODUCTS("r5", "r2", "r3")                            \
    "ldm.w r11!, {r0-r3}\n\t" PRODUCTS("r6", "r0", "r1") PRODUCTS("r7", "r2", "r3")                                    \
    "ldm.w r11!, {r0-r3}\n\t" PRODUCTS("r8", "r0", "r1") PRODUCTS("r9", "r2", "r3")
#define GROUP_OF_THREE                                                                                                 \
    WEIGHTS "ldm.w r11!, {r0-r3, r7, r8}\n\t" PRODUCTS("r4", "r0", "r1") PRODUCTS("r5", "r2", "r3")                    \
        PRODUCTS("r6", "r7", "r8")
#define UNTIL_END                                                                                                      \
    "ldr r0, [sp, #12]\n\t"                                                                                            \
    "cmp r11, r0\n\t"

/* 24 bytes, on which `absent` relies. r1: multiplier, r2: shift, r3: rounding. */
#define STORE(sum, place)                                                                                              \
    "lsl.w " sum ", " sum ", #1\n\t"                                                                                   \
    "add.w lr, r3, " sum ", asr #31\n\t"                                                                               \
    "smmlar " sum ", " sum ", r1, lr\n\t"                                                                              \
    "asr.w " sum ", " sum ", r2\n\t"                                                                                   \
    "ssat " sum ", #8, " sum "\n\t"                                                                                    \
    "strb.w " sum ", [" place "]\n\t"

/* ADR counts from a word, so that the code must start with one. */
__attribute__((naked, aligned(4))) void thimble_run_column_job(__attribute__((unused)) const thimble_column_job *job) {
    __asm__(".syntax unified\n\t"
            "push {r4-r11, lr}\n\t"
            "sub sp, #68\n\t"
            "mov r12, sp\n\t"
            "ldm r0!, {r1-r8}\n\t"
            "stm r12!, {r1-r8}\n\t"
            "ldm r0, {r1-r8}\n\t"
            "stm r12, {r1-r8}\n\t"
            "mov r10, r6\n\t"
            "movs r1, #24\n\t" /* where absent positions are passed over */
            "adr.w r2, 5f\n\t"
            "mla r2, r7, r1, r2\n\t"
            "orr r2, r2, #1\n\t"
            "str r2, [sp, #56]\n\t"
            "ldr r3, [sp, #8]\n\t" /* where the loop begins */
            "movs r1, #72\n\t"
            "adr.w r2, 2f\n\t"
            "cmp r8, #0\n\t"
            "bne 8f\n\t"
            "movs r1, #40\n\t"
            "adr.w r2, 3f\n\t"
            "8:\n\t"
            "mla r2, r3, r1, r2\n\t"
            "orr r2, r2, #1\n\t"
            "str r2, [sp, #8]\n\t"
            /* A channel. */
            "1:\n\t"
            "ldrd r0, r11, [sp]\n\t"
            "ldr r4, [r0], #4\n\t"
            "str r0, [sp]\n\t"
            "mov r5, r4\n\t"
            "mov r6, r4\n\t"
            "mov r7, r4\n\t"
            "mov r8, r4\n\t"
            "mov r9, r4\n\t"
            "ldr.w pc, [sp, #8]\n\t"
            "3:\n\t" GROUP_OF_THREE GROUP_OF_THREE GROUP_OF_THREE GROUP_OF_THREE UNTIL_END "bne.w 3b\n\t"
            "b 4f\n\t"
            "2:\n\t" GROUP_OF_SIX GROUP_OF_SIX GROUP_OF_SIX GROUP_OF_SIX UNTIL_END "bne.w 2b\n\t"
            "4:\n\t"
            "ldrd r0, r3, [sp, #16]\n\t"
            "ldr r1, [r0]\n\t"
            "add r0, r0, r3\n\t"
            "str r0, [sp, #16]\n\t"
            "ldrd r2, r12, [sp, #24]\n\t"
            "ldr r3, [sp, #32]\n\t"
            "cbnz r3, 6f\n\t"
            "sub.w r2, r2, r1, lsr #30\n\t"
            "bic r1, r1, #0xC0000000\n\t"
            "add r1, r1, #0x40000000\n\t"
            "7:\n\t"
            "subs r3, r2, #1\n\t"
            "lsl.w r3, r12, r3\n\t"
            "ldrd r11, r12, [sp, #36]\n\t"
            "add r0, r11, #1\n\t"
            "str r0, [sp, #36]\n\t"
            "add.w r0, r11, r12, lsl #1\n\t"
            "add r0, r0, r12\n\t"
            "ldr.w pc, [sp, #56]\n\t"
            "6:\n\t"
            "ldrsb r2, [r3], #1\n\t"
            "str r3, [sp, #32]\n\t"
            "negs r2, r2\n\t"
            "b 7b\n\t"
            "5:\n\t"
            STORE("r9", "r0, r12, lsl #1")
            STORE("r8", "r0, r12")
            STORE("r7", "r0")
            STORE("r6", "r11, r12, lsl #1")
            STORE("r5", "r11, r12")
            STORE("r4", "r11")
            "ldrd r0, r3, [sp, #44]\n\t"
            "sub.w r10, r10, r0\n\t"
            "subs r3, r3, #1\n\t"
            "str r3, [sp, #48]\n\t"
            "bne.w 1b\n\t"
            "add sp, #68\n\t"
            "pop {r4-r11, pc}\n\t");
}

void thimble_channels_open(thimble_columns *columns) {
    const thimble_rows *rows = columns->rows;
    thimble_output_stage stage = rows->stage;
    thimble_column_job *job = &columns->job;
    int32_t groups = columns->length / 4, first = rows->scale_count > 1 ? columns->first : 0;
    int is_wide = rows->form == THIMBLE_REQUANT_FORM_WIDE;
    columns->is_narrow = !(is_wide && rows->scale_count == 1);
    columns->is_clamped = thimble_is_clamped(&stage);
    for (int32_t i = 0; i < columns->count; i++) {
        thimble_find_stage(rows, (uint32_t)(columns->first + i), &stage);
        columns->is_narrow &= thimble_is_narrow(&stage, columns->starts[i]);
    }
    job->starts = columns->starts;
    job->cells = columns->cells;
    job->skipped_groups = (uint32_t)-groups & 3;
    job->end = columns->cells + groups * 2 * columns->positions;
    job->scales = rows->scales + 4 * first;
    job->scale_step = rows->scale_count > 1 ? 4 : 0;
    job->shift = -rows->shift_base;
    job->zero_point = 2 * stage.zero_point + 1;
    job->shifts = is_wide ? (const int8_t *)rows->scales + 4 * rows->scale_count + first : NULL;
    job->skipped = columns->length - (int32_t)rows->stream.cols;
    job->channels = columns->count;
    job->w = columns->weights;
    job->is_six = columns->positions == THIMBLE_MOST_POSITIONS;
}

/* What the machine code does not do. */
static void clamp(const thimble_columns *columns, int8_t *out, int32_t step, int32_t count) {
    const thimble_output_stage *stage = &columns->rows->stage;
    for (; count > 0; count--, out += step) {
        for (int32_t i = 0; i < columns->count; i++) {
            int32_t value = out[i] - stage->zero_point;
            out[i] = (int8_t)(thimble_clamp(value, stage->low, stage->high) + stage->zero_point);
        }
    }
}

#else

void thimble_channels_open(thimble_columns *columns) {
    columns->is_narrow = 0;
}

#endif

void thimble_make_channels(thimble_columns *columns, int8_t *out, int32_t step, int32_t count) {
#if THIMBLE_COLUMN_ASSEMBLY
    if (columns->is_narrow) {
        columns->job.out = out;
        columns->job.step = step;
        columns->job.absent = THIMBLE_MOST_POSITIONS - count;
        thimble_run_column_job(&columns->job);
        if (columns->is_clamped) {
            clamp(columns, out, step, count);
        }
        return;
    }
#endif
    const int32_t words = group_words(columns);
    const uint32_t *end = columns->cells + columns->length / 4 * words;
    for (int32_t channel = 0; channel < columns->count; channel++) {
        uint32_t sums[THIMBLE_MOST_POSITIONS];
        for (int32_t p = 0; p < count; p++) {
            const int8_t *w = columns->weights + channel * (int32_t)columns->rows->stream.cols;
            uint32_t sum = columns->starts[channel];
            for (const uint32_t *x = columns->cells + 2 * p; x < end; x += words, w += 4) {
                uint32_t word = thimble_load4(w);
                sum = thimble_smlad(thimble_sxtb16(word), x[0], sum);
                sum = thimble_smlad(thimble_sxtb16_ror8(word), x[1], sum);
            }
            sums[p] = sum;
        }
        thimble_store_channel(columns, channel, sums, out + channel, step, count);
    }
}

#endif
