/* The coders FIXED, HUFFMAN and CLASS: every symbol is a code of a few bits, found by one look-up.
 *
 * The next bits of the stream index a table of value codes and one of gap codes. An entry is length << 8 | symbol,
 * where the symbol is the weight itself or the gap, so that reading it takes no further step. Entries of longer codes
 * are negative and say how to go on:
 *
 *     THIMBLE_BAD_CODE               no code starts so
 *     THIMBLE_LONG_CODE | n          HUFFMAN: the n-th of the codes that are longer than the index, in code order
 *     THIMBLE_CLASS_CODE | t << 3 | l   CLASS: token t, l bits long, with raw bits that do not fit the index
 */
#ifndef THIMBLE_STREAM_CODES_H
#define THIMBLE_STREAM_CODES_H

#include <string.h>

#include "build.h"
#include "stream.h"

/* Bits of an index; FIXED has the width of its fields. */
#define THIMBLE_HUFFMAN_INDEX_BITS 7
#define THIMBLE_CLASS_INDEX_BITS 7
#define THIMBLE_BAD_CODE -1
#define THIMBLE_LONG_CODE -0x8000
#define THIMBLE_CLASS_CODE -0x4000

enum { THIMBLE_GAPS, THIMBLE_VALUES };

/* The weight of a value index below value_count, IDENTITY in zigzag order. */
static inline int8_t thimble_weight_of(const thimble_stream *stream, uint32_t index) {
    int has_entries = !THIMBLE_HAS_MAP(IDENTITY) || stream->entries;
    return has_entries ? stream->entries[index] : (int8_t)(index >> 1 ^ (0u - (index & 1)));
}

/* Canonical code lengths as docs/FORMAT.md, section 5.7 has them, at `start` of the payload, which moves on, become the
 * tables of an alphabet. `is_class`: its symbols are the tokens of CLASS. */
int32_t thimble_open_codes(thimble_stream *stream, uint32_t alphabet, uint32_t count, int is_class, uint8_t *scratch);

int32_t thimble_next_dense_row(thimble_stream *stream);
int32_t thimble_next_sparse_row(thimble_stream *stream);
int32_t thimble_next_bitmap_row(thimble_stream *stream);
int thimble_bits_finished(const thimble_stream *stream);

/* next_row of a coder, without the layouts that the build leaves out. */
#define THIMBLE_CODE_ROWS                                                                                              \
    {THIMBLE_HAS_LAYOUT(DENSE) ? thimble_next_dense_row : NULL,                                                        \
     THIMBLE_HAS_LAYOUT(SPARSE) ? thimble_next_sparse_row : NULL,                                                      \
     THIMBLE_HAS_LAYOUT(BITMAP) ? thimble_next_bitmap_row : NULL}

#endif
