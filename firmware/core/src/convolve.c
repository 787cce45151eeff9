/* One output channel of a convolution at every position: the row of weights is decoded once and used everywhere.
 *
 * Cells outside of the image count as the input's zero point: they are left out. Positions are taken along *lines*,
 * rows or columns of the output along which the same part of the kernel meets the image; on a line, THIMBLE_BLOCK
 * neighbours share each weight that is loaded. Sums are of plain products; what the zero point adds to them,
 * zero_point times the sum of the weights, is taken off once for each line; positions outside of blocks subtract
 * it from each activation. */
#include "fast.h"

#include "build.h"
#include "dot.h"
#include "weighted.h"

/* The part of the kernel that meets the image. */
typedef struct {
    int32_t y0, y1, x0, x1;
} cell_range;

/* A row of the output (horizontal) or a column. */
typedef struct {
    cell_range range;
    int32_t top, left; /* of the first window in the image */
    int32_t step;      /* activations from one window to the next */
    int32_t count;
    int8_t *out;
    int32_t out_step;
} line;

void thimble_window_init(thimble_window *window, const thimble_operator *op, const thimble_tensor *x,
                         const thimble_tensor *out) {
    const int32_t *a = op->attributes;
    window->in_h = x->shape[1];
    window->in_w = x->shape[2];
    window->pixel = x->shape[3];
    window->depth = x->shape[3] / a[THIMBLE_CONV_2D_GROUPS];
    window->zero_point = a[THIMBLE_CONV_2D_INPUT_ZERO_POINT];
    window->kernel_h = a[THIMBLE_CONV_2D_KERNEL_H];
    window->kernel_w = a[THIMBLE_CONV_2D_KERNEL_W];
    window->stride_h = a[THIMBLE_CONV_2D_STRIDE_H];
    window->stride_w = a[THIMBLE_CONV_2D_STRIDE_W];
    window->dilation_h = a[THIMBLE_CONV_2D_DILATION_H];
    window->dilation_w = a[THIMBLE_CONV_2D_DILATION_W];
    window->pad_top = a[THIMBLE_CONV_2D_PAD_TOP];
    window->pad_left = a[THIMBLE_CONV_2D_PAD_LEFT];
    window->out_step_x = out->shape[3];
    window->out_step_y = out->shape[2] * out->shape[3];
    window->y_start = 0;
    window->y_stop = out->shape[1];
    window->out_w = out->shape[2];
    window->cells = NULL;
}

static uint32_t dot_pairs(const int8_t *w, const uint16_t *at, const int8_t *x, uint32_t count, uint32_t acc) {
    for (uint32_t i = 0; i < count; i++) {
        acc += (uint32_t)(w[i] * x[at[i]]);
    }
    return acc;
}

static void dot_pairs_block(const int8_t *w, const uint16_t *at, const int8_t *x, int32_t step, uint32_t count,
                            uint32_t sums[THIMBLE_BLOCK]) {
    const int8_t *x1 = x + step, *x2 = x1 + step, *x3 = x2 + step;
    uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (uint32_t i = 0; i < count; i++) {
        int32_t weight = w[i];
        uint32_t place = at[i];
        s0 += (uint32_t)(weight * x[place]);
        s1 += (uint32_t)(weight * x1[place]);
        s2 += (uint32_t)(weight * x2[place]);
        s3 += (uint32_t)(weight * x3[place]);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

/* The pairs of one kernel cell. */
static void pairs_of_cell(const thimble_stream *stream, const thimble_window *window, int32_t cell, uint32_t *from,
                          uint32_t *to) {
    *from = window->cells ? window->cells[cell] : 0;
    *to = window->cells ? window->cells[cell + 1] : stream->count;
}

/* The sums of THIMBLE_BLOCK positions, or of one, from activation `at` of the line on: pairs, or cells that do not
 * stand side by side. */
static void sum_by_cells(const thimble_stream *stream, const thimble_window *window, const line *along, int32_t at,
                         int32_t count, uint32_t start, uint32_t sums[THIMBLE_BLOCK]) {
    const cell_range *range = &along->range;
    sums[0] = sums[1] = sums[2] = sums[3] = start;
    for (int32_t ky = range->y0; ky < range->y1; ky++) {
        int32_t row = (along->top + ky * window->dilation_h) * window->in_w + along->left;
        for (int32_t kx = range->x0; kx < range->x1; kx++) {
            const int8_t *x = window->x + ((row + kx * window->dilation_w) * window->pixel + at);
            int32_t cell = ky * window->kernel_w + kx;
            if (thimble_gives_pairs(stream)) {
                uint32_t from, to;
                pairs_of_cell(stream, window, cell, &from, &to);
                const int8_t *w = stream->row + from;
                if (count > 1) {
                    dot_pairs_block(w, stream->positions + from, x, along->step, to - from, sums);
                } else {
                    sums[0] = dot_pairs(w, stream->positions + from, x, to - from, sums[0]);
                }
                continue;
            }
            const int8_t *w = stream->row + cell * window->depth;
            for (int32_t i = 0; i < count; i++) {
                sums[i] = thimble_dot(w, 0, x + i * along->step, window->depth, sums[i]);
            }
        }
    }
}

/* Sum of the weights of `range`. */
static int32_t sum_of_range(const thimble_stream *stream, const thimble_window *window, const cell_range *range) {
    int32_t sum = 0;
    for (int32_t ky = range->y0; ky < range->y1; ky++) {
        int32_t cell = ky * window->kernel_w + range->x0, cells = range->x1 - range->x0;
        if (thimble_gives_pairs(stream)) {
            uint32_t from, to, last;
            pairs_of_cell(stream, window, cell, &from, &last);
            pairs_of_cell(stream, window, cell + cells - 1, &last, &to);
            sum += cells > 0 ? thimble_sum(stream->row + from, (int32_t)(to - from)) : 0;
        } else {
            sum += thimble_sum(stream->row + cell * window->depth, cells * window->depth);
        }
    }
    return sum;
}

/* Turns the positions of pairs from "in the row" to "in the kernel cell". */
static void split_cells(const thimble_stream *stream, const thimble_window *window) {
    uint32_t cells = (uint32_t)(window->kernel_h * window->kernel_w), depth = (uint32_t)window->depth, pair = 0;
    for (uint32_t cell = 0; cell < cells; cell++) {
        window->cells[cell] = (uint16_t)pair;
        while (pair < stream->count && stream->positions[pair] < (cell + 1) * depth) {
            stream->positions[pair] = (uint16_t)(stream->positions[pair] - cell * depth);
            pair++;
        }
    }
    window->cells[cells] = (uint16_t)pair;
}

static int is_whole(const thimble_window *window, const cell_range *range) {
    return range->y0 == 0 && range->x0 == 0 && range->y1 == window->kernel_h && range->x1 == window->kernel_w;
}

THIMBLE_NOT_INLINED static void run_line_by_cells(const thimble_rows *rows, const thimble_window *window, const line *along,
                              uint32_t start) {
    int8_t *out = along->out;
    int32_t at = 0, count;
    for (int32_t left = along->count; left > 0; left -= count, at += count * along->step) {
        uint32_t sums[THIMBLE_BLOCK];
        count = left >= THIMBLE_BLOCK ? THIMBLE_BLOCK : 1;
        sum_by_cells(&rows->stream, window, along, at, count, start, sums);
        for (int32_t i = 0; i < count; i++, out += along->out_step) {
            *out = thimble_requantise(&rows->stage, sums[i]);
        }
    }
}

/* The sums of one block become activations. */
static inline void store_block(const thimble_output_stage *stage, const uint32_t sums[THIMBLE_BLOCK], int8_t *out,
                               int32_t out_step) {
    if (!thimble_is_usual(stage)) {
        for (int32_t i = 0; i < THIMBLE_BLOCK; i++, out += out_step) {
            *out = thimble_requantise(stage, sums[i]);
        }
        return;
    }
    /* Copied, as a store through `out` might change it for all that a compiler knows. */
    const thimble_output_stage usual = *stage;
    for (int32_t i = 0; i < THIMBLE_BLOCK; i++, out += out_step) {
        *out = thimble_requantise_usual(&usual, sums[i]);
    }
}

/* Blocks of positions along a line. */
THIMBLE_NOT_INLINED static void run_blocks(const thimble_output_stage *stage, const thimble_runs *runs, const int8_t *x, int32_t step,
                                   uint32_t start, int32_t blocks, int8_t *out, int32_t out_step) {
    for (; blocks > 0; blocks--, x += THIMBLE_BLOCK * step, out += THIMBLE_BLOCK * out_step) {
        uint32_t sums[THIMBLE_BLOCK];
        thimble_dot_block(runs, x, step, start, sums);
        store_block(stage, sums, out, out_step);
    }
}

static void run_line(const thimble_rows *rows, const thimble_window *window, const line *along, uint32_t inside) {
    const cell_range *range = &along->range;
    int by_cells = thimble_gives_pairs(&rows->stream) ||
                   (window->kernel_w > 1 && (window->depth != window->pixel || window->dilation_w != 1));
    int32_t row_step = window->dilation_h * window->in_w * window->pixel;
    int32_t first = (along->top * window->in_w + along->left + range->x0 * window->dilation_w) * window->pixel +
                    range->y0 * row_step;
    thimble_runs runs = {
        rows->stream.row + (range->y0 * window->kernel_w + range->x0) * window->depth,
        (range->x1 - range->x0) * window->depth,
        range->y1 - range->y0,
        window->kernel_w * window->depth,
        row_step,
    };
    uint32_t start = inside;
    if ((along->count >= THIMBLE_BLOCK || by_cells) && !is_whole(window, range)) {
        start = rows->bias - (uint32_t)window->zero_point * (uint32_t)sum_of_range(&rows->stream, window, range);
    }
    int8_t *out = along->out;
    int32_t left = along->count, step = along->step, out_step = along->out_step;
    const int8_t *x = window->x + (by_cells ? 0 : first);
    if (by_cells) {
        run_line_by_cells(rows, window, along, start);
        return;
    }
    int32_t blocks = left / THIMBLE_BLOCK;
    if (blocks > 0) {
        run_blocks(&rows->stage, &runs, x, step, start, blocks, out, out_step);
    }
    x += blocks * THIMBLE_BLOCK * step;
    out += blocks * THIMBLE_BLOCK * out_step;
    for (left -= blocks * THIMBLE_BLOCK; left > 0; left--, x += step, out += out_step) {
        uint32_t sum = thimble_dot_runs(&runs, x, -window->zero_point, rows->bias);
        *out = thimble_requantise(&rows->stage, sum);
    }
}

/* Cells `from` to `to` of `count`, `step` apart from `start` on, that lie in 0 to size - 1. */
static void clip(int32_t start, int32_t step, int32_t count, int32_t size, int32_t *from, int32_t *to) {
    *from = start < 0 ? (step - 1 - start) / step : 0;
    *to = start >= size ? 0 : (size - 1 - start) / step + 1;
    *to = *to > count ? count : *to;
    *from = *from > *to ? *to : *from;
}

/* Windows `first` to `stop` of `count` that lie in the image as a whole, on one axis. */
static void find_interior(int32_t pad, int32_t stride, int32_t reach, int32_t size, int32_t count, int32_t *first,
                          int32_t *stop) {
    int32_t last = size - 1 - reach + pad;
    *first = (pad + stride - 1) / stride;
    *stop = last < 0 ? 0 : last / stride + 1;
    *stop = *stop > count ? count : *stop;
    *first = *first > *stop ? *stop : *first;
}

/* `count` windows from (y, x) on, in a row or a column, which meet the image alike. `inside`: where sums of windows
 * that lie in the image as a whole start. */
static void run_windows(const thimble_rows *rows, const thimble_window *window, int32_t y, int32_t x, int32_t count,
                        int is_column, uint32_t inside) {
    line along;
    along.top = y * window->stride_h - window->pad_top;
    along.left = x * window->stride_w - window->pad_left;
    clip(along.top, window->dilation_h, window->kernel_h, window->in_h, &along.range.y0, &along.range.y1);
    clip(along.left, window->dilation_w, window->kernel_w, window->in_w, &along.range.x0, &along.range.x1);
    along.step = window->pixel * (is_column ? window->stride_h * window->in_w : window->stride_w);
    along.count = count;
    along.out = window->out + y * window->out_step_y + x * window->out_step_x;
    along.out_step = is_column ? window->out_step_y : window->out_step_x;
    run_line(rows, window, &along, inside);
}

/* Whether all positions lie in one line: a kernel of one cell that moves by one. */
static int is_one_line(const thimble_window *window) {
    return window->kernel_h == 1 && window->kernel_w == 1 && window->stride_h == 1 && window->stride_w == 1 &&
           window->pad_top == 0 && window->pad_left == 0 && window->in_w == window->out_w &&
           window->out_step_y == window->out_w * window->out_step_x;
}

void thimble_convolve(const thimble_rows *rows, const thimble_window *window) {
    int32_t y0, y1, x0, x1, width = window->out_w;
    if (THIMBLE_HAS_LAYOUT(SPARSE) && window->cells) {
        split_cells(&rows->stream, window);
    }
    cell_range whole = {0, window->kernel_h, 0, window->kernel_w};
    uint32_t inside = rows->bias;
    if (window->zero_point != 0) {
        inside -= (uint32_t)window->zero_point * (uint32_t)sum_of_range(&rows->stream, window, &whole);
    }
    if (is_one_line(window)) {
        run_windows(rows, window, window->y_start, 0, (window->y_stop - window->y_start) * width, 0, inside);
        return;
    }
    find_interior(window->pad_top, window->stride_h, (window->kernel_h - 1) * window->dilation_h, window->in_h,
                  window->y_stop, &y0, &y1);
    find_interior(window->pad_left, window->stride_w, (window->kernel_w - 1) * window->dilation_w, window->in_w, width,
                  &x0, &x1);
    y0 = y0 < window->y_start ? window->y_start : y0;
    y1 = y1 < y0 ? y0 : y1;
    int32_t rows_inside = y1 - y0, columns_inside = x1 - x0;
    /* The direction that leaves fewer positions outside of blocks. */
    int by_columns = columns_inside * (rows_inside % THIMBLE_BLOCK) < rows_inside * (columns_inside % THIMBLE_BLOCK);
    for (int32_t y = window->y_start; y < window->y_stop; y++) {
        int is_inside = y >= y0 && y < y1;
        if (is_inside && by_columns) {
            y = y1 - 1;
            continue;
        }
        for (int32_t x = 0; x < width && !is_inside; x += x == x0 && x1 > x0 ? x1 - x0 : 1) {
            run_windows(rows, window, y, x, x == x0 && x1 > x0 ? x1 - x0 : 1, 0, inside);
        }
        if (is_inside && columns_inside > 0) {
            run_windows(rows, window, y, x0, columns_inside, 0, inside);
        }
    }
    for (int32_t x = 0; x < width && rows_inside > 0; x++) {
        if (by_columns || x < x0 || x >= x1) {
            run_windows(rows, window, y0, x, rows_inside, 1, inside);
        }
    }
}
