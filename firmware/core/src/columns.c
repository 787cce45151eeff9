/* CONV_2D by columns. A column is the window of one output position, its cells widened and interleaved with those of
 * the block's other positions, so that one pass over them makes a channel at all positions. What a column costs is
 * paid once for all channels, edges of the image included, and a weight that is loaded is used at every position of the
 * block. How cells are laid out, column_dsp.c and column_pairs.c say. */
#include "columns.h"

/* Whether a block is made aside first. */
static int is_aside(const thimble_columns *columns) {
    return (THIMBLE_HAS(FUSED_ADD) || THIMBLE_HAS(BIT_ACTIVATIONS)) && columns->finish;
}

/* The column at `position` becomes the window of output (y, x): cell by cell, or a row of the kernel at a time where
 * those stand side by side in the image. */
static void gather(const thimble_columns *columns, int32_t position, int32_t y, int32_t x) {
    const thimble_window *window = columns->window;
    const int32_t left = x * window->stride_w - window->pad_left;
    const int is_joined = window->dilation_w == 1 && window->depth == window->pixel && left >= 0 &&
                          left + window->kernel_w <= window->in_w;
    const int32_t joined = is_joined ? window->kernel_w : 1, count = joined * window->depth;
    int32_t in_y = y * window->stride_h - window->pad_top, cell = 0;
    for (int32_t ky = 0; ky < window->kernel_h; ky++, in_y += window->dilation_h) {
        int32_t in_x = left;
        for (int32_t kx = 0; kx < window->kernel_w; kx += joined, in_x += window->dilation_w, cell += count) {
            int is_inside = (uint32_t)in_y < (uint32_t)window->in_h && (uint32_t)in_x < (uint32_t)window->in_w;
            const int8_t *from = is_inside ? window->x + (in_y * window->in_w + in_x) * window->pixel : NULL;
            thimble_put_cells(columns, position, cell, from, count);
        }
    }
    thimble_put_end(columns, position);
}

/* Where the sums of the channels at hand start. */
static void find_starts(const thimble_columns *columns) {
    const thimble_rows *rows = columns->rows;
    for (int32_t i = 0; i < columns->count; i++) {
        uint32_t bias = thimble_bias_at(rows, (uint32_t)(columns->first + i));
#if !THIMBLE_DSP
        int32_t cols = (int32_t)rows->stream.cols;
        bias -= (uint32_t)(columns->window->zero_point * thimble_sum(columns->weights + i * cols, cols));
#endif
        columns->starts[i] = bias;
    }
}

/* The channels at hand at all positions of the window. */
static void run_channels(const thimble_columns *columns) {
    const thimble_window *window = columns->window;
    int32_t y = window->y_start, x = 0;
    while (y < window->y_stop) {
        int32_t position = y * window->out_w + x, count = 0;
        int8_t *out = is_aside(columns) ? columns->made : window->out + columns->first + position * window->out_step_x;
        for (; count < columns->positions && y < window->y_stop; count++) {
            gather(columns, count, y, x);
            x++;
            if (x == window->out_w) {
                x = 0;
                y++;
            }
        }
        thimble_make_channels(columns, out, is_aside(columns) ? columns->count : window->out_step_x, count);
        if (is_aside(columns)) {
            columns->finish(columns, position, count);
        }
    }
}

thimble_column_need thimble_column_need_of(const thimble_constant *weights, const thimble_operator *op, int is_aside) {
    thimble_column_need need;
    const int32_t *a = op->attributes;
    need.cols = weights->fields[THIMBLE_FIELD_WEIGHTS_COLS];
    need.depth = need.cols / (uint32_t)(a[THIMBLE_CONV_2D_KERNEL_H] * a[THIMBLE_CONV_2D_KERNEL_W]);
    need.channels = weights->fields[THIMBLE_FIELD_WEIGHTS_ROWS] / (uint32_t)a[THIMBLE_CONV_2D_GROUPS];
    need.is_raw = thimble_is_raw(weights);
    need.is_aside = is_aside;
    return need;
}

uint32_t thimble_column_bytes(const thimble_column_need *need, thimble_column_plan plan) {
    uint32_t length = thimble_column_length(need->cols), bytes = plan.positions * 2 * length + 4 * plan.channels;
    if (need->depth % 4 != 0) {
        bytes += length;
    }
    if (need->is_aside) {
        bytes += thimble_align4(plan.positions * plan.channels);
    }
    /* Behind the last row, three weights more are read. */
    return thimble_is_held(need) ? bytes + thimble_align4(plan.channels * need->cols + 3) : bytes;
}

thimble_column_plan thimble_least_columns(const thimble_column_need *need) {
    thimble_column_plan plan = {0, need->channels};
    if (!thimble_is_held(need)) {
        uint32_t most = need->depth < 4 ? THIMBLE_SHORT_STEM : THIMBLE_SHORT_COLUMN;
        plan.positions = need->cols <= most                  ? THIMBLE_MOST_POSITIONS
                         : need->cols <= THIMBLE_LONG_COLUMN ? THIMBLE_FEWER_POSITIONS
                                                             : 0;
    } else if (need->cols < THIMBLE_DECODED_BYTES) {
        plan.positions = THIMBLE_FEWER_POSITIONS;
        plan.channels = plan.channels < THIMBLE_HELD_ROWS ? plan.channels : THIMBLE_HELD_ROWS;
        if (thimble_column_bytes(need, plan) > THIMBLE_DECODED_BYTES) {
            plan.positions = 0;
        }
    }
    return plan;
}

/* The columns to make with `room` bytes: in the first place many positions, then many channels. */
static thimble_column_plan best_columns(const thimble_column_need *need, uint32_t room) {
    thimble_column_plan plan = {THIMBLE_MOST_POSITIONS, need->channels};
    while (thimble_column_bytes(need, plan) > room) {
        if (thimble_is_held(need) && plan.channels > THIMBLE_HELD_ROWS) {
            plan.channels--;
            continue;
        }
        plan.positions -= THIMBLE_FEWER_POSITIONS;
        plan.channels = need->channels;
        if (plan.positions == 0) {
            break;
        }
    }
    return plan;
}

/* Prepares `columns`; 0: the convolution goes row by row. */
static int open_columns(thimble_columns *columns, thimble_conv *conv, const thimble_operator *op, uint8_t *scratch,
                        const uint8_t *end) {
    const thimble_window *window = &conv->window;
    const thimble_stream *stream = &conv->rows.stream;
    if (thimble_gives_pairs(stream)) {
        return 0;
    }
    thimble_column_need need = {stream->cols, (uint32_t)window->depth, (uint32_t)conv->rows_per_group,
                                thimble_stream_is_raw(stream), is_aside(columns)};
    thimble_column_plan plan = best_columns(&need, (uint32_t)(end - scratch));
    if (plan.positions == 0 || (op->schedule == THIMBLE_SCHEDULE_IN_PLACE && plan.channels < need.channels)) {
        return 0;
    }
    int32_t positions = (int32_t)plan.positions;
    columns->rows = &conv->rows;
    columns->window = window;
    columns->most = (int32_t)plan.channels;
    columns->length = (int32_t)thimble_column_length(need.cols);
    columns->positions = THIMBLE_DSP ? positions : positions == THIMBLE_MOST_POSITIONS ? 4 : 2;
    columns->cells = (uint32_t *)(void *)scratch;
    columns->starts = columns->cells + positions * columns->length / 2;
    columns->made = (int8_t *)(columns->starts + columns->most);
    columns->staged = NULL;
    if (need.depth % 4 != 0) {
        columns->staged = columns->made;
        columns->made += columns->length;
    }
    columns->held = NULL;
    if (thimble_is_held(&need)) {
        columns->held = columns->made + (need.is_aside ? thimble_align4(plan.positions * plan.channels) : 0);
    }
    thimble_cells_open(columns);
    return 1;
}

/* The rows of the channels at hand. */
static int32_t read_rows(thimble_columns *columns, thimble_stream *stream) {
    uint32_t cols = stream->cols;
    if (!THIMBLE_HAS_PATH(DECODED) || !columns->held) {
        columns->weights = (const int8_t *)stream->payload + columns->first * (int32_t)cols;
        return 0;
    }
    int32_t error = 0;
    int8_t *row = columns->held;
    columns->weights = row;
    for (int32_t i = 0; i < columns->count && error >= 0; i++, row += cols) {
        error = thimble_stream_next(stream);
        if (error >= 0) {
            memcpy(row, stream->row, cols);
        }
    }
    return error;
}

int32_t thimble_columns_run(thimble_conv *conv, const thimble_operator *op, uint8_t *scratch, const uint8_t *end,
                            thimble_columns_finish *finish, const void *context) {
    thimble_columns own, *columns = &own;
    int32_t rows = (int32_t)conv->rows.stream.rows, error = 1;
    columns->finish = finish;
    columns->context = context;
    if (!open_columns(columns, conv, op, scratch, end)) {
        return 0;
    }
    for (columns->first = 0; columns->first < rows && error >= 0; columns->first += columns->count) {
        int32_t group = columns->first / conv->rows_per_group, left = (group + 1) * conv->rows_per_group - columns->first;
        columns->count = left < columns->most ? left : columns->most;
        conv->window.x = conv->source + group * conv->window.depth;
        error = read_rows(columns, &conv->rows.stream);
        if (error >= 0) {
            find_starts(columns);
            run_channels(columns);
            error = 1;
        }
    }
    return error;
}
