/* The core as a shared library for host_tools/targets/native.py, which knows no C structs. */
#include "thimble_registry.h"

uint32_t thimble_native_model_bytes(void) {
    return sizeof(thimble_model);
}

/* sizes: bytes of memory, of the arena. */
int32_t thimble_native_load(thimble_model *model, const void *data, uint32_t length, uint32_t sizes[2]) {
    int32_t error = thimble_load(model, &thimble_registry_all, data, length);
    sizes[0] = model->memory_bytes;
    sizes[1] = model->arena_bytes;
    return error;
}

/* place: offset in the memory, bytes. */
int32_t thimble_native_port(thimble_model *model, int32_t is_output, uint32_t index, uint32_t place[2]) {
    thimble_port port;
    int32_t error = is_output ? thimble_output(model, index, &port) : thimble_input(model, index, &port);
    if (error >= 0) {
        place[0] = port.offset;
        place[1] = port.bytes;
    }
    return error;
}
