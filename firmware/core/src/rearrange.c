/* CONCATENATION, PAD, TRANSPOSE and SLICE: boxes copied between tensors. */
#include <string.h>

#include "check.h"
#include "movement.h"

static int check_concatenation(thimble_step_context *context) {
    const thimble_operator *op = context->op;
    int32_t joined = op->attributes[THIMBLE_CONCATENATION_AXIS], sum = 0;
    if (!thimble_in_range(joined, 0, 3)) {
        return 0;
    }
    for (uint32_t i = 0; i < op->input_count; i++) {
        thimble_tensor input = thimble_tensor_at(context->model, op->inputs[i]);
        for (int32_t axis = 0; axis < 4; axis++) {
            if (axis != joined && input.shape[axis] != context->out.shape[axis]) {
                return 0;
            }
        }
        sum += input.shape[joined];
        if (sum > context->out.shape[joined]) {
            return 0;
        }
    }
    return sum == context->out.shape[joined];
}

static int32_t run_concatenation(thimble_step_context *context) {
    const thimble_operator *op = context->op;
    int32_t joined = op->attributes[THIMBLE_CONCATENATION_AXIS], to[4], from[4];
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    thimble_steps(context->out.shape, to);
    for (uint32_t i = 0; i < op->input_count; i++) {
        thimble_tensor input = thimble_tensor_at(context->model, op->inputs[i]);
        thimble_steps(input.shape, from);
        thimble_copy_box(out, to, (const int8_t *)context->arena + input.offset, from, input.shape);
        out += input.shape[joined] * to[joined];
    }
    return 0;
}

static int check_pad(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    int right = thimble_is_zero_point(a[THIMBLE_PAD_VALUE]);
    for (uint32_t axis = 0; axis < 4; axis++) {
        int32_t before = a[THIMBLE_PAD_BEFORE_0 + axis], after = a[THIMBLE_PAD_AFTER_0 + axis];
        int32_t size = context->out.shape[axis];
        right = right && thimble_in_range(before, 0, size) && thimble_in_range(after, 0, size) &&
                (int64_t)before + context->x.shape[axis] + after == size;
    }
    return right;
}

static int32_t run_pad(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    int32_t to[4], from[4];
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    memset(out, (uint8_t)a[THIMBLE_PAD_VALUE], context->out.bytes);
    thimble_steps(context->out.shape, to);
    thimble_steps(context->x.shape, from);
    for (uint32_t axis = 0; axis < 4; axis++) {
        out += a[THIMBLE_PAD_BEFORE_0 + axis] * to[axis];
    }
    thimble_copy_box(out, to, (const int8_t *)context->arena + context->x.offset, from, context->x.shape);
    return 0;
}

static int check_transpose(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    uint32_t seen = 0;
    for (uint32_t axis = 0; axis < 4; axis++) {
        if (!thimble_in_range(a[axis], 0, 3) || context->out.shape[axis] != context->x.shape[a[axis]]) {
            return 0;
        }
        seen |= 1u << a[axis];
    }
    return seen == 15;
}

static int32_t run_transpose(thimble_step_context *context) {
    int32_t to[4], steps[4], from[4];
    thimble_steps(context->out.shape, to);
    thimble_steps(context->x.shape, steps);
    for (uint32_t axis = 0; axis < 4; axis++) {
        from[axis] = steps[context->op->attributes[axis]];
    }
    thimble_copy_box((int8_t *)context->arena + context->out.offset, to,
                     (const int8_t *)context->arena + context->x.offset, from, context->out.shape);
    return 0;
}

static int check_slice(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    for (uint32_t axis = 0; axis < 4; axis++) {
        int32_t size = context->x.shape[axis], begin = a[THIMBLE_SLICE_BEGIN_0 + axis];
        int32_t stride = a[THIMBLE_SLICE_STRIDE_0 + axis];
        if (!thimble_in_range(begin, 0, size - 1) || !thimble_in_range(stride, 1, size) ||
            begin + (int64_t)(context->out.shape[axis] - 1) * stride >= size) {
            return 0;
        }
    }
    return 1;
}

static int32_t run_slice(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    int32_t to[4], from[4];
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    thimble_steps(context->out.shape, to);
    thimble_steps(context->x.shape, from);
    for (uint32_t axis = 0; axis < 4; axis++) {
        x += a[THIMBLE_SLICE_BEGIN_0 + axis] * from[axis];
        from[axis] = context->out.shape[axis] > 1 ? from[axis] * a[THIMBLE_SLICE_STRIDE_0 + axis] : 0;
    }
    thimble_copy_box((int8_t *)context->arena + context->out.offset, to, x, from, context->out.shape);
    return 0;
}

static const int8_t concatenation_defaults[] = THIMBLE_CONCATENATION_DEFAULTS;
static const int8_t pad_defaults[] = THIMBLE_PAD_DEFAULTS;
static const int8_t transpose_defaults[] = THIMBLE_TRANSPOSE_DEFAULTS;
static const int8_t slice_defaults[] = THIMBLE_SLICE_DEFAULTS;

const thimble_operator_type thimble_concatenation = {
    THIMBLE_OPERATOR_CONCATENATION, THIMBLE_CONCATENATION_ATTRIBUTE_COUNT, 0, {0, 0, 0}, 0, concatenation_defaults,
    check_concatenation, run_concatenation,
};
const thimble_operator_type thimble_pad = {
    THIMBLE_OPERATOR_PAD, THIMBLE_PAD_ATTRIBUTE_COUNT, 1, {0, 0, 0}, 0, pad_defaults, check_pad, run_pad,
};
const thimble_operator_type thimble_transpose = {
    THIMBLE_OPERATOR_TRANSPOSE, THIMBLE_TRANSPOSE_ATTRIBUTE_COUNT, 1, {0, 0, 0}, 0, transpose_defaults,
    check_transpose, run_transpose,
};
const thimble_operator_type thimble_slice = {
    THIMBLE_OPERATOR_SLICE, THIMBLE_SLICE_ATTRIBUTE_COUNT, 1, {0, 0, 0}, 0, slice_defaults, check_slice, run_slice,
};
