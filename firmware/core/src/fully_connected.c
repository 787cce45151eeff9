/* FULLY_CONNECTED: every weight is used once, so a row's sum and its dot product are one pass. */
#include "check.h"
#include "weighted.h"

static int check(thimble_step_context *context) {
    thimble_constant weights;
    return thimble_check_weighted(context, &weights) &&
           weights.fields[THIMBLE_FIELD_WEIGHTS_COLS] == context->x.bytes &&
           weights.fields[THIMBLE_FIELD_WEIGHTS_ROWS] == context->out.bytes;
}

static uint32_t dense_row(const int8_t *w, const int8_t *x, uint32_t count, uint32_t acc, int32_t zero_point) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        acc += (uint32_t)(w[i] * x[i]);
        sum += w[i];
    }
    return acc - (uint32_t)zero_point * (uint32_t)sum;
}

static uint32_t sparse_row(const thimble_stream *stream, const int8_t *x, uint32_t acc, int32_t zero_point) {
    for (uint32_t i = 0; i < stream->count; i++) {
        acc += (uint32_t)(stream->row[i] * (x[stream->positions[i]] - zero_point));
    }
    return acc;
}

static int32_t run(thimble_step_context *context) {
    thimble_rows rows;
    uint8_t *scratch = context->scratch;
    int32_t zero_point = context->op->attributes[THIMBLE_FULLY_CONNECTED_INPUT_ZERO_POINT];
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    int32_t error = thimble_rows_open(&rows, context->model, context->op, 1, &scratch);
    for (uint32_t row = 0; row < context->out.bytes && error >= 0; row++) {
        error = thimble_rows_next(&rows);
        if (error >= 0) {
            uint32_t acc = rows.stream.positions
                               ? sparse_row(&rows.stream, x, rows.bias, zero_point)
                               : dense_row(rows.stream.row, x, rows.stream.cols, rows.bias, zero_point);
            out[row] = thimble_requantise(&rows.stage, acc);
        }
    }
    return error;
}

static const int8_t defaults[] = THIMBLE_FULLY_CONNECTED_DEFAULTS;

const thimble_operator_type thimble_fully_connected = {
    THIMBLE_OPERATOR_FULLY_CONNECTED,
    THIMBLE_FULLY_CONNECTED_ATTRIBUTE_COUNT,
    1,
    {THIMBLE_CONSTANT_WEIGHTS + 1, THIMBLE_CONSTANT_REQUANT + 1, THIMBLE_CONSTANT_INTEGERS + 1},
    2,
    defaults,
    check,
    run,
};
