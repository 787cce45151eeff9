/* Binary rows against words of bits. */
#ifndef THIMBLE_DIFFERENCES_H
#define THIMBLE_DIFFERENCES_H

#include <stdint.h>

#define THIMBLE_WORDS_AT_ONCE 30 /* 8 bits count up to 240 in a byte */

/* Adds to each of `count` sums in how many bits `words` words of a row, at most THIMBLE_WORDS_AT_ONCE, differ from those
 * at x. Rows are `step` words apart. */
void thimble_count_differences(const uint32_t *x, const uint32_t *w, uint32_t words, uint32_t step, uint32_t *sums,
                               uint32_t count);

#endif
