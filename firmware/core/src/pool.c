/* AVERAGE_POOL_2D and MAX_POOL_2D over the cells of each window that lie inside the image. */
#include "check.h"
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

static int32_t pool_cell(const thimble_step_context *context, const int8_t *channel, span rows, span columns) {
    int maximum = context->op->kind == THIMBLE_OPERATOR_MAX_POOL_2D;
    int32_t width = context->x.shape[2], channels = context->x.shape[3];
    int32_t largest = -128, total = 0, count = (rows.to - rows.from) * (columns.to - columns.from);
    for (int32_t y = rows.from; y < rows.to; y++) {
        const int8_t *x = channel + (y * width + columns.from) * channels;
        for (int32_t column = columns.from; column < columns.to; column++, x += channels) {
            largest = *x > largest ? *x : largest;
            total = (int32_t)((uint32_t)total + (uint32_t)*x);
        }
    }
    if (maximum) {
        return largest;
    }
    return total > 0 ? (total + count / 2) / count : -((count / 2 - total) / count);
}

static int32_t run(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    for (int32_t y = 0; y < context->out.shape[1]; y++) {
        span rows = cells_of(context, 0, y);
        for (int32_t column = 0; column < context->out.shape[2]; column++) {
            span columns = cells_of(context, 1, column);
            for (int32_t channel = 0; channel < context->out.shape[3]; channel++) {
                int32_t value = pool_cell(context, x + channel, rows, columns);
                *out++ = (int8_t)thimble_clamp(value, a[THIMBLE_AVERAGE_POOL_2D_CLAMP_MIN],
                                               a[THIMBLE_AVERAGE_POOL_2D_CLAMP_MAX]);
            }
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
