#include "tensor_set.h"

int thimble_set_has(const thimble_tensor_set *set, uint32_t tensor) {
    return set->bits[tensor >> 3] >> (tensor & 7) & 1;
}

void thimble_set_add(thimble_tensor_set *set, uint32_t tensor) {
    set->bits[tensor >> 3] = (uint8_t)(set->bits[tensor >> 3] | 1u << (tensor & 7));
}
