#include "weighted.h"

/* Out of line, so that its constants have left the stack before the stream is opened. */
THIMBLE_NOT_INLINED void thimble_rows_open_stages(thimble_rows *rows, thimble_model *model,
                                                   const thimble_operator *op) {
    static const uint32_t halved = 0x3FFFFFFF; /* PACKED: 2^31 - 1 */
    const int32_t *a = op->attributes;
    thimble_constant constant;
    thimble_find_constant(model, op, 1, &constant);
    rows->scales = thimble_payload(model, &constant);
    rows->form = constant.fields[THIMBLE_FIELD_REQUANT_FORM];
    rows->shift_base = (int32_t)constant.fields[THIMBLE_FIELD_REQUANT_SHIFT_BASE];
    rows->scale_count = constant.fields[THIMBLE_FIELD_REQUANT_COUNT];
    rows->biases = NULL;
    if (op->constant_count > 2) {
        thimble_find_constant(model, op, 2, &constant);
        rows->biases = thimble_payload(model, &constant);
        rows->bias_bits = constant.fields[THIMBLE_FIELD_INTEGERS_BITS];
    }
    rows->channel = 0;
    rows->bias = 0;
    rows->stage.zero_point = a[THIMBLE_CONV_2D_OUTPUT_ZERO_POINT];
    rows->stage.low = a[THIMBLE_CONV_2D_CLAMP_MIN] - rows->stage.zero_point;
    rows->stage.high = a[THIMBLE_CONV_2D_CLAMP_MAX] - rows->stage.zero_point;
    if (THIMBLE_HAS(BIT_ACTIVATIONS) && rows->form == THIMBLE_REQUANT_FORM_SIGN) {
        /* Half the sum, away from zero, has its sign; and it is made by the loops for scales. */
        rows->form = THIMBLE_REQUANT_FORM_PACKED;
        rows->scales = (const uint8_t *)&halved;
        rows->shift_base = -1;
    }
    rows->stage.power_of_two = THIMBLE_HAS_FORM(POWER_OF_TWO) && rows->form == THIMBLE_REQUANT_FORM_POWER_OF_TWO;
}

int32_t thimble_rows_open(thimble_rows *rows, thimble_model *model, const thimble_operator *op, int takes,
                          uint8_t **scratch) {
    thimble_rows_open_stages(rows, model, op);
    thimble_constant weights;
    thimble_find_constant(model, op, 0, &weights);
    uint8_t *own = *scratch;
    *scratch += thimble_stream_bytes(model->registry, &weights, takes);
    return thimble_stream_open(&rows->stream, model, &weights, takes, own);
}

/* Integer number `index` of an INTEGERS constant. */
static int32_t integer_at(const uint8_t *integers, uint32_t bits, uint32_t index) {
    /* Up to 2^24 integers of 32 bits: the bit position fits 32 bits. */
    uint32_t start = index * bits;
    const uint8_t *byte = integers + (start >> 3);
    uint32_t skipped = start & 7;
    /* The file's trailer lies behind all constants, so that a few bytes more can be read. */
    uint32_t value = thimble_read_u32(byte) >> skipped;
    if (skipped + bits > 32) {
        value |= (uint32_t)byte[4] << (32 - skipped);
    }
    return (int32_t)(value << (32 - bits)) >> (32 - bits);
}

uint32_t thimble_bias_at(const thimble_rows *rows, uint32_t channel) {
    return rows->biases ? (uint32_t)integer_at(rows->biases, rows->bias_bits, channel) : 0;
}

void thimble_find_stage(const thimble_rows *rows, uint32_t channel, thimble_output_stage *stage) {
    const uint8_t *data = rows->scales;
    uint32_t index = rows->scale_count > 1 ? channel : 0;
    if (THIMBLE_IS_FORM(PACKED, rows->form)) {
        uint32_t word = thimble_read_word(data + 4 * index);
        stage->multiplier = (int32_t)((word & 0x3FFFFFFF) + 0x40000000);
        stage->shift = (int32_t)(word >> 30) + rows->shift_base;
    } else if (THIMBLE_IS_FORM(WIDE, rows->form)) {
        stage->multiplier = (int32_t)thimble_read_word(data + 4 * index);
        stage->shift = (int8_t)data[4 * rows->scale_count + index];
    } else {
        stage->shift = (int8_t)data[index];
    }
}

void thimble_rows_next_stage(thimble_rows *rows) {
    uint32_t channel = rows->channel;
    rows->channel = channel + 1;
    rows->bias = thimble_bias_at(rows, channel);
    thimble_find_stage(rows, channel, &rows->stage);
}

int8_t thimble_requantise(const thimble_output_stage *stage, uint32_t acc) {
    int32_t value;
    if (THIMBLE_HAS_FORM(POWER_OF_TWO) && stage->power_of_two) {
        value = (int32_t)acc >> stage->shift;
        value += stage->shift == 0 ? 0 : (int32_t)acc >> (stage->shift - 1) & 1; /* half up */
    } else {
        value = thimble_scale(acc, stage->multiplier, stage->shift);
    }
    return (int8_t)(thimble_clamp(value, stage->low, stage->high) + stage->zero_point);
}
