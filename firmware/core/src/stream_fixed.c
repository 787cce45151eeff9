/* Coder FIXED: fields of value_bits and gap_bits; and layout BITS, which goes with it. */
#include "bit_reader.h"

#define USES_NEIGHBOURS 0

static inline uint32_t read_value(thimble_reader *reader, thimble_stream *stream, int32_t before, int32_t back) {
    (void)before, (void)back;
    return read_bits(reader, stream, stream->value_bits);
}

static inline uint32_t read_gap(thimble_reader *reader, thimble_stream *stream) {
    return read_bits(reader, stream, stream->gap_bits);
}

static inline uint32_t read_flag(thimble_reader *reader, thimble_stream *stream, int32_t before, int32_t back) {
    (void)before, (void)back;
    return read_bits(reader, stream, 1);
}

static inline int32_t identity(const thimble_stream *stream, uint32_t index) {
    uint32_t sign = 1u << (stream->value_bits - 1);
    return (int32_t)((index ^ sign) - sign);
}

#include "rows.h"

static int32_t next_bits_row(thimble_stream *stream) {
    uint32_t cols = stream->cols, plane = (cols + 31) / 32 * 4;
    const uint8_t *bits = stream->payload + stream->reader.position;
    int ternary = stream->value_map == THIMBLE_MAP_TERNARY;
    int8_t positive = ternary ? stream->ternary[1] : 1, negative = ternary ? stream->ternary[2] : -1;
    for (uint32_t i = 0; i < plane; i++) {
        uint32_t used = i * 8 >= cols ? 0 : cols - i * 8 >= 8 ? 255u : (1u << (cols - i * 8)) - 1;
        if ((bits[i] & ~used) != 0 || (ternary && (bits[plane + i] & (uint32_t)~bits[i]) != 0)) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
    }
    for (uint32_t j = 0; j < cols; j++) {
        int bit = bits[j >> 3] >> (j & 7) & 1;
        if (ternary) {
            int minus = bits[plane + (j >> 3)] >> (j & 7) & 1;
            stream->buffer[j] = minus ? negative : bit ? positive : 0;
        } else {
            stream->buffer[j] = bit ? positive : negative;
        }
    }
    stream->reader.position += ternary ? 2 * plane : plane;
    return 0;
}

static uint32_t table_bytes(const thimble_constant *weights) {
    (void)weights;
    return 0;
}

static int32_t open_fixed(thimble_stream *stream, uint8_t *scratch) {
    (void)stream, (void)scratch;
    return 0;
}

const thimble_coder_type thimble_coder_fixed = {
    table_bytes,   open_fixed,   NULL, THIMBLE_ROWS,
    bits_finished, THIMBLE_HAS(BITS) ? next_bits_row : NULL,
};
