/* Sums become activations. */
#include "fast.h"

#include "requantise.h"

THIMBLE_NOT_INLINED int8_t thimble_requantise(const thimble_output_stage *stage, uint32_t acc) {
    int32_t value;
    if (THIMBLE_HAS_FORM(POWER_OF_TWO) && stage->power_of_two) {
        value = (int32_t)acc >> stage->shift;
        value += stage->shift == 0 ? 0 : (int32_t)acc >> (stage->shift - 1) & 1; /* half up */
    } else {
        value = thimble_scale(acc, stage->multiplier, stage->shift);
    }
    return (int8_t)(thimble_clamp(value, stage->low, stage->high) + stage->zero_point);
}

void thimble_store_sums(const thimble_output_stage *stage, const uint32_t *sums, int32_t count, int8_t *out,
                        int32_t out_step) {
    /* Copied, as a store through `out` might change them for all that a compiler knows. */
    const int is_usual = thimble_is_usual(stage);
    const int32_t multiplier = stage->multiplier, shift = -stage->shift, zero_point = stage->zero_point;
    const int32_t low = stage->low + zero_point, high = stage->high + zero_point;
    const int32_t rounding = is_usual ? thimble_rounding_of(stage) : 0;
    for (; count > 0; count--, out += out_step) {
        uint32_t sum = *sums++;
        if (is_usual && thimble_can_double(sum)) {
            *out = (int8_t)thimble_clamp(thimble_scale_doubled((int32_t)(sum << 1), multiplier, rounding, shift), low, high);
        } else {
            *out = thimble_requantise(stage, sum);
        }
    }
}
