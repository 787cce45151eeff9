/* Little-endian integers and varints: the only places where bytes of a file become numbers. */
#ifndef THIMBLE_BYTES_H
#define THIMBLE_BYTES_H

#include "thimble.h"

/* For functions that are a few instructions where they stand, which compilers that optimise for size do not see. */
#if defined(__GNUC__)
#define THIMBLE_ALWAYS_INLINE __attribute__((always_inline)) static inline
#else
#define THIMBLE_ALWAYS_INLINE static inline
#endif

/* One load, but on machines that read words only where they are aligned. */
#if defined(__ARM_ARCH) && !defined(__ARM_FEATURE_UNALIGNED)
#define THIMBLE_INLINE_LOAD static inline
#else
#define THIMBLE_INLINE_LOAD THIMBLE_ALWAYS_INLINE
#endif

THIMBLE_INLINE_LOAD uint32_t thimble_read_u16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

/* In place on every machine, for loops. */
THIMBLE_ALWAYS_INLINE uint32_t thimble_load_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

THIMBLE_INLINE_LOAD uint32_t thimble_read_u32(const uint8_t *p) {
    return thimble_load_u32(p);
}

/* The same from a multiple of 4. */
static inline uint32_t thimble_read_word(const uint8_t *p) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return *(const uint32_t *)(const void *)p;
#else
    return thimble_read_u32(p);
#endif
}

/* Reads the PROGRAM section forwards. The first error stays; from then on every read gives 0. */
typedef struct {
    const thimble_model *model;
    uint32_t at;
    int32_t error;
} thimble_cursor;

static inline thimble_cursor thimble_cursor_at(const thimble_model *model, uint32_t at) {
    thimble_cursor cursor = {model, at, 0};
    return cursor;
}

/* Notes an error unless an earlier one stands. It comes negated: instructions for small positive numbers are short. */
void thimble_fail(thimble_cursor *cursor, int32_t negated);

THIMBLE_ALWAYS_INLINE void thimble_expect(thimble_cursor *cursor, int holds, int32_t error) {
    if (!holds) {
        thimble_fail(cursor, -error);
    }
}

uint32_t thimble_read_u(thimble_cursor *cursor);                        /* unsigned varint */
int32_t thimble_read_s(thimble_cursor *cursor);                         /* zigzag varint */
uint32_t thimble_read_below(thimble_cursor *cursor, uint32_t end, int32_t error); /* an unsigned one below `end` */
uint32_t thimble_read_count(thimble_cursor *cursor, uint32_t limit);    /* above the limit: limit_exceeded */
uint32_t thimble_read_scale(thimble_cursor *cursor);                    /* four raw bytes */

uint32_t thimble_crc32(uint32_t crc, const uint8_t *data, uint32_t length); /* zlib's; 0 starts */

/* Whether data[from..to) is all zeros. */
int thimble_is_zero(const uint8_t *data, uint32_t from, uint32_t to);

static inline uint32_t thimble_align4(uint32_t offset) {
    return (offset + 3u) & ~3u;
}

#endif
