#include "program.h"

static uint32_t constant_field_count(uint32_t kind) {
    return kind == THIMBLE_CONSTANT_WEIGHTS    ? THIMBLE_WEIGHTS_FIELD_COUNT
           : kind == THIMBLE_CONSTANT_INTEGERS ? THIMBLE_INTEGERS_FIELD_COUNT
                                               : THIMBLE_REQUANT_FIELD_COUNT;
}

void thimble_read_constant(thimble_cursor *cursor, thimble_constant *constant) {
    uint32_t kind = thimble_read_below(cursor, THIMBLE_CONSTANT_REQUANT + 1, THIMBLE_ERROR_BAD_CONSTANT);
    uint32_t count = constant_field_count(kind);
    constant->kind = kind;
    for (uint32_t i = 0; i < count; i++) {
        int is_signed = kind == THIMBLE_CONSTANT_REQUANT && i == THIMBLE_FIELD_REQUANT_SHIFT_BASE;
        constant->fields[i] = is_signed ? (uint32_t)thimble_read_s(cursor) : thimble_read_u(cursor);
    }
}

void thimble_read_tensor(thimble_cursor *cursor, thimble_tensor *tensor) {
    uint32_t dtype = thimble_read_below(cursor, THIMBLE_DTYPE_FLOAT32 + 1, THIMBLE_ERROR_BAD_TENSOR);
    /* The features of the other types are not this reader's, so no header may have declared them. */
    int is_bit = THIMBLE_HAS(BIT_ACTIVATIONS) && dtype == THIMBLE_DTYPE_BIT &&
                 (cursor->model->features & THIMBLE_FEATURE_BIT_ACTIVATIONS) != 0;
    thimble_expect(cursor, dtype == THIMBLE_DTYPE_INT8 || is_bit,
                   dtype == THIMBLE_DTYPE_INT32 ? THIMBLE_ERROR_BAD_TENSOR : THIMBLE_ERROR_UNSUPPORTED_FEATURE);
    uint32_t flags = thimble_read_below(cursor, THIMBLE_TENSOR_FLAG_PERSISTENT + 1, THIMBLE_ERROR_RESERVED_BITS);
    int has_state = THIMBLE_HAS(PERSISTENT_TENSORS) && (cursor->model->features & THIMBLE_FEATURE_PERSISTENT_TENSORS);
    thimble_expect(cursor, flags == 0 || has_state, THIMBLE_ERROR_UNSUPPORTED_FEATURE);
    tensor->flags = flags;
    uint32_t rank = thimble_read_count(cursor, THIMBLE_MAX_RANK), bytes = 1;
    for (uint32_t i = 0; i < 4; i++) {
        tensor->shape[i] = 1;
    }
    /* Dimensions before the last four are counted into the first of these. */
    for (uint32_t place = rank > 4 ? 0 : 4 - rank; rank > 0; rank--) {
        uint32_t dimension = thimble_read_u(cursor);
        thimble_expect(cursor, dimension != 0, THIMBLE_ERROR_BAD_TENSOR);
        thimble_expect(cursor, dimension <= (uint32_t)THIMBLE_MAX_TENSOR_BYTES / bytes, THIMBLE_ERROR_LIMIT_EXCEEDED);
        if (cursor->error) {
            return;
        }
        bytes *= dimension;
        tensor->shape[place] *= (int32_t)dimension;
        place += rank <= 4;
    }
    tensor->offset = thimble_read_u(cursor);
    tensor->bits = 0;
    if (is_bit) {
        uint32_t channels = (uint32_t)tensor->shape[3], position_bytes = (channels + 31) / 32 * 4;
        uint32_t positions = bytes / channels;
        thimble_expect(cursor, positions <= THIMBLE_MAX_TENSOR_BYTES / position_bytes, THIMBLE_ERROR_LIMIT_EXCEEDED);
        thimble_expect(cursor, (tensor->offset & 3) == 0 && tensor->flags == 0, THIMBLE_ERROR_BAD_TENSOR);
        tensor->bits = (int32_t)channels;
        tensor->shape[3] = (int32_t)position_bytes;
        bytes = positions * position_bytes;
    }
    tensor->bytes = bytes;
}

static void read_attributes(thimble_cursor *cursor, thimble_operator *op) {
    const thimble_operator_type *type = op->type;
    uint32_t known = type->attribute_count;
    uint32_t count = thimble_read_count(cursor, THIMBLE_MAX_OPERATOR_ATTRIBUTES);
    int fits = 1;
    for (uint32_t i = 0; i < known; i++) {
        op->attributes[i] = type->defaults[i];
    }
    /* All are read before they are judged, as the order of the checks wants; the last one is to be known and to differ
     * from its default. */
    for (uint32_t i = 0; i < count; i++) {
        int32_t value = thimble_read_s(cursor);
        fits = i < known && value != op->attributes[i];
        if (fits) {
            op->attributes[i] = value;
        }
    }
    thimble_expect(cursor, fits, THIMBLE_ERROR_BAD_OPERATOR);
}

static const thimble_operator_type *find_type(const thimble_model *model, uint32_t kind) {
    const thimble_operator_type *const *list = model->registry->operator_list;
    while (*list && (*list)->kind != kind) {
        list++;
    }
    return *list;
}

/* Indexes below `end`; returns how many. */
static uint8_t read_indexes(thimble_cursor *cursor, uint32_t limit, uint32_t end, uint16_t *indexes) {
    uint32_t count = thimble_read_count(cursor, limit);
    for (uint32_t i = 0; i < count; i++) {
        indexes[i] = (uint16_t)thimble_read_below(cursor, end, THIMBLE_ERROR_BAD_OPERATOR);
    }
    return (uint8_t)count;
}

void thimble_read_operator(thimble_cursor *cursor, thimble_operator *op) {
    const thimble_model *model = cursor->model;
    uint32_t kind = thimble_read_u(cursor);
    op->type = kind < 32 && (model->operators >> kind & 1) ? find_type(model, kind) : NULL;
    thimble_expect(cursor, op->type != NULL, THIMBLE_ERROR_UNSUPPORTED_OPERATOR);
    if (cursor->error) {
        return;
    }
    op->kind = (uint8_t)kind;
    uint32_t schedule = thimble_read_below(cursor, THIMBLE_SCHEDULE_FUSED_ADD + 1, THIMBLE_ERROR_BAD_OPERATOR);
    op->schedule = (uint8_t)schedule;
    op->parameter = 0;
    if (schedule != THIMBLE_SCHEDULE_WHOLE) {
        uint32_t feature = (uint32_t)THIMBLE_FEATURE_IN_PLACE << (schedule - 1);
        thimble_expect(cursor, (model->features & feature) != 0, THIMBLE_ERROR_UNSUPPORTED_FEATURE);
        op->parameter = thimble_read_u(cursor);
    }
    uint16_t outputs[THIMBLE_MAX_OPERATOR_OUTPUTS];
    op->input_count = read_indexes(cursor, THIMBLE_MAX_OPERATOR_INPUTS, model->tensor_count, op->inputs);
    op->output_count = read_indexes(cursor, THIMBLE_MAX_OPERATOR_OUTPUTS, model->tensor_count, outputs);
    op->output = op->output_count ? outputs[0] : 0;
    op->constant_count =
        read_indexes(cursor, THIMBLE_MAX_OPERATOR_CONSTANTS, model->constant_count + 1, op->constants);
    thimble_expect(cursor, op->constant_count == 0 || op->constants[op->constant_count - 1] != 0,
                   THIMBLE_ERROR_BAD_OPERATOR);
    read_attributes(cursor, op);
}

void thimble_read_port(thimble_cursor *cursor, thimble_port *port) {
    port->tensor = thimble_read_u(cursor);
    port->flags = thimble_read_u(cursor);
    port->zero_point = thimble_read_s(cursor);
    port->scale_bits = thimble_read_scale(cursor);
}

/* Reads tensor or constant number `index`, by the list that `place` is for. */
static void find(thimble_model *model, thimble_place *place, uint32_t index, void *element) {
    int is_tensor = place == &model->tensor_place;
    if (place->at == 0 || place->index > index) {
        place->at = is_tensor ? model->first_tensor : model->first_constant;
        place->index = 0;
    }
    thimble_cursor cursor = thimble_cursor_at(model, place->at);
    for (;; place->index++) {
        place->at = cursor.at;
        if (is_tensor) {
            thimble_read_tensor(&cursor, element);
        } else {
            thimble_read_constant(&cursor, element);
        }
        if (place->index == index) {
            return;
        }
    }
}

void thimble_find_tensor(thimble_model *model, uint32_t index, thimble_tensor *tensor) {
    find(model, &model->tensor_place, index, tensor);
}

/* The header has the number itself, so that tools that do not compile can read it. */
typedef char thimble_place_for_each_constant[THIMBLE_MAX_OPERATOR_CONSTANTS == 4 ? 1 : -1];

void thimble_find_constant(thimble_model *model, const thimble_operator *op, uint32_t which,
                           thimble_constant *constant) {
    find(model, &model->constant_places[which], op->constants[which] - 1u, constant);
}
