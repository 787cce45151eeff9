/* ADD, SUB, MUL, MAXIMUM and MINIMUM with broadcasting: an axis of size 1 has a step of 0. */
#include "build.h"
#include "check.h"
#include "fused.h"
#include "requantise.h"

/* Not inlined: it is large. */
THIMBLE_NOT_INLINED static int32_t scale(uint32_t x, const int32_t *scaling) {
    return thimble_scale(x, scaling[0], scaling[1]);
}

static uint32_t term(const int32_t *a, int32_t value, uint32_t input) {
    uint32_t shifted = (uint32_t)(value - a[THIMBLE_ADD_INPUT1_ZERO_POINT + input]) << a[THIMBLE_ADD_LEFT_SHIFT];
    return (uint32_t)scale(shifted, a + THIMBLE_ADD_INPUT1_MULTIPLIER + 2 * input);
}

static int8_t finish(int32_t value, int32_t zero_point, const int32_t *clamp) {
    return (int8_t)(thimble_clamp(value, clamp[0] - zero_point, clamp[1] - zero_point) + zero_point);
}

static int8_t combine(const thimble_operator *op, int32_t x, int32_t y) {
    const int32_t *a = op->attributes;
    if (op->kind >= THIMBLE_OPERATOR_MAXIMUM) {
        return (int8_t)((x > y) == (op->kind == THIMBLE_OPERATOR_MAXIMUM) ? x : y);
    }
    if (op->kind == THIMBLE_OPERATOR_MUL) {
        int32_t product = (x - a[THIMBLE_MUL_INPUT1_ZERO_POINT]) * (y - a[THIMBLE_MUL_INPUT2_ZERO_POINT]);
        int32_t value = scale((uint32_t)product, a + THIMBLE_MUL_MULTIPLIER);
        return finish(value, a[THIMBLE_MUL_OUTPUT_ZERO_POINT], a + THIMBLE_MUL_CLAMP_MIN);
    }
    uint32_t first = term(a, x, 0), second = term(a, y, 1);
    uint32_t sum = op->kind == THIMBLE_OPERATOR_SUB ? first - second : first + second;
    return finish(scale(sum, a + THIMBLE_ADD_OUTPUT_MULTIPLIER), a[THIMBLE_ADD_OUTPUT_ZERO_POINT],
                  a + THIMBLE_ADD_CLAMP_MIN);
}

void thimble_combine_elements(const thimble_operator *op, int8_t *out, int32_t out_step, const int8_t *x, int32_t x_step,
                              const int8_t *y, int32_t y_step, uint32_t count) {
    for (; count > 0; count--, out += out_step, x += x_step, y += y_step) {
        *out = combine(op, *x, *y);
    }
}

static void find_steps(const thimble_tensor *tensor, int32_t steps[4]) {
    int32_t step = 1;
    for (int32_t axis = 3; axis >= 0; axis--) {
        steps[axis] = tensor->shape[axis] > 1 ? step : 0;
        step *= tensor->shape[axis];
    }
}

static int32_t run(thimble_step_context *context) {
    thimble_tensor y = thimble_tensor_at(context->model, context->op->inputs[1]);
    const int8_t *arena = (const int8_t *)context->arena;
    const int8_t *x_at = arena + context->x.offset, *y_at = arena + y.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    const int32_t *shape = context->out.shape;
    int32_t xs[4], ys[4];
    find_steps(&context->x, xs);
    find_steps(&y, ys);
    for (int32_t n = 0; n < shape[0]; n++) {
        for (int32_t h = 0; h < shape[1]; h++) {
            for (int32_t w = 0; w < shape[2]; w++, out += shape[3]) {
                thimble_combine_elements(context->op, out, 1, x_at + n * xs[0] + h * xs[1] + w * xs[2], xs[3],
                         y_at + n * ys[0] + h * ys[1] + w * ys[2], ys[3], (uint32_t)shape[3]);
            }
        }
    }
    return 0;
}

static int check_sum(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    return thimble_check_broadcast(context) && thimble_is_zero_point(a[THIMBLE_ADD_INPUT1_ZERO_POINT]) &&
           thimble_is_zero_point(a[THIMBLE_ADD_INPUT2_ZERO_POINT]) &&
           thimble_is_zero_point(a[THIMBLE_ADD_OUTPUT_ZERO_POINT]) &&
           thimble_is_scaling(a + THIMBLE_ADD_INPUT1_MULTIPLIER) &&
           thimble_is_scaling(a + THIMBLE_ADD_INPUT2_MULTIPLIER) &&
           thimble_is_scaling(a + THIMBLE_ADD_OUTPUT_MULTIPLIER) &&
           thimble_in_range(a[THIMBLE_ADD_LEFT_SHIFT], 0, 30) && thimble_is_clamp(a + THIMBLE_ADD_CLAMP_MIN);
}

static int check_product(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    return thimble_check_broadcast(context) && thimble_is_zero_point(a[THIMBLE_MUL_INPUT1_ZERO_POINT]) &&
           thimble_is_zero_point(a[THIMBLE_MUL_INPUT2_ZERO_POINT]) &&
           thimble_is_zero_point(a[THIMBLE_MUL_OUTPUT_ZERO_POINT]) &&
           thimble_is_scaling(a + THIMBLE_MUL_MULTIPLIER) && thimble_is_clamp(a + THIMBLE_MUL_CLAMP_MIN);
}

static const int8_t sum_defaults[] = THIMBLE_ADD_DEFAULTS;
static const int8_t product_defaults[] = THIMBLE_MUL_DEFAULTS;

const thimble_operator_type thimble_add = {
    THIMBLE_OPERATOR_ADD, THIMBLE_ADD_ATTRIBUTE_COUNT, 2, {0, 0, 0}, 0, sum_defaults, check_sum, run,
};
const thimble_operator_type thimble_sub = {
    THIMBLE_OPERATOR_SUB, THIMBLE_SUB_ATTRIBUTE_COUNT, 2, {0, 0, 0}, 0, sum_defaults, check_sum, run,
};
const thimble_operator_type thimble_mul = {
    THIMBLE_OPERATOR_MUL, THIMBLE_MUL_ATTRIBUTE_COUNT, 2, {0, 0, 0}, 0, product_defaults, check_product, run,
};
const thimble_operator_type thimble_maximum = {
    THIMBLE_OPERATOR_MAXIMUM, 0, 2, {0, 0, 0}, 0, NULL, thimble_check_broadcast, run,
};
const thimble_operator_type thimble_minimum = {
    THIMBLE_OPERATOR_MINIMUM, 0, 2, {0, 0, 0}, 0, NULL, thimble_check_broadcast, run,
};
