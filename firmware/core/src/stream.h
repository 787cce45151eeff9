/* Weight streams: a WEIGHTS constant goes in, rows come out, one output channel after the other.
 *
 * A row is `count` dense int8 weights (`row`), or, where the caller asked for pairs and the layout is SPARSE, `count`
 * pairs of `positions` (ascending) and `row`. Tables and the row lie in the caller's scratch; a raw row lies in the file.
 */
#ifndef THIMBLE_STREAM_H
#define THIMBLE_STREAM_H

#include "program.h"

#define THIMBLE_PART 256 /* weights */

/* What a caller can take besides dense rows. */
enum {
    THIMBLE_TAKES_PAIRS = 1,
    THIMBLE_TAKES_PARTS = 2, /* a long dense row comes in parts of THIMBLE_PART, which spares scratch */
};

typedef struct thimble_stream thimble_stream;

/* How far the bytes of a stream are read. `position` may run past `limit`; thimble_stream_next finds out. */
typedef struct {
    uint32_t position; /* next byte */
    uint32_t bits;     /* of it that are read already, or the range coder's code */
    uint32_t range;    /* the range coder's */
} thimble_reader;

/* The tables of one alphabet: see stream_codes.h. */
typedef struct {
    const int16_t *table;
    uint32_t mask;          /* of the bits that index it */
    const uint16_t *counts; /* HUFFMAN: of longer codes, by length */
    const uint8_t *symbols; /* theirs, in code order */
} thimble_codes;

struct thimble_stream {
    const thimble_coder_type *coder;
    const uint8_t *payload;
    uint32_t limit; /* bytes of the payload */
    uint32_t start; /* of the bit stream in it */
    thimble_reader reader;
    /* the descriptor */
    uint32_t rows;
    uint32_t cols;
    uint32_t layout;
    uint32_t value_map;
    uint32_t value_bits;
    uint32_t gap_bits;
    uint32_t value_count; /* indexes from here on are bad_stream */
    uint32_t entry_count;
    uint32_t max_row_entries;
    /* value map: entries, or NULL for IDENTITY */
    const int8_t *entries;
    int8_t ternary[4];
    /* decoder's tables: gaps and values, or RANGE */
    thimble_codes codes[2];
    uint16_t *probabilities;
    /* the row */
    int8_t *buffer;
    const int8_t *row;
    uint16_t *positions; /* NULL: dense rows */
    uint32_t count;
    uint32_t part; /* weights that dense rows come in, or cols */
    uint32_t left; /* weights of the row that are to come in further parts */
    uint32_t rows_left;
    /* SPARSE: the entry that is decoded but belongs to a later row */
    uint32_t entries_left;
    uint32_t next; /* one behind its position, from the row's start */
    int8_t weight;
    uint8_t pending;
};

struct thimble_coder_type {
    uint32_t (*table_bytes)(const thimble_constant *weights);     /* by the format's rule */
    uint32_t (*own_table_bytes)(const thimble_constant *weights); /* what `open` takes */
    /* Reads the code lengths at `start` and moves it on; tables from `scratch` on. */
    int32_t (*open)(thimble_stream *stream, uint8_t *scratch);
    int32_t (*rewind)(thimble_stream *stream);
    int32_t (*next_row[3])(thimble_stream *stream); /* by enum thimble_layout: DENSE, SPARSE, BITMAP */
    int (*finished)(const thimble_stream *stream);  /* what was read fits the payload; 0 is bad_stream */
    int32_t (*next_bits_row)(thimble_stream *stream); /* layout BITS, of FIXED alone */
};

/* Whether rows are those of the file, one behind the other from the payload's start. */
static inline int thimble_stream_is_raw(const thimble_stream *stream) {
    return !THIMBLE_HAS_PATH(DECODED) || (THIMBLE_HAS(FIXED) && stream->row != stream->buffer);
}

/* Whether rows come as pairs. */
static inline int thimble_gives_pairs(const thimble_stream *stream) {
    return THIMBLE_HAS_LAYOUT(SPARSE) && (!THIMBLE_HAS_DENSE_ROWS || stream->positions);
}

/* Whether weights are int8 as they are. */
int thimble_is_plain(const thimble_constant *weights);

/* Whether rows of the file are dense rows as they are. */
static inline int thimble_is_raw(const thimble_constant *weights) {
    return !THIMBLE_HAS_PATH(DECODED) ||
           (THIMBLE_HAS(FIXED) && THIMBLE_HAS_LAYOUT(DENSE) && THIMBLE_HAS_MAP(IDENTITY) && thimble_is_plain(weights));
}

/* Whether rows of these weights can be given as pairs: positions have 16 bits. */
int thimble_has_pairs(const thimble_constant *weights);

/* Scratch of an open stream whose caller `takes` so much; a multiple of 4. */
uint32_t thimble_stream_bytes(const thimble_registry *registry, const thimble_constant *weights, int takes);

/* The format's own count of it, which the header's scratch_bytes stands on. */
uint32_t thimble_format_stream_bytes(const thimble_registry *registry, const thimble_constant *weights);

/* Opens with thimble_stream_bytes() bytes of scratch, aligned to 4. */
int32_t thimble_stream_open(thimble_stream *stream, const thimble_model *model, const thimble_constant *weights,
                            int takes, uint8_t *scratch);
int32_t thimble_stream_rewind(thimble_stream *stream);
int32_t thimble_stream_next(thimble_stream *stream);

/* Fields of a WEIGHTS constant against each other. Returns the features that it needs (positive), or an error. */
int32_t thimble_check_weights(const thimble_constant *weights);

#endif
