/* Conditions that a compiler folds where a build leaves something out: see thimble_build.h. */
#ifndef THIMBLE_SRC_BUILD_H
#define THIMBLE_SRC_BUILD_H

#include "thimble_build.h"
#include "thimble_format.h"

/* THIMBLE_HAS(IN_PLACE), THIMBLE_HAS_OPERATOR(CONV_2D), THIMBLE_HAS_LAYOUT(SPARSE) ... */
#define THIMBLE_HAS(feature) (((THIMBLE_BUILD_FEATURES) & (uint32_t)THIMBLE_FEATURE_##feature) != 0)
#define THIMBLE_HAS_OPERATOR(kind) (((THIMBLE_BUILD_OPERATORS) >> THIMBLE_OPERATOR_##kind & 1u) != 0)
#define THIMBLE_HAS_LAYOUT(layout) (((THIMBLE_BUILD_LAYOUTS) >> THIMBLE_LAYOUT_##layout & 1u) != 0)
#define THIMBLE_HAS_MAP(map) (((THIMBLE_BUILD_VALUE_MAPS) >> THIMBLE_MAP_##map & 1u) != 0)
#define THIMBLE_HAS_FORM(form) (((THIMBLE_BUILD_REQUANT_FORMS) >> THIMBLE_REQUANT_FORM_##form & 1u) != 0)

/* Ways to compute, of which a model may take few. */
enum thimble_path {
    THIMBLE_PATH_DECODED, /* weights that are not dense rows of 8 bits */
    THIMBLE_PATH_COLUMNS, /* CONV_2D by columns.c */
    THIMBLE_PATH_ROWS,    /* convolutions by convolve.c */
    THIMBLE_PATH_PLANES,  /* depthwise convolutions by plane_3x3.c */
    THIMBLE_PATH_BLOCKS,  /* FULLY_CONNECTED by raw_blocks.c: faster, never needed */
};
#define THIMBLE_HAS_PATH(path) (((THIMBLE_BUILD_PATHS) >> THIMBLE_PATH_##path & 1u) != 0)
/* Whether a convolution may be one that the build has no way for. */
#define THIMBLE_LACKS_PATHS \
    (!THIMBLE_HAS_PATH(ROWS) && (THIMBLE_HAS_OPERATOR(CONV_2D) || THIMBLE_HAS_OPERATOR(DEPTHWISE_CONV_2D)))

/* A function that gets registers and a stack frame of its own, or whose code stands there once. */
#if defined(__GNUC__)
#define THIMBLE_NOT_INLINED __attribute__((noinline))
#else
#define THIMBLE_NOT_INLINED
#endif

#define THIMBLE_HAS_FUSED (THIMBLE_HAS(FUSED_DEPTHWISE) || THIMBLE_HAS(FUSED_ADD))
/* Depthwise convolutions take sparse rows as dense ones. */
#define THIMBLE_HAS_DENSE_ROWS                                                                                     \
    (((THIMBLE_BUILD_LAYOUTS) & ~(1u << THIMBLE_LAYOUT_SPARSE)) != 0 || THIMBLE_HAS_OPERATOR(DEPTHWISE_CONV_2D))

/* Whether a number that was checked is this one: the only one of the build, or one of several. */
#define THIMBLE_IS(mask, number, value) \
    (((mask) >> (number) & 1u) != 0 && ((mask) == 1u << (number) || (value) == (uint32_t)(number)))
#define THIMBLE_IS_LAYOUT(layout, value) THIMBLE_IS(THIMBLE_BUILD_LAYOUTS, THIMBLE_LAYOUT_##layout, value)
#define THIMBLE_IS_MAP(map, value) THIMBLE_IS(THIMBLE_BUILD_VALUE_MAPS, THIMBLE_MAP_##map, value)
#define THIMBLE_IS_FORM(form, value) THIMBLE_IS(THIMBLE_BUILD_REQUANT_FORMS, THIMBLE_REQUANT_FORM_##form, value)

#endif
