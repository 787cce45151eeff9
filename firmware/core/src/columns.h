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

#if THIMBLE_COLUMN_ASSEMBLY
/* What the machine code takes to its stack; changing the order means changing column_dsp.c. */
typedef struct {
    const uint32_t *starts;
    const uint32_t *cells;
    uint32_t skipped_groups; /* that the first pass of the loop, of four groups of cells, leaves out */
    const uint32_t *end;     /* of the cells */
    const uint8_t *scales;
    int32_t scale_step; /* bytes */
    int32_t shift;      /* PACKED: the largest to the right */
    int32_t zero_point; /* of the output, twice, and 1: half a unit more before the last bit is shifted out */
    const int8_t *shifts; /* WIDE, or NULL */
    int8_t *out;
    int32_t step;
    int32_t skipped; /* weights of the next row that the last group of cells met */
    int32_t channels;
    const int8_t *w;
    int32_t absent; /* positions of six that are not there */
    int32_t is_six; /* else columns are for three positions */
} thimble_column_job;

void thimble_run_column_job(const thimble_column_job *job);
#endif

typedef struct thimble_columns thimble_columns;
typedef void thimble_columns_finish(const thimble_columns *columns, int32_t position, int32_t count);
struct thimble_columns {
    const thimble_rows *rows;
    const thimble_window *window;
    const int8_t *weights; /* of output channel `first` */
    int8_t *held;          /* decoded rows, or NULL */
    int32_t first, count;  /* output channels at hand */
    int32_t most;          /* that can be at hand */
    int32_t length;        /* cells of a column, a multiple of 4 */
    int32_t positions;     /* columns */
    int32_t joined;        /* cells of a kernel row that stand side by side in the image */
    int32_t run;           /* activations of a kernel row */
    int32_t line_step;     /* activations from one kernel row to the next, in the image */
    int32_t inside_h, inside_w; /* windows from before here on lie in the image as a whole */
    uint32_t *starts;      /* where the sums of each channel start */
    uint32_t *cells;
    int8_t *staged; /* one window as int8, or NULL */
    int8_t *made;   /* for `finish`: the channels at hand of each position, one position behind the other */
    /* Called with `count` positions from `position` on that were made aside; NULL: channels go to window->out. */
    thimble_columns_finish *finish;
    const void *context; /* for `finish` */
    int32_t is_narrow; /* whether the machine code can finish the channels at hand */
#if THIMBLE_COLUMN_ASSEMBLY
    thimble_column_job job;
    int32_t is_clamped; /* the job clamps to int8 only */
#endif
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
void thimble_make_channels(thimble_columns *columns, int8_t *out, int32_t step, int32_t count);

/* Whether scale, bias and clamp are such that no intermediate of the machine code leaves 32 bits. */
static inline int thimble_is_narrow(const thimble_output_stage *stage, uint32_t start) {
    return !stage->power_of_two && stage->shift < 0 && stage->shift >= -22 && start + (1u << 28) < 1u << 29;
}

static inline int thimble_is_clamped(const thimble_output_stage *stage) {
    return stage->low + stage->zero_point > -128 || stage->high + stage->zero_point < 127;
}

/* `count` sums of a channel at hand become activations. */
void thimble_store_channel(const thimble_columns *columns, int32_t channel, const uint32_t *sums, int8_t *out,
                           int32_t step, int32_t count);

/* Prepares it for the channels at hand, whose starts are set. */
void thimble_channels_open(thimble_columns *columns);

#endif
