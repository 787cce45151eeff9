/* Coder FIXED: fields of value_bits and gap_bits; and layout BITS, which goes with it. */
#include "stream_codes.h"

/* Four bits as four bytes. */
static inline uint32_t spread(uint32_t bits) {
    return (bits & 15) * 0x204081u & 0x01010101u;
}

/* The planes of a row: the weights that are not zero, and of them the negative ones, which BINARY leaves out. */
static int32_t next_bits_row(thimble_stream *stream) {
    const uint8_t *words = stream->payload + stream->reader.position;
    uint32_t plane = (stream->cols + 31) / 32 * 4;
    int ternary = stream->value_map == THIMBLE_MAP_TERNARY;
    uint32_t positive = ternary ? (uint8_t)stream->ternary[1] : 1, negative = ternary ? (uint8_t)stream->ternary[2] : 255;
    uint32_t *row = (uint32_t *)(void *)stream->buffer; /* scratch starts and ends with a word */
    stream->reader.position += ternary ? 2 * plane : plane;
    for (uint32_t left = stream->cols; left > 0; words += 4) {
        /* cppcheck-suppress shiftTooManyBits ; `count` is not 0, since `left` is not */
        uint32_t count = left < 32 ? left : 32, used = 0xFFFFFFFFu >> (32 - count);
        uint32_t plus = thimble_read_u32(words), minus = ternary ? thimble_read_u32(words + plane) : ~plus & used;
        if ((plus & ~used) != 0 || (ternary && (minus & ~plus) != 0)) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        plus &= ~minus;
        left -= count;
        for (const uint32_t *end = row + (count + 3) / 4; row < end; plus >>= 4, minus >>= 4) {
            *row++ = spread(plus) * positive + spread(minus) * negative;
        }
    }
    return 0;
}

static uint32_t table_bytes(const thimble_constant *weights) {
    (void)weights;
    return 0;
}

static uint32_t own_table_bytes(const thimble_constant *weights) {
    const uint32_t *f = weights->fields;
    if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_BITS) {
        return 0;
    }
    uint32_t gaps = f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE ? 2u << f[THIMBLE_FIELD_WEIGHTS_GAP_BITS] : 0;
    return gaps + (2u << f[THIMBLE_FIELD_WEIGHTS_VALUE_BITS]);
}

static int32_t open_fixed(thimble_stream *stream, uint8_t *scratch) {
    int16_t *table = (int16_t *)(void *)scratch;
    uint32_t bits = stream->gap_bits, sign = 1u << (stream->value_bits - 1);
    if (stream->layout == THIMBLE_LAYOUT_BITS) {
        return 0;
    }
    if (stream->layout == THIMBLE_LAYOUT_SPARSE) {
        stream->codes[THIMBLE_GAPS].table = table;
        stream->codes[THIMBLE_GAPS].mask = (1u << bits) - 1;
        for (uint32_t gap = 0; gap < 1u << bits; gap++) {
            *table++ = (int16_t)(bits << 8 | gap);
        }
    }
    stream->codes[THIMBLE_VALUES].table = table;
    stream->codes[THIMBLE_VALUES].mask = 2 * sign - 1;
    for (uint32_t index = 0; index < 2 * sign; index++) {
        uint32_t weight = (index ^ sign) - sign; /* IDENTITY is two's complement */
        if (stream->entries && index < stream->value_count) {
            weight = (uint32_t)stream->entries[index];
        }
        int is_weight = index < stream->value_count;
        *table++ = is_weight ? (int16_t)(stream->value_bits << 8 | (weight & 0xFF)) : THIMBLE_BAD_CODE;
    }
    return 0;
}

const thimble_coder_type thimble_coder_fixed = {
    table_bytes,       own_table_bytes,       open_fixed, NULL,
    THIMBLE_CODE_ROWS, thimble_bits_finished, THIMBLE_HAS(BITS) ? next_bits_row : NULL,
};
