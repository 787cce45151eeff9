/* MEAN over any of the four axes. */
#include "check.h"
#include "movement.h"
#include "requantise.h"

static int check(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    if (!thimble_in_range(a[THIMBLE_MEAN_AXES], 1, 15)) {
        return 0;
    }
    uint32_t kept = 1;
    for (uint32_t axis = 0; axis < 4; axis++) {
        kept *= a[THIMBLE_MEAN_AXES] >> axis & 1 ? 1u : (uint32_t)context->x.shape[axis];
    }
    return context->out.bytes == kept && thimble_is_zero_point(a[THIMBLE_MEAN_INPUT_ZERO_POINT]) &&
           thimble_is_zero_point(a[THIMBLE_MEAN_OUTPUT_ZERO_POINT]) && thimble_is_scaling(a + THIMBLE_MEAN_MULTIPLIER);
}

static uint32_t sum_of(const int8_t *x, const int32_t counts[4], const int32_t steps[4]) {
    uint32_t sum = 0;
    for (int32_t n = 0; n < counts[0]; n++) {
        for (int32_t h = 0; h < counts[1]; h++) {
            for (int32_t w = 0; w < counts[2]; w++) {
                for (int32_t c = 0; c < counts[3]; c++) {
                    int32_t value = x[n * steps[0] + h * steps[1] + w * steps[2] + c * steps[3]];
                    sum += (uint32_t)value;
                }
            }
        }
    }
    return sum;
}

static int32_t run(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    int32_t steps[4], counts[4], kept[4];
    thimble_steps(context->x.shape, steps);
    uint32_t cells = 1;
    for (uint32_t axis = 0; axis < 4; axis++) {
        int reduced = a[THIMBLE_MEAN_AXES] >> axis & 1;
        counts[axis] = reduced ? context->x.shape[axis] : 1;
        kept[axis] = reduced ? 1 : context->x.shape[axis];
        cells *= (uint32_t)counts[axis];
    }
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    uint32_t zero = cells * (uint32_t)a[THIMBLE_MEAN_INPUT_ZERO_POINT];
    int32_t zero_point = a[THIMBLE_MEAN_OUTPUT_ZERO_POINT];
    for (int32_t n = 0; n < kept[0]; n++) {
        for (int32_t h = 0; h < kept[1]; h++) {
            for (int32_t w = 0; w < kept[2]; w++) {
                for (int32_t c = 0; c < kept[3]; c++) {
                    const int8_t *first = x + n * steps[0] + h * steps[1] + w * steps[2] + c * steps[3];
                    int32_t value = thimble_scale(sum_of(first, counts, steps) - zero, a[THIMBLE_MEAN_MULTIPLIER],
                                                  a[THIMBLE_MEAN_SHIFT]);
                    *out++ = (int8_t)(thimble_clamp(value, -128 - zero_point, 127 - zero_point) + zero_point);
                }
            }
        }
    }
    return 0;
}

static const int8_t defaults[] = THIMBLE_MEAN_DEFAULTS;

const thimble_operator_type thimble_mean = {
    THIMBLE_OPERATOR_MEAN, THIMBLE_MEAN_ATTRIBUTE_COUNT, 1, {0, 0, 0}, 0, defaults, check, run,
};
