/* What convolutions and fully connected operators share: an open stream with each row's bias and scale. */
#ifndef THIMBLE_WEIGHTED_H
#define THIMBLE_WEIGHTED_H

#include "requantise.h"
#include "stream.h"

typedef struct {
    thimble_stream stream;
    const uint8_t *biases; /* NULL: none */
    uint32_t bias_bits;
    const uint8_t *scales;
    uint32_t form; /* enum thimble_requant_form */
    int32_t shift_base;
    uint32_t scale_count; /* 1: one for all rows */
    uint32_t channel;     /* of the next row */
    uint32_t bias;        /* of the row at hand */
    thimble_output_stage stage;
} thimble_rows;

/* Opens the rows of `op`; takes scratch from `*scratch` on, which moves on. */
int32_t thimble_rows_open(thimble_rows *rows, thimble_model *model, const thimble_operator *op, int takes,
                          uint8_t **scratch);

uint32_t thimble_bias_at(const thimble_rows *rows, uint32_t channel);

/* A channel's multiplier and shift. */
void thimble_find_stage(const thimble_rows *rows, uint32_t channel, thimble_output_stage *stage);

/* Only what thimble_rows_next_stage needs. */
void thimble_rows_open_stages(thimble_rows *rows, thimble_model *model, const thimble_operator *op);

/* The bias and output stage of the next row. */
void thimble_rows_next_stage(thimble_rows *rows);

/* The next row with its bias and output stage. */
static inline int32_t thimble_rows_next(thimble_rows *rows) {
    thimble_rows_next_stage(rows);
    return thimble_stream_next(&rows->stream);
}

/* The rows of a raw stream in blocks of THIMBLE_BLOCK, each times the activations at `x` plus `x_offset`. Returns how
 * many were computed. */
int32_t thimble_run_raw_blocks(thimble_rows *rows, const int8_t *x, int32_t x_offset, int8_t *out);

static inline int32_t thimble_rows_rewind(thimble_rows *rows) {
    rows->channel = 0;
    return thimble_stream_rewind(&rows->stream);
}

/* Where and over what one output channel is computed. Steps are in elements. */
typedef struct {
    const int8_t *x; /* first activation of the channel group */
    int32_t in_h, in_w;
    int32_t pixel; /* activations from one cell to the next */
    int32_t depth; /* weights of one kernel cell */
    int32_t zero_point;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int8_t *out; /* output (0, 0) of the channel */
    int32_t out_step_x, out_step_y;
    int32_t y_start, y_stop; /* output rows to make */
    int32_t out_w;
    uint16_t *cells; /* pairs: where those of each kernel cell start; NULL for one cell */
} thimble_window;

void thimble_window_init(thimble_window *window, const thimble_operator *op, const thimble_tensor *x,
                         const thimble_tensor *out);

/* The row at hand at every position of the window. */
void thimble_convolve(const thimble_rows *rows, const thimble_window *window);

#endif
