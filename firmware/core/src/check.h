/* Conditions that the operators' checks share. Each returns 1 when it holds. */
#ifndef THIMBLE_CHECK_H
#define THIMBLE_CHECK_H

#include "program.h"

static inline int thimble_in_range(int32_t value, int32_t low, int32_t high) {
    return value >= low && value <= high;
}

static inline int thimble_is_zero_point(int32_t value) {
    return thimble_in_range(value, -128, 127);
}

/* clamp_min and clamp_max, which stand side by side. */
static inline int thimble_is_clamp(const int32_t *a) {
    return thimble_is_zero_point(a[0]) && thimble_in_range(a[1], a[0], 127);
}

/* The same where nothing may be clamped. */
static inline int thimble_is_whole_range(const int32_t *a) {
    return a[0] == -128 && a[1] == 127;
}

/* A multiplier and its shift, which stand side by side. */
static inline int thimble_is_scaling(const int32_t *a) {
    return a[0] >= 0 && thimble_in_range(a[1], -31, 30);
}

int thimble_same_shape(const thimble_tensor *first, const thimble_tensor *second);

/* Kernel, strides and pads, from kernel_h on, give the output's height and width. `dilation` NULL: a pool, whose
 * pads are smaller than its kernel. */
int thimble_check_window(const thimble_step_context *context, const int32_t *a, const int32_t *dilation);

/* Zero points, clamps, and the numbers of requantisations and biases of an operator with weights. */
int thimble_check_weighted(const thimble_step_context *context, thimble_constant *weights);

/* Per dimension the two inputs are equal or one of them is 1, and the output has the larger. */
int thimble_check_broadcast(thimble_step_context *context);

#endif
