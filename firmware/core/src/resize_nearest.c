/* RESIZE_NEAREST: the source cells that TFLM finds in float32 (resize_nearest_neighbor.h), by the same roundings in
 * integers. */
#include <string.h>

#include "check.h"

/* An axis: the float32 ratio of sizes is `ratio` / 2^shift. */
typedef struct {
    uint32_t ratio;
    uint32_t shift;
    int32_t size;
    int32_t align_corners;
    int32_t half_pixel_centers;
} axis_map;

static axis_map map_of(const int32_t *a, int32_t size, int32_t out_size) {
    int32_t aligned = a[THIMBLE_RESIZE_NEAREST_ALIGN_CORNERS] && out_size > 1;
    uint32_t numerator = (uint32_t)(size - aligned), denominator = (uint32_t)(out_size - aligned);
    uint32_t ratio = numerator / denominator, rest = numerator % denominator, shift = 0;
    /* Long division until the quotient has 24 bits, rounded half to even as float32 is. */
    while (numerator != 0 && ratio < 1u << 23) {
        rest <<= 1;
        ratio = ratio << 1 | (rest >= denominator);
        rest -= rest >= denominator ? denominator : 0;
        shift++;
    }
    ratio += 2 * rest > denominator || (2 * rest == denominator && (ratio & 1));
    axis_map map = {ratio, shift, size, a[THIMBLE_RESIZE_NEAREST_ALIGN_CORNERS],
                    a[THIMBLE_RESIZE_NEAREST_HALF_PIXEL_CENTERS]};
    return map;
}

static int32_t source_of(const axis_map *map, int32_t index) {
    uint64_t place = (uint64_t)(2 * (uint32_t)index + (uint32_t)map->half_pixel_centers) * map->ratio;
    uint32_t extra = 0;
    while (place >> extra >= 1u << 24) {
        extra++;
    }
    if (extra > 0) {
        uint64_t whole = place >> extra, rest = place - (whole << extra), half = (uint64_t)1 << (extra - 1);
        whole += rest > half || (rest == half && (whole & 1));
        place = whole << extra;
    }
    if (map->align_corners) {
        place += (uint64_t)1 << map->shift; /* a half: `place` counts halves */
    }
    uint64_t cell = map->shift + 1 > 63 ? 0 : place >> (map->shift + 1);
    return cell < (uint64_t)map->size ? (int32_t)cell : map->size - 1;
}

static int check(thimble_step_context *context) {
    const int32_t *a = context->op->attributes;
    return context->x.shape[0] == context->out.shape[0] && context->x.shape[3] == context->out.shape[3] &&
           thimble_in_range(a[THIMBLE_RESIZE_NEAREST_ALIGN_CORNERS], 0, 1) &&
           thimble_in_range(a[THIMBLE_RESIZE_NEAREST_HALF_PIXEL_CENTERS], 0, 1);
}

static int32_t run(thimble_step_context *context) {
    const int32_t *shape = context->out.shape, *from = context->x.shape;
    axis_map rows = map_of(context->op->attributes, from[1], shape[1]);
    axis_map columns = map_of(context->op->attributes, from[2], shape[2]);
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    for (int32_t n = 0; n < shape[0]; n++) {
        for (int32_t y = 0; y < shape[1]; y++) {
            const int8_t *row = x + (n * from[1] + source_of(&rows, y)) * from[2] * from[3];
            for (int32_t column = 0; column < shape[2]; column++, out += shape[3]) {
                memcpy(out, row + source_of(&columns, column) * shape[3], (uint32_t)shape[3]);
            }
        }
    }
    return 0;
}

static const int8_t defaults[] = THIMBLE_RESIZE_NEAREST_DEFAULTS;

const thimble_operator_type thimble_resize_nearest = {
    THIMBLE_OPERATOR_RESIZE_NEAREST, THIMBLE_RESIZE_NEAREST_ATTRIBUTE_COUNT, 1, {0, 0, 0}, 0, defaults, check, run,
};
