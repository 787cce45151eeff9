/* CONV_2D under the schedules WHOLE, IN_PLACE and BANDS; fused pairs have files of their own. */
#include <string.h>

#include "check.h"
#include "columns.h"

static int check(thimble_step_context *context) {
    thimble_constant weights;
    const int32_t *a = context->op->attributes;
    if (!thimble_check_weighted(context, &weights) ||
        !thimble_check_window(context, a + THIMBLE_CONV_2D_KERNEL_H, a + THIMBLE_CONV_2D_DILATION_H)) {
        return 0;
    }
    uint32_t channels = (uint32_t)context->x.shape[3], rows = weights.fields[THIMBLE_FIELD_WEIGHTS_ROWS];
    uint32_t groups = (uint32_t)a[THIMBLE_CONV_2D_GROUPS];
    uint64_t taps = (uint64_t)a[THIMBLE_CONV_2D_KERNEL_H] * (uint32_t)a[THIMBLE_CONV_2D_KERNEL_W];
    return rows == (uint32_t)context->out.shape[3] && groups >= 1 && groups <= channels && channels % groups == 0 &&
           rows % groups == 0 && weights.fields[THIMBLE_FIELD_WEIGHTS_COLS] == taps * (channels / groups);
}

int32_t thimble_conv_open(thimble_conv *conv, thimble_step_context *context, const thimble_operator *op,
                          const thimble_tensor *x, const thimble_tensor *out, uint8_t **scratch) {
    int32_t error = thimble_rows_open(&conv->rows, context->model, op, THIMBLE_TAKES_PAIRS, scratch);
    if (error < 0) {
        return error;
    }
    thimble_window_init(&conv->window, op, x, out);
    conv->source = (const int8_t *)context->arena + x->offset;
    conv->rows_per_group = (int32_t)conv->rows.stream.rows / op->attributes[THIMBLE_CONV_2D_GROUPS];
    int32_t cells = conv->window.kernel_h * conv->window.kernel_w;
    if (thimble_gives_pairs(&conv->rows.stream) && cells > 1) {
        conv->window.cells = (uint16_t *)(void *)*scratch;
        *scratch += thimble_align4(2 * (uint32_t)(cells + 1));
    }
    return 0;
}

int32_t thimble_conv_decode(thimble_conv *conv) {
    int32_t channel = (int32_t)conv->rows.channel;
    conv->window.x = conv->source + channel / conv->rows_per_group * conv->window.depth;
    return thimble_rows_next(&conv->rows);
}

void thimble_conv_make(thimble_conv *conv, int8_t *out) {
    conv->window.out = out;
    thimble_convolve(&conv->rows, &conv->window);
}

int32_t thimble_conv_next(thimble_conv *conv, int8_t *out) {
    int32_t error = thimble_conv_decode(conv);
    if (error >= 0) {
        thimble_conv_make(conv, out);
    }
    return error;
}

static int32_t run(thimble_step_context *context) {
    thimble_conv conv;
    const thimble_operator *op = context->op;
    uint8_t *scratch = context->scratch;
    int32_t error = thimble_conv_open(&conv, context, op, &context->x, &context->out, &scratch);
    if (THIMBLE_HAS_PATH(COLUMNS) && error >= 0) {
        conv.window.out = (int8_t *)context->arena + context->out.offset;
        error = thimble_columns_run(&conv, op, scratch, context->memory_end, NULL, NULL);
    }
    if (error != 0 || !THIMBLE_HAS_PATH(ROWS)) {
        return error;
    }
    int32_t height = context->out.shape[1];
    int32_t band = op->parameter ? (int32_t)op->parameter : height;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    uint32_t row_bytes = (uint32_t)(context->x.shape[2] * context->x.shape[3]);
    for (int32_t start = 0; start < height && error >= 0; start += band) {
        int32_t stop = start + band < height ? start + band : height;
        if (start != 0) {
            error = thimble_rows_rewind(&conv.rows);
        }
        if (op->schedule == THIMBLE_SCHEDULE_IN_PLACE) {
            /* The band's input goes aside, its output comes where it lay, or before. */
            memcpy(scratch, context->arena + context->x.offset + (uint32_t)start * row_bytes,
                   (uint32_t)(stop - start) * row_bytes);
            conv.source = (const int8_t *)scratch;
            conv.window.in_h = conv.window.y_stop = stop - start;
            out = (int8_t *)context->arena + context->out.offset + start * conv.window.out_step_y;
        } else {
            conv.window.y_start = start;
            conv.window.y_stop = stop;
        }
        for (uint32_t channel = 0; channel < conv.rows.stream.rows && error >= 0; channel++) {
            error = thimble_conv_next(&conv, out + channel);
        }
    }
    return error;
}

static const int8_t defaults[] = THIMBLE_CONV_2D_DEFAULTS;

const thimble_operator_type thimble_conv_2d = {
    THIMBLE_OPERATOR_CONV_2D,
    THIMBLE_CONV_2D_ATTRIBUTE_COUNT,
    1,
    {THIMBLE_CONSTANT_WEIGHTS + 1, THIMBLE_CONSTANT_REQUANT + 1, THIMBLE_CONSTANT_INTEGERS + 1},
    2,
    defaults,
    check,
    run,
};
