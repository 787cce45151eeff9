/* The PROGRAM section in byte order: docs/FORMAT.md, section 7.3. */
#include <string.h>

#include "loader.h"
#include "stream.h"

/* Of a REQUANT constant; differences are compared as unsigned numbers. */
#define SHIFT_MIN ((uint32_t)-31)
#define SHIFT_MAX 30u

/* Checks the tensors and notes where they are. */
static void check_tensors(thimble_model *model, thimble_cursor *cursor) {
    model->tensor_count = thimble_read_count(cursor, THIMBLE_MAX_TENSORS);
    model->first_tensor = cursor->at;
    for (uint32_t i = 0; i < model->tensor_count && !cursor->error; i++) {
        thimble_tensor tensor;
        thimble_read_tensor(cursor, &tensor);
    }
}

/* INTEGERS and REQUANT: `count` values of some bytes each, and what their fields allow. */
static int32_t check_values(const thimble_constant *constant, uint32_t features) {
    const uint32_t *f = constant->fields;
    uint32_t count = f[THIMBLE_FIELD_INTEGERS_COUNT], bytes;
    int fits, can_scale = 1;
    if (count > THIMBLE_MAX_ROW_LENGTH) {
        return THIMBLE_ERROR_LIMIT_EXCEEDED;
    }
    if (constant->kind == THIMBLE_CONSTANT_INTEGERS) {
        uint32_t bits = f[THIMBLE_FIELD_INTEGERS_BITS];
        bytes = (count * bits + 7) / 8;
        fits = bits - 1 < 32;
    } else {
        uint32_t form = f[THIMBLE_FIELD_REQUANT_FORM], base = f[THIMBLE_FIELD_REQUANT_SHIFT_BASE];
        int is_sign = THIMBLE_HAS(BIT_ACTIVATIONS) && form == THIMBLE_REQUANT_FORM_SIGN && count == 1 &&
                      (features & THIMBLE_FEATURE_BIT_ACTIVATIONS);
        bytes = is_sign ? 0 : form == THIMBLE_REQUANT_FORM_POWER_OF_TWO ? count : (4 + form) * count;
        fits = form == THIMBLE_REQUANT_FORM_PACKED
                   ? base - SHIFT_MIN <= SHIFT_MAX - 3 - SHIFT_MIN
                   : (form <= THIMBLE_REQUANT_FORM_POWER_OF_TWO || is_sign) && base == 0;
        can_scale = (THIMBLE_BUILD_REQUANT_FORMS) >> (form & 31) & 1;
    }
    if (count == 0 || !fits || f[THIMBLE_FIELD_INTEGERS_DATA_BYTES] != bytes) {
        return THIMBLE_ERROR_BAD_CONSTANT;
    }
    return can_scale ? 0 : THIMBLE_ERROR_UNSUPPORTED_FEATURE;
}

/* Leftover bits of INTEGERS; multipliers and shifts of a REQUANT constant that are not packed. */
static int payload_in_range(const thimble_constant *constant, const uint8_t *payload) {
    const uint32_t *f = constant->fields;
    uint32_t count = f[THIMBLE_FIELD_INTEGERS_COUNT], form = f[THIMBLE_FIELD_REQUANT_FORM];
    if (constant->kind == THIMBLE_CONSTANT_INTEGERS) {
        uint32_t used = (count * f[THIMBLE_FIELD_INTEGERS_BITS]) & 7;
        return used == 0 || payload[f[THIMBLE_FIELD_INTEGERS_DATA_BYTES] - 1] >> used == 0;
    }
    if (constant->kind == THIMBLE_CONSTANT_WEIGHTS || THIMBLE_IS_FORM(PACKED, form) ||
        (THIMBLE_HAS(BIT_ACTIVATIONS) && form == THIMBLE_REQUANT_FORM_SIGN)) {
        return 1;
    }
    int wide = THIMBLE_IS_FORM(WIDE, form);
    const uint8_t *shifts = wide ? payload + 4 * count : payload;
    uint32_t least = wide ? SHIFT_MIN : 0, range = wide ? SHIFT_MAX - SHIFT_MIN : 31;
    for (uint32_t i = 0; i < count; i++) {
        if ((uint32_t)(int8_t)shifts[i] - least > range || (wide && payload[4 * i + 3] > 127)) {
            return 0;
        }
    }
    return 1;
}

/* A registry may have a coder for some layouts only. */
static int can_decode(const thimble_registry *registry, const thimble_constant *weights) {
    uint32_t layout = weights->fields[THIMBLE_FIELD_WEIGHTS_LAYOUT];
    const thimble_coder_type *coder = registry->coders[weights->fields[THIMBLE_FIELD_WEIGHTS_CODER]];
    if (THIMBLE_IS_LAYOUT(BITS, layout)) {
        return coder->next_bits_row != NULL;
    }
    if (!THIMBLE_HAS_PATH(DECODED)) {
        return thimble_is_plain(weights);
    }
    return thimble_is_raw(weights) ||
           (coder->next_row[layout] != NULL && (THIMBLE_HAS_DENSE_ROWS || thimble_has_pairs(weights)));
}

/* One constant, whose data may start at `*end` of DATA, which moves to where it ends. */
static int32_t check_constant(const thimble_model *model, const thimble_constant *constant, uint32_t *end) {
    const uint32_t *f = constant->fields;
    int32_t error;
    int in_words;
    if (constant->kind == THIMBLE_CONSTANT_WEIGHTS) {
        error = thimble_check_weights(constant);
        if (error >= 0 && (((uint32_t)error & ~model->features) || !can_decode(model->registry, constant))) {
            error = THIMBLE_ERROR_UNSUPPORTED_FEATURE;
        }
        in_words = THIMBLE_IS_LAYOUT(BITS, f[THIMBLE_FIELD_WEIGHTS_LAYOUT]);
    } else {
        error = check_values(constant, model->features);
        in_words = constant->kind == THIMBLE_CONSTANT_REQUANT &&
                   f[THIMBLE_FIELD_REQUANT_FORM] < THIMBLE_REQUANT_FORM_POWER_OF_TWO;
    }
    if (error < 0) {
        return error;
    }
    /* Offset and length come first in every kind. */
    uint32_t offset = f[0], length = f[1], start = in_words ? thimble_align4(*end) : *end;
    const uint8_t *data = model->data + model->data_offset;
    if (offset != start || offset > model->data_bytes || length > model->data_bytes - offset ||
        !thimble_is_zero(data, *end, offset) || !payload_in_range(constant, data + offset)) {
        return THIMBLE_ERROR_BAD_CONSTANT;
    }
    *end = offset + length;
    return 0;
}

static void check_constants(thimble_model *model, thimble_cursor *cursor) {
    uint32_t end = 0;
    model->constant_count = thimble_read_count(cursor, THIMBLE_MAX_CONSTANTS);
    model->first_constant = cursor->at;
    for (uint32_t i = 0; i < model->constant_count && !cursor->error; i++) {
        thimble_constant constant;
        thimble_read_constant(cursor, &constant);
        if (cursor->error == 0) {
            cursor->error = check_constant(model, &constant, &end);
        }
    }
    thimble_expect(cursor, end == model->data_bytes, THIMBLE_ERROR_BAD_CONSTANT);
}

/* Inputs or outputs; returns their number and where they start. */
static uint32_t check_ports(thimble_model *model, thimble_cursor *cursor, uint32_t limit, uint32_t *first) {
    thimble_tensor_set named;
    memset(&named, 0, sizeof named);
    uint32_t count = thimble_read_count(cursor, limit);
    thimble_expect(cursor, count != 0, THIMBLE_ERROR_BAD_PORT);
    *first = cursor->at;
    for (uint32_t i = 0; i < count; i++) {
        thimble_port port;
        thimble_read_port(cursor, &port);
        int32_t error = 0;
        if (port.tensor >= model->tensor_count) {
            error = THIMBLE_ERROR_BAD_PORT;
        } else if (port.flags > THIMBLE_PORT_FLAG_FLOAT) {
            error = THIMBLE_ERROR_RESERVED_BITS;
        } else if ((uint32_t)port.zero_point + 128 > 255 || port.scale_bits - 1 > 0x7F800000u - 2) {
            error = THIMBLE_ERROR_BAD_PORT; /* the scale is positive and finite, by the bits of an IEEE 754 number */
        }
        thimble_expect(cursor, error == 0, error);
        if (cursor->error) {
            break;
        }
        int is_bits = THIMBLE_HAS(BIT_ACTIVATIONS) && thimble_tensor_at(model, port.tensor).bits;
        thimble_expect(cursor, !is_bits && !thimble_set_has(&named, port.tensor), THIMBLE_ERROR_BAD_PORT);
        thimble_set_add(&named, port.tensor);
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
        thimble_read_operator(&cursor, &op);
    }
    model->input_count = check_ports(model, &cursor, THIMBLE_MAX_MODEL_INPUTS, &model->first_input);
    model->output_count = check_ports(model, &cursor, THIMBLE_MAX_MODEL_OUTPUTS, &model->first_output);
    thimble_expect(&cursor, cursor.at == model->program_end, THIMBLE_ERROR_BAD_SECTION);
    return cursor.error;
}
