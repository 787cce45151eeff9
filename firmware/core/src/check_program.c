/* The PROGRAM section in byte order: docs/FORMAT.md, section 7.3. */
#include "loader.h"
#include "stream.h"

#define SHIFT_MIN (-31)
#define SHIFT_MAX 30

/* Checks the tensors and notes where they are. */
static void check_tensors(thimble_model *model, thimble_cursor *cursor) {
    model->tensor_count = thimble_read_count(cursor, THIMBLE_MAX_TENSORS);
    model->first_tensor = cursor->at;
    for (uint32_t i = 0; i < model->tensor_count && !cursor->error; i++) {
        thimble_tensor tensor;
        thimble_read_tensor(cursor, model->features, &tensor);
    }
}

static void check_count(thimble_cursor *cursor, uint32_t count) {
    thimble_expect(cursor, count != 0, THIMBLE_ERROR_BAD_CONSTANT);
    thimble_expect(cursor, count <= THIMBLE_MAX_ROW_LENGTH, THIMBLE_ERROR_LIMIT_EXCEEDED);
}

static void check_integers(thimble_cursor *cursor, const uint32_t *f) {
    uint32_t count = f[THIMBLE_FIELD_INTEGERS_COUNT], bits = f[THIMBLE_FIELD_INTEGERS_BITS];
    check_count(cursor, count);
    int fits = bits >= 1 && bits <= 32 && f[THIMBLE_FIELD_INTEGERS_DATA_BYTES] == (count * bits + 7) / 8;
    thimble_expect(cursor, fits, THIMBLE_ERROR_BAD_CONSTANT);
}

static void check_requant(thimble_cursor *cursor, const uint32_t *f) {
    static const uint8_t value_bytes[3] = {4, 5, 1}; /* by form */
    uint32_t count = f[THIMBLE_FIELD_REQUANT_COUNT], form = f[THIMBLE_FIELD_REQUANT_FORM];
    int32_t shift_base = (int32_t)f[THIMBLE_FIELD_REQUANT_SHIFT_BASE];
    check_count(cursor, count);
    int fits = form <= THIMBLE_REQUANT_FORM_POWER_OF_TWO &&
               f[THIMBLE_FIELD_REQUANT_DATA_BYTES] == value_bytes[form] * count &&
               (form == THIMBLE_REQUANT_FORM_PACKED ? shift_base >= SHIFT_MIN && shift_base <= SHIFT_MAX - 3
                                                    : shift_base == 0);
    thimble_expect(cursor, fits, THIMBLE_ERROR_BAD_CONSTANT);
}

/* Multipliers and shifts of a REQUANT constant that are not packed, at `payload`. */
static int requant_in_range(const uint32_t *f, const uint8_t *payload) {
    uint32_t count = f[THIMBLE_FIELD_REQUANT_COUNT];
    int wide = f[THIMBLE_FIELD_REQUANT_FORM] == THIMBLE_REQUANT_FORM_WIDE;
    const uint8_t *shifts = wide ? payload + 4 * count : payload;
    for (uint32_t i = 0; i < count; i++) {
        int32_t shift = (int8_t)shifts[i];
        if (wide ? payload[4 * i + 3] > 127 || shift < SHIFT_MIN || shift > SHIFT_MAX : shift < 0 || shift > 31) {
            return 0;
        }
    }
    return 1;
}

static int payload_in_range(const thimble_constant *constant, const uint8_t *payload) {
    const uint32_t *f = constant->fields;
    if (constant->kind == THIMBLE_CONSTANT_INTEGERS) {
        uint32_t used = (f[THIMBLE_FIELD_INTEGERS_COUNT] * f[THIMBLE_FIELD_INTEGERS_BITS]) & 7;
        return used == 0 || payload[f[THIMBLE_FIELD_INTEGERS_DATA_BYTES] - 1] >> used == 0;
    }
    return constant->kind == THIMBLE_CONSTANT_WEIGHTS ||
           f[THIMBLE_FIELD_REQUANT_FORM] == THIMBLE_REQUANT_FORM_PACKED || requant_in_range(f, payload);
}

/* A registry may have a coder for some layouts only. */
static int can_decode(const thimble_registry *registry, const thimble_constant *weights) {
    uint32_t layout = weights->fields[THIMBLE_FIELD_WEIGHTS_LAYOUT];
    const thimble_coder_type *coder = registry->coders[weights->fields[THIMBLE_FIELD_WEIGHTS_CODER]];
    return thimble_is_raw(weights) || (THIMBLE_HAS(BITS) && layout == THIMBLE_LAYOUT_BITS
                                           ? coder->next_bits_row != NULL
                                           : coder->next_row[layout] != NULL);
}

/* One constant, whose data may start at `end` of DATA; returns where its data ends. */
static uint32_t check_constant(thimble_model *model, thimble_cursor *cursor, uint32_t end) {
    thimble_constant constant = thimble_read_constant(cursor);
    const uint32_t *f = constant.fields;
    if (cursor->error) {
        return 0;
    }
    int in_words = 0;
    if (constant.kind == THIMBLE_CONSTANT_WEIGHTS) {
        int32_t features = thimble_check_weights(&constant);
        thimble_expect(cursor, features >= 0, features);
        thimble_expect(cursor, ((uint32_t)features & ~model->features) == 0 && can_decode(model->registry, &constant),
                       THIMBLE_ERROR_UNSUPPORTED_FEATURE);
        in_words = f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_BITS;
    } else if (constant.kind == THIMBLE_CONSTANT_INTEGERS) {
        check_integers(cursor, f);
    } else {
        check_requant(cursor, f);
        in_words = f[THIMBLE_FIELD_REQUANT_FORM] != THIMBLE_REQUANT_FORM_POWER_OF_TWO;
    }
    /* Offset and length come first in every kind. */
    uint32_t offset = f[0], length = f[1], start = in_words ? thimble_align4(end) : end;
    thimble_expect(cursor, offset == start && offset <= model->data_bytes && length <= model->data_bytes - offset,
                   THIMBLE_ERROR_BAD_CONSTANT);
    if (cursor->error) {
        return 0;
    }
    const uint8_t *data = model->data + model->data_offset;
    int fits = thimble_is_zero(data, end, offset) && payload_in_range(&constant, data + offset);
    thimble_expect(cursor, fits, THIMBLE_ERROR_BAD_CONSTANT);
    return offset + length;
}

static void check_constants(thimble_model *model, thimble_cursor *cursor) {
    uint32_t end = 0;
    model->constant_count = thimble_read_count(cursor, THIMBLE_MAX_CONSTANTS);
    model->first_constant = cursor->at;
    for (uint32_t i = 0; i < model->constant_count && !cursor->error; i++) {
        end = check_constant(model, cursor, end);
    }
    thimble_expect(cursor, end == model->data_bytes, THIMBLE_ERROR_BAD_CONSTANT);
}

/* Positive and finite, from the bits of an IEEE 754 number. */
static int is_scale(uint32_t bits) {
    return bits != 0 && bits < 0x7F800000u;
}

/* Inputs or outputs; returns their number and where they start. */
static uint32_t check_ports(thimble_model *model, thimble_cursor *cursor, uint32_t limit, uint32_t *first) {
    uint16_t tensors[THIMBLE_MAX_MODEL_INPUTS];
    uint32_t count = thimble_read_count(cursor, limit);
    thimble_expect(cursor, count != 0, THIMBLE_ERROR_BAD_PORT);
    *first = cursor->at;
    for (uint32_t i = 0; i < count && !cursor->error; i++) {
        thimble_port port;
        thimble_read_port(cursor, &port);
        thimble_expect(cursor, port.tensor < model->tensor_count, THIMBLE_ERROR_BAD_PORT);
        thimble_expect(cursor, port.flags <= THIMBLE_PORT_FLAG_FLOAT, THIMBLE_ERROR_RESERVED_BITS);
        thimble_expect(cursor, port.zero_point >= -128 && port.zero_point <= 127 && is_scale(port.scale_bits),
                       THIMBLE_ERROR_BAD_PORT);
        for (uint32_t j = 0; j < i; j++) {
            thimble_expect(cursor, tensors[j] != port.tensor, THIMBLE_ERROR_BAD_PORT);
        }
        tensors[i] = (uint16_t)port.tensor;
    }
    return count;
}

int32_t thimble_check_program(thimble_model *model, const thimble_envelope *envelope) {
    thimble_cursor cursor = thimble_cursor_at(model, envelope->program_offset);
    check_tensors(model, &cursor);
    check_constants(model, &cursor);
    model->operator_count = thimble_read_count(&cursor, THIMBLE_MAX_OPERATORS);
    model->first_operator = cursor.at;
    for (uint32_t i = 0; i < model->operator_count && !cursor.error; i++) {
        thimble_operator op;
        thimble_read_operator(&cursor, model, &op);
    }
    model->input_count = check_ports(model, &cursor, THIMBLE_MAX_MODEL_INPUTS, &model->first_input);
    model->output_count = check_ports(model, &cursor, THIMBLE_MAX_MODEL_OUTPUTS, &model->first_output);
    thimble_expect(&cursor, cursor.at == cursor.end, THIMBLE_ERROR_BAD_SECTION);
    return cursor.error;
}
