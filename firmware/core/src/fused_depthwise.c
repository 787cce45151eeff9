/* FUSED_DEPTHWISE: each channel of a convolution is made in the padded plane of the depthwise convolution
 * behind it. */
#include "build.h"
#include "fused.h"

/* Makes the pixels of the row at hand, if it is a pointwise one of eight channels, as in the large images in front,
 * where a loop of its own pays. */
THIMBLE_NOT_INLINED static int make_pixels(const thimble_conv *conv, const thimble_depthwise *depthwise) {
    const thimble_window *window = &conv->window;
    int is_pointwise = window->kernel_h == 1 && window->kernel_w == 1 && window->stride_h == 1 &&
                       window->stride_w == 1 && window->pad_top == 0 && window->pad_left == 0;
    if (!depthwise->is_3x3 || depthwise->is_transposed || !is_pointwise || window->pixel != 8 || window->depth != 8 ||
        conv->rows.stream.positions || window->y_stop <= 0 || window->out_w <= 0 ||
        ((uintptr_t)conv->source & 3) != 0) {
        return 0;
    }
    const int8_t *w = conv->rows.stream.row;
    const thimble_eight eight = {
        conv->source, 8 * window->in_w, window->out_w, window->y_stop, (thimble_pixel *)(void *)depthwise->image,
        depthwise->on.plane.pitch,
    };
    uint32_t start = conv->rows.bias - (uint32_t)window->zero_point * (uint32_t)thimble_sum(w, 8);
    return thimble_plane_from_eight(&eight, w, start, &conv->rows.stage);
}

/* The next channel of the convolution, in the plane. */
static int32_t next_plane(thimble_conv *conv, const thimble_depthwise *depthwise) {
    int32_t error = thimble_conv_decode(conv);
    if (error < 0 || make_pixels(conv, depthwise)) {
        return error;
    }
    thimble_conv_make(conv, depthwise->image);
    if (depthwise->is_3x3) {
        thimble_depthwise_load(depthwise, depthwise->image, depthwise->step_x, depthwise->step_y);
    }
    return error;
}

int32_t thimble_run_fused_depthwise(thimble_step_context *context) {
    thimble_conv conv;
    thimble_depthwise depthwise;
    uint8_t *scratch = context->scratch;
    thimble_tensor source = thimble_tensor_at(context->model, context->head->inputs[0]);
    int32_t error = thimble_conv_open(&conv, context, context->head, &source, &context->x, &scratch);
    if (error >= 0) {
        error = thimble_depthwise_open(&depthwise, context, context->op, &context->x, &context->out, &scratch);
    }
    if (error < 0) {
        return error;
    }
    /* Rows and columns that no window of the depthwise one reaches are not made. */
    conv.window.y_stop = depthwise.image_h < 0 ? 0 : depthwise.image_h;
    conv.window.out_w = depthwise.image_w < 0 ? 0 : depthwise.image_w;
    conv.window.out_step_x = depthwise.step_x;
    conv.window.out_step_y = depthwise.step_y;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    for (uint32_t channel = 0; channel < conv.rows.stream.rows && error >= 0; channel++) {
        error = next_plane(&conv, &depthwise);
        if (error >= 0) {
            error = thimble_depthwise_next(&depthwise, out + channel);
        }
    }
    return error;
}
