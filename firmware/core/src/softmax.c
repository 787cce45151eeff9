/* SOFTMAX over the last axis with gemmlowp's fixed-point exponential and reciprocal (fixedpoint.h), as
 * docs/NUMERICS.md tabulates it. Exponentials are computed twice rather than kept: a softmax has few classes. */
#include "check.h"
#include "requantise.h"

/* The high product for any two numbers but -2^31 twice. */
static int32_t product(int32_t a, int32_t b) {
    int64_t wide = ((int64_t)a * b + (1 << 30)) >> 31;
    return wide > INT32_MAX ? INT32_MAX : (int32_t)wide;
}

/* exp(a) in Q0.31 for a <= 0 in Q5.26. */
static int32_t exponential(int32_t a) {
    static const int32_t factors[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    if (a == 0) {
        return INT32_MAX;
    }
    int32_t within = (a & 0xFFFFFF) - 0x1000000;
    /* exp on [-1/4, 0) by a polynomial about -1/8 */
    int32_t x = within * 32 + (1 << 28);
    int32_t x2 = product(x, x), x3 = product(x2, x);
    int32_t x4 = thimble_divide_by_power(product(x2, x2), 2);
    int32_t tail = thimble_divide_by_power(product(x4 + x3, 715827883) + x2, 1);
    int32_t result = 1895147668 + product(1895147668, x + tail);
    uint32_t quarters = ((uint32_t)within - (uint32_t)a) >> 24;
    for (uint32_t i = 0; i < 7; i++) {
        if (quarters >> i & 1) {
            result = product(result, factors[i]);
        }
    }
    return result;
}

/* 1 / (1 + a) in Q0.31 for a in [0, 1) in Q0.31: three Newton-Raphson steps. */
static int32_t reciprocal(int32_t a) {
    int32_t half = (a >> 1) + (1 << 30);
    int32_t x = 1515870810 + product(half, -1010580540);
    for (uint32_t i = 0; i < 3; i++) {
        int32_t error = product(x, (1 << 29) - product(half, x));
        error = thimble_clamp(error, -(1 << 29), (1 << 29) - 1);
        x = (int32_t)((uint32_t)x + (uint32_t)error * 4);
    }
    return x > INT32_MAX / 2 ? INT32_MAX : (int32_t)((uint32_t)x << 1);
}

static int32_t exponential_of(const int32_t *a, int32_t difference) {
    if (difference < a[THIMBLE_SOFTMAX_DIFF_MIN]) {
        return 0;
    }
    uint32_t shifted = (uint32_t)difference << a[THIMBLE_SOFTMAX_SHIFT];
    int32_t scaled = product((int32_t)shifted, a[THIMBLE_SOFTMAX_MULTIPLIER]);
    return exponential(scaled > 0 ? 0 : scaled);
}

static void softmax_row(const int32_t *a, const int8_t *x, int8_t *out, int32_t depth) {
    int32_t largest = -128;
    for (int32_t i = 0; i < depth; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    uint32_t total = 0;
    for (int32_t i = 0; i < depth; i++) {
        total += (uint32_t)thimble_divide_by_power(exponential_of(a, x[i] - largest), 12);
    }
    uint32_t headroom = 0;
    while (total != 0 && total << headroom < 0x80000000u) {
        headroom++;
    }
    int32_t scale = reciprocal((int32_t)((total << headroom) & 0x7FFFFFFF));
    /* 8 bits of 1/256 stay of Q0.31 times Q(12 - headroom). */
    uint32_t exponent = 35 - headroom;
    for (int32_t i = 0; i < depth; i++) {
        int32_t value = product(scale, exponential_of(a, x[i] - largest));
        value = exponent > 31 ? 0 : thimble_divide_by_power(value, exponent);
        out[i] = (int8_t)(thimble_clamp(value, 0, 255) - 128);
    }
}

static int32_t run(thimble_step_context *context) {
    int32_t depth = context->x.shape[3];
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    for (uint32_t start = 0; start < context->x.bytes; start += (uint32_t)depth) {
        softmax_row(context->op->attributes, x + start, out + start, depth);
    }
    return 0;
}

static int check(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    return thimble_same_shape(&context->x, &context->out) && a[THIMBLE_SOFTMAX_MULTIPLIER] >= 0 &&
           thimble_in_range(a[THIMBLE_SOFTMAX_SHIFT], 0, 30) && a[THIMBLE_SOFTMAX_DIFF_MIN] <= 0;
}

static const int8_t defaults[] = THIMBLE_SOFTMAX_DEFAULTS;

const thimble_operator_type thimble_softmax = {
    THIMBLE_OPERATOR_SOFTMAX, THIMBLE_SOFTMAX_ATTRIBUTE_COUNT, 1, {0, 0, 0}, 0, defaults, check, run,
};
