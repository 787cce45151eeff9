/* The C core as a native module of MicroPython: `thimble.core`, which firmware/thimble/native.py uses.
 *
 * Buffers go in and numbers come out; an error of enum thimble_error_code is a negative number. What lives longer
 * than a call lies in bytearrays, so that MicroPython's collector owns it:
 *
 *     load(data) -> (model, memory_bytes, sha256_offset, operator_count, inputs, outputs), or the error;
 *         a port is (offset, bytes) in the memory. `data` must stay where it is.
 *     reset(model, memory), run(model, memory) -> 0 or the error
 *     begin(model, memory) -> progress or the error;  step(progress) -> operators that were run, 0 at the end */
#include "thimble_registry.h"

#include "py/dynruntime.h"

/* A native module is linked without a C library. */
void *memcpy(void *to, const void *from, size_t count) {
    return mp_fun_table.memmove_(to, from, count);
}

void *memset(void *to, int value, size_t count) {
    return mp_fun_table.memset_(to, value, count);
}

int memcmp(const void *first, const void *second, size_t count) {
    const uint8_t *a = first, *b = second;
    for (; count > 0; count--, a++, b++) {
        if (*a != *b) {
            return *a - *b;
        }
    }
    return 0;
}

static mp_obj_t new_bytearray(size_t size_bytes) {
    return mp_obj_new_bytearray_by_ref(size_bytes, m_malloc(size_bytes));
}

static mp_buffer_info_t buffer_of(mp_obj_t object, int flags) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(object, &info, (mp_uint_t)flags);
    return info;
}

static mp_obj_t ports_of(thimble_model *model, uint32_t count, int32_t (*describe)(thimble_model *, uint32_t, thimble_port *)) {
    mp_obj_t ports[THIMBLE_MAX_MODEL_INPUTS];
    for (uint32_t index = 0; index < count; index++) {
        thimble_port port;
        describe(model, index, &port);
        mp_obj_t place[2] = {mp_obj_new_int_from_uint(port.offset), mp_obj_new_int_from_uint(port.bytes)};
        ports[index] = mp_obj_new_tuple(2, place);
    }
    return mp_obj_new_tuple(count, ports);
}

static mp_obj_t load(mp_obj_t data_object) {
    mp_buffer_info_t data = buffer_of(data_object, MP_BUFFER_READ);
    mp_obj_t handle = new_bytearray(sizeof(thimble_model));
    thimble_model *model = buffer_of(handle, MP_BUFFER_RW).buf;
    int32_t error = thimble_load(model, &thimble_registry_all, data.buf, (uint32_t)data.len);
    if (error < 0) {
        return mp_obj_new_int(error);
    }
    mp_obj_t found[] = {
        handle,
        mp_obj_new_int_from_uint(model->memory_bytes),
        mp_obj_new_int_from_uint(model->sha256_offset),
        mp_obj_new_int_from_uint(model->operator_count),
        ports_of(model, model->input_count, thimble_input),
        ports_of(model, model->output_count, thimble_output),
    };
    return mp_obj_new_tuple(MP_ARRAY_SIZE(found), found);
}
static MP_DEFINE_CONST_FUN_OBJ_1(load_obj, load);

static mp_obj_t reset(mp_obj_t handle, mp_obj_t memory_object) {
    mp_buffer_info_t memory = buffer_of(memory_object, MP_BUFFER_RW);
    return mp_obj_new_int(thimble_reset(buffer_of(handle, MP_BUFFER_RW).buf, memory.buf, (uint32_t)memory.len));
}
static MP_DEFINE_CONST_FUN_OBJ_2(reset_obj, reset);

static mp_obj_t run(mp_obj_t handle, mp_obj_t memory_object) {
    mp_buffer_info_t memory = buffer_of(memory_object, MP_BUFFER_RW);
    return mp_obj_new_int(thimble_run(buffer_of(handle, MP_BUFFER_RW).buf, memory.buf, (uint32_t)memory.len));
}
static MP_DEFINE_CONST_FUN_OBJ_2(run_obj, run);

static mp_obj_t begin(mp_obj_t handle, mp_obj_t memory_object) {
    mp_buffer_info_t memory = buffer_of(memory_object, MP_BUFFER_RW);
    mp_obj_t progress = new_bytearray(sizeof(thimble_progress));
    int32_t error = thimble_begin(buffer_of(progress, MP_BUFFER_RW).buf, buffer_of(handle, MP_BUFFER_RW).buf, memory.buf,
                                  (uint32_t)memory.len);
    return error < 0 ? mp_obj_new_int(error) : progress;
}
static MP_DEFINE_CONST_FUN_OBJ_2(begin_obj, begin);

static mp_obj_t step(mp_obj_t progress) {
    return mp_obj_new_int(thimble_step(buffer_of(progress, MP_BUFFER_RW).buf));
}
static MP_DEFINE_CONST_FUN_OBJ_1(step_obj, step);

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    mp_store_global(MP_QSTR_load, MP_OBJ_FROM_PTR(&load_obj));
    mp_store_global(MP_QSTR_reset, MP_OBJ_FROM_PTR(&reset_obj));
    mp_store_global(MP_QSTR_run, MP_OBJ_FROM_PTR(&run_obj));
    mp_store_global(MP_QSTR_begin, MP_OBJ_FROM_PTR(&begin_obj));
    mp_store_global(MP_QSTR_step, MP_OBJ_FROM_PTR(&step_obj));
    MP_DYNRUNTIME_INIT_EXIT
}
