#include "fast.h"

#include "requantise.h"

void thimble_store_sums(const thimble_output_stage *stage, const uint32_t *sums, int32_t count, int8_t *out,
                        int32_t out_step) {
    /* Copied, as a store through `out` might change them for all that a compiler knows. */
    const int32_t multiplier = stage->multiplier, shift = -stage->shift, zero_point = stage->zero_point;
    const int32_t low = stage->low + zero_point, high = stage->high + zero_point;
    int32_t rounding = 0;
    uint32_t limit = 0; /* for all sums of an unusual stage */
    if (thimble_is_usual(stage)) {
        rounding = thimble_rounding_of(stage);
        limit = 2 * THIMBLE_DOUBLED_END;
    }
    for (const uint32_t *end = sums + count; sums < end; out += out_step) {
        uint32_t sum = *sums++;
        if (sum + THIMBLE_DOUBLED_END < limit) {
            *out = (int8_t)thimble_clamp(thimble_scale_doubled((int32_t)(sum << 1), multiplier, rounding, shift), low, high);
        } else {
            *out = thimble_requantise(stage, sum);
        }
    }
}
