/* Coder HUFFMAN: canonical codes of up to 15 bits. The next 6 bits index a table of symbol << 4 | length, 0 for a
 * longer code, which is then read bit by bit with the number of codes of each length. */
#include "bit_reader.h"

#define USES_NEIGHBOURS 0

enum { GAPS, VALUES };

static uint32_t read_long_symbol(thimble_reader *reader, const uint16_t *table, const uint8_t *symbols) {
    uint32_t code = 0, first = 0, index = 0;
    for (uint32_t length = 1; length <= THIMBLE_HUFFMAN_MAX_LENGTH_BITS; length++) {
        uint32_t count = table[THIMBLE_HUFFMAN_COUNTS_OFFSET / 2 + length];
        code = code << 1 | (reader->bits >> (length - 1) & 1);
        if (code - first < count) {
            take_bits(reader, length);
            return symbols[index + code - first];
        }
        index += count;
        first = (first + count) << 1;
    }
    return THIMBLE_NO_SYMBOL;
}

static inline uint32_t read_symbol(thimble_reader *reader, const thimble_stream *stream, uint32_t alphabet) {
    const uint16_t *table = (const uint16_t *)(const void *)stream->tables[alphabet];
    refill(reader, stream);
    uint32_t entry = table[reader->bits & 63];
    if (entry == 0) {
        return read_long_symbol(reader, table, stream->symbols[alphabet]);
    }
    take_bits(reader, entry & 15);
    return entry >> 4;
}

static inline uint32_t read_value(thimble_reader *reader, thimble_stream *stream, int32_t before, int32_t back) {
    (void)before, (void)back;
    return read_symbol(reader, stream, VALUES);
}

static inline uint32_t read_gap(thimble_reader *reader, thimble_stream *stream) {
    return read_symbol(reader, stream, GAPS);
}

static inline uint32_t read_flag(thimble_reader *reader, thimble_stream *stream, int32_t before, int32_t back) {
    (void)before, (void)back;
    return read_bits(reader, stream, 1);
}

static inline int32_t identity(const thimble_stream *stream, uint32_t index) {
    (void)stream;
    return (int32_t)(index >> 1 ^ (0u - (index & 1)));
}

#include "rows.h"

static uint32_t table_bytes(const thimble_constant *weights) {
    const uint32_t *f = weights->fields;
    uint32_t bytes = THIMBLE_HUFFMAN_TABLE_BYTES + f[THIMBLE_FIELD_WEIGHTS_VALUE_COUNT];
    if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE) {
        bytes += THIMBLE_HUFFMAN_TABLE_BYTES + (1u << f[THIMBLE_FIELD_WEIGHTS_GAP_BITS]);
    }
    return bytes;
}

/* The number of gaps is even, so that the table behind their symbols is aligned. */
static int32_t open_huffman(thimble_stream *stream, uint8_t *scratch) {
    uint32_t sparse = stream->layout == THIMBLE_LAYOUT_SPARSE;
    uint32_t counts[2] = {1u << stream->gap_bits, stream->value_count};
    int32_t error = 0;
    for (uint32_t alphabet = sparse ? GAPS : VALUES; alphabet <= VALUES && error >= 0; alphabet++) {
        stream->tables[alphabet] = scratch;
        stream->symbols[alphabet] = scratch + THIMBLE_HUFFMAN_TABLE_BYTES;
        error = thimble_build_table(stream, counts[alphabet], scratch, stream->symbols[alphabet]);
        scratch += THIMBLE_HUFFMAN_TABLE_BYTES + counts[alphabet];
    }
    return error;
}

const thimble_coder_type thimble_coder_huffman = {
    table_bytes, open_huffman, NULL, THIMBLE_ROWS, bits_finished, NULL,
};
