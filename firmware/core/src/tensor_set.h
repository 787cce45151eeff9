/* A bit for each tensor of a model. */
#ifndef THIMBLE_TENSOR_SET_H
#define THIMBLE_TENSOR_SET_H

#include "thimble.h"

typedef struct {
    uint8_t bits[THIMBLE_MAX_TENSORS / 8];
} thimble_tensor_set;

static inline int thimble_set_has(const thimble_tensor_set *set, uint32_t tensor) {
    return set->bits[tensor >> 3] >> (tensor & 7) & 1;
}

static inline void thimble_set_add(thimble_tensor_set *set, uint32_t tensor) {
    set->bits[tensor >> 3] = (uint8_t)(set->bits[tensor >> 3] | 1u << (tensor & 7));
}

static inline void thimble_set_discard(thimble_tensor_set *set, uint32_t tensor) {
    set->bits[tensor >> 3] = (uint8_t)(set->bits[tensor >> 3] & ~(1u << (tensor & 7)));
}

#endif
