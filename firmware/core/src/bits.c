/* Tensors of bits (-1 and +1): CONV_2D and FULLY_CONNECTED with bits at one end or both, MAX_POOL_2D, PAD, RESHAPE.
 *
 * Binary weights meet bits 32 at a time, acc = k - 2 * popcount(x ^ w); the words of a window are gathered once for 32
 * output channels, whose bits make a word. From int8 to bits, each channel is made by the int8 kernels in a plane,
 * whose signs are then put into words. docs/NUMERICS.md, "Bits". */
#include "bits.h"

#include <string.h>

#include "check.h"
#include "columns.h"
#include "differences.h"

#define ROWS_AT_ONCE 32

/* A fully connected operator is a convolution with one cell. */
static void as_convolution(thimble_step_context *context) {
    static const int8_t defaults[] = THIMBLE_CONV_2D_DEFAULTS;
    int32_t *a = context->op->attributes;
    if (context->op->kind == THIMBLE_OPERATOR_FULLY_CONNECTED) {
        for (uint32_t i = THIMBLE_CONV_2D_KERNEL_H; i < THIMBLE_CONV_2D_ATTRIBUTE_COUNT; i++) {
            a[i] = defaults[i];
        }
        context->x.bits *= context->x.shape[0] * context->x.shape[1] * context->x.shape[2];
        context->x.shape[1] = context->x.shape[2] = context->out.shape[1] = context->out.shape[2] = 1;
        context->x.shape[3] = (int32_t)context->x.bytes;
    }
}

/* The operator's own check, with channels in the place of bytes. */
static int check_weighted(thimble_step_context *context) {
    const thimble_operator *op = context->op;
    const int32_t *a = op->attributes;
    thimble_tensor x = context->x, out = context->out;
    if (x.bits) {
        thimble_constant weights;
        thimble_find_constant(context->model, op, 0, &weights);
        int is_conv = op->kind == THIMBLE_OPERATOR_CONV_2D;
        /* Longer rows than a row can be would overflow. */
        if (weights.fields[THIMBLE_FIELD_WEIGHTS_LAYOUT] != THIMBLE_LAYOUT_BITS ||
            weights.fields[THIMBLE_FIELD_WEIGHTS_VALUE_MAP] != THIMBLE_MAP_BINARY ||
            a[THIMBLE_CONV_2D_INPUT_ZERO_POINT] != 0 ||
            (is_conv ? (uint32_t)x.shape[3] : x.bytes) > THIMBLE_MAX_ROW_LENGTH ||
            (is_conv && (a[THIMBLE_CONV_2D_GROUPS] != 1 || a[THIMBLE_CONV_2D_DILATION_H] != 1 ||
                         a[THIMBLE_CONV_2D_DILATION_W] != 1))) {
            return 0;
        }
        context->x.shape[3] *= 8;
        context->x.bytes *= 8;
    }
    if (out.bits) {
        if (a[THIMBLE_CONV_2D_OUTPUT_ZERO_POINT] != 0 || !thimble_is_whole_range(a + THIMBLE_CONV_2D_CLAMP_MIN) ||
            (op->kind == THIMBLE_OPERATOR_FULLY_CONNECTED && out.bytes != (uint32_t)out.shape[3])) {
            return 0;
        }
        context->out.shape[3] = out.bits;
        context->out.bytes = (uint32_t)out.bits;
    }
    int right = op->type->check(context);
    context->x = x;
    context->out = out;
    return right;
}

static int check(thimble_step_context *context) {
    const thimble_operator *op = context->op;
    const int32_t *a = op->attributes;
    int32_t before = context->x.bits, after = context->out.bits;
    if (op->schedule != THIMBLE_SCHEDULE_WHOLE) {
        return 0;
    }
    switch (op->kind) {
    case THIMBLE_OPERATOR_CONV_2D:
    case THIMBLE_OPERATOR_FULLY_CONNECTED:
        return check_weighted(context);
    case THIMBLE_OPERATOR_MAX_POOL_2D:
        return before == after && thimble_is_whole_range(a + THIMBLE_MAX_POOL_2D_CLAMP_MIN) && op->type->check(context);
    case THIMBLE_OPERATOR_PAD:
        return before == after && a[THIMBLE_PAD_VALUE] == 0 && op->type->check(context);
    case THIMBLE_OPERATOR_RESHAPE:
        return before && after && (before == after || ((before | after) & 31) == 0) && op->type->check(context);
    default:
        return 0;
    }
}

/* 1 where a sum, of which SIGN makes an int8 of the same sign, is not negative. */
static inline uint32_t bit_of(int8_t made) {
    return (uint32_t)~made >> 31;
}

typedef struct {
    uint32_t *out;
    uint32_t words; /* of a position */
} packing;

/* The signs of what was made of some channels at a few positions. */
static void pack_block(const thimble_columns *columns, int32_t position, int32_t count) {
    const packing *to = columns->context;
    uint32_t *out = to->out + (uint32_t)position * to->words, end = (uint32_t)(columns->first + columns->count);
    const int8_t *made = columns->made;
    for (; count > 0; count--, out += to->words) {
        for (uint32_t channel = (uint32_t)columns->first; channel < end; channel++) {
            out[channel / 32] |= bit_of(*made++) << (channel & 31);
        }
    }
}

/* From int8: a few positions at a time where the convolution goes by columns, or channel by channel. */
static int32_t run_from_int8(thimble_step_context *context) {
    thimble_conv conv;
    uint8_t *scratch = context->scratch;
    uint32_t *out = (uint32_t *)(void *)(context->arena + context->out.offset);
    uint32_t count = (uint32_t)(context->out.shape[1] * context->out.shape[2]), words = (uint32_t)context->out.shape[3] / 4;
    int32_t error = thimble_conv_open(&conv, context, context->op, &context->x, &context->out, &scratch);
    memset(out, 0, context->out.bytes);
    if (error >= 0 && context->op->kind == THIMBLE_OPERATOR_CONV_2D) {
        packing to = {out, words};
        error = thimble_columns_run(&conv, context->op, scratch, context->memory_end, pack_block, &to);
    }
    if (error != 0) {
        return error;
    }
    const int8_t *plane = (const int8_t *)scratch;
    conv.window.out_step_x = 1;
    conv.window.out_step_y = context->out.shape[2];
    for (uint32_t channel = 0; channel < (uint32_t)context->out.bits && error >= 0; channel++) {
        error = thimble_conv_next(&conv, (int8_t *)scratch);
        uint32_t *word = out + channel / 32;
        for (uint32_t i = 0; i < count && error >= 0; i++, word += words) {
            *word |= bit_of(plane[i]) << (channel & 31);
        }
    }
    return error;
}

/* The part of a window that lies in the image: `count` runs of words, `step` words apart. */
typedef struct {
    const uint32_t *x;
    uint32_t first, words, step, count; /* `first`: the first run, in x and in a row of weights */
    int32_t channels;                   /* of all its cells */
} cells;

typedef struct {
    const thimble_step_context *context;
    const int32_t *window; /* attributes of the operator, from kernel_h on */
    uint32_t *gathered;    /* room for a window, so that its words lie as those of a row; NULL: it is read in place */
    uint32_t depth;        /* words of a cell */
} source;

enum { KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, PAD_TOP, PAD_LEFT };

static cells find_cells(const source *from, int32_t y, int32_t x) {
    const thimble_step_context *context = from->context;
    const int32_t *a = from->window;
    int32_t width = context->x.shape[2];
    int32_t top = y * a[STRIDE_H] - a[PAD_TOP], bottom = context->x.shape[1] - top;
    int32_t left = x * a[STRIDE_W] - a[PAD_LEFT], right = width - left;
    int32_t y0 = top < 0 ? -top : 0, y1 = bottom < a[KERNEL_H] ? bottom : a[KERNEL_H];
    int32_t x0 = left < 0 ? -left : 0, x1 = right < a[KERNEL_W] ? right : a[KERNEL_W];
    cells found = {NULL, 0, 0, 0, 0, 0};
    if (y1 <= y0 || x1 <= x0) {
        return found;
    }
    const uint32_t *image = (const uint32_t *)(const void *)(context->arena + context->x.offset);
    found.x = image + (uint32_t)((top + y0) * width + left + x0) * from->depth;
    found.step = (uint32_t)width * from->depth;
    found.words = (uint32_t)(x1 - x0) * from->depth;
    found.count = (uint32_t)(y1 - y0);
    found.channels = (y1 - y0) * (x1 - x0) * context->x.bits;
    if (from->gathered) {
        uint32_t step = (uint32_t)a[KERNEL_W] * from->depth;
        found.first = (uint32_t)y0 * step + (uint32_t)x0 * from->depth;
        for (uint32_t i = 0; i < found.count; i++) {
            memcpy(from->gathered + found.first + i * step, found.x + i * found.step, 4 * found.words);
        }
        found.x = from->gathered;
        found.step = step;
        if (found.words == step) {
            found.words *= found.count;
            found.count = 1;
        }
    }
    return found;
}

/* sums[i]: how many bits of the window differ from those of row i at w. */
static void compare_rows(const cells *window, const uint32_t *w, uint32_t row_words, uint32_t *sums, uint32_t count) {
    const uint32_t *x = window->x + window->first;
    w += window->first;
    memset(sums, 0, ROWS_AT_ONCE * sizeof *sums);
    for (uint32_t i = 0; i < window->count; i++) {
        for (uint32_t at = 0; at < window->words; at += THIMBLE_WORDS_AT_ONCE) {
            uint32_t left = window->words - at, words = left < THIMBLE_WORDS_AT_ONCE ? left : THIMBLE_WORDS_AT_ONCE;
            thimble_count_differences(x + at, w + at, words, row_words, sums, count);
        }
        x += window->step;
        w += window->step;
    }
}

/* Up to 32 rows at every position. */
static void run_rows(const source *from, thimble_rows *rows, const uint32_t *w, uint32_t row_words, uint32_t count) {
    const thimble_step_context *context = from->context;
    uint32_t biases[ROWS_AT_ONCE], sums[ROWS_AT_ONCE], row = rows->channel, step = (uint32_t)context->out.shape[3];
    int to_bits = context->out.bits != 0;
    uint8_t *out = context->arena + context->out.offset + (to_bits ? row / 8 : row);
    for (uint32_t i = 0; i < count; i++) {
        thimble_rows_next_stage(rows);
        biases[i] = rows->bias;
    }
    for (int32_t y = 0; y < context->out.shape[1]; y++) {
        for (int32_t x = 0; x < context->out.shape[2]; x++, out += step) {
            cells window = find_cells(from, y, x);
            uint32_t word = 0;
            compare_rows(&window, w, row_words, sums, count);
            rows->channel = row;
            for (uint32_t i = 0; i < count; i++) {
                uint32_t acc = biases[i] + (uint32_t)window.channels - 2 * sums[i];
                word = word >> 1 | (~acc & 0x80000000u);
                if (!to_bits) {
                    thimble_rows_next_stage(rows);
                    out[i] = (uint8_t)thimble_requantise(&rows->stage, acc);
                }
            }
            if (to_bits) {
                *(uint32_t *)(void *)out = word >> (ROWS_AT_ONCE - count);
            }
        }
    }
    rows->channel = row + count;
}

static int32_t run_binary(thimble_step_context *context) {
    thimble_rows rows;
    thimble_constant weights;
    thimble_find_constant(context->model, context->op, 0, &weights);
    const uint32_t *w = (const uint32_t *)(const void *)thimble_payload(context->model, &weights);
    uint32_t left = weights.fields[THIMBLE_FIELD_WEIGHTS_ROWS], words = weights.fields[THIMBLE_FIELD_WEIGHTS_COLS] / 32;
    uint32_t depth = (uint32_t)context->x.shape[3] / 4;
    source from = {context, context->op->attributes + THIMBLE_CONV_2D_KERNEL_H,
                   words > depth ? (uint32_t *)(void *)context->scratch : NULL, depth};
    if (weights.fields[THIMBLE_FIELD_WEIGHTS_DATA_BYTES] != 4 * left * words) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    thimble_rows_open_stages(&rows, context->model, context->op);
    while (left > 0) {
        uint32_t count = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
        run_rows(&from, &rows, w, words, count);
        w += count * words;
        left -= count;
    }
    return 0;
}

/* The largest of -1 and +1: OR. */
static int32_t run_max_pool(const thimble_step_context *context) {
    source from = {context, context->op->attributes + THIMBLE_MAX_POOL_2D_KERNEL_H, NULL,
                   (uint32_t)context->x.shape[3] / 4};
    uint32_t *out = (uint32_t *)(void *)(context->arena + context->out.offset);
    memset(out, 0, context->out.bytes);
    for (int32_t y = 0; y < context->out.shape[1]; y++) {
        for (int32_t x = 0; x < context->out.shape[2]; x++, out += from.depth) {
            cells window = find_cells(&from, y, x);
            for (uint32_t i = 0; i < window.count; i++, window.x += window.step) {
                for (uint32_t j = 0; j < window.words; j++) {
                    out[j % from.depth] |= window.x[j];
                }
            }
        }
    }
    return 0;
}

static int32_t run(thimble_step_context *context) {
    if (context->op->kind == THIMBLE_OPERATOR_MAX_POOL_2D) {
        return run_max_pool(context);
    }
    if (!thimble_is_weighted(context->op->kind)) {
        return context->op->type->run(context);
    }
    as_convolution(context);
    return context->x.bits ? run_binary(context) : run_from_int8(context);
}

const thimble_bits_type thimble_bits = {check, run};
