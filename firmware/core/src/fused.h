/* Parts of the convolutions that fused pairs are made of. */
#ifndef THIMBLE_FUSED_H
#define THIMBLE_FUSED_H

#include "plane_3x3.h"
#include "weighted.h"

typedef struct {
    thimble_rows rows;
    thimble_window window;
    const int8_t *source; /* first activation of the input */
    int32_t rows_per_group;
} thimble_conv;

/* Opens a CONV_2D; scratch is taken from `*scratch` on. */
int32_t thimble_conv_open(thimble_conv *conv, thimble_step_context *context, const thimble_operator *op,
                          const thimble_tensor *x, const thimble_tensor *out, uint8_t **scratch);

/* Decodes the next channel's row. */
int32_t thimble_conv_decode(thimble_conv *conv);

/* Computes the channel, with output (0, 0) at `out`. */
void thimble_conv_make(thimble_conv *conv, int8_t *out);

/* Both. */
int32_t thimble_conv_next(thimble_conv *conv, int8_t *out);

typedef struct {
    thimble_rows rows;
    union {
        thimble_plane plane;   /* if is_3x3 */
        thimble_window window; /* else: on the padded plane */
    } on;
    uint8_t *pixels;          /* one input channel with a border of zero points */
    int8_t *image;            /* where activation (0, 0) is in it */
    int32_t step_x, step_y;   /* bytes from one to the next in it */
    int32_t image_h, image_w; /* as far as windows reach */
    int is_3x3;
    int is_transposed; /* lines of the plane are columns */
} thimble_depthwise;

int32_t thimble_depthwise_open(thimble_depthwise *depthwise, thimble_step_context *context, const thimble_operator *op,
                               const thimble_tensor *x, const thimble_tensor *out, uint8_t **scratch);

/* Copies the channel that starts at `source` into the plane. It may lie at the places of the plane's pixels. */
void thimble_depthwise_load(const thimble_depthwise *depthwise, const int8_t *source, int32_t step_x, int32_t step_y);

/* Decodes the next row and computes the channel from the plane. */
int32_t thimble_depthwise_next(thimble_depthwise *depthwise, int8_t *out);

/* An operator of arithmetic.c on `count` elements; steps are in elements. */
void thimble_combine_elements(const thimble_operator *op, int8_t *out, int32_t out_step, const int8_t *x, int32_t x_step,
                          const int8_t *y, int32_t y_step, uint32_t count);

#endif
