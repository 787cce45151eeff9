/* What a registry names to have tensors of bits; operators that have one at either end are checked and run by it. */
#ifndef THIMBLE_BITS_H
#define THIMBLE_BITS_H

#include "program.h"

struct thimble_bits_type {
    int (*check)(thimble_step_context *context);
    int32_t (*run)(thimble_step_context *context);
};

/* Whether the operator reads or writes a tensor of bits. */
static inline int thimble_has_bits(const thimble_step_context *context) {
    return THIMBLE_HAS(BIT_ACTIVATIONS) && (context->x.bits | context->out.bits) != 0;
}

#endif
