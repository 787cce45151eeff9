/* FULLY_CONNECTED with rows that lie in the file as they are: a block of them shares each activation that is loaded. */
#include "fast.h"

#include "dot.h"
#include "weighted.h"

int32_t thimble_run_raw_blocks(thimble_rows *rows, const int8_t *x, int32_t x_offset, int8_t *out) {
    int32_t cols = (int32_t)rows->stream.cols, row = 0;
    thimble_output_stage stage = rows->stage;
    thimble_read_stage(rows, 0, &stage);
    while (row + THIMBLE_BLOCK <= (int32_t)rows->stream.rows) {
        uint32_t sums[THIMBLE_BLOCK] = {0, 0, 0, 0};
        thimble_dot_block_offset(x, x_offset, (const int8_t *)rows->stream.payload + row * cols, cols, cols, sums);
        for (int32_t i = 0; i < THIMBLE_BLOCK; i++, row++) {
            if (rows->scale_count > 1) {
                thimble_read_stage(rows, (uint32_t)row, &stage);
            }
            uint32_t sum = sums[i] + thimble_bias_at(rows, (uint32_t)row);
            out[row] =
                thimble_is_usual(&stage) ? thimble_requantise_usual(&stage, sum) : thimble_requantise_one(&stage, sum);
        }
    }
    rows->channel = (uint32_t)row;
    return row;
}
