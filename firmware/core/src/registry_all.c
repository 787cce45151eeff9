/* Everything that the core has. */
#include "program.h"

static const thimble_operator_type *const operators[] = {
    &thimble_conv_2d,     &thimble_depthwise_conv_2d, &thimble_fully_connected, &thimble_add,
    &thimble_sub,         &thimble_mul,               &thimble_average_pool_2d, &thimble_max_pool_2d,
    &thimble_mean,        &thimble_softmax,           &thimble_lookup,          &thimble_concatenation,
    &thimble_pad,         &thimble_reshape,           &thimble_transpose,       &thimble_slice,
    &thimble_resize_nearest, &thimble_maximum,        &thimble_minimum,         NULL,
};

const thimble_registry thimble_registry_all = {
    THIMBLE_FEATURE_FIXED | THIMBLE_FEATURE_HUFFMAN | THIMBLE_FEATURE_CLASS | THIMBLE_FEATURE_RANGE |
        THIMBLE_FEATURE_SPARSE | THIMBLE_FEATURE_BITMAP | THIMBLE_FEATURE_BITS | THIMBLE_FEATURE_IN_PLACE |
        THIMBLE_FEATURE_BANDS | THIMBLE_FEATURE_FUSED_DEPTHWISE | THIMBLE_FEATURE_FUSED_ADD |
        THIMBLE_FEATURE_BIT_ACTIVATIONS | THIMBLE_FEATURE_PERSISTENT_TENSORS,
    (2u << THIMBLE_OPERATOR_MINIMUM) - 2,
    operators,
    {&thimble_coder_fixed, &thimble_coder_huffman, &thimble_coder_class, &thimble_coder_range},
    thimble_run_fused_depthwise,
    thimble_run_fused_add,
    &thimble_bits,
    thimble_sha256_matches,
};
