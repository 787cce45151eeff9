/* FULLY_CONNECTED: every weight is used once. */
#include "build.h"
#include "check.h"
#include "dot.h"
#include "weighted.h"

static int check(thimble_step_context *context) {
    thimble_constant weights;
    return thimble_check_weighted(context, &weights) &&
           weights.fields[THIMBLE_FIELD_WEIGHTS_COLS] == context->x.bytes &&
           weights.fields[THIMBLE_FIELD_WEIGHTS_ROWS] == context->out.bytes;
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
    int32_t x_offset = -context->op->attributes[THIMBLE_FULLY_CONNECTED_INPUT_ZERO_POINT];
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    int32_t row = 0;
    int32_t error = thimble_rows_open(&rows, context->model, context->op, THIMBLE_TAKES_PAIRS | THIMBLE_TAKES_PARTS,
                                      &scratch);
    if (THIMBLE_HAS_PATH(BLOCKS) && error >= 0 && thimble_stream_is_raw(&rows.stream)) {
        row = thimble_run_raw_blocks(&rows, x, x_offset, out);
        rows.stream.reader.position += (uint32_t)row * rows.stream.cols;
    }
    for (; row < (int32_t)context->out.bytes && error >= 0; row++) {
        thimble_stream *stream = &rows.stream;
        thimble_rows_next_stage(&rows);
        uint32_t sum = rows.bias;
        do {
            const int8_t *next = x + (stream->left ? stream->cols - stream->left : 0);
            error = thimble_stream_next(stream);
            if (error < 0) {
                return error;
            }
            sum = thimble_gives_pairs(stream) ? sparse_row(stream, x, sum, -x_offset)
                                              : thimble_dot(next, x_offset, stream->row, (int32_t)stream->count, sum);
        } while (stream->left > 0);
        out[row] = thimble_requantise(&rows.stage, sum);
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
