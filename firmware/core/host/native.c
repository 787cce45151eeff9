#include "native.h"

#include <string.h>

#include "thimble_registry.h"

int32_t thimble_native_load(thimble_model *model, const void *data, uint32_t length) {
    return thimble_load(model, &thimble_registry_all, data, length);
}

int32_t thimble_native_run(thimble_model *model, void *memory, uint32_t memory_bytes, const uint8_t *const *inputs,
                           uint8_t *const *outputs, uint32_t count) {
    thimble_port ins[THIMBLE_MAX_MODEL_INPUTS], outs[THIMBLE_MAX_MODEL_OUTPUTS];
    uint8_t *arena = memory;
    for (uint32_t k = 0; k < model->input_count; k++) {
        thimble_input(model, k, &ins[k]);
    }
    for (uint32_t k = 0; k < model->output_count; k++) {
        thimble_output(model, k, &outs[k]);
    }
    for (size_t sample = 0; sample < count; sample++) {
        for (uint32_t k = 0; k < model->input_count; k++) {
            memcpy(arena + ins[k].offset, inputs[k] + sample * ins[k].bytes, ins[k].bytes);
        }
        int32_t error = thimble_run(model, memory, memory_bytes);
        if (error < 0) {
            return error;
        }
        for (uint32_t k = 0; k < model->output_count; k++) {
            memcpy(outputs[k] + sample * outs[k].bytes, arena + outs[k].offset, outs[k].bytes);
        }
    }
    return 0;
}
