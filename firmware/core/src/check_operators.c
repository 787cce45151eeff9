/* Operators, arena and outputs against each other: docs/FORMAT.md, section 7.4. Kernels trust what passed here. */
#include <string.h>

#include "check.h"
#include "loader.h"
#include "stream.h"
#include "tensor_set.h"

int thimble_same_shape(const thimble_tensor *first, const thimble_tensor *second) {
    return memcmp(first->shape, second->shape, sizeof first->shape) == 0;
}

int thimble_check_window(const thimble_step_context *context, const int32_t *a, const int32_t *dilation) {
    const int32_t *before = context->x.shape, *after = context->out.shape;
    int holds = before[0] == 1 && after[0] == 1;
    for (uint32_t axis = 0; axis < 2 && holds; axis++) {
        int32_t kernel = a[axis], stride = a[2 + axis], low = a[4 + axis], high = a[6 + axis];
        int32_t apart = dilation ? dilation[axis] : 1;
        if (!thimble_in_range(kernel, 1, 65535) || !thimble_in_range(stride, 1, 65535) ||
            !thimble_in_range(apart, 1, 65535)) {
            return 0;
        }
        int32_t widest = dilation ? 65535 : kernel - 1;
        int64_t reach = (int64_t)before[1 + axis] + low + high - ((int64_t)(kernel - 1) * apart + 1);
        holds = thimble_in_range(low, 0, widest) && thimble_in_range(high, 0, widest) && reach >= 0 &&
                reach <= INT32_MAX && after[1 + axis] == (int32_t)reach / stride + 1;
    }
    return holds;
}

int thimble_check_weighted(const thimble_step_context *context, thimble_constant *weights) {
    const thimble_operator *op = context->op;
    *weights = thimble_constant_at(context->model, op->constants[0] - 1u);
    uint32_t rows = weights->fields[THIMBLE_FIELD_WEIGHTS_ROWS];
    thimble_constant requant = thimble_constant_at(context->model, op->constants[1] - 1u);
    uint32_t scales = requant.fields[THIMBLE_FIELD_REQUANT_COUNT];
    if (op->constant_count > 2) {
        thimble_constant bias = thimble_constant_at(context->model, op->constants[2] - 1u);
        if (bias.fields[THIMBLE_FIELD_INTEGERS_COUNT] != rows) {
            return 0;
        }
    }
    return (scales == 1 || scales == rows) &&
           thimble_is_zero_point(op->attributes[THIMBLE_CONV_2D_INPUT_ZERO_POINT]) &&
           thimble_is_zero_point(op->attributes[THIMBLE_CONV_2D_OUTPUT_ZERO_POINT]) &&
           thimble_is_clamp(op->attributes + THIMBLE_CONV_2D_CLAMP_MIN);
}

int thimble_check_broadcast(thimble_step_context *context) {
    thimble_tensor y = thimble_tensor_at(context->model, context->op->inputs[1]);
    for (uint32_t axis = 0; axis < 4; axis++) {
        int32_t one = context->x.shape[axis], two = y.shape[axis];
        if ((one != two && one != 1 && two != 1) || context->out.shape[axis] != (one > two ? one : two)) {
            return 0;
        }
    }
    return 1;
}

/* Numbers and kinds of inputs, outputs and constants. */
static int check_operands(const thimble_step_context *context) {
    const thimble_operator *op = context->op;
    const thimble_operator_type *type = op->type;
    int right = type->input_count ? op->input_count == type->input_count : op->input_count >= 1;
    right = right && op->output_count == 1 && op->constant_count >= type->required_constants &&
            op->constant_count <= 3;
    for (uint32_t i = 0; right && i < op->constant_count; i++) {
        right = op->constants[i] != 0 && type->constant_kinds[i] != 0 &&
                thimble_constant_at(context->model, op->constants[i] - 1u).kind + 1 == type->constant_kinds[i];
    }
    return right;
}

static int is_apart(const thimble_tensor *first, const thimble_tensor *second) {
    uint64_t first_end = (uint64_t)first->offset + first->bytes, second_end = (uint64_t)second->offset + second->bytes;
    return first->offset >= second_end || second->offset >= first_end;
}

static int is_element_wise(uint32_t kind) {
    return thimble_in_range((int32_t)kind, THIMBLE_OPERATOR_ADD, THIMBLE_OPERATOR_MUL) ||
           kind == THIMBLE_OPERATOR_LOOKUP || kind >= THIMBLE_OPERATOR_MAXIMUM;
}

/* The output takes the place of one input, which then has its size; inputs elsewhere do not overlap it.
 * `skipped` is a tensor that has no place, or none. */
static int replaces_an_input(const thimble_step_context *context, int32_t skipped) {
    const thimble_operator *op = context->op;
    int any = 0;
    for (uint32_t i = 0; i < op->input_count; i++) {
        if (op->inputs[i] == skipped) {
            continue;
        }
        thimble_tensor input = thimble_tensor_at(context->model, op->inputs[i]);
        int same = input.offset == context->out.offset;
        any |= same;
        if (same ? is_element_wise(op->kind) && input.bytes != context->out.bytes : !is_apart(&input, &context->out)) {
            return 0;
        }
    }
    return any;
}

static int check_in_place(const thimble_step_context *context) {
    const thimble_operator *op = context->op;
    const int32_t *a = op->attributes;
    int right;
    if (op->kind == THIMBLE_OPERATOR_CONV_2D) {
        right = a[THIMBLE_CONV_2D_KERNEL_H] == 1 && a[THIMBLE_CONV_2D_KERNEL_W] == 1 &&
                a[THIMBLE_CONV_2D_STRIDE_H] == 1 && a[THIMBLE_CONV_2D_STRIDE_W] == 1 &&
                a[THIMBLE_CONV_2D_GROUPS] == 1 && context->out.shape[3] <= context->x.shape[3] &&
                context->x.shape[1] == context->out.shape[1] && context->x.shape[2] == context->out.shape[2] &&
                op->parameter >= 1 && op->parameter <= (uint32_t)context->out.shape[1];
    } else if (op->kind == THIMBLE_OPERATOR_DEPTHWISE_CONV_2D) {
        right = op->parameter == 0 && a[THIMBLE_CONV_2D_STRIDE_H] == 1 && a[THIMBLE_CONV_2D_STRIDE_W] == 1 &&
                thimble_same_shape(&context->x, &context->out);
    } else {
        right = op->parameter == 0 && is_element_wise(op->kind);
    }
    return right && replaces_an_input(context, -1);
}

static int is_output(thimble_model *model, uint32_t tensor) {
    thimble_cursor cursor = thimble_cursor_at(model, model->first_output);
    int found = 0;
    for (uint32_t i = 0; i < model->output_count; i++) {
        thimble_port port;
        thimble_read_port(&cursor, &port);
        found |= port.tensor == tensor;
    }
    return found;
}

/* A convolution that is fused with the next operator, whose bytes start at `next`. */
static int check_fused_head(const thimble_step_context *context, uint32_t index, uint32_t next) {
    const thimble_operator *op = context->op;
    thimble_operator tail;
    if (op->kind != THIMBLE_OPERATOR_CONV_2D || index + 1 >= context->model->operator_count || op->parameter != 0) {
        return 0;
    }
    thimble_cursor cursor = thimble_cursor_at(context->model, next);
    thimble_read_operator(&cursor, context->model, &tail);
    uint32_t reads = 0;
    for (uint32_t i = 0; i < tail.input_count; i++) {
        reads += tail.inputs[i] == op->output;
    }
    int right = op->schedule == THIMBLE_SCHEDULE_FUSED_DEPTHWISE
                    ? tail.kind == THIMBLE_OPERATOR_DEPTHWISE_CONV_2D
                    : tail.kind == THIMBLE_OPERATOR_ADD || tail.kind == THIMBLE_OPERATOR_SUB;
    return right && reads == 1 && context->out.flags == 0 && !is_output(context->model, op->output);
}

static int check_fused_tail(const thimble_step_context *context) {
    const thimble_operator *op = context->op;
    thimble_tensor source = thimble_tensor_at(context->model, context->head->inputs[0]);
    if (!is_apart(&source, &context->out) || op->parameter != 0) {
        return 0;
    }
    if (op->kind == THIMBLE_OPERATOR_DEPTHWISE_CONV_2D) {
        return op->schedule == THIMBLE_SCHEDULE_WHOLE && context->x.shape[3] == context->out.shape[3];
    }
    thimble_tensor y = thimble_tensor_at(context->model, op->inputs[1]);
    if (!thimble_same_shape(&context->x, &context->out) || !thimble_same_shape(&y, &context->out)) {
        return 0;
    }
    if (op->schedule == THIMBLE_SCHEDULE_IN_PLACE) {
        return replaces_an_input(context, context->head->output);
    }
    const thimble_tensor *other = op->inputs[0] == context->head->output ? &y : &context->x;
    return op->schedule == THIMBLE_SCHEDULE_WHOLE && is_apart(other, &context->out);
}

static int check_schedule(const thimble_step_context *context, uint32_t index, uint32_t next) {
    const thimble_operator *op = context->op;
    if (context->head) {
        return check_fused_tail(context);
    }
    switch (op->schedule) {
    case THIMBLE_SCHEDULE_WHOLE:
        for (uint32_t i = 0; i < op->input_count; i++) {
            thimble_tensor input = thimble_tensor_at(context->model, op->inputs[i]);
            int same = op->kind == THIMBLE_OPERATOR_RESHAPE && input.offset == context->out.offset;
            if (!same && !is_apart(&input, &context->out)) {
                return 0;
            }
        }
        return 1;
    case THIMBLE_SCHEDULE_IN_PLACE:
        return check_in_place(context);
    case THIMBLE_SCHEDULE_BANDS:
        return op->kind <= THIMBLE_OPERATOR_DEPTHWISE_CONV_2D && op->parameter >= 1 &&
               op->parameter <= (uint32_t)context->out.shape[1] && is_apart(&context->x, &context->out);
    default:
        return check_fused_head(context, index, next);
    }
}

/* Everything about one operator; its tensors exist. */
static int check_operator(thimble_step_context *context, uint32_t index, uint32_t next, const thimble_tensor_set *ready,
                          const thimble_tensor_set *written) {
    thimble_operator *op = context->op;
    if (!check_operands(context)) {
        return 0;
    }
    for (uint32_t i = 0; i < op->input_count; i++) {
        if (!thimble_set_has(ready, op->inputs[i])) {
            return 0;
        }
    }
    context->x = thimble_tensor_at(context->model, op->inputs[0]);
    context->out = thimble_tensor_at(context->model, op->output);
    return !thimble_set_has(written, op->output) && op->type->check(context) && check_schedule(context, index, next);
}

static uint32_t format_scratch_bytes(thimble_model *model, const thimble_operator *op) {
    if (!thimble_is_weighted(op->kind)) {
        return 0;
    }
    thimble_constant weights = thimble_constant_at(model, op->constants[0] - 1u);
    return thimble_format_stream_bytes(model->registry, &weights);
}

/* The arena holds all tensors with a place and nothing more. */
static int32_t check_arena(thimble_model *model, const thimble_tensor_set *between) {
    uint32_t largest = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        thimble_tensor tensor = thimble_tensor_at(model, i);
        if (thimble_set_has(between, i)) {
            continue;
        }
        if (tensor.offset > model->arena_bytes || tensor.bytes > model->arena_bytes - tensor.offset) {
            return THIMBLE_ERROR_ARENA_TOO_SMALL;
        }
        uint32_t end = tensor.offset + tensor.bytes;
        largest = end > largest ? end : largest;
    }
    return thimble_align4(largest) == model->arena_bytes ? 0 : THIMBLE_ERROR_BAD_TENSOR;
}

static int32_t check_outputs(thimble_model *model, const thimble_tensor_set *ready) {
    thimble_cursor cursor = thimble_cursor_at(model, model->first_output);
    for (uint32_t i = 0; i < model->output_count; i++) {
        thimble_port port;
        thimble_read_port(&cursor, &port);
        if (!thimble_set_has(ready, port.tensor)) {
            return THIMBLE_ERROR_BAD_PORT;
        }
    }
    return 0;
}

static void find_sources(thimble_model *model, thimble_tensor_set *ready, thimble_tensor_set *written) {
    thimble_cursor cursor = thimble_cursor_at(model, model->first_input);
    for (uint32_t i = 0; i < model->input_count; i++) {
        thimble_port port;
        thimble_read_port(&cursor, &port);
        thimble_set_add(ready, port.tensor);
        thimble_set_add(written, port.tensor);
    }
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        if (thimble_tensor_at(model, i).flags != 0) {
            thimble_set_add(ready, i);
        }
    }
}

int32_t thimble_check_operators(thimble_model *model, uint32_t declared_scratch_bytes) {
    thimble_tensor_set ready, written, between;
    memset(&ready, 0, sizeof ready);
    memset(&written, 0, sizeof written);
    memset(&between, 0, sizeof between);
    find_sources(model, &ready, &written);
    thimble_operator operators[2];
    thimble_step_context context;
    memset(&context, 0, sizeof context);
    context.model = model;
    thimble_cursor cursor = thimble_cursor_at(model, model->first_operator);
    uint32_t largest = 0, head_bytes = 0;
    for (uint32_t i = 0; i < model->operator_count; i++) {
        thimble_operator *op = operators + (context.head == operators);
        thimble_read_operator(&cursor, model, op);
        context.op = op;
        if (!check_operator(&context, i, cursor.at, &ready, &written)) {
            return THIMBLE_ERROR_BAD_OPERATOR;
        }
        thimble_set_add(&ready, op->output);
        thimble_set_add(&written, op->output);
        uint32_t bytes = format_scratch_bytes(model, op);
        if (context.head) {
            /* Both streams of a pair are open at once, and the tensor between them is gone. */
            bytes += head_bytes;
            thimble_set_discard(&ready, context.head->output);
        }
        if (bytes > declared_scratch_bytes) {
            return THIMBLE_ERROR_SCRATCH_TOO_SMALL;
        }
        largest = bytes > largest ? bytes : largest;
        int is_head = !context.head && thimble_is_fused_head(op->schedule);
        if (is_head) {
            thimble_set_add(&between, op->output);
        }
        context.head = is_head ? op : NULL;
        head_bytes = bytes;
    }
    if (largest < declared_scratch_bytes) {
        return THIMBLE_ERROR_BAD_CONSTANT;
    }
    int32_t error = check_arena(model, &between);
    return error < 0 ? error : check_outputs(model, &ready);
}
