/* FUSED_DEPTHWISE: each channel of a convolution is made in the padded plane of the depthwise convolution
 * behind it. */
#include "fused.h"

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
        error = thimble_conv_next(&conv, depthwise.image);
        if (error >= 0) {
            if (depthwise.is_3x3) {
                thimble_depthwise_load(&depthwise, depthwise.image, depthwise.step_x, depthwise.step_y);
            }
            error = thimble_depthwise_next(&depthwise, out + channel);
        }
    }
    return error;
}
