/* The counterpart of the core's bytes.h: numbers become little-endian bytes. */
#ifndef THIMBLE_WRITE_H
#define THIMBLE_WRITE_H

#include <stdint.h>

static inline void thimble_write_u16(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static inline void thimble_write_u32(uint8_t *p, uint32_t value) {
    thimble_write_u16(p, value);
    thimble_write_u16(p + 2, value >> 16);
}

#endif
