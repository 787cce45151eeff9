/* What a build of the core can do: a table of operators and decoders.
 *
 * A program names one registry; the linker then drops what it does not list. thimble_registry_all lists
 * everything. A registry for one model is the same struct with fewer entries: `features` says what is left,
 * and a file that needs more is refused by thimble_load with unsupported_feature or unsupported_operator. */
#ifndef THIMBLE_REGISTRY_H
#define THIMBLE_REGISTRY_H

#include "thimble.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct thimble_operator_type thimble_operator_type;
typedef struct thimble_coder_type thimble_coder_type;
typedef struct thimble_bits_type thimble_bits_type;
typedef struct thimble_step_context thimble_step_context;
typedef int32_t (*thimble_fused_function)(thimble_step_context *context);

struct thimble_registry {
    uint32_t features;                                /* enum thimble_feature: what the entries below implement */
    uint32_t operators;                               /* bit n: the operator kind n is in the list */
    const thimble_operator_type *const *operator_list; /* ends with NULL */
    const thimble_coder_type *coders[4];              /* by enum thimble_coder; NULL: not there */
    thimble_fused_function fused_depthwise;           /* thimble_run_fused_depthwise or NULL */
    thimble_fused_function fused_add;                 /* thimble_run_fused_add or NULL */
    const thimble_bits_type *bits;                    /* thimble_bits or NULL */
    /* thimble_sha256_matches, a hardware's own, or NULL for no check: 1 if `digest` (32 bytes) is that of
     * `data`. */
    int32_t (*sha256_matches)(const uint8_t *data, uint32_t length, const uint8_t *digest);
};

extern const thimble_registry thimble_registry_all;

extern const thimble_operator_type thimble_conv_2d, thimble_depthwise_conv_2d, thimble_fully_connected;
extern const thimble_operator_type thimble_add, thimble_sub, thimble_mul, thimble_maximum, thimble_minimum;
extern const thimble_operator_type thimble_average_pool_2d, thimble_max_pool_2d, thimble_mean, thimble_softmax;
extern const thimble_operator_type thimble_lookup, thimble_concatenation, thimble_pad, thimble_reshape;
extern const thimble_operator_type thimble_transpose, thimble_slice, thimble_resize_nearest;

extern const thimble_coder_type thimble_coder_fixed, thimble_coder_huffman, thimble_coder_class, thimble_coder_range;
/* In the place of FIXED where weights are either coded otherwise or not at all. */
extern const thimble_coder_type thimble_coder_raw;

extern const thimble_bits_type thimble_bits; /* tensors of bits, beside the operators that take them */

int32_t thimble_run_fused_depthwise(thimble_step_context *context);
int32_t thimble_run_fused_add(thimble_step_context *context);
int32_t thimble_sha256_matches(const uint8_t *data, uint32_t length, const uint8_t *digest);

#ifdef __cplusplus
}
#endif

#endif
