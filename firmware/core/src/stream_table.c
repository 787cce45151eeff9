/* Decoding tables of canonical Huffman codes, for the coders HUFFMAN and CLASS. */
#include <string.h>

#include "stream.h"

static uint32_t nibble_at(const uint8_t *bytes, uint32_t index) {
    uint32_t byte = bytes[index >> 1];
    return index & 1 ? byte >> 4 : byte & 15;
}

int32_t thimble_build_table(thimble_stream *stream, uint32_t count, uint8_t *table, uint8_t *symbols) {
    uint32_t longest = symbols ? THIMBLE_HUFFMAN_MAX_LENGTH_BITS : THIMBLE_CLASS_MAX_LENGTH_BITS;
    uint32_t stored = (count + 1) / 2, code = 0, used = 0;
    const uint8_t *lengths = stream->payload + stream->start;
    uint16_t *wide = (uint16_t *)(void *)table;
    if (stream->limit - stream->start < stored) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    memset(table, 0, symbols ? THIMBLE_HUFFMAN_TABLE_BYTES : THIMBLE_CLASS_TABLE_BYTES);
    for (uint32_t length = 1; length <= longest; length++) {
        uint32_t before = used;
        code <<= 1;
        for (uint32_t symbol = 0; symbol < count; symbol++) {
            if (nibble_at(lengths, symbol) != length) {
                continue;
            }
            if (symbols) {
                symbols[used] = (uint8_t)symbol;
            }
            used++;
            if (length <= 6 && code < 1u << length) {
                uint32_t place = 0; /* the code, first bit lowest */
                for (uint32_t bit = 0; bit < length; bit++) {
                    place |= (code >> bit & 1) << (length - 1 - bit);
                }
                for (; place < 64; place += 1u << length) {
                    if (symbols) {
                        wide[place] = (uint16_t)(symbol << 4 | length);
                    } else {
                        table[place] = (uint8_t)(symbol << 3 | length);
                    }
                }
            }
            code++;
        }
        if (symbols) {
            wide[THIMBLE_HUFFMAN_COUNTS_OFFSET / 2 + length] = (uint16_t)(used - before);
        }
        if (code > 1u << length) {
            return THIMBLE_ERROR_BAD_STREAM; /* over-subscribed */
        }
    }
    for (uint32_t symbol = 0; symbol < 2 * stored; symbol++) {
        if (nibble_at(lengths, symbol) > (symbol < count ? longest : 0)) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
    }
    /* One symbol alone has a code of one bit, and leaves the other one unused. */
    if (code != 1u << longest && !(used == 1 && code == 1u << (longest - 1))) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    stream->start += stored;
    return 0;
}
