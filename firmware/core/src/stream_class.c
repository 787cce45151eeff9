/* Coder CLASS: Huffman tokens of up to 6 bits, followed by raw bits. */
#include "stream_codes.h"

#define OWN_TABLE_BYTES (2u << THIMBLE_CLASS_INDEX_BITS)

static uint32_t alphabet_count(const thimble_constant *weights) {
    return weights->fields[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE ? 2 : 1;
}

/* By the format's rule: 64 entries of a byte. */
static uint32_t table_bytes(const thimble_constant *weights) {
    return 64 * alphabet_count(weights);
}

static uint32_t own_table_bytes(const thimble_constant *weights) {
    return OWN_TABLE_BYTES * alphabet_count(weights);
}

static int32_t open_class(thimble_stream *stream, uint8_t *scratch) {
    uint32_t sparse = stream->layout == THIMBLE_LAYOUT_SPARSE;
    int32_t error = 0;
    for (uint32_t alphabet = sparse ? THIMBLE_GAPS : THIMBLE_VALUES; alphabet <= THIMBLE_VALUES && error >= 0; alphabet++) {
        uint32_t most = alphabet == THIMBLE_GAPS ? THIMBLE_CLASS_GAP_MAX + 1 : THIMBLE_CLASS_MAX_TOKENS;
        if (stream->start >= stream->limit) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        uint32_t count = stream->payload[stream->start];
        stream->start++;
        if (count == 0 || count > most) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        error = thimble_open_codes(stream, alphabet, count, 1, scratch);
        scratch += OWN_TABLE_BYTES;
    }
    return error;
}

const thimble_coder_type thimble_coder_class = {
    table_bytes, own_table_bytes, open_class, NULL, THIMBLE_CODE_ROWS, thimble_bits_finished, NULL,
};
