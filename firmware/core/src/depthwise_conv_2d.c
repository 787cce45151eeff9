/* DEPTHWISE_CONV_2D, one channel at a time: the channel's plane goes to scratch with a border of zero points,
 * so that no window needs bounds and the output may take the input's place. */
#include <string.h>

#include "check.h"
#include "fused.h"

static int check(thimble_step_context *context) {
    thimble_constant weights;
    const int32_t *a = context->op->attributes;
    if (!thimble_check_weighted(context, &weights) ||
        !thimble_check_window(context, a + THIMBLE_CONV_2D_KERNEL_H, a + THIMBLE_CONV_2D_DILATION_H)) {
        return 0;
    }
    uint32_t channels = (uint32_t)context->x.shape[3], rows = weights.fields[THIMBLE_FIELD_WEIGHTS_ROWS];
    uint32_t taps = (uint32_t)a[THIMBLE_CONV_2D_KERNEL_H] * (uint32_t)a[THIMBLE_CONV_2D_KERNEL_W];
    return rows == (uint32_t)context->out.shape[3] && a[THIMBLE_CONV_2D_GROUPS] == 1 && rows % channels == 0 &&
           weights.fields[THIMBLE_FIELD_WEIGHTS_COLS] == taps;
}

static int32_t smaller(int32_t a, int32_t b) {
    return a < b ? a : b;
}

int32_t thimble_depthwise_open(thimble_depthwise *depthwise, thimble_step_context *context, const thimble_operator *op,
                               const thimble_tensor *x, const thimble_tensor *out, uint8_t **scratch) {
    int32_t error = thimble_rows_open(&depthwise->rows, context->model, op, 0, scratch);
    if (error < 0) {
        return error;
    }
    thimble_window *window = &depthwise->window;
    thimble_window_init(window, op, x, out);
    depthwise->height = (out->shape[1] - 1) * window->stride_h + (window->kernel_h - 1) * window->dilation_h + 1;
    depthwise->width = (out->shape[2] - 1) * window->stride_w + (window->kernel_w - 1) * window->dilation_w + 1;
    depthwise->top = window->pad_top;
    depthwise->left = window->pad_left;
    depthwise->image_h = smaller(window->in_h, depthwise->height - depthwise->top);
    depthwise->image_w = smaller(window->in_w, depthwise->width - depthwise->left);
    window->in_h = depthwise->height;
    window->in_w = depthwise->width;
    window->pixel = window->depth = 1;
    window->pad_top = window->pad_left = 0;
    window->is_plane_3x3 = window->kernel_h == 3 && window->kernel_w == 3 && window->dilation_h == 1 &&
                           window->dilation_w == 1;
    uint32_t bytes = (uint32_t)depthwise->height * (uint32_t)depthwise->width;
    depthwise->plane = (int8_t *)*scratch;
    window->x = depthwise->plane;
    *scratch += thimble_align4(bytes);
    memset(depthwise->plane, (uint8_t)window->zero_point, bytes);
    return 0;
}

int32_t thimble_depthwise_next(thimble_depthwise *depthwise, int8_t *out) {
    int32_t error = thimble_rows_next(&depthwise->rows);
    if (error >= 0) {
        depthwise->window.out = out;
        thimble_convolve(&depthwise->rows, &depthwise->window);
    }
    return error;
}

/* Copies the channel that starts at `source` into the plane. */
static void copy_plane(const thimble_depthwise *depthwise, const int8_t *source, int32_t channels, int32_t width) {
    int8_t *row = depthwise->plane + depthwise->top * depthwise->width + depthwise->left;
    for (int32_t y = 0; y < depthwise->image_h; y++) {
        const int8_t *x = source;
        for (int32_t column = 0; column < depthwise->image_w; column++, x += channels) {
            row[column] = *x;
        }
        source += width * channels;
        row += depthwise->width;
    }
}

static int32_t run(thimble_step_context *context) {
    thimble_depthwise depthwise;
    const thimble_operator *op = context->op;
    uint8_t *scratch = context->scratch;
    int32_t error = thimble_depthwise_open(&depthwise, context, op, &context->x, &context->out, &scratch);
    int32_t height = context->out.shape[1], channels = context->x.shape[3], width = context->x.shape[2];
    int32_t band = op->parameter ? (int32_t)op->parameter : height;
    int32_t multiplier = context->out.shape[3] / channels;
    const int8_t *source = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    for (int32_t start = 0; start < height && error >= 0; start += band) {
        if (start != 0) {
            error = thimble_rows_rewind(&depthwise.rows);
        }
        depthwise.window.y_start = start;
        depthwise.window.y_stop = smaller(start + band, height);
        for (int32_t channel = 0; channel < context->out.shape[3] && error >= 0; channel++) {
            if (channel % multiplier == 0) {
                copy_plane(&depthwise, source + channel / multiplier, channels, width);
            }
            error = thimble_depthwise_next(&depthwise, out + channel);
        }
    }
    return error;
}

static const int8_t defaults[] = THIMBLE_DEPTHWISE_CONV_2D_DEFAULTS;

const thimble_operator_type thimble_depthwise_conv_2d = {
    THIMBLE_OPERATOR_DEPTHWISE_CONV_2D,
    THIMBLE_DEPTHWISE_CONV_2D_ATTRIBUTE_COUNT,
    1,
    {THIMBLE_CONSTANT_WEIGHTS + 1, THIMBLE_CONSTANT_REQUANT + 1, THIMBLE_CONSTANT_INTEGERS + 1},
    2,
    defaults,
    check,
    run,
};
