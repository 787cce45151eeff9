/* The public functions: load a model, describe its ports, run its operators one after the other. */
#include <string.h>

#include "bits.h"
#include "loader.h"

static int is_aligned(const void *pointer) {
    return ((uintptr_t)pointer & 3) == 0;
}

int32_t thimble_load(thimble_model *model, const thimble_registry *registry, const void *data, uint32_t length) {
    thimble_envelope envelope;
    if (!is_aligned(data)) {
        return THIMBLE_ERROR_MISALIGNED;
    }
    memset(model, 0, sizeof *model);
    model->data = data;
    model->registry = registry;
    int32_t error = thimble_check_envelope(model, length, &envelope);
    if (error >= 0) {
        error = thimble_check_program(model, &envelope);
    }
    if (error >= 0) {
        error = thimble_check_operators(model, &envelope);
    }
    return error;
}

static int32_t check_memory(const thimble_model *model, const void *memory, uint32_t memory_bytes) {
    if (!is_aligned(memory)) {
        return THIMBLE_ERROR_MISALIGNED;
    }
    return memory_bytes < model->memory_bytes ? THIMBLE_ERROR_ARENA_TOO_SMALL : 0;
}

int32_t thimble_reset(thimble_model *model, void *memory, uint32_t memory_bytes) {
    int32_t error = check_memory(model, memory, memory_bytes);
    for (uint32_t i = 0; THIMBLE_HAS(PERSISTENT_TENSORS) && i < model->tensor_count && error >= 0; i++) {
        thimble_tensor tensor = thimble_tensor_at(model, i);
        if (tensor.flags & THIMBLE_TENSOR_FLAG_PERSISTENT) {
            memset((uint8_t *)memory + tensor.offset, 0, tensor.bytes);
        }
    }
    return error;
}

static int32_t describe(thimble_model *model, uint32_t first, uint32_t count, uint32_t index, thimble_port *port) {
    if (index >= count) {
        return THIMBLE_ERROR_BAD_INPUT;
    }
    thimble_cursor cursor = thimble_cursor_at(model, first);
    for (uint32_t i = 0; i <= index; i++) {
        thimble_read_port(&cursor, port);
    }
    thimble_tensor tensor = thimble_tensor_at(model, port->tensor);
    port->offset = tensor.offset;
    port->bytes = tensor.bytes;
    return 0;
}

int32_t thimble_input(thimble_model *model, uint32_t index, thimble_port *port) {
    return describe(model, model->first_input, model->input_count, index, port);
}

int32_t thimble_output(thimble_model *model, uint32_t index, thimble_port *port) {
    return describe(model, model->first_output, model->output_count, index, port);
}

int32_t thimble_begin(thimble_progress *progress, thimble_model *model, void *memory, uint32_t memory_bytes) {
    progress->model = model;
    progress->memory = memory;
    progress->memory_bytes = memory_bytes & ~3u;
    progress->index = 0;
    progress->at = model->first_operator;
    return check_memory(model, memory, memory_bytes);
}

int32_t thimble_step(thimble_progress *progress) {
    thimble_model *model = progress->model;
    if (progress->index == model->operator_count) {
        return 0;
    }
    thimble_operator operators[2];
    thimble_cursor cursor = thimble_cursor_at(model, progress->at);
    thimble_read_operator(&cursor, operators);
    thimble_step_context context;
    context.model = model;
    context.op = operators;
    context.head = NULL;
    context.arena = progress->memory;
    context.memory_end = progress->memory + progress->memory_bytes;
    context.index = progress->index;
    context.at = progress->at;
    int32_t (*run)(thimble_step_context *) = operators->type->run;
    if (thimble_is_fused_head(operators->schedule)) {
        int is_depthwise = THIMBLE_HAS(FUSED_DEPTHWISE) && operators->schedule == THIMBLE_SCHEDULE_FUSED_DEPTHWISE;
        run = is_depthwise ? model->registry->fused_depthwise : model->registry->fused_add;
        thimble_read_operator(&cursor, operators + 1);
        context.head = operators;
        context.op = operators + 1;
    }
    thimble_find_tensor(model, context.op->inputs[0], &context.x);
    thimble_find_tensor(model, context.op->output, &context.out);
    if (thimble_has_bits(&context)) {
        run = model->registry->bits->run;
    }
    /* Up to the very end: memory_bytes is such that no living tensor reaches so far. */
    thimble_find_scratch(&context);
    int32_t count = context.head ? 2 : 1;
    progress->index += (uint32_t)count;
    progress->at = cursor.at;
    int32_t error = run(&context);
    return error < 0 ? error : count;
}

int32_t thimble_run(thimble_model *model, void *memory, uint32_t memory_bytes) {
    thimble_progress progress;
    int32_t result = thimble_begin(&progress, model, memory, memory_bytes);
    if (result < 0) {
        return result;
    }
    do {
        result = thimble_step(&progress);
    } while (result > 0);
    return result;
}
