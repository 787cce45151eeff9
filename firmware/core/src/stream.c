#include "stream.h"

#include <string.h>

static const int8_t log2_weights[16] = {0, 1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32, 64, -64, -128};

static int is_between(uint32_t value, uint32_t low, uint32_t high) {
    return value >= low && value <= high;
}

static int is_raw(const uint32_t *f) {
    return f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_DENSE &&
           f[THIMBLE_FIELD_WEIGHTS_CODER] == THIMBLE_CODER_FIXED &&
           f[THIMBLE_FIELD_WEIGHTS_VALUE_MAP] == THIMBLE_MAP_IDENTITY && f[THIMBLE_FIELD_WEIGHTS_VALUE_BITS] == 8;
}

static int check_value_bits(const uint32_t *f) {
    static const uint8_t fixed[5][2] = {{2, 8}, {1, 8}, {2, 2}, {4, 4}, {1, 8}}; /* by value map */
    uint32_t bits = f[THIMBLE_FIELD_WEIGHTS_VALUE_BITS], map = f[THIMBLE_FIELD_WEIGHTS_VALUE_MAP];
    if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_BITS) {
        return bits == (map == THIMBLE_MAP_TERNARY ? 2u : 1u);
    }
    switch (f[THIMBLE_FIELD_WEIGHTS_CODER]) {
    case THIMBLE_CODER_RANGE:
        return is_between(bits, 1, 8);
    case THIMBLE_CODER_FIXED:
        return is_between(bits, fixed[map][0], fixed[map][1]);
    default:
        return bits == 0;
    }
}

static int check_gap_bits(const uint32_t *f) {
    uint32_t bits = f[THIMBLE_FIELD_WEIGHTS_GAP_BITS];
    int sparse = f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE;
    if (f[THIMBLE_FIELD_WEIGHTS_CODER] == THIMBLE_CODER_RANGE) {
        return is_between(bits & 7, THIMBLE_RANGE_SHIFT_MIN, THIMBLE_RANGE_SHIFT_MAX) &&
               bits >> THIMBLE_RANGE_SHIFT_BITS <= (sparse ? 0 : f[THIMBLE_FIELD_WEIGHTS_COLS]);
    }
    if (sparse && f[THIMBLE_FIELD_WEIGHTS_CODER] != THIMBLE_CODER_CLASS) {
        return is_between(bits, 1, 8);
    }
    return bits == 0;
}

static int check_value_count(const uint32_t *f) {
    uint32_t count = f[THIMBLE_FIELD_WEIGHTS_VALUE_COUNT], map = f[THIMBLE_FIELD_WEIGHTS_VALUE_MAP];
    uint32_t coder = f[THIMBLE_FIELD_WEIGHTS_CODER];
    if (map == THIMBLE_MAP_CODEBOOK) {
        return is_between(count, 1, 256);
    }
    if (coder == THIMBLE_CODER_HUFFMAN || coder == THIMBLE_CODER_CLASS) {
        return is_between(count, 1, map == THIMBLE_MAP_TERNARY ? 3 : map == THIMBLE_MAP_LOG2 ? 16 : 256);
    }
    return count == 0;
}

static int check_entries(const uint32_t *f) {
    uint32_t entries = f[THIMBLE_FIELD_WEIGHTS_ENTRY_COUNT], most = f[THIMBLE_FIELD_WEIGHTS_MAX_ROW_ENTRIES];
    uint32_t cols = f[THIMBLE_FIELD_WEIGHTS_COLS];
    if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] != THIMBLE_LAYOUT_SPARSE) {
        return entries == 0 && most == 0;
    }
    uint32_t least = f[THIMBLE_FIELD_WEIGHTS_CODER] == THIMBLE_CODER_FIXED ? 0 : 1;
    return is_between(entries, least, f[THIMBLE_FIELD_WEIGHTS_ROWS] * cols) && most <= cols && most <= entries;
}

int32_t thimble_check_weights(const thimble_constant *weights) {
    const uint32_t *f = weights->fields;
    uint32_t rows = f[THIMBLE_FIELD_WEIGHTS_ROWS], cols = f[THIMBLE_FIELD_WEIGHTS_COLS];
    uint32_t layout = f[THIMBLE_FIELD_WEIGHTS_LAYOUT], coder = f[THIMBLE_FIELD_WEIGHTS_CODER];
    uint32_t map = f[THIMBLE_FIELD_WEIGHTS_VALUE_MAP];
    if (layout > THIMBLE_LAYOUT_BITS || coder > THIMBLE_CODER_RANGE || map > THIMBLE_MAP_BINARY) {
        return THIMBLE_ERROR_BAD_CONSTANT;
    }
    uint32_t longest = layout == THIMBLE_LAYOUT_SPARSE ? THIMBLE_MAX_SPARSE_ROW_LENGTH : THIMBLE_MAX_ROW_LENGTH;
    if (cols > longest || (cols != 0 && rows > (uint32_t)THIMBLE_MAX_WEIGHTS / cols)) {
        return THIMBLE_ERROR_LIMIT_EXCEEDED;
    }
    int legal = rows != 0 && cols != 0 && check_value_bits(f) && check_gap_bits(f) && check_value_count(f) &&
                check_entries(f);
    if (layout == THIMBLE_LAYOUT_BITS) {
        legal = legal && coder == THIMBLE_CODER_FIXED && (map == THIMBLE_MAP_BINARY || map == THIMBLE_MAP_TERNARY);
    } else {
        legal = legal && map != THIMBLE_MAP_BINARY;
    }
    if (!legal) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    int32_t features = 1 << coder;
    return layout == THIMBLE_LAYOUT_DENSE ? features : features | (THIMBLE_FEATURE_SPARSE << (layout - 1));
}

/* A full row of 65536 pairs would not fit the 16 bits that count them. */
int thimble_has_pairs(const thimble_constant *weights) {
    return weights->fields[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE &&
           weights->fields[THIMBLE_FIELD_WEIGHTS_COLS] < 65536;
}

static uint32_t table_bytes(const thimble_registry *registry, const thimble_constant *weights) {
    return registry->coders[weights->fields[THIMBLE_FIELD_WEIGHTS_CODER]]->table_bytes(weights);
}

uint32_t thimble_format_stream_bytes(const thimble_registry *registry, const thimble_constant *weights) {
    const uint32_t *f = weights->fields;
    uint32_t row = f[THIMBLE_FIELD_WEIGHTS_COLS];
    if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE) {
        row = 3 * f[THIMBLE_FIELD_WEIGHTS_MAX_ROW_ENTRIES];
    } else if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_BITS || is_raw(f)) {
        row = 0;
    }
    return table_bytes(registry, weights) + row;
}

uint32_t thimble_stream_bytes(const thimble_registry *registry, const thimble_constant *weights, int pairs) {
    const uint32_t *f = weights->fields;
    uint32_t bytes = thimble_format_stream_bytes(registry, weights);
    uint32_t cols = f[THIMBLE_FIELD_WEIGHTS_COLS];
    if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_BITS) {
        bytes = cols;
    } else if (f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_SPARSE && !(pairs && thimble_has_pairs(weights))) {
        uint32_t row = 3 * f[THIMBLE_FIELD_WEIGHTS_MAX_ROW_ENTRIES];
        bytes += cols > row ? cols - row : 0;
    }
    return thimble_align4(bytes);
}

/* The value map: how an index becomes a weight. */
static int32_t open_values(thimble_stream *stream) {
    uint32_t limit = stream->value_count;
    stream->entries = NULL;
    if (stream->value_map == THIMBLE_MAP_CODEBOOK) {
        if (stream->limit < limit) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        stream->entries = (const int8_t *)stream->payload;
        stream->start = limit;
    } else if (stream->value_map == THIMBLE_MAP_TERNARY) {
        const uint8_t *magnitudes = stream->payload;
        if (stream->limit < 2 || !is_between(magnitudes[0], 1, 127) || !is_between(magnitudes[1], 1, 127)) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        stream->ternary[0] = 0;
        stream->ternary[1] = (int8_t)magnitudes[0];
        stream->ternary[2] = (int8_t)-(int32_t)magnitudes[1];
        stream->entries = stream->ternary;
        stream->start = 2;
        limit = limit == 0 || limit > 3 ? 3 : limit;
    } else if (stream->value_map == THIMBLE_MAP_LOG2) {
        stream->entries = log2_weights;
        limit = limit == 0 || limit > 16 ? 16 : limit;
    } else if (limit == 0) {
        limit = 1u << stream->value_bits;
    }
    stream->value_count = limit;
    return 0;
}

int32_t thimble_stream_open(thimble_stream *stream, const thimble_model *model, const thimble_constant *weights,
                            int pairs, uint8_t *scratch) {
    const uint32_t *f = weights->fields;
    memset(stream, 0, sizeof *stream);
    stream->coder = model->registry->coders[f[THIMBLE_FIELD_WEIGHTS_CODER]];
    stream->payload = thimble_payload(model, weights);
    stream->limit = f[THIMBLE_FIELD_WEIGHTS_DATA_BYTES];
    stream->rows = f[THIMBLE_FIELD_WEIGHTS_ROWS];
    stream->cols = f[THIMBLE_FIELD_WEIGHTS_COLS];
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
    if (pairs && thimble_has_pairs(weights)) {
        stream->positions = (uint16_t *)(void *)scratch;
        scratch += 2 * stream->max_row_entries;
    }
    stream->buffer = (int8_t *)(scratch + table_bytes(model->registry, weights));
    if (!is_raw(f)) {
        stream->row = stream->buffer;
        error = stream->coder->open(stream, scratch);
        if (error < 0) {
            return error;
        }
    }
    uint32_t row_bytes = stream->cols;
    if (stream->layout == THIMBLE_LAYOUT_BITS) {
        row_bytes = (stream->cols + 31) / 32 * 4 * stream->value_bits;
        if (stream->value_map == THIMBLE_MAP_TERNARY) {
            stream->start = 4;
            if (stream->limit < 4 || !thimble_is_zero(stream->payload, 2, 4)) {
                return THIMBLE_ERROR_BAD_STREAM;
            }
        }
    }
    if ((is_raw(f) || stream->layout == THIMBLE_LAYOUT_BITS) &&
        (uint64_t)stream->rows * row_bytes != stream->limit - stream->start) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    return thimble_stream_rewind(stream);
}

int32_t thimble_stream_rewind(thimble_stream *stream) {
    stream->rows_left = stream->rows;
    stream->entries_left = stream->entry_count;
    stream->next = 0;
    stream->pending = 0;
    stream->reader.position = stream->start;
    stream->reader.bits = 0;
    stream->reader.held = 0;
    if (thimble_stream_is_raw(stream)) {
        stream->row = NULL; /* raw: the rows of the file */
        return 0;
    }
    return stream->coder->rewind ? stream->coder->rewind(stream) : 0;
}

int32_t thimble_stream_next(thimble_stream *stream) {
    stream->rows_left--;
    if (thimble_stream_is_raw(stream)) {
        stream->row = (const int8_t *)stream->payload + stream->reader.position;
        stream->reader.position += stream->cols;
        return 0;
    }
    if (stream->layout == THIMBLE_LAYOUT_BITS) {
        return stream->coder->next_bits_row(stream);
    }
    int32_t error = stream->coder->next_row[stream->layout](stream);
    if (error < 0) {
        return error;
    }
    int complete = stream->rows_left > 0 || (stream->entries_left == 0 && !stream->pending);
    return complete && stream->coder->finished(stream) ? 0 : THIMBLE_ERROR_BAD_STREAM;
}

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
