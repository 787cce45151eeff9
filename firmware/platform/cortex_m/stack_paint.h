/* A pattern in the free part of the stack, so that the deepest call can be found later, also from outside. */
#ifndef THIMBLE_STACK_PAINT_H
#define THIMBLE_STACK_PAINT_H

#include <stdint.h>

#define STACK_PAINT 0xA5A5A5A5u

/* Gives the end of the pattern. */
static inline uint32_t *thimble_paint_stack(uint32_t *bottom) {
    uint32_t *end = (uint32_t *)__builtin_frame_address(0) - 32;
    for (volatile uint32_t *p = bottom; p < end; p++) {
        *p = STACK_PAINT;
    }
    return end;
}

#endif
