/* Tables of canonical Huffman codes, for the coders HUFFMAN and CLASS. */
#include <string.h>

#include "stream_codes.h"

enum { LONGEST = THIMBLE_HUFFMAN_MAX_LENGTH_BITS, INDEX_BITS = THIMBLE_HUFFMAN_INDEX_BITS };

static uint32_t nibble_at(const uint8_t *bytes, uint32_t index) {
    uint32_t byte = bytes[index >> 1];
    return index & 1 ? byte >> 4 : byte & 15;
}

/* Counts the codes of each length and finds the first one of each. Returns 0 unless every code is used, or one symbol
 * alone has the code 0, which leaves the code 1 unused. */
static int count_codes(const uint8_t *lengths, uint32_t count, uint32_t longest, uint16_t *counts, uint16_t *first) {
    uint32_t code = 0, used = 0;
    memset(counts, 0, (LONGEST + 1) * sizeof *counts);
    for (uint32_t symbol = 0; symbol < ((count + 1) & ~1u); symbol++) {
        uint32_t length = nibble_at(lengths, symbol);
        if (length > (symbol < count ? longest : 0)) {
            return 0;
        }
        counts[length]++;
    }
    for (uint32_t length = 1; length <= LONGEST; length++) {
        code <<= 1;
        first[length] = (uint16_t)code;
        code += counts[length];
        used += counts[length];
        if (code > 1u << length) {
            return 0; /* over-subscribed */
        }
    }
    return code == 1u << LONGEST || (used == 1 && counts[1] == 1);
}

/* Enters every index whose lowest `length` bits are `code`. */
static void enter(int16_t *table, uint32_t mask, uint32_t code, uint32_t length, int32_t entry) {
    for (; code <= mask; code += 1u << length) {
        table[code] = (int16_t)entry;
    }
}

/* CLASS: a token, with all its raw bits where they fit the index. */
static void enter_token(const thimble_stream *stream, uint32_t alphabet, int16_t *table, uint32_t code, uint32_t length,
                        uint32_t token) {
    const uint32_t mask = (1u << THIMBLE_CLASS_INDEX_BITS) - 1;
    uint32_t raw = token, base = 1u << token;
    if (alphabet == THIMBLE_VALUES) {
        raw = token < THIMBLE_CLASS_DIRECT_VALUES ? 0 : (token >> 2) - 2;
        base = raw == 0 ? token : (4 | (token & 3)) << raw;
    }
    if (length + raw > THIMBLE_CLASS_INDEX_BITS) {
        enter(table, mask, code, length, THIMBLE_CLASS_CODE | (int32_t)(token << 3 | length));
        return;
    }
    for (uint32_t bits = 0; bits < 1u << raw; bits++) {
        uint32_t symbol = base + bits;
        int32_t entry = (int32_t)((length + raw) << 8);
        if (alphabet == THIMBLE_GAPS) {
            entry |= (uint8_t)(symbol - 1);
        } else if (symbol < stream->value_count) {
            entry |= (uint8_t)thimble_weight_of(stream, symbol);
        } else {
            entry = THIMBLE_BAD_CODE;
        }
        enter(table, mask, code | bits << length, length + raw, entry);
    }
}

/* The `length` bits of a code, the first one lowest. */
static uint32_t reversed(uint32_t code, uint32_t length) {
    uint32_t bits = 0;
    for (; length > 0; length--, code >>= 1) {
        bits = bits << 1 | (code & 1);
    }
    return bits;
}

int32_t thimble_open_codes(thimble_stream *stream, uint32_t alphabet, uint32_t count, int is_class, uint8_t *scratch) {
    thimble_codes *codes = &stream->codes[alphabet];
    is_class = THIMBLE_HAS(CLASS) && (is_class || !THIMBLE_HAS(HUFFMAN));
    const uint8_t *lengths = stream->payload + stream->start;
    uint32_t stored = (count + 1) / 2, longest = is_class ? THIMBLE_CLASS_MAX_LENGTH_BITS : LONGEST;
    uint16_t counts[LONGEST + 1], next[LONGEST + 1], places[LONGEST + 1];
    if (stream->limit - stream->start < stored || !count_codes(lengths, count, longest, counts, next)) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    stream->start += stored;
    int16_t *table = (int16_t *)(void *)scratch;
    uint32_t size = 1u << (is_class ? THIMBLE_CLASS_INDEX_BITS : INDEX_BITS);
    memset(table, 0xFF, size * sizeof *table); /* THIMBLE_BAD_CODE */
    uint16_t *long_counts = (uint16_t *)(void *)(table + size);
    uint8_t *symbols = (uint8_t *)(long_counts + LONGEST - INDEX_BITS);
    codes->table = table;
    codes->mask = size - 1;
    if (!is_class) {
        codes->counts = long_counts;
        codes->symbols = symbols;
        uint32_t place = 0;
        for (uint32_t length = INDEX_BITS + 1; length <= LONGEST; length++) {
            long_counts[length - INDEX_BITS - 1] = counts[length];
            places[length] = (uint16_t)place;
            place += counts[length];
        }
        uint32_t inner = next[INDEX_BITS] + counts[INDEX_BITS];
        for (uint32_t code = inner; code < size; code++) {
            table[reversed(code, INDEX_BITS)] = (int16_t)(THIMBLE_LONG_CODE | (int32_t)(code - inner));
        }
    }
    for (uint32_t symbol = 0; symbol < count; symbol++) {
        uint32_t length = nibble_at(lengths, symbol);
        if (length == 0) {
            continue;
        }
        uint32_t code = next[length]++;
        uint8_t entry = alphabet == THIMBLE_GAPS ? (uint8_t)symbol : 0;
        if (is_class) {
            enter_token(stream, alphabet, table, reversed(code, length), length, symbol);
            continue;
        }
        if (alphabet == THIMBLE_VALUES) {
            entry = (uint8_t)thimble_weight_of(stream, symbol);
        }
        if (length <= INDEX_BITS) {
            enter(table, codes->mask, reversed(code, length), length, (int32_t)(length << 8) | entry);
        } else {
            symbols[places[length]++] = entry;
        }
    }
    return 0;
}
