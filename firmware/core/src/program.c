#include "program.h"

static uint32_t constant_field_count(uint32_t kind) {
    return kind == THIMBLE_CONSTANT_WEIGHTS    ? THIMBLE_WEIGHTS_FIELD_COUNT
           : kind == THIMBLE_CONSTANT_INTEGERS ? THIMBLE_INTEGERS_FIELD_COUNT
                                               : THIMBLE_REQUANT_FIELD_COUNT;
}

thimble_constant thimble_read_constant(thimble_cursor *cursor) {
    thimble_constant constant = {thimble_read_u(cursor), {0}};
    thimble_expect(cursor, constant.kind <= THIMBLE_CONSTANT_REQUANT, THIMBLE_ERROR_BAD_CONSTANT);
    uint32_t count = constant_field_count(constant.kind);
    for (uint32_t i = 0; i < count; i++) {
        int is_signed = constant.kind == THIMBLE_CONSTANT_REQUANT && i == THIMBLE_FIELD_REQUANT_SHIFT_BASE;
        constant.fields[i] = is_signed ? (uint32_t)thimble_read_s(cursor) : thimble_read_u(cursor);
    }
    return constant;
}

void thimble_read_tensor(thimble_cursor *cursor, uint32_t features, thimble_tensor *tensor) {
    uint32_t dtype = thimble_read_u(cursor);
    thimble_expect(cursor, dtype <= THIMBLE_DTYPE_FLOAT32 && dtype != THIMBLE_DTYPE_INT32, THIMBLE_ERROR_BAD_TENSOR);
    /* The features of the other types are not this reader's, so no header may have declared them. */
    thimble_expect(cursor, dtype == THIMBLE_DTYPE_INT8, THIMBLE_ERROR_UNSUPPORTED_FEATURE);
    tensor->flags = thimble_read_u(cursor);
    thimble_expect(cursor, tensor->flags <= THIMBLE_TENSOR_FLAG_PERSISTENT, THIMBLE_ERROR_RESERVED_BITS);
    thimble_expect(cursor, tensor->flags == 0 || (features & THIMBLE_FEATURE_PERSISTENT_TENSORS),
                   THIMBLE_ERROR_UNSUPPORTED_FEATURE);
    uint32_t rank = thimble_read_count(cursor, THIMBLE_MAX_RANK);
    uint32_t bytes = 1;
    int32_t shape[4] = {1, 1, 1, 1};
    for (uint32_t i = 0; i < rank; i++) {
        uint32_t dimension = thimble_read_u(cursor);
        thimble_expect(cursor, dimension != 0, THIMBLE_ERROR_BAD_TENSOR);
        if (cursor->error) {
            return;
        }
        if (dimension > (uint32_t)THIMBLE_MAX_TENSOR_BYTES / bytes) {
            thimble_expect(cursor, 0, THIMBLE_ERROR_LIMIT_EXCEEDED);
            return;
        }
        bytes *= dimension;
        shape[0] *= shape[1];
        shape[1] = shape[2];
        shape[2] = shape[3];
        shape[3] = (int32_t)dimension;
    }
    tensor->bytes = bytes;
    for (uint32_t i = 0; i < 4; i++) {
        tensor->shape[i] = shape[i];
    }
    tensor->offset = thimble_read_u(cursor);
}

static uint32_t read_index(thimble_cursor *cursor, uint32_t end) {
    uint32_t index = thimble_read_u(cursor);
    thimble_expect(cursor, index < end, THIMBLE_ERROR_BAD_OPERATOR);
    return index;
}

static void read_attributes(thimble_cursor *cursor, thimble_operator *op) {
    const thimble_operator_type *type = op->type;
    uint32_t known = type->attribute_count;
    uint32_t count = thimble_read_count(cursor, THIMBLE_MAX_OPERATOR_ATTRIBUTES);
    int32_t value = 0;
    /* All are read before they are counted, as the order of the checks wants. */
    for (uint32_t i = 0; i < count; i++) {
        value = thimble_read_s(cursor);
        if (i < known) {
            op->attributes[i] = value;
        }
    }
    thimble_expect(cursor, count <= known && (count == 0 || value != type->defaults[count - 1]),
                   THIMBLE_ERROR_BAD_OPERATOR);
    for (uint32_t i = count; i < known; i++) {
        op->attributes[i] = type->defaults[i];
    }
}

static const thimble_operator_type *find_type(const thimble_model *model, uint32_t kind) {
    const thimble_operator_type *const *list = model->registry->operator_list;
    while (*list && (*list)->kind != kind) {
        list++;
    }
    return *list;
}

void thimble_read_operator(thimble_cursor *cursor, const thimble_model *model, thimble_operator *op) {
    uint32_t kind = thimble_read_u(cursor);
    thimble_expect(cursor, kind < 32 && (model->operators >> (kind & 31) & 1), THIMBLE_ERROR_UNSUPPORTED_OPERATOR);
    op->type = cursor->error ? NULL : find_type(model, kind);
    thimble_expect(cursor, op->type != NULL, THIMBLE_ERROR_UNSUPPORTED_OPERATOR);
    if (cursor->error) {
        return;
    }
    op->kind = (uint8_t)kind;
    uint32_t schedule = thimble_read_u(cursor);
    thimble_expect(cursor, schedule <= THIMBLE_SCHEDULE_FUSED_ADD, THIMBLE_ERROR_BAD_OPERATOR);
    op->schedule = (uint8_t)schedule;
    op->parameter = 0;
    if (schedule != THIMBLE_SCHEDULE_WHOLE && !cursor->error) {
        uint32_t feature = (uint32_t)THIMBLE_FEATURE_IN_PLACE << (schedule - 1);
        thimble_expect(cursor, (model->features & feature) != 0, THIMBLE_ERROR_UNSUPPORTED_FEATURE);
        op->parameter = thimble_read_u(cursor);
    }
    op->input_count = (uint8_t)thimble_read_count(cursor, THIMBLE_MAX_OPERATOR_INPUTS);
    for (uint32_t i = 0; i < op->input_count; i++) {
        op->inputs[i] = (uint16_t)read_index(cursor, model->tensor_count);
    }
    op->output_count = (uint8_t)thimble_read_count(cursor, THIMBLE_MAX_OPERATOR_OUTPUTS);
    op->output = 0;
    for (uint32_t i = 0; i < op->output_count; i++) {
        uint32_t index = read_index(cursor, model->tensor_count);
        op->output = i == 0 ? (uint16_t)index : op->output;
    }
    op->constant_count = (uint8_t)thimble_read_count(cursor, THIMBLE_MAX_OPERATOR_CONSTANTS);
    uint32_t last = 1;
    for (uint32_t i = 0; i < THIMBLE_MAX_OPERATOR_CONSTANTS; i++) {
        op->constants[i] = 0;
        if (i < op->constant_count) {
            last = read_index(cursor, model->constant_count + 1);
            op->constants[i] = (uint16_t)last;
        }
    }
    thimble_expect(cursor, last != 0, THIMBLE_ERROR_BAD_OPERATOR);
    read_attributes(cursor, op);
}

void thimble_read_port(thimble_cursor *cursor, thimble_port *port) {
    port->tensor = thimble_read_u(cursor);
    port->flags = thimble_read_u(cursor);
    port->zero_point = thimble_read_s(cursor);
    port->scale_bits = thimble_read_scale(cursor);
}

/* Where element `index` starts; `fields` is 0 for tensors, which have a rank, and 1 for constants. */
static uint32_t seek(const thimble_model *model, thimble_place *place, uint32_t first, uint32_t index, int constants) {
    if (place->at == 0 || place->index > index) {
        place->at = first;
        place->index = 0;
    }
    thimble_cursor cursor = thimble_cursor_at(model, place->at);
    while (place->index < index) {
        if (constants) {
            thimble_read_constant(&cursor);
        } else {
            thimble_tensor tensor;
            thimble_read_tensor(&cursor, model->features, &tensor);
        }
        place->index++;
    }
    place->at = cursor.at;
    return cursor.at;
}

thimble_tensor thimble_tensor_at(thimble_model *model, uint32_t index) {
    thimble_tensor tensor = {0};
    thimble_cursor cursor =
        thimble_cursor_at(model, seek(model, &model->tensor_place, model->first_tensor, index, 0));
    thimble_read_tensor(&cursor, model->features, &tensor);
    return tensor;
}

thimble_constant thimble_constant_at(thimble_model *model, uint32_t index) {
    thimble_cursor cursor =
        thimble_cursor_at(model, seek(model, &model->constant_place, model->first_constant, index, 1));
    return thimble_read_constant(&cursor);
}
