#include "stream.h"

#include <string.h>

static const int8_t log2_weights[16] = {0, 1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32, 64, -64, -128};

/* A full row of 65536 pairs would not fit the 16 bits that count them. */
int thimble_has_pairs(const thimble_constant *weights) {
    return THIMBLE_IS_LAYOUT(SPARSE, weights->fields[THIMBLE_FIELD_WEIGHTS_LAYOUT]) &&
           weights->fields[THIMBLE_FIELD_WEIGHTS_COLS] < 65536;
}

static const thimble_coder_type *coder_of(const thimble_registry *registry, const thimble_constant *weights) {
    return registry->coders[weights->fields[THIMBLE_FIELD_WEIGHTS_CODER]];
}

uint32_t thimble_format_stream_bytes(const thimble_registry *registry, const thimble_constant *weights) {
    const uint32_t *f = weights->fields;
    uint32_t row = f[THIMBLE_FIELD_WEIGHTS_COLS];
    if (THIMBLE_IS_LAYOUT(SPARSE, f[THIMBLE_FIELD_WEIGHTS_LAYOUT])) {
        row = 3 * f[THIMBLE_FIELD_WEIGHTS_MAX_ROW_ENTRIES];
    } else if (THIMBLE_IS_LAYOUT(BITS, f[THIMBLE_FIELD_WEIGHTS_LAYOUT]) || thimble_is_raw(weights)) {
        row = 0;
    }
    return coder_of(registry, weights)->table_bytes(weights) + row;
}

/* Contexts of the range coder want the whole row. */
static uint32_t part_of(const thimble_constant *weights, int takes) {
    const uint32_t *f = weights->fields;
    uint32_t cols = f[THIMBLE_FIELD_WEIGHTS_COLS], layout = f[THIMBLE_FIELD_WEIGHTS_LAYOUT];
    int has_parts = THIMBLE_HAS_OPERATOR(FULLY_CONNECTED) && (takes & THIMBLE_TAKES_PARTS) &&
                    f[THIMBLE_FIELD_WEIGHTS_CODER] != THIMBLE_CODER_RANGE &&
                    (THIMBLE_IS_LAYOUT(DENSE, layout) || THIMBLE_IS_LAYOUT(BITMAP, layout)) && !thimble_is_raw(weights);
    return has_parts && cols > THIMBLE_PART ? THIMBLE_PART : cols;
}

uint32_t thimble_stream_bytes(const thimble_registry *registry, const thimble_constant *weights, int takes) {
    const uint32_t *f = weights->fields;
    uint32_t row = part_of(weights, takes);
    if (!THIMBLE_HAS_PATH(DECODED) || thimble_is_raw(weights)) {
        return 0;
    }
    if (THIMBLE_IS_LAYOUT(SPARSE, f[THIMBLE_FIELD_WEIGHTS_LAYOUT])) {
        uint32_t entries = 3 * f[THIMBLE_FIELD_WEIGHTS_MAX_ROW_ENTRIES];
        int pairs = !THIMBLE_HAS_DENSE_ROWS || ((takes & THIMBLE_TAKES_PAIRS) && thimble_has_pairs(weights));
        row = pairs || entries > row ? entries : row;
    }
    return thimble_align4(coder_of(registry, weights)->own_table_bytes(weights) + row);
}

/* The value map: how an index becomes a weight. */
static int32_t open_values(thimble_stream *stream) {
    uint32_t limit = stream->value_count;
    stream->entries = NULL;
    if (THIMBLE_IS_MAP(CODEBOOK, stream->value_map)) {
        if (stream->limit < limit) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        stream->entries = (const int8_t *)stream->payload;
        stream->start = limit;
    } else if (THIMBLE_IS_MAP(TERNARY, stream->value_map)) {
        const uint8_t *magnitudes = stream->payload;
        if (stream->limit < 2 || magnitudes[0] - 1u > 126 || magnitudes[1] - 1u > 126) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        stream->ternary[0] = 0;
        stream->ternary[1] = (int8_t)magnitudes[0];
        stream->ternary[2] = (int8_t)-(int32_t)magnitudes[1];
        stream->entries = stream->ternary;
        stream->start = 2;
        limit = limit == 0 || limit > 3 ? 3 : limit;
    } else if (THIMBLE_IS_MAP(LOG2, stream->value_map)) {
        stream->entries = log2_weights;
        limit = limit == 0 || limit > 16 ? 16 : limit;
    } else if (THIMBLE_HAS_MAP(IDENTITY) && limit == 0) {
        limit = 1u << stream->value_bits;
    }
    stream->value_count = limit;
    return 0;
}

int32_t thimble_stream_open(thimble_stream *stream, const thimble_model *model, const thimble_constant *weights,
                            int takes, uint8_t *scratch) {
    const uint32_t *f = weights->fields;
    memset(stream, 0, sizeof *stream);
    stream->coder = coder_of(model->registry, weights);
    stream->payload = thimble_payload(model, weights);
    stream->limit = f[THIMBLE_FIELD_WEIGHTS_DATA_BYTES];
    stream->rows = f[THIMBLE_FIELD_WEIGHTS_ROWS];
    stream->cols = f[THIMBLE_FIELD_WEIGHTS_COLS];
    stream->part = part_of(weights, takes);
    stream->layout = f[THIMBLE_FIELD_WEIGHTS_LAYOUT];
    stream->value_map = f[THIMBLE_FIELD_WEIGHTS_VALUE_MAP];
    stream->value_bits = f[THIMBLE_FIELD_WEIGHTS_VALUE_BITS];
    stream->gap_bits = f[THIMBLE_FIELD_WEIGHTS_GAP_BITS];
    stream->value_count = f[THIMBLE_FIELD_WEIGHTS_VALUE_COUNT];
    stream->entry_count = f[THIMBLE_FIELD_WEIGHTS_ENTRY_COUNT];
    stream->max_row_entries = f[THIMBLE_FIELD_WEIGHTS_MAX_ROW_ENTRIES];
    int32_t error = open_values(stream);
    if (error < 0) {
        return error;
    }
    /* Positions and tables are read in half words; the bytes of the row come behind them. */
    if ((takes & THIMBLE_TAKES_PAIRS) && thimble_has_pairs(weights)) {
        stream->positions = (uint16_t *)(void *)scratch;
        scratch += 2 * stream->max_row_entries;
    }
    stream->buffer = (int8_t *)(scratch + stream->coder->own_table_bytes(weights));
    if (!thimble_is_raw(weights)) {
        stream->row = stream->buffer;
        error = stream->coder->open(stream, scratch);
        if (error < 0) {
            return error;
        }
    }
    uint32_t row_bytes = stream->cols;
    if (THIMBLE_IS_LAYOUT(BITS, stream->layout)) {
        row_bytes = (stream->cols + 31) / 32 * 4 * stream->value_bits;
        if (THIMBLE_IS_MAP(TERNARY, stream->value_map)) {
            stream->start = 4;
            if (stream->limit < 4 || !thimble_is_zero(stream->payload, 2, 4)) {
                return THIMBLE_ERROR_BAD_STREAM;
            }
        }
    }
    if ((thimble_is_raw(weights) || THIMBLE_IS_LAYOUT(BITS, stream->layout)) &&
        (uint64_t)stream->rows * row_bytes != stream->limit - stream->start) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    return thimble_stream_rewind(stream);
}

int32_t thimble_stream_rewind(thimble_stream *stream) {
    stream->rows_left = stream->rows;
    stream->entries_left = stream->entry_count;
    stream->left = 0;
    stream->next = 0;
    stream->weight = 0;
    stream->pending = 0;
    stream->reader.position = stream->start;
    stream->reader.bits = 0;
    if (thimble_stream_is_raw(stream)) {
        stream->row = NULL; /* raw: the rows of the file */
        return 0;
    }
    return stream->coder->rewind ? stream->coder->rewind(stream) : 0;
}

int32_t thimble_stream_next(thimble_stream *stream) {
    if (stream->left == 0) {
        stream->rows_left--;
        stream->left = stream->cols;
    }
    stream->count = stream->left < stream->part ? stream->left : stream->part;
    stream->left -= stream->count;
    if (thimble_stream_is_raw(stream)) {
        stream->row = (const int8_t *)stream->payload + stream->reader.position;
        stream->reader.position += stream->cols;
        return 0;
    }
    if (THIMBLE_IS_LAYOUT(BITS, stream->layout)) {
        return stream->coder->next_bits_row(stream);
    }
    int32_t error = stream->coder->next_row[stream->layout](stream);
    if (error < 0 || stream->left > 0) {
        return error;
    }
    int complete = stream->rows_left > 0 || (stream->entries_left == 0 && !stream->pending);
    return complete && stream->coder->finished(stream) ? 0 : THIMBLE_ERROR_BAD_STREAM;
}
