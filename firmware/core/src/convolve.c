/* One output channel of a convolution at every position: the row of weights is decoded once and used everywhere. For
 * rows of pairs, and for what columns.h leaves.
 *
 * Cells outside of the image count as the input's zero point: they are left out. THIMBLE_BLOCK neighbours that no edge
 * cuts on the left or right share each pair that is loaded. */
#include "dot.h"
#include "weighted.h"

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

/* Pairs times THIMBLE_BLOCK vectors. */
static void dot_pairs(const int8_t *w, const uint16_t *at, const uint16_t *end, const int8_t *x, int32_t step,
                      int32_t zero_point, uint32_t sums[THIMBLE_BLOCK]) {
    const int8_t *x1 = x + step, *x2 = x1 + step, *x3 = x2 + step;
    uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    while (at < end) {
        int32_t weight = *w++;
        uint32_t place = *at++;
        s0 += (uint32_t)(weight * (x[place] - zero_point));
        s1 += (uint32_t)(weight * (x1[place] - zero_point));
        s2 += (uint32_t)(weight * (x2[place] - zero_point));
        s3 += (uint32_t)(weight * (x3[place] - zero_point));
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
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

/* Adds the products of a kernel cell, or of `cells` side by side, to the sums of `count` positions: THIMBLE_BLOCK or
 * one. */
static void add_cells(const thimble_stream *stream, const thimble_window *window, int32_t cell, int32_t cells,
                      const int8_t *x, int32_t step, int32_t count, uint32_t sums[THIMBLE_BLOCK]) {
    if (thimble_gives_pairs(stream)) {
        uint32_t from = window->cells ? window->cells[cell] : 0, to = window->cells ? window->cells[cell + 1] : stream->count;
        dot_pairs(stream->row + from, stream->positions + from, stream->positions + to, x, count > 1 ? step : 0,
                  window->zero_point, sums);
        return;
    }
    for (; count > 0; count--, x += step, sums++) {
        *sums = thimble_dot(x, -window->zero_point, stream->row + cell * window->depth, cells * window->depth, *sums);
    }
}

void thimble_convolve(const thimble_rows *rows, const thimble_window *window) {
    const thimble_stream *stream = &rows->stream;
    const int32_t reach = (window->kernel_w - 1) * window->dilation_w, step = window->stride_w * window->pixel;
    const int is_joined = !thimble_gives_pairs(stream) && window->depth == window->pixel && window->dilation_w == 1;
    if (THIMBLE_HAS_LAYOUT(SPARSE) && window->cells) {
        split_cells(stream, window);
    }
    for (int32_t y = window->y_start; y < window->y_stop; y++) {
        int8_t *out = window->out + y * window->out_step_y;
        for (int32_t x = 0, count; x < window->out_w; x += count, out += count * window->out_step_x) {
            int32_t left = x * window->stride_w - window->pad_left, beyond = window->in_w - left - reach;
            int32_t cells = is_joined && left >= 0 && beyond > 0 ? window->kernel_w : 1;
            uint32_t sums[THIMBLE_BLOCK] = {rows->bias, rows->bias, rows->bias, rows->bias};
            count = left >= 0 && beyond > (THIMBLE_BLOCK - 1) * window->stride_w && x + THIMBLE_BLOCK <= window->out_w
                        ? THIMBLE_BLOCK
                        : 1;
            for (int32_t ky = 0, in_y = y * window->stride_h - window->pad_top; ky < window->kernel_h;
                 ky++, in_y += window->dilation_h) {
                for (int32_t kx = 0, in_x = left; kx < window->kernel_w; kx += cells, in_x += cells * window->dilation_w) {
                    if ((uint32_t)in_y < (uint32_t)window->in_h && (uint32_t)in_x < (uint32_t)window->in_w) {
                        add_cells(stream, window, ky * window->kernel_w + kx, cells,
                                  window->x + (in_y * window->in_w + in_x) * window->pixel, step, count, sums);
                    }
                }
            }
            thimble_store_sums(&rows->stage, sums, count, out, window->out_step_x);
        }
    }
}
