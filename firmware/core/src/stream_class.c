/* Coder CLASS: Huffman tokens of up to 6 bits, one table look-up each, followed by raw bits. */
#include "bit_reader.h"

#define USES_NEIGHBOURS 0

enum { GAPS, VALUES };

static inline uint32_t read_token(thimble_reader *reader, const thimble_stream *stream, uint32_t alphabet) {
    refill(reader, stream);
    uint32_t entry = stream->tables[alphabet][reader->bits & 63];
    if (entry == 0) {
        return THIMBLE_NO_SYMBOL;
    }
    take_bits(reader, entry & 7);
    return entry >> 3;
}

static inline uint32_t read_value(thimble_reader *reader, thimble_stream *stream, int32_t before, int32_t back) {
    (void)before, (void)back;
    uint32_t token = read_token(reader, stream, VALUES);
    if (token < THIMBLE_CLASS_DIRECT_VALUES || token == THIMBLE_NO_SYMBOL) {
        return token;
    }
    /* 19 bits are held still. Token 16 + 4 (n - 4) + two bits stands for 1, these two bits, n - 2 raw bits. */
    uint32_t raw = (token >> 2) - 2;
    return (4 | (token & 3)) << raw | take_bits(reader, raw);
}

static inline uint32_t read_gap(thimble_reader *reader, thimble_stream *stream) {
    uint32_t token = read_token(reader, stream, GAPS);
    if (token == THIMBLE_NO_SYMBOL) {
        return token;
    }
    return (1u << token | read_bits(reader, stream, token)) - 1;
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
    return weights->fields[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE ? 2 * THIMBLE_CLASS_TABLE_BYTES
                                                                                  : THIMBLE_CLASS_TABLE_BYTES;
}

static int32_t open_class(thimble_stream *stream, uint8_t *scratch) {
    uint32_t sparse = stream->layout == THIMBLE_LAYOUT_SPARSE;
    int32_t error = 0;
    for (uint32_t alphabet = sparse ? GAPS : VALUES; alphabet <= VALUES && error >= 0; alphabet++) {
        uint32_t most = alphabet == GAPS ? THIMBLE_CLASS_GAP_MAX + 1 : THIMBLE_CLASS_MAX_TOKENS;
        if (stream->start >= stream->limit) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        uint32_t count = stream->payload[stream->start];
        stream->start++;
        if (count == 0 || count > most) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        stream->tables[alphabet] = scratch;
        error = thimble_build_table(stream, count, scratch, NULL);
        scratch += THIMBLE_CLASS_TABLE_BYTES;
    }
    return error;
}

const thimble_coder_type thimble_coder_class = {
    table_bytes, open_class, NULL, THIMBLE_ROWS, bits_finished, NULL,
};
