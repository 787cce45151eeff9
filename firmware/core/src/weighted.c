#include "weighted.h"

int32_t thimble_rows_open(thimble_rows *rows, thimble_model *model, const thimble_operator *op, int pairs,
                          uint8_t **scratch) {
    const int32_t *a = op->attributes;
    thimble_constant weights = thimble_constant_at(model, op->constants[0] - 1u);
    rows->model = model;
    rows->requant = thimble_constant_at(model, op->constants[1] - 1u);
    rows->bias_constant.fields[THIMBLE_FIELD_INTEGERS_COUNT] = 0;
    if (op->constant_count > 2) {
        rows->bias_constant = thimble_constant_at(model, op->constants[2] - 1u);
    }
    rows->channel = 0;
    rows->bias = 0;
    rows->stage.zero_point = a[THIMBLE_CONV_2D_OUTPUT_ZERO_POINT];
    rows->stage.low = a[THIMBLE_CONV_2D_CLAMP_MIN] - rows->stage.zero_point;
    rows->stage.high = a[THIMBLE_CONV_2D_CLAMP_MAX] - rows->stage.zero_point;
    rows->stage.power_of_two =
        rows->requant.fields[THIMBLE_FIELD_REQUANT_FORM] == THIMBLE_REQUANT_FORM_POWER_OF_TWO;
    uint8_t *own = *scratch;
    *scratch += thimble_stream_bytes(model->registry, &weights, pairs);
    return thimble_stream_open(&rows->stream, model, &weights, pairs, own);
}

static void read_scale(thimble_rows *rows, uint32_t channel) {
    const uint32_t *f = rows->requant.fields;
    const uint8_t *data = thimble_payload(rows->model, &rows->requant);
    thimble_output_stage *stage = &rows->stage;
    if (f[THIMBLE_FIELD_REQUANT_FORM] == THIMBLE_REQUANT_FORM_POWER_OF_TWO) {
        stage->shift = (int8_t)data[channel];
        return;
    }
    uint32_t word = thimble_read_u32(data + 4 * channel);
    if (f[THIMBLE_FIELD_REQUANT_FORM] == THIMBLE_REQUANT_FORM_PACKED) {
        stage->multiplier = (int32_t)((word & 0x3FFFFFFF) + 0x40000000);
        stage->shift = (int32_t)(word >> 30) + (int32_t)f[THIMBLE_FIELD_REQUANT_SHIFT_BASE];
    } else {
        stage->multiplier = (int32_t)word;
        stage->shift = (int8_t)data[4 * f[THIMBLE_FIELD_REQUANT_COUNT] + channel];
    }
}

int32_t thimble_rows_next(thimble_rows *rows) {
    uint32_t channel = rows->channel;
    rows->channel = channel + 1;
    if (rows->bias_constant.fields[THIMBLE_FIELD_INTEGERS_COUNT] != 0) {
        rows->bias = (uint32_t)thimble_integer_at(rows->model, &rows->bias_constant, channel);
    }
    if (channel == 0 || rows->requant.fields[THIMBLE_FIELD_REQUANT_COUNT] > 1) {
        read_scale(rows, channel);
    }
    return thimble_stream_next(&rows->stream);
}
