/* What the host extension adds to thimble.h. host_tools/native_extension.py reads both as declarations for Python. */
#ifndef THIMBLE_NATIVE_H
#define THIMBLE_NATIVE_H

#include "thimble.h"

/* thimble_load with all that the core has. */
int32_t thimble_native_load(thimble_model *model, const void *data, uint32_t length);

/* `count` inferences, one after the other. inputs[k] and outputs[k] hold model input and output k of all samples side
 * by side; the caller has counted their bytes. Stops at the first error. Errors as thimble_run. */
int32_t thimble_native_run(thimble_model *model, void *memory, uint32_t memory_bytes, const uint8_t *const *inputs,
                           uint8_t *const *outputs, uint32_t count);

#endif
