/* AVERAGE_POOL_2D and MAX_POOL_2D over the cells of each window that lie inside the image. */
#include "check.h"
#include "requantise.h"

/* The cells of window number `position` on `axis` (0 rows, 1 columns): returns the first and sets how many. */
static int32_t cells_of(const thimble_step_context *context, uint32_t axis, int32_t position, int32_t *count) {
    const int32_t *a = context->op->attributes + axis;
    int32_t from = position * a[THIMBLE_AVERAGE_POOL_2D_STRIDE_H] - a[THIMBLE_AVERAGE_POOL_2D_PAD_TOP];
    int32_t to = from + a[THIMBLE_AVERAGE_POOL_2D_KERNEL_H], size = context->x.shape[1 + axis];
    from = from < 0 ? 0 : from;
    *count = (to > size ? size : to) - from;
    return from;
}

/* The mean of `count` cells, halves away from zero. */
static int32_t mean_of(int32_t total, int32_t count) {
    int32_t half = count / 2;
    return (total > 0 ? total + half : total - half) / count;
}

static int32_t run(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    const int32_t channels = context->x.shape[3], width = context->x.shape[2] * channels;
    const int is_maximum = THIMBLE_HAS_OPERATOR(MAX_POOL_2D) && context->op->kind == THIMBLE_OPERATOR_MAX_POOL_2D;
    for (int32_t y = 0; y < context->out.shape[1]; y++) {
        int32_t rows, columns, top = cells_of(context, 0, y, &rows);
        for (int32_t column = 0; column < context->out.shape[2]; column++) {
            const int8_t *first = x + top * width + cells_of(context, 1, column, &columns) * channels;
            for (const int8_t *end = first + channels; first < end; first++) {
                int32_t largest = -128;
                uint32_t sum = 0;
                const int8_t *row = first;
                for (int32_t i = rows; i > 0; i--, row += width) {
                    const int8_t *cell = row;
                    for (int32_t j = columns; j > 0; j--, cell += channels) {
                        int32_t value = *cell;
                        sum += (uint32_t)value;
                        largest = is_maximum && value > largest ? value : largest;
                    }
                }
                int32_t value = is_maximum ? largest : mean_of((int32_t)sum, rows * columns);
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
