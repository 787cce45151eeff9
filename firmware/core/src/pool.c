/* AVERAGE_POOL_2D and MAX_POOL_2D over the cells of each window that lie inside the image. */
#include "check.h"
#include "dot.h"
#include "requantise.h"

typedef struct {
    int32_t from, to;
} span;

/* The cells of window number `position` on `axis` (0 rows, 1 columns). */
static span cells_of(const thimble_step_context *context, uint32_t axis, int32_t position) {
    const int32_t *a = context->op->attributes;
    int32_t from = position * a[THIMBLE_AVERAGE_POOL_2D_STRIDE_H + axis] - a[THIMBLE_AVERAGE_POOL_2D_PAD_TOP + axis];
    int32_t to = from + a[THIMBLE_AVERAGE_POOL_2D_KERNEL_H + axis], size = context->x.shape[1 + axis];
    span cells = {from < 0 ? 0 : from, to > size ? size : to};
    return cells;
}

/* What is done with the cells of a window. */
typedef struct {
    const int8_t *x; /* the window's first channel */
    int32_t rows, columns;
    int32_t channels, width;
} cells;

static int32_t largest_of(const cells *window) {
    int32_t largest = -128;
    const int8_t *row = window->x;
    for (int32_t y = 0; y < window->rows; y++, row += window->width) {
        const int8_t *x = row;
        for (int32_t column = window->columns; column > 0; column--, x += window->channels) {
            largest = *x > largest ? *x : largest;
        }
    }
    return largest;
}

static int32_t sum_of(const cells *window) {
    uint32_t sum = 0;
    const int8_t *row = window->x;
    for (int32_t y = 0; y < window->rows; y++, row += window->width) {
        const int8_t *x = row;
        for (int32_t column = window->columns; column > 0; column--, x += window->channels) {
            int32_t value = *x;
            sum += (uint32_t)value;
        }
    }
    return (int32_t)sum;
}

#if THIMBLE_DSP
/* The sums of four channels of up to 256 cells. */
static void sums_of_four(const cells *window, int32_t sums[4]) {
    uint32_t even = 0, odd = 0;
    const int8_t *row = window->x;
    for (int32_t y = 0; y < window->rows; y++, row += window->width) {
        const int8_t *x = row;
        for (int32_t column = window->columns; column > 0; column--, x += window->channels) {
            uint32_t word = thimble_load4(x);
            even = thimble_sxtab16(even, word);
            odd = thimble_sxtab16_ror8(odd, word);
        }
    }
    sums[0] = (int16_t)even, sums[1] = (int16_t)odd;
    sums[2] = (int32_t)even >> 16, sums[3] = (int32_t)odd >> 16;
}
#endif

/* The mean of `count` cells, halves away from zero. */
static int32_t mean_of(int32_t total, int32_t count) {
    return total > 0 ? (total + count / 2) / count : -((count / 2 - total) / count);
}

/* All channels of one window. */
static void pool_window(const thimble_step_context *context, cells window, int8_t *out) {
    const int32_t *a = context->op->attributes;
    int32_t low = a[THIMBLE_AVERAGE_POOL_2D_CLAMP_MIN], high = a[THIMBLE_AVERAGE_POOL_2D_CLAMP_MAX];
    int32_t channel = 0, count = window.rows * window.columns;
    int is_maximum = context->op->kind == THIMBLE_OPERATOR_MAX_POOL_2D;
#if THIMBLE_DSP
    for (; !is_maximum && count <= 256 && channel <= window.channels - 4; channel += 4, window.x += 4) {
        int32_t sums[4];
        sums_of_four(&window, sums);
        for (int32_t i = 0; i < 4; i++) {
            *out++ = (int8_t)thimble_clamp(mean_of(sums[i], count), low, high);
        }
    }
#endif
    for (; channel < window.channels; channel++, window.x++) {
        int32_t value = is_maximum ? largest_of(&window) : mean_of(sum_of(&window), count);
        *out++ = (int8_t)thimble_clamp(value, low, high);
    }
}

static int32_t run(thimble_step_context *context) {
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    int32_t channels = context->x.shape[3], width = context->x.shape[2] * channels;
    for (int32_t y = 0; y < context->out.shape[1]; y++) {
        span rows = cells_of(context, 0, y);
        for (int32_t column = 0; column < context->out.shape[2]; column++, out += channels) {
            span columns = cells_of(context, 1, column);
            cells window = {
                x + rows.from * width + columns.from * channels, rows.to - rows.from, columns.to - columns.from,
                channels, width,
            };
            pool_window(context, window, out);
        }
    }
    return 0;
}

static int check(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    return thimble_check_window(context, a + THIMBLE_AVERAGE_POOL_2D_KERNEL_H, NULL) &&
           context->x.shape[3] == context->out.shape[3] && thimble_is_clamp(a + THIMBLE_AVERAGE_POOL_2D_CLAMP_MIN);
}

static const int8_t average_defaults[] = THIMBLE_AVERAGE_POOL_2D_DEFAULTS;
static const int8_t max_defaults[] = THIMBLE_MAX_POOL_2D_DEFAULTS;

const thimble_operator_type thimble_average_pool_2d = {
    THIMBLE_OPERATOR_AVERAGE_POOL_2D, THIMBLE_AVERAGE_POOL_2D_ATTRIBUTE_COUNT, 1, {0, 0, 0}, 0, average_defaults, check,
    run,
};
const thimble_operator_type thimble_max_pool_2d = {
    THIMBLE_OPERATOR_MAX_POOL_2D, THIMBLE_MAX_POOL_2D_ATTRIBUTE_COUNT, 1, {0, 0, 0}, 0, max_defaults, check, run,
};
