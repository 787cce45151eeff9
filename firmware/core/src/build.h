/* Conditions that a compiler folds where a build leaves something out: see thimble_build.h. */
#ifndef THIMBLE_SRC_BUILD_H
#define THIMBLE_SRC_BUILD_H

#include "thimble_build.h"
#include "thimble_format.h"

/* THIMBLE_HAS(SPARSE), THIMBLE_HAS_OPERATOR(CONV_2D) */
#define THIMBLE_HAS(feature) ((THIMBLE_BUILD_FEATURES & (uint32_t)THIMBLE_FEATURE_##feature) != 0)
#define THIMBLE_HAS_OPERATOR(kind) (((THIMBLE_BUILD_OPERATORS) >> THIMBLE_OPERATOR_##kind & 1u) != 0)

#define THIMBLE_HAS_FUSED (THIMBLE_HAS(FUSED_DEPTHWISE) || THIMBLE_HAS(FUSED_ADD))

#endif
