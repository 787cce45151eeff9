/* One output channel of a convolution at every position: the row of weights is decoded once and used everywhere. For
 * rows of pairs, and for what columns.h leaves.
 *
 * Cells outside of the image count as the input's zero point: they are left out. Sums are of plain products; what the
 * zero point adds to them, zero_point times the sum of the weights that meet the image, is taken off where they start.
 * THIMBLE_BLOCK neighbours that lie in the image as a whole share each weight that is loaded. */
#include "dot.h"
#include "weighted.h"

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

/* Adds the products of a kernel cell, or of `cells` side by side, to the sums of `count` positions: THIMBLE_BLOCK or
 * one. */
static void add_cells(const thimble_stream *stream, const thimble_window *window, int32_t cell, int32_t cells,
                      const int8_t *x, int32_t step, int32_t count, uint32_t sums[THIMBLE_BLOCK]) {
    const int8_t *w = stream->row + cell * window->depth;
    int32_t weights = cells * window->depth;
    if (thimble_gives_pairs(stream)) {
        uint32_t from, to;
        pairs_of_cell(stream, window, cell, &from, &to);
        dot_pairs_block(stream->row + from, stream->positions + from, x, count > 1 ? step : 0, to - from, sums);
    } else if (count > 1) {
        thimble_dot_block_offset(w, 0, x, step, weights, sums);
    } else {
        sums[0] = thimble_dot(w, 0, x, weights, sums[0]);
    }
}

/* Cells `from` to `to` of `count`, `step` apart from `start` on, that lie in 0 to size - 1. */
static void clip(int32_t start, int32_t step, int32_t count, int32_t size, int32_t *from, int32_t *to) {
    *from = start < 0 ? (step - 1 - start) / step : 0;
    *to = start >= size ? 0 : (size - 1 - start) / step + 1;
    *to = *to > count ? count : *to;
    *from = *from > *to ? *to : *from;
}

/* Windows `first` to `stop` of a row that no edge of the image cuts on the left or right. */
static void find_interior(const thimble_window *window, int32_t *first, int32_t *stop) {
    int32_t stride = window->stride_w, pad = window->pad_left;
    int32_t last = window->in_w - 1 - (window->kernel_w - 1) * window->dilation_w + pad;
    *first = (pad + stride - 1) / stride;
    *stop = last < 0 ? 0 : last / stride + 1;
    *stop = *stop > window->out_w ? window->out_w : *stop;
}

/* `count` windows from (y, x) on in a row of the output, which meet the image alike. `inside`: where sums of windows
 * that lie in the image as a whole start. */
static void run_windows(const thimble_rows *rows, const thimble_window *window, int32_t y, int32_t x, int32_t count,
                        uint32_t inside) {
    const thimble_stream *stream = &rows->stream;
    int32_t top = y * window->stride_h - window->pad_top, left = x * window->stride_w - window->pad_left;
    int32_t step = window->stride_w * window->pixel;
    int8_t *out = window->out + y * window->out_step_y + x * window->out_step_x;
    cell_range range;
    clip(top, window->dilation_h, window->kernel_h, window->in_h, &range.y0, &range.y1);
    clip(left, window->dilation_w, window->kernel_w, window->in_w, &range.x0, &range.x1);
    if (!is_whole(window, &range)) {
        inside = rows->bias - (uint32_t)window->zero_point * (uint32_t)sum_of_range(stream, window, &range);
    }
    int is_joined = !thimble_gives_pairs(stream) && window->depth == window->pixel && window->dilation_w == 1;
    int32_t cells = is_joined && range.x1 > range.x0 ? range.x1 - range.x0 : 1, done;
    const int8_t *first = window->x + (top * window->in_w + left) * window->pixel;
    for (; count > 0; count -= done, first += done * step, out += done * window->out_step_x) {
        uint32_t sums[THIMBLE_BLOCK] = {inside, inside, inside, inside};
        done = count >= THIMBLE_BLOCK ? THIMBLE_BLOCK : 1;
        for (int32_t ky = range.y0; ky < range.y1; ky++) {
            for (int32_t kx = range.x0; kx < range.x1; kx += cells) {
                const int8_t *at =
                    first + (ky * window->dilation_h * window->in_w + kx * window->dilation_w) * window->pixel;
                add_cells(stream, window, ky * window->kernel_w + kx, cells, at, step, done, sums);
            }
        }
        thimble_store_sums(&rows->stage, sums, done, out, window->out_step_x);
    }
}

void thimble_convolve(const thimble_rows *rows, const thimble_window *window) {
    int32_t x0, x1, width = window->out_w;
    if (THIMBLE_HAS_LAYOUT(SPARSE) && window->cells) {
        split_cells(&rows->stream, window);
    }
    cell_range whole = {0, window->kernel_h, 0, window->kernel_w};
    uint32_t inside = rows->bias;
    if (window->zero_point != 0) {
        inside -= (uint32_t)window->zero_point * (uint32_t)sum_of_range(&rows->stream, window, &whole);
    }
    find_interior(window, &x0, &x1);
    for (int32_t y = window->y_start; y < window->y_stop; y++) {
        for (int32_t x = 0, count; x < width; x += count) {
            count = x == x0 && x1 > x0 ? x1 - x0 : 1;
            run_windows(rows, window, y, x, count, inside);
        }
    }
}
