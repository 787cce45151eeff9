/* Coder HUFFMAN: canonical codes of up to 15 bits. */
#include "stream_codes.h"

/* By the format's rule: 64 entries of two bytes, and 64 bytes about the lengths. */
#define FORMAT_TABLE_BYTES 192
#define OWN_TABLE_BYTES ((2u << THIMBLE_HUFFMAN_INDEX_BITS) + 2 * (THIMBLE_HUFFMAN_MAX_LENGTH_BITS - THIMBLE_HUFFMAN_INDEX_BITS))

static uint32_t bytes_with(const thimble_constant *weights, uint32_t each) {
    const uint32_t *f = weights->fields;
    uint32_t bytes = each + f[THIMBLE_FIELD_WEIGHTS_VALUE_COUNT];
    if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE) {
        bytes += each + (1u << f[THIMBLE_FIELD_WEIGHTS_GAP_BITS]);
    }
    return bytes;
}

static uint32_t table_bytes(const thimble_constant *weights) {
    return bytes_with(weights, FORMAT_TABLE_BYTES);
}

static uint32_t own_table_bytes(const thimble_constant *weights) {
    return bytes_with(weights, OWN_TABLE_BYTES);
}

/* The number of gaps is even, so that the table behind their symbols is aligned. */
static int32_t open_huffman(thimble_stream *stream, uint8_t *scratch) {
    uint32_t sparse = stream->layout == THIMBLE_LAYOUT_SPARSE;
    uint32_t counts[2] = {1u << stream->gap_bits, stream->value_count};
    int32_t error = 0;
    for (uint32_t alphabet = sparse ? THIMBLE_GAPS : THIMBLE_VALUES; alphabet <= THIMBLE_VALUES && error >= 0; alphabet++) {
        error = thimble_open_codes(stream, alphabet, counts[alphabet], 0, scratch);
        scratch += OWN_TABLE_BYTES + counts[alphabet];
    }
    return error;
}

const thimble_coder_type thimble_coder_huffman = {
    table_bytes, own_table_bytes, open_huffman, NULL, THIMBLE_CODE_ROWS, thimble_bits_finished, NULL,
};
