/* Bits of a stream, the least significant bit of a byte first. */
#ifndef THIMBLE_BIT_READER_H
#define THIMBLE_BIT_READER_H

#include <string.h>

#include "stream.h"

/* At least 25 bits are held afterwards; behind the payload's end come zeros. */
static inline void refill(thimble_reader *reader, const thimble_stream *stream) {
    while (reader->held <= 24) {
        if (reader->position < stream->limit) {
            reader->bits |= (uint32_t)stream->payload[reader->position] << reader->held;
        }
        reader->position++;
        reader->held += 8;
    }
}

/* Bits that are held; `count` below 32. */
static inline uint32_t take_bits(thimble_reader *reader, uint32_t count) {
    uint32_t value = reader->bits & ((1u << count) - 1);
    reader->bits >>= count;
    reader->held -= count;
    return value;
}

static inline uint32_t read_bits(thimble_reader *reader, const thimble_stream *stream, uint32_t count) {
    refill(reader, stream);
    return take_bits(reader, count);
}

/* No bit was taken behind the end; after the last row less than a byte is left, all zeros. */
static inline int bits_finished(const thimble_stream *stream) {
    const thimble_reader *reader = &stream->reader;
    if (reader->position > stream->limit) {
        uint32_t beyond = 8 * (reader->position - stream->limit);
        return reader->held >= beyond && (stream->rows_left > 0 || (reader->held - beyond < 8 && reader->bits == 0));
    }
    return stream->rows_left > 0 ||
           (reader->position == stream->limit && reader->held < 8 && reader->bits == 0);
}

#endif
