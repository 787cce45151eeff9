#include "plane_3x3.h"
#include "weighted.h"

#if THIMBLE_PLANE_THUMB1

/* What few models need. */
THIMBLE_NOT_INLINED static void run_line(const thimble_plane *plane, const thimble_pixel *x, const int32_t *w, uint32_t start,
                     const thimble_output_stage *stage, int8_t *out) {
    for (int32_t i = 0; i < plane->count; i++, x += plane->stride, out += plane->out_step) {
        uint32_t sum = start;
        for (int32_t cell = 0; cell < 9; cell++) {
            sum += (uint32_t)(w[cell] * x[cell / 3 * plane->pitch + cell % 3]);
        }
        *out = thimble_requantise(stage, sum);
    }
}

#else

void thimble_plane_open(const thimble_plane *plane) {
    (void)plane;
}

int thimble_plane_run(const thimble_plane *plane, uint32_t start, const thimble_output_stage *stage, int8_t *out) {
    (void)plane, (void)start, (void)stage, (void)out;
    return 0;
}

#if THIMBLE_PLANE_DSP

static uint32_t weight_pair(int32_t low, int32_t high) {
    return ((uint32_t)low & 0xFFFF) | (uint32_t)high << 16;
}

static void run_line(const thimble_plane *plane, const thimble_pixel *x, const int32_t *w, uint32_t start,
                     const thimble_output_stage *stage, int8_t *out) {
    uint32_t pairs[6];
    for (int32_t i = 0; i < 6; i += 2, w += 3) {
        pairs[i] = weight_pair(w[0], w[1]);
        pairs[i + 1] = weight_pair(w[1], w[2]);
    }
    for (int32_t left = plane->count; left > 0; left -= THIMBLE_PLANE_BLOCK) {
        uint32_t sums[THIMBLE_PLANE_BLOCK];
        int32_t count = left < THIMBLE_PLANE_BLOCK ? left : THIMBLE_PLANE_BLOCK;
        thimble_sum_windows(x, 2 * plane->pitch, pairs, sums, start, plane->stride);
        thimble_store_sums(stage, sums, count, out, plane->out_step);
        x += THIMBLE_PLANE_BLOCK * plane->stride;
        out += THIMBLE_PLANE_BLOCK * plane->out_step;
    }
}

#else

int thimble_plane_from_eight(const thimble_eight *eight, const int8_t *w, uint32_t start,
                             const thimble_output_stage *stage) {
    (void)eight, (void)w, (void)start, (void)stage;
    return 0;
}

/* The sums of four windows; `stride` is a constant where this is used. */
static inline void sum_block(const thimble_pixel *x, int32_t pitch, int32_t stride, const int32_t *w, uint32_t start,
                             uint32_t sums[THIMBLE_PLANE_BLOCK]) {
    uint32_t s0 = start, s1 = start, s2 = start, s3 = start;
    /* cppcheck-suppress ctuPointerArith ; it takes the 36 bytes of the nine weights for four */
    for (const int32_t *end = w + 9; w < end; w += 3, x += pitch) {
        const int32_t w0 = w[0], w1 = w[1], w2 = w[2];
        const thimble_pixel *x1 = x + stride, *x2 = x1 + stride, *x3 = x2 + stride;
        s0 += (uint32_t)(w0 * x[0]) + (uint32_t)(w1 * x[1]) + (uint32_t)(w2 * x[2]);
        s1 += (uint32_t)(w0 * x1[0]) + (uint32_t)(w1 * x1[1]) + (uint32_t)(w2 * x1[2]);
        s2 += (uint32_t)(w0 * x2[0]) + (uint32_t)(w1 * x2[1]) + (uint32_t)(w2 * x2[2]);
        s3 += (uint32_t)(w0 * x3[0]) + (uint32_t)(w1 * x3[1]) + (uint32_t)(w2 * x3[2]);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

static void run_line(const thimble_plane *plane, const thimble_pixel *x, const int32_t *w, uint32_t start,
                     const thimble_output_stage *stage, int8_t *out) {
    const int32_t stride = plane->stride, pitch = plane->pitch, out_step = plane->out_step;
    for (int32_t left = plane->count; left > 0; left -= THIMBLE_PLANE_BLOCK, x += THIMBLE_PLANE_BLOCK * stride) {
        uint32_t sums[THIMBLE_PLANE_BLOCK];
        if (stride == 1) {
            sum_block(x, pitch, 1, w, start, sums);
        } else {
            sum_block(x, pitch, 2, w, start, sums);
        }
        int32_t count = left < THIMBLE_PLANE_BLOCK ? left : THIMBLE_PLANE_BLOCK;
        thimble_store_sums(stage, sums, count, out, out_step);
        out += count * out_step;
    }
}

#endif
#endif

void thimble_plane_convolve(const thimble_plane *plane, const int8_t *row, int32_t w_step, int32_t w_line_step,
                            uint32_t bias, const thimble_output_stage *stage, int8_t *out) {
#if THIMBLE_PLANE_THUMB1
    int32_t *const w = plane->job->w;
#else
    int32_t w[9];
#endif
    int32_t sum = 0;
    out += plane->out_start;
    for (int32_t *line = w; line < w + 9; line += 3, row += w_line_step) {
        line[0] = row[0], line[1] = row[w_step], line[2] = row[2 * w_step];
        sum += line[0] + line[1] + line[2];
    }
    uint32_t start = bias - (uint32_t)(plane->zero_point + THIMBLE_PIXEL_BIAS) * (uint32_t)sum;
    if (thimble_plane_run(plane, start, stage, out)) {
        return;
    }
    const thimble_pixel *x = plane->x;
    for (int32_t line = 0; line < plane->lines; line++, x += plane->stride * plane->pitch, out += plane->out_line_step) {
        run_line(plane, x, w, start, stage, out);
    }
}

void thimble_plane_load(const thimble_plane *plane, thimble_pixel *to, const int8_t *x, int32_t step,
                        int32_t line_step, int32_t count, int32_t lines) {
    for (; lines > 0; lines--, to += plane->pitch, x += line_step) {
        int32_t i = 0, at = 0;
        for (; i < count - 3; i += 4, at += 4 * step) {
            int32_t a = x[at], b = x[at + step], c = x[at + 2 * step], d = x[at + 3 * step];
            to[i] = (thimble_pixel)(a + THIMBLE_PIXEL_BIAS);
            to[i + 1] = (thimble_pixel)(b + THIMBLE_PIXEL_BIAS);
            to[i + 2] = (thimble_pixel)(c + THIMBLE_PIXEL_BIAS);
            to[i + 3] = (thimble_pixel)(d + THIMBLE_PIXEL_BIAS);
        }
        for (; i < count; i++, at += step) {
            to[i] = (thimble_pixel)(x[at] + THIMBLE_PIXEL_BIAS);
        }
    }
}
