/* Copies between tensors: a box of elements with a step on each axis. */
#ifndef THIMBLE_MOVEMENT_H
#define THIMBLE_MOVEMENT_H

#include "program.h"

/* Elements from one index to the next on each axis, NHWC. */
void thimble_steps(const int32_t shape[4], int32_t steps[4]);

void thimble_copy_box(int8_t *out, const int32_t out_steps[4], const int8_t *x, const int32_t x_steps[4],
                      const int32_t counts[4]);

#endif
