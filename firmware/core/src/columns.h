/* CONV_2D by columns: the windows of a few output positions are laid side by side in scratch, and every row of the
 * weights that lies in memory is multiplied with them. */
#ifndef THIMBLE_COLUMNS_H
#define THIMBLE_COLUMNS_H

#include "dot.h"
#include "fused.h"

#define THIMBLE_MOST_POSITIONS 6
#define THIMBLE_FEWER_POSITIONS 3
#define THIMBLE_SHORT_COLUMN 144   /* raw rows of up to so many weights get THIMBLE_MOST_POSITIONS in any case */
#define THIMBLE_SHORT_STEM 32      /* the same for less than 4 weights to a cell: first layers, where memory is full */
#define THIMBLE_LONG_COLUMN 576    /* raw rows of up to so many get THIMBLE_FEWER_POSITIONS, longer ones none */
#define THIMBLE_HELD_ROWS 8        /* rows of other coders that are decoded before they are used */
#define THIMBLE_DECODED_BYTES 2304 /* the most that is asked for them: beyond, they go one by one, by convolve.c */

/* How much is laid side by side. More than what is planned for is used where memory is free. */
typedef struct {
    uint32_t positions; /* 0: the convolution goes row by row */
    uint32_t channels;  /* whose rows are in memory at a time */
} thimble_column_plan;

/* Whether there is machine code by hand: Cortex-M4, M7 and M33. */
#if THIMBLE_DSP && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define THIMBLE_COLUMN_ASSEMBLY 1
#else
#define THIMBLE_COLUMN_ASSEMBLY 0
#endif

typedef struct thimble_columns thimble_columns;
typedef void thimble_columns_finish(const thimble_columns *columns, int32_t position, int32_t count);
struct thimble_columns {
    thimble_rows *rows;
    const thimble_window *window;
    const int8_t *weights; /* of output channel `first` */
    int8_t *held;          /* decoded rows, or NULL */
    int32_t first, count;  /* output channels at hand */
    int32_t most;          /* that can be at hand */
    int32_t length;        /* cells of a column, a multiple of 4 */
    int32_t positions;     /* columns */
    uint32_t *starts;      /* where the sums of each channel start */
    uint32_t *cells;
    int8_t *staged; /* one window as int8, or NULL */
    int8_t *made;   /* for `finish`: the channels at hand of each position, one position behind the other */
    /* Called with `count` positions from `position` on that were made aside; NULL: channels go to window->out. */
    thimble_columns_finish *finish;
    const void *context; /* for `finish` */
};

/* Cells of a column, of which there are whole words; the last ones may be too many. */
static inline uint32_t thimble_column_length(uint32_t cols) {
    return thimble_align4(cols);
}

/* Rows and what a column is made of. */
typedef struct {
    uint32_t cols;
    uint32_t depth;    /* weights of a kernel cell */
    uint32_t channels; /* of a group */
    int is_raw;        /* rows lie in the file as they are */
    int is_aside;      /* blocks are made aside, for `finish` */
} thimble_column_need;

/* Whether rows are decoded before they are used. */
static inline int thimble_is_held(const thimble_column_need *need) {
    return THIMBLE_HAS_PATH(DECODED) && !need->is_raw;
}

thimble_column_need thimble_column_need_of(const thimble_constant *weights, const thimble_operator *op, int is_aside);

/* Scratch beside the stream's. */
uint32_t thimble_column_bytes(const thimble_column_need *need, thimble_column_plan plan);

/* What scratch is planned for. */
thimble_column_plan thimble_least_columns(const thimble_column_need *need);

/* All channels of a convolution that is open, with scratch from `scratch` to `end`: 1, an error, or 0 if nothing was done
 * because it goes row by row. `finish`: see above. */
int32_t thimble_columns_run(thimble_conv *conv, const thimble_operator *op, uint8_t *scratch, const uint8_t *end,
                            thimble_columns_finish *finish, const void *context);

/* The parts of it that differ with THIMBLE_DSP: column_dsp.c and column_pairs.c. */

/* Before the first window: cells behind the last one meet weights of the next row. */
void thimble_cells_open(const thimble_columns *columns);

/* `count` cells of the column at `position`, from `cell` on, become those from `x` on, or padding where that is NULL. */
void thimble_put_cells(const thimble_columns *columns, int32_t position, int32_t cell, const int8_t *x, int32_t count);

/* The window at `position` is complete. */
void thimble_put_end(const thimble_columns *columns, int32_t position);

/* The channels at hand at the first `count` positions, whose activations are `step` apart, go to `out`. */
void thimble_make_channels(const thimble_columns *columns, int8_t *out, int32_t step, int32_t count);

#endif
