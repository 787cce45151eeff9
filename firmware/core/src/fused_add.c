/* FUSED_ADD: each channel of a convolution is made in a plane and added to the other input's channel. */
#include "fused.h"

int32_t thimble_run_fused_add(thimble_step_context *context) {
    thimble_conv conv;
    const thimble_operator *op = context->op;
    uint8_t *scratch = context->scratch;
    int plane_first = op->inputs[0] == context->head->output;
    thimble_tensor source = thimble_tensor_at(context->model, context->head->inputs[0]);
    thimble_tensor other = thimble_tensor_at(context->model, op->inputs[plane_first ? 1 : 0]);
    int32_t error = thimble_conv_open(&conv, context, context->head, &source, &context->out, &scratch);
    if (error < 0) {
        return error;
    }
    int32_t channels = context->out.shape[3];
    uint32_t count = (uint32_t)(context->out.shape[1] * context->out.shape[2]);
    int8_t *plane = (int8_t *)scratch;
    conv.window.out_step_x = 1;
    conv.window.out_step_y = context->out.shape[2];
    for (int32_t channel = 0; channel < channels && error >= 0; channel++) {
        error = thimble_conv_next(&conv, plane);
        if (error >= 0) {
            int8_t *out = (int8_t *)context->arena + context->out.offset + channel;
            const int8_t *y = (const int8_t *)context->arena + other.offset + channel;
            if (plane_first) {
                thimble_add_elements(op, out, channels, plane, 1, y, channels, count);
            } else {
                thimble_add_elements(op, out, channels, y, channels, plane, 1, count);
            }
        }
    }
    return error;
}
