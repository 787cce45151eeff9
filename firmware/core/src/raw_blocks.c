/* FULLY_CONNECTED with rows that lie in the file as they are: a block of them shares each activation that is loaded. */
#include "fast.h"

#include "dot.h"
#include "weighted.h"

int32_t thimble_run_raw_blocks(thimble_rows *rows, const int8_t *x, int32_t x_offset, int8_t *out) {
    int32_t cols = (int32_t)rows->stream.cols, row = 0;
    thimble_find_stage(rows, 0, &rows->stage);
    const int32_t same = rows->scale_count > 1 ? 1 : THIMBLE_BLOCK; /* rows of one scale */
    for (; row + THIMBLE_BLOCK <= (int32_t)rows->stream.rows; row += THIMBLE_BLOCK) {
        uint32_t sums[THIMBLE_BLOCK];
        for (int32_t i = 0; i < THIMBLE_BLOCK; i++) {
            sums[i] = thimble_bias_at(rows, (uint32_t)(row + i));
        }
        thimble_dot_block_offset(x, x_offset, (const int8_t *)rows->stream.payload + row * cols, cols, cols, sums);
        for (int32_t i = 0; i < THIMBLE_BLOCK; i += same) {
            if (same == 1) {
                thimble_find_stage(rows, (uint32_t)(row + i), &rows->stage);
            }
            thimble_store_sums(&rows->stage, sums + i, same, out + row + i, 1);
        }
    }
    rows->channel = (uint32_t)row;
    return row;
}
