/* Coder RANGE: an adaptive binary range decoder in the manner of LZMA (7-Zip's LZMA specification), with
 * 31-bit words. In a reader, `bits` is the code. */
#include <string.h>

#include "build.h"
#include "stream.h"

#define INITIAL_RANGE ((1u << THIMBLE_RANGE_TOP_BITS) - 1)
#define PROBABILITY_ONE (1u << THIMBLE_RANGE_PROBABILITY_BITS)
#define NO_GAP 0xFFFFFFFFu
#define GAP_CONTEXTS (1u << THIMBLE_RANGE_GAP_CLASS_BITS)

static inline uint32_t range_byte(thimble_reader *reader, const thimble_stream *stream) {
    uint32_t byte = reader->position < stream->limit ? stream->payload[reader->position] : 0;
    reader->position++;
    return byte;
}

/* A bit that is 0 or 1 alike. */
static uint32_t read_even(thimble_reader *reader, const thimble_stream *stream) {
    uint32_t bound = reader->range >> 1, bit = reader->bits >= bound;
    reader->bits -= bit ? bound : 0;
    reader->range = bit ? reader->range - bound : bound;
    /* It ends: probabilities keep above 0 and below one, so that neither part is ever empty. */
    while (reader->range < 1u << THIMBLE_RANGE_RENORMALISE_BITS) {
        reader->range <<= 8;
        reader->bits = reader->bits << 8 | range_byte(reader, stream);
    }
    return bit;
}

/* A number of `depth` bits, whose first bit has the context `root`. All that is hot here stands in local variables. */
static uint32_t read_tree(thimble_reader *reader, const thimble_stream *stream, uint32_t base, uint32_t depth,
                          uint32_t root) {
    uint32_t code = reader->bits, range = reader->range, shift = stream->gap_bits & 7, end = 1u << depth, node = 1;
    uint16_t *probabilities = stream->probabilities + base, *probability = stream->probabilities + root;
    do {
        uint32_t p = *probability, bound = (range >> THIMBLE_RANGE_PROBABILITY_BITS) * p;
        node <<= 1;
        if (code < bound) {
            range = bound;
            p += (PROBABILITY_ONE - p) >> shift;
        } else {
            range -= bound;
            code -= bound;
            p -= p >> shift;
            node++;
        }
        *probability = (uint16_t)p;
        while (range < 1u << THIMBLE_RANGE_RENORMALISE_BITS) {
            range <<= 8;
            code = code << 8 | range_byte(reader, stream);
        }
        probability = probabilities + node;
    } while (node < end);
    reader->bits = code;
    reader->range = range;
    return node - end;
}

/* One bit. */
static uint32_t decide_by(thimble_reader *reader, const thimble_stream *stream, uint32_t context) {
    return read_tree(reader, stream, context, 1, context);
}

static inline uint32_t sign_of(int32_t weight) {
    return weight == 0 ? 0 : weight > 0 ? 1 : 2;
}

THIMBLE_NOT_INLINED static uint32_t read_value(thimble_reader *reader, thimble_stream *stream, int32_t before, int32_t back) {
    uint32_t root = 1;
    if (stream->layout != THIMBLE_LAYOUT_SPARSE) {
        root = (1u << stream->value_bits) + 3 * sign_of(before) + sign_of(back);
    }
    return read_tree(reader, stream, 0, stream->value_bits, root);
}

static inline uint32_t read_gap(thimble_reader *reader, thimble_stream *stream) {
    uint32_t base = 1u << stream->value_bits;
    uint32_t size = read_tree(reader, stream, base, THIMBLE_RANGE_GAP_CLASS_BITS, base + 1);
    if (size > THIMBLE_CLASS_GAP_MAX) {
        return NO_GAP;
    }
    uint32_t gap = 1;
    for (uint32_t place = 0; place < size; place++) {
        uint32_t bit = place == 0 ? decide_by(reader, stream, base + GAP_CONTEXTS + size)
                                  : read_even(reader, stream);
        gap = gap << 1 | bit;
    }
    return gap - 1;
}

static inline uint32_t read_flag(thimble_reader *reader, thimble_stream *stream, int32_t before, int32_t back) {
    uint32_t flags = (1u << stream->value_bits) + THIMBLE_RANGE_SIGN_CONTEXTS;
    return decide_by(reader, stream, flags + 2u * (before != 0) + (back != 0));
}

static inline int32_t identity(const thimble_stream *stream, uint32_t index) {
    int32_t half = 1 << (stream->value_bits - 1);
    return (int32_t)index < half ? (int32_t)index : half - 1 - (int32_t)index;
}

static inline int8_t weight_of(const thimble_stream *stream, uint32_t index) {
    int has_entries = !THIMBLE_HAS_MAP(IDENTITY) || stream->entries;
    return has_entries ? stream->entries[index] : (int8_t)identity(stream, index);
}

/* The weight `distance` positions back in scan order: the row buffer still holds the row before from `j` on. */
static inline int32_t back_of(const thimble_stream *stream, uint32_t j) {
    uint32_t distance = stream->gap_bits >> THIMBLE_RANGE_SHIFT_BITS;
    if (distance == 0) {
        return 0;
    }
    return stream->buffer[j >= distance ? j - distance : j + stream->cols - distance];
}

/* DENSE and BITMAP, whose weights have a flag first. */
static int32_t next_whole_row(thimble_stream *stream) {
    thimble_reader reader = stream->reader;
    uint32_t cols = stream->cols;
    int8_t *row = stream->buffer;
    int32_t before = row[cols - 1];
    for (uint32_t j = 0; j < cols; j++) {
        int32_t back = back_of(stream, j);
        int8_t weight = 0;
        if (!THIMBLE_IS_LAYOUT(BITMAP, stream->layout) || read_flag(&reader, stream, before, back)) {
            uint32_t index = read_value(&reader, stream, before, back);
            if (index >= stream->value_count) {
                return THIMBLE_ERROR_BAD_STREAM;
            }
            weight = weight_of(stream, index);
        }
        row[j] = weight;
        before = weight;
    }
    stream->reader = reader;
    return 0;
}

static int32_t next_sparse_row(thimble_stream *stream) {
    thimble_reader reader = stream->reader;
    uint32_t cols = stream->cols, next = stream->next, left = stream->entries_left, kept = 0;
    int8_t weight = stream->weight;
    uint8_t pending = stream->pending;
    if (!thimble_gives_pairs(stream)) {
        memset(stream->buffer, 0, cols);
    }
    for (;;) {
        if (pending) {
            if (next > cols) {
                next -= cols;
                break;
            }
            if (weight != 0) {
                if (kept == stream->max_row_entries) {
                    return THIMBLE_ERROR_BAD_STREAM;
                }
                if (thimble_gives_pairs(stream)) {
                    stream->positions[kept] = (uint16_t)(next - 1);
                    stream->buffer[kept] = weight;
                } else {
                    stream->buffer[next - 1] = weight;
                }
                kept++;
            }
            pending = 0;
        }
        if (left == 0) {
            break;
        }
        left--;
        uint32_t gap = read_gap(&reader, stream);
        uint32_t index = gap == NO_GAP ? gap : read_value(&reader, stream, 0, 0);
        if (index >= stream->value_count) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        weight = weight_of(stream, index);
        next += gap + 1;
        pending = 1;
    }
    stream->reader = reader;
    stream->next = next;
    stream->entries_left = left;
    stream->weight = weight;
    stream->pending = pending;
    if (thimble_gives_pairs(stream)) {
        stream->count = kept;
    }
    return 0;
}

static uint32_t context_count(uint32_t layout, uint32_t value_bits) {
    uint32_t extra = layout == THIMBLE_LAYOUT_SPARSE ? 2 * GAP_CONTEXTS : THIMBLE_RANGE_SIGN_CONTEXTS;
    return (1u << value_bits) + extra + (layout == THIMBLE_LAYOUT_BITMAP ? THIMBLE_RANGE_FLAG_CONTEXTS : 0u);
}

static uint32_t table_bytes(const thimble_constant *weights) {
    return 2 * context_count(weights->fields[THIMBLE_FIELD_WEIGHTS_LAYOUT],
                             weights->fields[THIMBLE_FIELD_WEIGHTS_VALUE_BITS]);
}

static int32_t open_range(thimble_stream *stream, uint8_t *scratch) {
    stream->probabilities = (uint16_t *)(void *)scratch;
    return 0;
}

static int32_t rewind_range(thimble_stream *stream) {
    uint32_t count = context_count(stream->layout, stream->value_bits);
    for (uint32_t i = 0; i < count; i++) {
        stream->probabilities[i] = PROBABILITY_ONE / 2;
    }
    if (stream->layout != THIMBLE_LAYOUT_SPARSE) {
        memset(stream->buffer, 0, stream->cols); /* what lies before the first row counts as zero */
    }
    for (uint32_t i = 0; i < 4; i++) {
        stream->reader.bits = stream->reader.bits << 8 | range_byte(&stream->reader, stream);
    }
    stream->reader.range = INITIAL_RANGE;
    return stream->reader.bits >= INITIAL_RANGE ? THIMBLE_ERROR_BAD_STREAM : 0;
}

/* Up to four zeros behind the end may have been read, and after the last row every byte must have been. */
static int range_finished(const thimble_stream *stream) {
    uint32_t position = stream->reader.position, limit = stream->limit;
    return position <= limit ? stream->rows_left > 0 || position == limit : position - limit <= 4;
}

const thimble_coder_type thimble_coder_range = {
    table_bytes,
    table_bytes,
    open_range,
    rewind_range,
    {THIMBLE_HAS_LAYOUT(DENSE) ? next_whole_row : NULL, THIMBLE_HAS_LAYOUT(SPARSE) ? next_sparse_row : NULL,
     THIMBLE_HAS_LAYOUT(BITMAP) ? next_whole_row : NULL},
    range_finished,
    NULL,
};
