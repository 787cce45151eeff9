/* CONV_2D by columns: the windows of a few output positions are laid side by side in scratch, and every row of the
 * weights that lies in memory is multiplied with them. */
#ifndef THIMBLE_COLUMNS_H
#define THIMBLE_COLUMNS_H

#include "fused.h"

#define THIMBLE_MOST_POSITIONS 6
#define THIMBLE_FEWER_POSITIONS 3
#define THIMBLE_SHORT_COLUMN 144 /* cells that are worth THIMBLE_MOST_POSITIONS in any case */
#define THIMBLE_LONG_COLUMN 576  /* beyond, a convolution goes row by row: see convolve.c */

typedef struct thimble_columns thimble_columns;
struct thimble_columns {
    const thimble_rows *rows;
    const thimble_window *window;
    const int8_t *weights; /* of output channel `first` */
    int32_t first, count;  /* output channels at hand */
    int32_t length;        /* cells of a column, a multiple of 4 */
    int32_t positions;     /* columns */
    int32_t is_narrow;     /* whether thimble_requantise_narrow will do */
    int32_t joined;        /* cells of a kernel row that stand side by side in the image */
    int32_t run;           /* activations of a kernel row */
    int32_t line_step;     /* activations from one kernel row to the next, in the image */
    int32_t inside_h, inside_w; /* windows from before here on lie in the image as a whole */
    uint32_t *starts;      /* where the sums of each channel start */
    uint32_t *cells;
    int8_t *staged; /* one window as int8, or NULL */
    int8_t *made;   /* for `finish`: the channels at hand of each position, one position behind the other */
    /* Called with `count` positions from `position` on that were made aside; NULL: channels go to window->out. */
    void (*finish)(const thimble_columns *columns, int32_t position, int32_t count);
    const void *context; /* for `finish` */
};

/* Positions of which columns of `cols` weights are made; 0: none, the convolution goes row by row. */
static inline uint32_t thimble_column_positions(uint32_t cols) {
    return cols <= THIMBLE_SHORT_COLUMN  ? THIMBLE_MOST_POSITIONS
           : cols <= THIMBLE_LONG_COLUMN ? THIMBLE_FEWER_POSITIONS
                                         : 0;
}

static inline int thimble_uses_columns(const thimble_stream *stream) {
    return thimble_stream_is_raw(stream) && thimble_column_positions(stream->cols) > 0;
}

/* Scratch of the columns of `positions` windows of `cols` weights, `depth` to a cell, and of `channels` starts. */
static inline uint32_t thimble_column_bytes(uint32_t positions, uint32_t cols, uint32_t depth, uint32_t channels) {
    uint32_t length = thimble_align4(cols);
    return positions * 2 * length + 4 * channels + (depth % 4 ? length : 0);
}

/* All channels of `conv`, whose rows lie in the file as they are, with scratch from `scratch` on. */
void thimble_run_columns(thimble_conv *conv, thimble_columns *columns, uint8_t *scratch);

#endif
