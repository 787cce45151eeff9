/* Parts of the convolutions that fused pairs are made of. */
#ifndef THIMBLE_FUSED_H
#define THIMBLE_FUSED_H

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

/* Decodes the next channel's row and computes the channel, with output (0, 0) at `out`. */
int32_t thimble_conv_next(thimble_conv *conv, int8_t *out);

typedef struct {
    thimble_rows rows;
    thimble_window window; /* on the padded plane */
    int8_t *plane;         /* one input channel with a border of zero points */
    int32_t height, width;
    int32_t top, left;          /* of the image in it */
    int32_t image_h, image_w;   /* as far as windows reach */
} thimble_depthwise;

int32_t thimble_depthwise_open(thimble_depthwise *depthwise, thimble_step_context *context, const thimble_operator *op,
                               const thimble_tensor *x, const thimble_tensor *out, uint8_t **scratch);
int32_t thimble_depthwise_next(thimble_depthwise *depthwise, int8_t *out);

/* ADD or SUB of `count` elements; steps are in elements. */
void thimble_add_elements(const thimble_operator *op, int8_t *out, int32_t out_step, const int8_t *x, int32_t x_step,
                          const int8_t *y, int32_t y_step, uint32_t count);

#endif
