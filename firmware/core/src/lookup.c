/* LOOKUP: a table of 256 activations. */
#include "check.h"

static int check(thimble_step_context *context) {
    thimble_constant table;
    thimble_find_constant(context->model, context->op, 0, &table);
    return context->x.bytes == context->out.bytes && table.fields[THIMBLE_FIELD_INTEGERS_COUNT] == 256 &&
           table.fields[THIMBLE_FIELD_INTEGERS_BITS] == 8;
}

static int32_t run(thimble_step_context *context) {
    thimble_constant constant;
    thimble_find_constant(context->model, context->op, 0, &constant);
    const int8_t *table = (const int8_t *)thimble_payload(context->model, &constant);
    const int8_t *x = (const int8_t *)context->arena + context->x.offset;
    int8_t *out = (int8_t *)context->arena + context->out.offset;
    for (uint32_t i = 0; i < context->out.bytes; i++) {
        out[i] = table[x[i] + 128];
    }
    return 0;
}

const thimble_operator_type thimble_lookup = {
    THIMBLE_OPERATOR_LOOKUP, 0, 1, {THIMBLE_CONSTANT_INTEGERS + 1, 0, 0}, 1, NULL, check, run,
};
