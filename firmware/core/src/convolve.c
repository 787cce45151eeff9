/* One output channel of a convolution at every position: the row of weights is decoded once and used
 * everywhere.
 *
 * Cells outside of the image count as the input's zero point. Sums are of the plain products x * w; what the
 * zero point adds to them, zero_point times the sum of the weights that met the image, is the same wherever
 * the whole window lies inside and is taken off once. */
#include "weighted.h"

#define BLOCK 4 /* neighbouring positions that share each weight that is loaded */

/* The part of the kernel that meets the image. */
typedef struct {
    int32_t y0, y1, x0, x1;
} cell_range;

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

/* Cells `from` to `to` of `count`, `step` apart from `start` on, that lie in 0 to size - 1. */
static void clip(int32_t start, int32_t step, int32_t count, int32_t size, int32_t *from, int32_t *to) {
    *from = start < 0 ? (step - 1 - start) / step : 0;
    *to = start >= size ? 0 : (size - 1 - start) / step + 1;
    *to = *to > count ? count : *to;
    *from = *from > *to ? *to : *from;
}

static int32_t sum_of(const int8_t *w, int32_t count) {
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += w[i];
    }
    return sum;
}

static uint32_t dot(const int8_t *w, const int8_t *x, int32_t count, uint32_t acc) {
    for (int32_t i = 0; i < count; i++) {
        acc += (uint32_t)(w[i] * x[i]);
    }
    return acc;
}

static void dot_block(const int8_t *w, const int8_t *x, int32_t step, int32_t count, uint32_t acc[BLOCK]) {
    const int8_t *x1 = x + step, *x2 = x1 + step, *x3 = x2 + step;
    uint32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    for (int32_t i = 0; i < count; i++) {
        int32_t weight = w[i];
        a0 += (uint32_t)(weight * x[i]);
        a1 += (uint32_t)(weight * x1[i]);
        a2 += (uint32_t)(weight * x2[i]);
        a3 += (uint32_t)(weight * x3[i]);
    }
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
}

static uint32_t dot_pairs(const int8_t *w, const uint16_t *at, const int8_t *x, uint32_t count, uint32_t acc) {
    for (uint32_t i = 0; i < count; i++) {
        acc += (uint32_t)(w[i] * x[at[i]]);
    }
    return acc;
}

static void dot_pairs_block(const int8_t *w, const uint16_t *at, const int8_t *x, int32_t step, uint32_t count,
                            uint32_t acc[BLOCK]) {
    const int8_t *x1 = x + step, *x2 = x1 + step, *x3 = x2 + step;
    uint32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    for (uint32_t i = 0; i < count; i++) {
        int32_t weight = w[i];
        uint32_t place = at[i];
        a0 += (uint32_t)(weight * x[place]);
        a1 += (uint32_t)(weight * x1[place]);
        a2 += (uint32_t)(weight * x2[place]);
        a3 += (uint32_t)(weight * x3[place]);
    }
    acc[0] = a0, acc[1] = a1, acc[2] = a2, acc[3] = a3;
}

/* The pairs of one kernel cell. */
static void pairs_of_cell(const thimble_stream *stream, const thimble_window *window, int32_t cell, uint32_t *from,
                          uint32_t *to) {
    *from = window->cells ? window->cells[cell] : 0;
    *to = window->cells ? window->cells[cell + 1] : stream->count;
}

/* Adds the products of `range` at `blocks` (1 or BLOCK) positions from (top, left) on. */
static void accumulate(const thimble_stream *stream, const thimble_window *window, int32_t top, int32_t left,
                       const cell_range *range, int32_t block, uint32_t acc[BLOCK]) {
    int joined = window->depth == window->pixel && window->dilation_w == 1 && !stream->positions;
    int32_t cells = joined ? range->x1 - range->x0 : 1; /* in one run of weights and activations */
    int32_t step = window->stride_w * window->pixel;
    for (int32_t ky = range->y0; ky < range->y1; ky++) {
        int32_t row = (top + ky * window->dilation_h) * window->in_w + left;
        for (int32_t kx = range->x0; kx < range->x1; kx += cells) {
            const int8_t *x = window->x + (row + kx * window->dilation_w) * window->pixel;
            int32_t cell = ky * window->kernel_w + kx;
            if (stream->positions) {
                uint32_t from, to;
                pairs_of_cell(stream, window, cell, &from, &to);
                if (block == BLOCK) {
                    dot_pairs_block(stream->row + from, stream->positions + from, x, step, to - from, acc);
                } else {
                    acc[0] = dot_pairs(stream->row + from, stream->positions + from, x, to - from, acc[0]);
                }
            } else if (block == BLOCK) {
                dot_block(stream->row + cell * window->depth, x, step, cells * window->depth, acc);
            } else {
                acc[0] = dot(stream->row + cell * window->depth, x, cells * window->depth, acc[0]);
            }
        }
    }
}

/* Sum of the weights of `range`. */
static int32_t sum_of_range(const thimble_stream *stream, const thimble_window *window, const cell_range *range) {
    int32_t sum = 0;
    for (int32_t ky = range->y0; ky < range->y1; ky++) {
        for (int32_t kx = range->x0; kx < range->x1; kx++) {
            int32_t cell = ky * window->kernel_w + kx;
            if (stream->positions) {
                uint32_t from, to;
                pairs_of_cell(stream, window, cell, &from, &to);
                sum += sum_of(stream->row + from, (int32_t)(to - from));
            } else {
                sum += sum_of(stream->row + cell * window->depth, window->depth);
            }
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

/* The positions of one output row whose left edge is inside: from column `first` to `stop`. */
static void find_interior(const thimble_window *window, int32_t *first, int32_t *stop) {
    int32_t reach = window->in_w - 1 - (window->kernel_w - 1) * window->dilation_w + window->pad_left;
    *first = (window->pad_left + window->stride_w - 1) / window->stride_w;
    *stop = reach < 0 ? 0 : reach / window->stride_w + 1;
    *stop = *stop > window->out_w ? window->out_w : *stop;
    *first = *first > *stop ? *stop : *first;
}

static uint32_t start_value(const thimble_rows *rows, const thimble_window *window, const cell_range *range) {
    if (window->zero_point == 0) {
        return rows->bias;
    }
    return rows->bias - (uint32_t)window->zero_point * (uint32_t)sum_of_range(&rows->stream, window, range);
}

void thimble_convolve(const thimble_rows *rows, const thimble_window *window) {
    const thimble_stream *stream = &rows->stream;
    const thimble_output_stage stage = rows->stage;
    int32_t first, stop;
    if (window->cells) {
        split_cells(stream, window);
    }
    find_interior(window, &first, &stop);
    cell_range whole = {0, window->kernel_h, 0, window->kernel_w};
    uint32_t inside = start_value(rows, window, &whole);
    for (int32_t y = window->y_start; y < window->y_stop; y++) {
        int32_t top = y * window->stride_h - window->pad_top;
        int8_t *out = window->out + y * window->out_step_y;
        cell_range range = whole;
        clip(top, window->dilation_h, window->kernel_h, window->in_h, &range.y0, &range.y1);
        uint32_t start = inside;
        if (range.y1 - range.y0 < window->kernel_h) {
            start = start_value(rows, window, &range);
        }
        for (int32_t column = 0; column < window->out_w;) {
            int32_t left = column * window->stride_w - window->pad_left;
            uint32_t acc[BLOCK];
            if (column >= first && column + BLOCK <= stop) {
                acc[0] = acc[1] = acc[2] = acc[3] = start;
                accumulate(stream, window, top, left, &range, BLOCK, acc);
                for (int32_t i = 0; i < BLOCK; i++, out += window->out_step_x) {
                    *out = thimble_requantise(&stage, acc[i]);
                }
                column += BLOCK;
                continue;
            }
            cell_range edge = range;
            acc[0] = start;
            if (column < first || column >= stop) {
                clip(left, window->dilation_w, window->kernel_w, window->in_w, &edge.x0, &edge.x1);
                acc[0] = start_value(rows, window, &edge);
            }
            accumulate(stream, window, top, left, &edge, 1, acc);
            *out = thimble_requantise(&stage, acc[0]);
            out += window->out_step_x;
            column++;
        }
    }
}
