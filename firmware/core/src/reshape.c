/* RESHAPE: nothing to do where the memory plan gave both tensors one place. */
#include <string.h>

#include "program.h"

static int check(thimble_step_context *context) {
    return context->x.bytes == context->out.bytes;
}

static int32_t run(thimble_step_context *context) {
    if (context->x.offset != context->out.offset) {
        memcpy(context->arena + context->out.offset, context->arena + context->x.offset, context->out.bytes);
    }
    return 0;
}

const thimble_operator_type thimble_reshape = {
    THIMBLE_OPERATOR_RESHAPE, 0, 1, {0, 0, 0}, 0, NULL, check, run,
};
