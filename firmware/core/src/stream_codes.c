#include "stream_codes.h"

/* At least 25 bits from a place on. It may lie up to three bytes behind the payload's end, where the next payload or the
 * file's trailer follows: what is read there is found too long when the row is done. */
THIMBLE_ALWAYS_INLINE uint32_t peek(const uint8_t *byte, uint32_t bit) {
    return thimble_load_u32(byte) >> bit;
}

/* The code at `word`, at least 15 bits, that `entry` starts: an entry that is not negative, or an error. Not for gaps of
 * CLASS, which may be longer. */
static int32_t read_long(const thimble_stream *stream, uint32_t alphabet, int32_t entry, uint32_t word) {
    if (entry == THIMBLE_BAD_CODE) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    if (THIMBLE_HAS(CLASS) && (!THIMBLE_HAS(HUFFMAN) || entry >= THIMBLE_CLASS_CODE)) {
        uint32_t length = (uint32_t)entry & 7, token = (uint32_t)entry >> 3 & 31, raw = (token >> 2) - 2;
        uint32_t index = (4 | (token & 3)) << raw | (word >> length & ((1u << raw) - 1));
        int32_t bits = (int32_t)((length + raw) << 8);
        return index < stream->value_count ? bits | (uint8_t)thimble_weight_of(stream, index) : THIMBLE_ERROR_BAD_STREAM;
    }
    const thimble_codes *codes = &stream->codes[alphabet];
    const uint16_t *count = codes->counts;
    const uint8_t *symbols = codes->symbols;
    uint32_t rank = (uint32_t)entry & 0xFF;
    word >>= THIMBLE_HUFFMAN_INDEX_BITS;
    /* `rank` is the place of the bits so far among those of this length that no code ends with, or that one ends with. */
    for (int32_t length = THIMBLE_HUFFMAN_INDEX_BITS + 1; length <= THIMBLE_HUFFMAN_MAX_LENGTH_BITS; length++, count++) {
        rank = 2 * rank + (word & 1);
        word >>= 1;
        if (rank < *count) {
            return length << 8 | symbols[rank];
        }
        rank -= *count;
        symbols += *count;
    }
    return THIMBLE_ERROR_BAD_STREAM;
}

/* Symbols of up to 16 bits that may be read before a place is compared with the payload's end; 0 behind it. */
static inline uint32_t safe_count(const thimble_stream *stream, const uint8_t *byte) {
    const uint8_t *end = stream->payload + stream->limit;
    return byte > end ? 0 : (uint32_t)(end - byte) / 2 + 1;
}

static inline void keep_place(thimble_stream *stream, const uint8_t *byte, uint32_t bit) {
    stream->reader.position = (uint32_t)(byte - stream->payload);
    stream->reader.bits = bit;
}

int32_t thimble_next_dense_row(thimble_stream *stream) {
    const int16_t *table = stream->codes[THIMBLE_VALUES].table;
    const uint8_t *byte = stream->payload + stream->reader.position;
    uint32_t mask = stream->codes[THIMBLE_VALUES].mask, bit = stream->reader.bits, left = stream->count;
    int8_t *row = stream->buffer;
    while (left > 0) {
        uint32_t count = safe_count(stream, byte);
        if (count == 0) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        count = count < left ? count : left;
        left -= count;
        int8_t *end = row + count, *three = count > 2 ? end - 2 : row;
        while (row < end) {
            uint32_t word;
            int32_t entry, length;
/* A code of no more bits than the index, of which three fit what is peeked. */
#define TAKE                                                                                                           \
    entry = table[word & mask];                                                                                        \
    length = entry >> 8;                                                                                               \
    if (length < 0) {                                                                                                  \
        goto long_code;                                                                                                \
    }                                                                                                                  \
    *row++ = (int8_t)entry;                                                                                            \
    word >>= length;                                                                                                   \
    bit += (uint32_t)length
            while (row < three) {
                word = peek(byte, bit);
                TAKE;
                TAKE;
                TAKE;
                byte += bit >> 3, bit &= 7;
            }
            if (row == end) {
                break;
            }
        long_code:
            byte += bit >> 3, bit &= 7;
            word = peek(byte, bit);
            entry = table[word & mask];
            if (entry < 0) {
                entry = read_long(stream, THIMBLE_VALUES, entry, word);
                if (entry < 0) {
                    return entry;
                }
            }
            *row++ = (int8_t)entry;
            bit += (uint32_t)entry >> 8;
            byte += bit >> 3, bit &= 7;
        }
    }
    keep_place(stream, byte, bit);
    return 0;
}

int32_t thimble_next_bitmap_row(thimble_stream *stream) {
    const int16_t *table = stream->codes[THIMBLE_VALUES].table;
    const uint8_t *byte = stream->payload + stream->reader.position;
    uint32_t mask = stream->codes[THIMBLE_VALUES].mask, bit = stream->reader.bits, left = stream->count;
    int8_t *row = stream->buffer;
    while (left > 0) {
        uint32_t count = safe_count(stream, byte);
        if (count == 0) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        count = count < left ? count : left;
        left -= count;
        for (const int8_t *end = row + count; row < end;) {
            uint32_t word = peek(byte, bit);
            int32_t entry = 0;
            bit++;
            if (word & 1) {
                word >>= 1;
                entry = table[word & mask];
                if (entry < 0) {
                    entry = read_long(stream, THIMBLE_VALUES, entry, word);
                    if (entry < 0) {
                        return entry;
                    }
                }
                bit += (uint32_t)entry >> 8;
            }
            *row++ = (int8_t)entry;
            byte += bit >> 3, bit &= 7;
        }
    }
    keep_place(stream, byte, bit);
    return 0;
}

/* A gap of CLASS whose raw bits do not fit the index, plus 1; the place moves behind it. */
static uint32_t read_long_gap(int32_t entry, const uint8_t **byte, uint32_t *bit) {
    uint32_t size = (uint32_t)entry >> 3 & 31, start = *bit + ((uint32_t)entry & 7);
    uint32_t gap = 1u << size | (peek(*byte + (start >> 3), start & 7) & ((1u << size) - 1));
    start += size;
    *byte += start >> 3;
    *bit = start & 7;
    return gap;
}

int32_t thimble_next_sparse_row(thimble_stream *stream) {
    const thimble_codes gaps = stream->codes[THIMBLE_GAPS], values = stream->codes[THIMBLE_VALUES];
    const uint8_t *byte = stream->payload + stream->reader.position, *end = stream->payload + stream->limit;
    uint32_t bit = stream->reader.bits, next = stream->next, left = stream->entries_left;
    const uint32_t cols = stream->cols;
    int32_t weight = stream->weight;
    uint16_t *positions = stream->positions;
    int8_t *row = stream->buffer, *full = row + stream->max_row_entries;
    if (!thimble_gives_pairs(stream)) {
        memset(row, 0, cols);
    }
    for (;;) {
        /* The entry that is decoded ends one before `next`. A row starts with what the row before left over. */
        if (next > cols) {
            next -= cols;
            stream->pending = 1;
            break;
        }
        if (weight != 0) {
            if (thimble_gives_pairs(stream)) {
                if (row == full) {
                    return THIMBLE_ERROR_BAD_STREAM;
                }
                *positions++ = (uint16_t)(next - 1);
                *row++ = (int8_t)weight;
            } else {
                if (full-- == stream->buffer) {
                    return THIMBLE_ERROR_BAD_STREAM;
                }
                row[next - 1] = (int8_t)weight;
            }
        }
        if (left == 0) {
            stream->pending = 0;
            weight = 0; /* nothing is left over */
            break;
        }
        left--;
        if (byte > end) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        uint32_t word = peek(byte, bit);
        int32_t entry = gaps.table[word & gaps.mask];
        if (entry >= 0) {
            word >>= entry >> 8;
            bit += (uint32_t)entry >> 8;
            next += (uint32_t)(uint8_t)entry + 1;
        } else {
            if (THIMBLE_HAS(CLASS) && entry >= THIMBLE_CLASS_CODE && entry != THIMBLE_BAD_CODE) {
                next += read_long_gap(entry, &byte, &bit);
            } else {
                entry = read_long(stream, THIMBLE_GAPS, entry, word);
                if (entry < 0) {
                    return entry;
                }
                bit += (uint32_t)entry >> 8;
                byte += bit >> 3, bit &= 7;
                next += (uint32_t)(uint8_t)entry + 1;
            }
            word = peek(byte, bit);
        }
        entry = values.table[word & values.mask];
        if (entry < 0) {
            entry = read_long(stream, THIMBLE_VALUES, entry, word);
            if (entry < 0) {
                return entry;
            }
        }
        weight = (int8_t)entry;
        bit += (uint32_t)entry >> 8;
        byte += bit >> 3, bit &= 7;
    }
    keep_place(stream, byte, bit);
    stream->next = next;
    stream->entries_left = left;
    stream->weight = (int8_t)weight;
    if (thimble_gives_pairs(stream)) {
        stream->count = (uint32_t)(row - stream->buffer);
    }
    return 0;
}

/* No bit was taken behind the end; after the last row less than a byte is left, all zeros. */
int thimble_bits_finished(const thimble_stream *stream) {
    uint32_t at = stream->reader.position, bit = stream->reader.bits, end = at + (bit != 0);
    if (stream->rows_left > 0 || end > stream->limit) {
        return end <= stream->limit;
    }
    return end == stream->limit && (bit == 0 || stream->payload[at] >> bit == 0);
}
