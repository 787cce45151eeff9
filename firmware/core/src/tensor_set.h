/* A bit for each tensor of a model. */
#ifndef THIMBLE_TENSOR_SET_H
#define THIMBLE_TENSOR_SET_H

#include "thimble.h"

typedef struct {
    uint8_t bits[THIMBLE_MAX_TENSORS / 8];
} thimble_tensor_set;

int thimble_set_has(const thimble_tensor_set *set, uint32_t tensor);
void thimble_set_add(thimble_tensor_set *set, uint32_t tensor);

#endif
