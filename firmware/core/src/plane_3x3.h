/* Windows of 3 x 3 over one channel: its plane goes in as lines of 16-bit pixels with a border, activations come
 * out.
 *
 * Lines are rows of the image, or its columns where they fill blocks of windows better. */
#ifndef THIMBLE_PLANE_3X3_H
#define THIMBLE_PLANE_3X3_H

#include "dot.h"
#include "requantise.h"

/* A pixel is an activation plus the bias: without DSP instructions, unsigned halfwords are easier to load. */
#if THIMBLE_DSP
typedef int16_t thimble_pixel;
#define THIMBLE_PIXEL_BIAS 0
#else
typedef uint16_t thimble_pixel;
#define THIMBLE_PIXEL_BIAS 128
#endif

/* Machine code by hand: for Cortex-M4, M7 and M33 in plane_3x3_dsp.c, for Cortex-M0 in plane_3x3_thumb1.c. */
#if !defined(__ARM_ARCH_PROFILE) || __ARM_ARCH_PROFILE != 'M'
#define THIMBLE_PLANE_DSP 0
#define THIMBLE_PLANE_THUMB1 0
#else
#define THIMBLE_PLANE_DSP THIMBLE_DSP
#if defined(__thumb2__)
#define THIMBLE_PLANE_THUMB1 0
#else
#define THIMBLE_PLANE_THUMB1 1
#endif
#endif

/* Windows that are computed at a time; what a line has too few or too many, so much is read before and behind the
 * plane: THIMBLE_PLANE_SLACK bytes in all. */
#define THIMBLE_PLANE_BLOCK (THIMBLE_PLANE_DSP ? 6 : 4)
#define THIMBLE_PLANE_SLACK 24u
#define THIMBLE_PLANE_SLACK_BEFORE (THIMBLE_PLANE_THUMB1 ? 12u : 0u)

#if THIMBLE_PLANE_DSP
/* The sums of THIMBLE_PLANE_BLOCK windows from `x` on, which is 4-byte aligned. Of each line, the weights 0 and 1, then 1
 * and 2, in halves of a word. */
void thimble_sum_windows(const thimble_pixel *x, int32_t line_bytes, const uint32_t pairs[6],
                         uint32_t sums[THIMBLE_PLANE_BLOCK], uint32_t start, int32_t stride);
#elif THIMBLE_PLANE_THUMB1
/* What the machine code works on; changing the order means changing plane_3x3_thumb1.c. Steps are in bytes. */
typedef struct {
    uint32_t start;
    int32_t multiplier[3]; /* bits 0 to 9, 10 to 19, 20 to 30 */
    int32_t out_step;
    int32_t shift;
    int32_t stride;
    int32_t w[9];
    int32_t pitch;
    int32_t rounding; /* what is added before the shift */
    int8_t *out;
    const int8_t *x; /* first block */
    int32_t back;    /* from behind the lines of a block to the next block */
    const int8_t *line_end, *last; /* behind the last block of the line, and that one */
    int32_t absent; /* windows of the last block that belong to the one before */
    int32_t line_step;
    int32_t out_skip; /* from the end of a line to the next */
    int32_t lines;
    int32_t first; /* from the first block of a line to the last */
    uint32_t code, entry; /* where blocks are summed, and where the last one is stored */
} thimble_plane_job;
#endif

/* For a job, which would make the stack deeper; on all machines alike. */
#define THIMBLE_PLANE_JOB_BYTES 120u

typedef struct {
    const thimble_pixel *x; /* first pixel of the first window, 4-byte aligned */
    int32_t pitch;          /* pixels from one line to the next, even */
    int32_t stride;         /* 1 or 2, along lines and across */
    int32_t count;          /* windows in a line */
    int32_t lines;          /* of windows */
    int32_t out_step;       /* activations from one window of a line to the next */
    int32_t out_line_step;
    int32_t out_start; /* where the first one's activation lies */
    int32_t zero_point;    /* what the border counts as */
#if THIMBLE_PLANE_THUMB1
    thimble_plane_job *job; /* THIMBLE_PLANE_JOB_BYTES of scratch */
#endif
} thimble_plane;

/* Prepares what all channels share; the fields above are set. */
void thimble_plane_open(const thimble_plane *plane);

/* Convolves with nine weights, of which those of a line are `w_step` apart and lines `w_line_step`, and the bias. */
void thimble_plane_convolve(const thimble_plane *plane, const int8_t *w, int32_t w_step, int32_t w_line_step,
                            uint32_t bias, const thimble_output_stage *stage, int8_t *out);

/* The same by machine code with the weights of the job; 0: it cannot do it, or there is none. `start`: the bias and
 * what the zero point adds. */
int thimble_plane_run(const thimble_plane *plane, uint32_t start, const thimble_output_stage *stage, int8_t *out);

/* A pointwise convolution of eight channels that makes the pixels of a plane. */
typedef struct {
    const int8_t *x;     /* 4-byte aligned */
    int32_t line_step;   /* activations from one line to the next */
    int32_t count;       /* of a line, 1 or more */
    int32_t lines;       /* 1 or more */
    thimble_pixel *to;
    int32_t to_line_step;
} thimble_eight;

/* By machine code; 0: it cannot do it, or there is none. `start`: the bias and what the zero point adds. */
int thimble_plane_from_eight(const thimble_eight *eight, const int8_t *w, uint32_t start,
                             const thimble_output_stage *stage);

/* Copies `lines` lines of `count` activations to the pixels from `to` on. They may lie in the pixels' own places. */
void thimble_plane_load(const thimble_plane *plane, thimble_pixel *to, const int8_t *x, int32_t step,
                        int32_t line_step, int32_t count, int32_t lines);

#endif
