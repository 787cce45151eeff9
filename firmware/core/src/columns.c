/* CONV_2D by columns. A column is the window of one output position, its cells widened to 16 bits and interleaved
 * with those of the block's other positions, so that one pass over them makes all channels of the block. What a
 * column costs is paid once for all channels, edges of the image included, and a weight that is loaded is used at
 * every position of the block.
 *
 * With THIMBLE_DSP, a group of four cells is two words for each position, cells 0 and 2 and cells 1 and 3 as SXTB16
 * leaves them, less the zero point: cells outside of the image are 0.
 *
 * Without it, each cell has a word for every two positions, x[p] + x[p + 1] * 2^16, so that a multiplication makes two
 * products. Two such products leave each half where it is, after which both are added to sums of their own; the zero
 * point is taken off where the sums start. */
#include "fast.h"

#include "build.h"
#include "columns.h"
#include "dot.h"

#if THIMBLE_DSP

/* Words of a group of four cells. */
static inline int32_t group_words(const thimble_columns *columns) {
    return 2 * columns->positions;
}

/* `count` cells from `x` on, a multiple of 4, become those of a column. */
static inline void widen(const thimble_columns *columns, uint32_t *to, const int8_t *x, int32_t count) {
    uint32_t offset = thimble_both(-columns->window->zero_point);
    int32_t step = group_words(columns);
    for (const int8_t *end = x + count; x < end; x += 4, to += step) {
        uint32_t word = thimble_load4(x);
        to[0] = thimble_sxtab16(offset, word);
        to[1] = thimble_sxtab16_ror8(offset, word);
    }
}

static inline void copy4(int8_t *to, const int8_t *from) {
    memcpy(to, from, 4);
}

/* Bytes `from` on, four at a time; the last four may include some of those before. */
static inline void copy(int8_t *to, const int8_t *from, int32_t count) {
    int32_t i = 0;
    if (count < 4) {
        for (; i < count; i++) {
            to[i] = from[i];
        }
        return;
    }
    for (; i <= count - 4; i += 4) {
        copy4(to + i, from + i);
    }
    if (i < count) {
        copy4(to + count - 4, from + count - 4);
    }
}

/* `count` cells from `x` on are those of the column at `position` from `cell` on. */
static inline void put(const thimble_columns *columns, int32_t position, int32_t cell, const int8_t *x, int32_t count) {
    if (columns->staged) {
        copy(columns->staged + cell, x, count);
    } else {
        widen(columns, columns->cells + (cell >> 2) * group_words(columns) + 2 * position, x, count);
    }
}

/* The same with cells outside of the image. */
static void put_padding(const thimble_columns *columns, int32_t position, int32_t cell, int32_t count) {
    if (columns->staged) {
        memset(columns->staged + cell, columns->window->zero_point, (uint32_t)count);
        return;
    }
    uint32_t *to = columns->cells + (cell >> 2) * group_words(columns) + 2 * position;
    for (; count > 0; count -= 4, to += group_words(columns)) {
        to[0] = to[1] = 0;
    }
}

/* Cells behind the last one meet weights of the next row. */
static void start_cells(const thimble_columns *columns) {
    if (columns->staged) {
        memset(columns->staged, columns->window->zero_point, (uint32_t)columns->length);
    }
}

/* A window is complete. */
static inline void put_end(const thimble_columns *columns, int32_t position) {
    if (columns->staged) {
        widen(columns, columns->cells + 2 * position, columns->staged, columns->length);
    }
}

#else

/* What two products start from. Both halves of the sum then fit 16 bits, the lower one unsigned, the upper one signed:
 * a product lies between -128 * 127 and 128 * 128. */
#define PAIR_BIAS 0x7FFFu
#define PAIR_START (PAIR_BIAS - 0x10000u)

/* Words of a cell. */
static inline int32_t cell_words(const thimble_columns *columns) {
    return columns->positions / 2;
}

static void fill(const thimble_columns *columns, int32_t position, int32_t cell, const int8_t *x, int32_t x_step,
                 int32_t count) {
    int32_t words = cell_words(columns);
    uint32_t *to = columns->cells + cell * words + (position >> 1);
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

static inline void put(const thimble_columns *columns, int32_t position, int32_t cell, const int8_t *x, int32_t count) {
    fill(columns, position, cell, x, 1, count);
}

static void put_padding(const thimble_columns *columns, int32_t position, int32_t cell, int32_t count) {
    int8_t zero_point = (int8_t)columns->window->zero_point;
    fill(columns, position, cell, &zero_point, 0, count);
}

static void start_cells(const thimble_columns *columns) {
    uint32_t words = (uint32_t)(columns->length * cell_words(columns));
    memset(columns->cells, 0, words * sizeof *columns->cells);
}

static inline void put_end(const thimble_columns *columns, int32_t position) {
    (void)columns, (void)position;
}

#endif

/* Cells of one kernel row that stand side by side in the image, from column `left` on, as far as they are in it. */
static void put_clipped(const thimble_columns *columns, int32_t position, int32_t cell, const int8_t *line,
                        int32_t left, int32_t cells) {
    const thimble_window *window = columns->window;
    int32_t depth = window->depth, before = left < 0 ? -left : 0, behind = left + cells - window->in_w;
    before = before > cells ? cells : before;
    behind = behind < 0 ? 0 : behind > cells ? cells : behind;
    int32_t inside = (cells - before - behind) * depth;
    put_padding(columns, position, cell, before * depth);
    if (inside > 0) {
        put(columns, position, cell + before * depth, line + (left + before) * window->pixel, inside);
    }
    put_padding(columns, position, cell + (cells - behind) * depth, behind * depth);
}

/* A window that is not inside of the image, or whose cells do not stand side by side. */
THIMBLE_NOT_INLINED static void gather_clipped(const thimble_columns *columns, int32_t position, int32_t top, int32_t left) {
    const thimble_window *window = columns->window;
    int32_t joined = columns->joined, cell = 0;
    for (int32_t ky = 0; ky < window->kernel_h; ky++, top += window->dilation_h) {
        for (int32_t kx = 0; kx < window->kernel_w; kx += joined, cell += joined * window->depth) {
            if (top < 0 || top >= window->in_h) {
                put_padding(columns, position, cell, joined * window->depth);
            } else {
                const int8_t *line = window->x + top * window->in_w * window->pixel;
                put_clipped(columns, position, cell, line, left + kx * window->dilation_w, joined);
            }
        }
    }
}

/* The column at `position` becomes the window of output (y, x). */
static inline void gather(const thimble_columns *columns, int32_t position, int32_t y, int32_t x) {
    const thimble_window *window = columns->window;
    int32_t top = y * window->stride_h - window->pad_top, left = x * window->stride_w - window->pad_left;
    if ((uint32_t)top < (uint32_t)columns->inside_h && (uint32_t)left < (uint32_t)columns->inside_w) {
        const int8_t *line = window->x + (top * window->in_w + left) * window->pixel;
        int32_t run = columns->run, step = columns->line_step, length = run * window->kernel_h;
        for (int32_t cell = 0; cell < length; cell += run, line += step) {
            put(columns, position, cell, line, run);
        }
    } else {
        gather_clipped(columns, position, top, left);
    }
    put_end(columns, position);
}

/* `count` sums of a channel at hand become activations. */
THIMBLE_NOT_INLINED static void store(const thimble_columns *columns, int32_t channel, const uint32_t *sums, int8_t *out,
                              int32_t step, int32_t count) {
    thimble_output_stage stage = columns->rows->stage;
    thimble_read_stage(columns->rows, (uint32_t)(columns->first + channel), &stage);
    int is_usual = thimble_is_usual(&stage);
    for (; count > 0; count--, out += step, sums++) {
        *out = is_usual ? thimble_requantise_usual(&stage, *sums) : thimble_requantise(&stage, *sums);
    }
}

#if THIMBLE_DSP

#if THIMBLE_USES_ASSEMBLY
#define WEIGHTS                                                                                                        \
    "ldr %[even], [%[w]], #4\n\t"                                                                                      \
    "sxtb16 %[odd], %[even], ror #8\n\t"                                                                               \
    "sxtb16 %[even], %[even]\n\t"
#define PRODUCTS(sum, first, second)                                                                                   \
    "smlad " sum ", %[even], " first ", " sum "\n\t"                                                                   \
    "smlad " sum ", %[odd], " second ", " sum "\n\t"
#define PAIR_OF_COLUMNS(first, second)                                                                                 \
    "ldmia %[x]!, {r0-r3}\n\t" PRODUCTS(first, "r0", "r1") PRODUCTS(second, "r2", "r3")
#define SIX_COLUMNS                                                                                                    \
    WEIGHTS PAIR_OF_COLUMNS("%[s0]", "%[s1]") PAIR_OF_COLUMNS("%[s2]", "%[s3]") PAIR_OF_COLUMNS("%[s4]", "%[s5]")
#define THREE_COLUMNS                                                                                                  \
    WEIGHTS "ldmia %[x]!, {r0-r5}\n\t" PRODUCTS("%[s0]", "r0", "r1") PRODUCTS("%[s1]", "r2", "r3")                     \
        PRODUCTS("%[s2]", "r4", "r5")
#define OPERANDS [w] "+r"(w), [x] "+r"(x), [even] "=&r"(even), [odd] "=&r"(odd)
#define THREE_SUMS [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2)
#define SIX_SUMS THREE_SUMS, [s3] "+r"(s3), [s4] "+r"(s4), [s5] "+r"(s5)
#endif

/* s0 to s2, or to s5, are the sums of a row, from w on, with the columns, from x to end. */
#if THIMBLE_USES_ASSEMBLY
#define SUM_OF_SIX()                                                                                                   \
    do {                                                                                                               \
        uint32_t even, odd;                                                                                            \
        if (length & 4) {                                                                                              \
            __asm__(SIX_COLUMNS : OPERANDS, SIX_SUMS : : "r0", "r1", "r2", "r3", "memory");                            \
        }                                                                                                              \
        if (length > 4) {                                                                                              \
            __asm__("1:\n\t" SIX_COLUMNS SIX_COLUMNS "ldr r0, %[end]\n\t"                                            \
                    "cmp %[x], r0\n\t"                                                                                \
                    "bne 1b\n\t"                                                                                      \
                    : OPERANDS, SIX_SUMS                                                                               \
                    : [end] "m"(end)                                                                                   \
                    : "r0", "r1", "r2", "r3", "cc", "memory");                                                         \
        }                                                                                                              \
    } while (0)
#define SUM_OF_THREE()                                                                                                 \
    do {                                                                                                               \
        uint32_t even, odd;                                                                                            \
        __asm__("1:\n\t" THREE_COLUMNS "cmp %[x], %[end]\n\t"                                                        \
                "bne 1b\n\t"                                                                                          \
                : OPERANDS, THREE_SUMS                                                                                 \
                : [end] "r"(end)                                                                                       \
                : "r0", "r1", "r2", "r3", "r4", "r5", "cc", "memory");                                                 \
    } while (0)
#else
#define PRODUCTS(sum, p) sum = thimble_smlad(odd, x[2 * (p) + 1], thimble_smlad(even, x[2 * (p)], sum))
#define SUM_OF_SIX()                                                                                                   \
    for (; x < end; x += 12, w += 4) {                                                                                 \
        uint32_t even = thimble_sxtb16(thimble_load4(w)), odd = thimble_sxtb16_ror8(thimble_load4(w));                 \
        PRODUCTS(s0, 0), PRODUCTS(s1, 1), PRODUCTS(s2, 2), PRODUCTS(s3, 3), PRODUCTS(s4, 4), PRODUCTS(s5, 5);          \
    }
#define SUM_OF_THREE()                                                                                                 \
    for (; x < end; x += 6, w += 4) {                                                                                  \
        uint32_t even = thimble_sxtb16(thimble_load4(w)), odd = thimble_sxtb16_ror8(thimble_load4(w));                 \
        PRODUCTS(s0, 0), PRODUCTS(s1, 1), PRODUCTS(s2, 2);                                                             \
    }
#endif

#define NARROW(sum) thimble_requantise_narrow(sum, multiplier, shift, offset)

typedef struct {
    const int32_t *scales;
    const int8_t *shifts; /* WIDE */
    int32_t scale_step;   /* 0: one scale for all channels */
    int32_t shift_base;
    int32_t zero_point; /* twice, and a half: to be shifted by one less */
} narrow_scales;

static inline narrow_scales narrow_scales_of(const thimble_columns *columns) {
    const thimble_rows *rows = columns->rows;
    narrow_scales scales;
    scales.scale_step = rows->scale_count > 1;
    int32_t first = scales.scale_step * columns->first;
    scales.scales = (const int32_t *)(const void *)rows->scales + first;
    scales.shifts = rows->form == THIMBLE_REQUANT_FORM_WIDE
                        ? (const int8_t *)rows->scales + 4 * rows->scale_count + first
                        : NULL;
    scales.shift_base = rows->shift_base;
    scales.zero_point = 2 * rows->stage.zero_point + 1;
    return scales;
}

/* `multiplier` and `shift` of a channel. */
#define READ_SCALE()                                                                                                   \
    do {                                                                                                               \
        multiplier = scales.scales[channel * scales.scale_step];                                                       \
        if (scales.shifts) {                                                                                           \
            shift = (uint32_t)-scales.shifts[channel * scales.scale_step];                                             \
        } else {                                                                                                       \
            shift = (uint32_t)-scales.shift_base - ((uint32_t)multiplier >> 30);                                       \
            multiplier = (multiplier & 0x3FFFFFFF) + 0x40000000;                                                       \
        }                                                                                                              \
        offset = scales.zero_point * (1 << (shift - 1));                                                               \
    } while (0)

/* All channels at hand of a block of six positions, or of three, of which `count` are stored. */
THIMBLE_NOT_INLINED static void make_six(const thimble_columns *columns, int8_t *out, int32_t step, int32_t count) {
    const int8_t *w = columns->weights;
    const uint32_t *const starts = columns->starts, *const cells = columns->cells;
    const uint32_t *const end = cells + 3 * columns->length;
    const narrow_scales scales = narrow_scales_of(columns);
    int32_t length = columns->length, skipped = length - (int32_t)columns->rows->stream.cols;
    int32_t channels = columns->count, is_narrow = columns->is_narrow && count == 6;
    for (int32_t channel = 0; channel < channels; channel++) {
        const uint32_t *x = cells;
        uint32_t s0 = starts[channel], s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0;
        SUM_OF_SIX();
        w -= skipped;
        int8_t *to = out + channel;
        if (is_narrow) {
            int32_t multiplier, offset;
            uint32_t shift;
            READ_SCALE();
            to[0] = NARROW(s0);
            to[step] = NARROW(s1);
            to[2 * step] = NARROW(s2);
            to += 3 * step;
            to[0] = NARROW(s3);
            to[step] = NARROW(s4);
            to[2 * step] = NARROW(s5);
        } else {
            uint32_t sums[6] = {s0, s1, s2, s3, s4, s5};
            store(columns, channel, sums, to, step, count);
        }
    }
}

THIMBLE_NOT_INLINED static void make_three(const thimble_columns *columns, int8_t *out, int32_t step, int32_t count) {
    const int8_t *w = columns->weights;
    const uint32_t *const starts = columns->starts, *const cells = columns->cells;
    const uint32_t *const end = cells + 3 * columns->length / 2;
    const narrow_scales scales = narrow_scales_of(columns);
    int32_t length = columns->length, skipped = length - (int32_t)columns->rows->stream.cols;
    int32_t channels = columns->count, is_narrow = columns->is_narrow && count == 3;
    for (int32_t channel = 0; channel < channels; channel++) {
        const uint32_t *x = cells;
        uint32_t s0 = starts[channel], s1 = s0, s2 = s0;
        SUM_OF_THREE();
        w -= skipped;
        int8_t *to = out + channel;
        if (is_narrow) {
            int32_t multiplier, offset;
            uint32_t shift;
            READ_SCALE();
            to[0] = NARROW(s0);
            to[step] = NARROW(s1);
            to[2 * step] = NARROW(s2);
        } else {
            uint32_t sums[3] = {s0, s1, s2};
            store(columns, channel, sums, to, step, count);
        }
    }
}

static void make_channels(const thimble_columns *columns, int8_t *out, int32_t step, int32_t count) {
    if (columns->positions == THIMBLE_MOST_POSITIONS) {
        make_six(columns, out, step, count);
    } else {
        make_three(columns, out, step, count);
    }
}

#else

/* Sums of products in pairs, as the comment at the top has them: of `total` both, of `high` the upper halves. */
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

static void make_channels(const thimble_columns *columns, int8_t *out, int32_t step, int32_t count) {
    const int8_t *w = columns->weights;
    const int32_t length = columns->length, cols = (int32_t)columns->rows->stream.cols;
    const uint32_t steps = (uint32_t)length / 2;
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
        store(columns, channel, sums, out + channel, step, count);
    }
}

#endif

/* Where the sums of the channels at hand start, and whether all of them can take thimble_requantise_narrow. */
static void find_starts(thimble_columns *columns) {
    const thimble_rows *rows = columns->rows;
    thimble_output_stage stage = rows->stage;
    columns->is_narrow = !stage.power_of_two && stage.low + stage.zero_point == -128 &&
                         stage.high + stage.zero_point == 127;
    for (int32_t i = 0; i < columns->count; i++) {
        uint32_t channel = (uint32_t)(columns->first + i), bias = thimble_bias_at(rows, channel);
#if THIMBLE_DSP
        thimble_read_stage(rows, channel, &stage);
        if (bias + THIMBLE_NARROW_BIAS >= 2 * THIMBLE_NARROW_BIAS || stage.shift >= 0 ||
            stage.shift < -THIMBLE_NARROW_SHIFTS) {
            columns->is_narrow = 0;
        }
#else
        int32_t zero_point = columns->window->zero_point, cols = (int32_t)rows->stream.cols;
        bias -= (uint32_t)(zero_point * thimble_sum(columns->weights + i * cols, cols));
#endif
        columns->starts[i] = bias;
    }
}

/* The channels at hand at all positions of the window. */
static void run_channels(thimble_columns *columns) {
    const thimble_window *window = columns->window;
    int32_t y = window->y_start, x = 0;
    while (y < window->y_stop) {
        int32_t position = y * window->out_w + x, count = 0;
        int8_t *out = columns->finish ? columns->made : window->out + columns->first + position * window->out_step_x;
        for (; count < columns->positions && y < window->y_stop; count++) {
            gather(columns, count, y, x);
            x++;
            if (x == window->out_w) {
                x = 0;
                y++;
            }
        }
        make_channels(columns, out, columns->finish ? columns->count : window->out_step_x, count);
        if (columns->finish) {
            columns->finish(columns, position, count);
        }
    }
}

void thimble_run_columns(thimble_conv *conv, thimble_columns *columns, uint8_t *scratch) {
    thimble_window *window = &conv->window;
    const thimble_stream *stream = &conv->rows.stream;
    columns->rows = &conv->rows;
    columns->window = window;
    columns->count = conv->rows_per_group;
    columns->length = (int32_t)thimble_align4(stream->cols);
    int32_t positions = (int32_t)thimble_column_positions(stream->cols);
    columns->positions = THIMBLE_DSP ? positions : positions == THIMBLE_MOST_POSITIONS ? 4 : 2;
    columns->cells = (uint32_t *)(void *)scratch;
    columns->starts = columns->cells + positions * columns->length / 2;
    columns->staged = window->depth % 4 ? (int8_t *)(columns->starts + columns->count) : NULL;
    int is_joined = window->kernel_w == 1 || (window->dilation_w == 1 && window->depth == window->pixel);
    columns->joined = is_joined ? window->kernel_w : 1;
    columns->run = window->kernel_w * window->depth;
    columns->line_step = window->dilation_h * window->in_w * window->pixel;
    columns->inside_h = window->in_h - (window->kernel_h - 1) * window->dilation_h;
    columns->inside_w = is_joined ? window->in_w - window->kernel_w + 1 : 0;
    if (columns->inside_h < 0 || columns->inside_w < 0) {
        columns->inside_h = 0;
    }
    columns->made = (int8_t *)(columns->starts + columns->count) + (columns->staged ? columns->length : 0);
    start_cells(columns);
    for (columns->first = 0; columns->first < (int32_t)stream->rows; columns->first += columns->count) {
        columns->weights = (const int8_t *)stream->payload + columns->first * (int32_t)stream->cols;
        window->x = conv->source + columns->first / columns->count * window->depth;
        find_starts(columns);
        run_channels(columns);
    }
}
