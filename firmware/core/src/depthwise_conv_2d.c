/* DEPTHWISE_CONV_2D, one channel at a time: the channel's plane goes to scratch with a border of zero points,
 * so that no window needs bounds and the output may take the input's place. Kernels of 3 x 3 have loops of their
 * own, on a plane of 16-bit pixels. */
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

/* Whether it goes by plane_3x3.h. */
static int is_plane(const thimble_depthwise *depthwise) {
    return THIMBLE_HAS_PATH(PLANES) && (!THIMBLE_HAS_PATH(ROWS) || depthwise->is_3x3);
}

static int32_t smaller(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* Chooses rows or columns as lines, whichever are fewer blocks, and sets the plane up, in the place of `window`.
 * Bands need rows. */
static void open_3x3(thimble_depthwise *depthwise, int is_banded, int32_t height, int32_t width) {
    const thimble_window window = depthwise->on.window;
    int32_t rows = window.y_stop, columns = window.out_w;
    int32_t by_rows = rows * ((columns - 1) / THIMBLE_PLANE_BLOCK + 1);
    int32_t by_columns = columns * ((rows - 1) / THIMBLE_PLANE_BLOCK + 1);
    int is_transposed = !is_banded && (by_columns < by_rows || (by_columns == by_rows && columns < rows));
    int32_t pitch = ((is_transposed ? height : width) + 1) & ~1;
    int32_t pixels = pitch * (is_transposed ? width : height);
    thimble_pixel *to = (thimble_pixel *)(void *)(depthwise->pixels + THIMBLE_PLANE_JOB_BYTES +
                                                  THIMBLE_PLANE_SLACK_BEFORE);
    thimble_plane *plane = &depthwise->on.plane;
    plane->x = to;
    plane->pitch = pitch;
    plane->stride = window.stride_h;
    plane->count = is_transposed ? rows : columns;
    plane->lines = is_transposed ? columns : rows;
    plane->out_step = is_transposed ? window.out_step_y : window.out_step_x;
    plane->out_line_step = is_transposed ? window.out_step_x : window.out_step_y;
    plane->out_start = 0;
    plane->zero_point = window.zero_point;
#if THIMBLE_PLANE_THUMB1
    plane->job = (thimble_plane_job *)(void *)depthwise->pixels;
#endif
    depthwise->pixels = (uint8_t *)to;
    depthwise->is_transposed = is_transposed;
    depthwise->step_x = is_transposed ? 2 * pitch : 2;
    depthwise->step_y = is_transposed ? 2 : 2 * pitch;
    for (int32_t i = 0; i < pixels; i++) {
        to[i] = (thimble_pixel)(window.zero_point + THIMBLE_PIXEL_BIAS);
    }
    thimble_plane_open(plane);
}

int32_t thimble_depthwise_open(thimble_depthwise *depthwise, thimble_step_context *context, const thimble_operator *op,
                               const thimble_tensor *x, const thimble_tensor *out, uint8_t **scratch) {
    int32_t error = thimble_rows_open(&depthwise->rows, context->model, op, 0, scratch);
    if (error < 0) {
        return error;
    }
    thimble_window *window = &depthwise->on.window;
    thimble_window_init(window, op, x, out);
    int32_t height = (out->shape[1] - 1) * window->stride_h + (window->kernel_h - 1) * window->dilation_h + 1;
    int32_t width = (out->shape[2] - 1) * window->stride_w + (window->kernel_w - 1) * window->dilation_w + 1;
    int32_t top = window->pad_top, left = window->pad_left;
    depthwise->image_h = smaller(window->in_h, height - top);
    depthwise->image_w = smaller(window->in_w, width - left);
    depthwise->pixels = *scratch;
    depthwise->is_3x3 = thimble_is_3x3(op);
    *scratch += thimble_padded_plane_bytes(op, out);
    if (is_plane(depthwise)) {
        open_3x3(depthwise, op->parameter != 0, height, width);
    } else {
        depthwise->step_x = 1;
        depthwise->step_y = width;
        window->in_h = height;
        window->in_w = width;
        window->pixel = window->depth = 1;
        window->pad_top = window->pad_left = 0;
        window->x = (const int8_t *)depthwise->pixels;
        memset(depthwise->pixels, (uint8_t)window->zero_point, (uint32_t)(height * width));
    }
    depthwise->image = (int8_t *)depthwise->pixels + top * depthwise->step_y + left * depthwise->step_x;
    return 0;
}

int32_t thimble_depthwise_next(thimble_depthwise *depthwise, int8_t *out) {
    int32_t error = thimble_rows_next(&depthwise->rows);
    if (error < 0) {
        return error;
    }
    if (is_plane(depthwise)) {
        int is_transposed = depthwise->is_transposed;
        thimble_plane_convolve(&depthwise->on.plane, depthwise->rows.stream.row, is_transposed ? 3 : 1,
                               is_transposed ? 1 : 3, depthwise->rows.bias, &depthwise->rows.stage, out);
    } else {
        depthwise->on.window.out = out;
        thimble_convolve(&depthwise->rows, &depthwise->on.window);
    }
    return 0;
}

void thimble_depthwise_load(const thimble_depthwise *depthwise, const int8_t *x, int32_t step_x, int32_t step_y) {
    int32_t height = depthwise->image_h, width = depthwise->image_w;
    thimble_pixel *to = (thimble_pixel *)(void *)depthwise->image;
    if (!is_plane(depthwise)) {
        int8_t *row = depthwise->image;
        for (int32_t y = 0; y < height; y++, row += depthwise->step_y, x += step_y) {
            for (int32_t column = 0; column < width; column++) {
                row[column] = x[column * step_x];
            }
        }
    } else if (depthwise->is_transposed) {
        thimble_plane_load(&depthwise->on.plane, to, x, step_y, step_x, height, width);
    } else {
        thimble_plane_load(&depthwise->on.plane, to, x, step_x, step_y, width, height);
    }
}

/* Makes rows `start` to `stop` from now on. */
static void take_band(thimble_depthwise *depthwise, int32_t start, int32_t stop) {
    if (is_plane(depthwise)) {
        thimble_plane *plane = &depthwise->on.plane;
        plane->x = (const thimble_pixel *)(const void *)depthwise->pixels + start * plane->stride * plane->pitch;
        plane->lines = stop - start;
        plane->out_start = start * plane->out_line_step;
        thimble_plane_open(plane);
    } else {
        depthwise->on.window.y_start = start;
        depthwise->on.window.y_stop = stop;
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
        if (band < height) {
            take_band(&depthwise, start, smaller(start + band, height));
        }
        for (int32_t channel = 0; channel < context->out.shape[3] && error >= 0; channel++) {
            if (channel % multiplier == 0) {
                thimble_depthwise_load(&depthwise, source + channel / multiplier, channels, width * channels);
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
