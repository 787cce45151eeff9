/* FUSED_ADD: what a convolution makes is added to the other input at once: channel by channel from a plane, or a few
 * positions at a time where the convolution goes by columns. */
#include "columns.h"

typedef struct {
    const thimble_operator *op;
    const int8_t *other;
    int8_t *out;
    int32_t channels; /* of a position */
    int32_t made_first;
} addition;

/* `made` and the other input's elements from `at` on, `step` and `channels` apart, to those of the output. */
static void add(const addition *to, const int8_t *made, int32_t step, int32_t at, int32_t channels, int32_t count) {
    int8_t *out = to->out + at;
    const int8_t *other = to->other + at;
    if (to->made_first) {
        thimble_combine_elements(to->op, out, channels, made, step, other, channels, (uint32_t)count);
    } else {
        thimble_combine_elements(to->op, out, channels, other, channels, made, step, (uint32_t)count);
    }
}

static void add_block(const thimble_columns *columns, int32_t position, int32_t count) {
    const addition *to = columns->context;
    int32_t channels = to->channels, at = position * channels + columns->first;
    const int8_t *made = columns->made;
    if (columns->count == channels) {
        add(to, made, 1, at, 1, count * channels);
        return;
    }
    for (; count > 0; count--, at += channels, made += columns->count) {
        add(to, made, 1, at, 1, columns->count);
    }
}

int32_t thimble_run_fused_add(thimble_step_context *context) {
    thimble_conv conv;
    const thimble_operator *op = context->op;
    uint8_t *scratch = context->scratch;
    addition to;
    to.op = op;
    to.made_first = op->inputs[0] == context->head->output;
    thimble_tensor source = thimble_tensor_at(context->model, context->head->inputs[0]);
    thimble_tensor other = thimble_tensor_at(context->model, op->inputs[to.made_first ? 1 : 0]);
    to.other = (const int8_t *)context->arena + other.offset;
    to.out = (int8_t *)context->arena + context->out.offset;
    to.channels = context->out.shape[3];
    int32_t error = thimble_conv_open(&conv, context, context->head, &source, &context->out, &scratch);
    if (error >= 0) {
        error = thimble_columns_run(&conv, context->head, scratch, context->memory_end, add_block, &to);
    }
    if (error != 0) {
        return error;
    }
    int32_t channels = to.channels, count = context->out.shape[1] * context->out.shape[2];
    int8_t *plane = (int8_t *)scratch;
    conv.window.out_step_x = 1;
    conv.window.out_step_y = context->out.shape[2];
    for (int32_t channel = 0; channel < channels && error >= 0; channel++) {
        error = thimble_conv_next(&conv, plane);
        if (error >= 0) {
            add(&to, plane, 1, channel, channels, count);
        }
    }
    return error;
}
