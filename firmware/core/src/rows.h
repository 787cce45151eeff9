/* Row loops of one coder, to be included by its file, so that reading a symbol is inlined into them. The file
 * defines
 *
 *     static inline uint32_t read_value(thimble_reader *, thimble_stream *, int32_t before, int32_t back)
 *     static inline uint32_t read_gap(thimble_reader *, thimble_stream *)
 *     static inline uint32_t read_flag(thimble_reader *, thimble_stream *, int32_t before, int32_t back)
 *     static inline int32_t identity(const thimble_stream *, uint32_t index)
 *     USES_NEIGHBOURS  1 if `before` and `back`, the weights one position and one context distance before, matter
 *
 * THIMBLE_NO_SYMBOL from a reader is bad_stream. */

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

static int32_t next_dense_row(thimble_stream *stream) {
    thimble_reader reader = stream->reader;
    uint32_t cols = stream->cols, end = stream->value_count;
    int8_t *row = stream->buffer;
    int32_t before = USES_NEIGHBOURS ? row[cols - 1] : 0;
    for (uint32_t j = 0; j < cols; j++) {
        uint32_t index = read_value(&reader, stream, before, USES_NEIGHBOURS ? back_of(stream, j) : 0);
        if (index >= end) {
            return THIMBLE_ERROR_BAD_STREAM;
        }
        int8_t weight = weight_of(stream, index);
        row[j] = weight;
        before = weight;
    }
    stream->reader = reader;
    return 0;
}

static int32_t next_bitmap_row(thimble_stream *stream) {
    thimble_reader reader = stream->reader;
    uint32_t cols = stream->cols;
    int8_t *row = stream->buffer;
    int32_t before = USES_NEIGHBOURS ? row[cols - 1] : 0;
    for (uint32_t j = 0; j < cols; j++) {
        int32_t back = USES_NEIGHBOURS ? back_of(stream, j) : 0;
        int8_t weight = 0;
        if (read_flag(&reader, stream, before, back)) {
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
        uint32_t index = gap == THIMBLE_NO_SYMBOL ? gap : read_value(&reader, stream, 0, 0);
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
    stream->count = kept;
    return 0;
}

/* next_row of a coder, without the layouts that the build leaves out. */
#define THIMBLE_ROWS                                                                                             \
    {THIMBLE_HAS_LAYOUT(DENSE) ? next_dense_row : NULL, THIMBLE_HAS_LAYOUT(SPARSE) ? next_sparse_row : NULL,     \
     THIMBLE_HAS_LAYOUT(BITMAP) ? next_bitmap_row : NULL}
