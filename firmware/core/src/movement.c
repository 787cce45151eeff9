#include "movement.h"

void thimble_steps(const int32_t shape[4], int32_t steps[4]) {
    steps[3] = 1;
    steps[2] = shape[3];
    steps[1] = shape[2] * steps[2];
    steps[0] = shape[1] * steps[1];
}

void thimble_copy_box(int8_t *out, const int32_t out_steps[4], const int8_t *x, const int32_t x_steps[4],
                      const int32_t counts[4]) {
    for (int32_t n = 0; n < counts[0]; n++) {
        for (int32_t h = 0; h < counts[1]; h++) {
            for (int32_t w = 0; w < counts[2]; w++) {
                int8_t *to = out + n * out_steps[0] + h * out_steps[1] + w * out_steps[2];
                const int8_t *from = x + n * x_steps[0] + h * x_steps[1] + w * x_steps[2];
                for (int32_t c = 0; c < counts[3]; c++, to += out_steps[3], from += x_steps[3]) {
                    *to = *from;
                }
            }
        }
    }
}
