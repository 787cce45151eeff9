/* Operators, arena and outputs against each other: docs/FORMAT.md, section 7.4. Kernels trust what passed here. */
#include <string.h>

#include "bits.h"
#include "check.h"
#include "loader.h"
#include "stream.h"

int thimble_same_shape(const thimble_tensor *first, const thimble_tensor *second) {
    for (uint32_t axis = 0; axis < 4; axis++) {
        if (first->shape[axis] != second->shape[axis]) {
            return 0;
        }
    }
    return 1;
}

int thimble_check_window(const thimble_step_context *context, const int32_t *a, const int32_t *dilation) {
    const int32_t *before = context->x.shape, *after = context->out.shape;
    int holds = before[0] == 1 && after[0] == 1;
    for (uint32_t axis = 0; axis < 2 && holds; axis++) {
        uint32_t kernel = (uint32_t)a[axis], stride = (uint32_t)a[2 + axis];
        uint32_t low = (uint32_t)a[4 + axis], high = (uint32_t)a[6 + axis];
        uint32_t apart = dilation ? (uint32_t)dilation[axis] : 1, widest = dilation ? 65535 : kernel - 1;
        /* Less than 2^32 each, where the numbers that they are made of are in range. */
        uint32_t taps = (kernel - 1) * apart + 1, size = (uint32_t)before[1 + axis] + low + high;
        holds = kernel - 1 < 65535 && stride - 1 < 65535 && apart - 1 < 65535 && low <= widest && high <= widest &&
                taps <= size && (uint32_t)after[1 + axis] == (size - taps) / stride + 1;
    }
    return holds;
}

int thimble_check_weighted(const thimble_step_context *context, thimble_constant *weights) {
    const thimble_operator *op = context->op;
    thimble_find_constant(context->model, op, 0, weights);
    uint32_t rows = weights->fields[THIMBLE_FIELD_WEIGHTS_ROWS];
    thimble_constant requant;
    thimble_find_constant(context->model, op, 1, &requant);
    uint32_t scales = requant.fields[THIMBLE_FIELD_REQUANT_COUNT];
    if (op->constant_count > 2) {
        thimble_constant bias;
        thimble_find_constant(context->model, op, 2, &bias);
        if (bias.fields[THIMBLE_FIELD_INTEGERS_COUNT] != rows) {
            return 0;
        }
    }
    int is_sign = requant.fields[THIMBLE_FIELD_REQUANT_FORM] == THIMBLE_REQUANT_FORM_SIGN;
    int is_bits = context->out.bits != 0;
    return (scales == 1 || scales == rows) && (!THIMBLE_HAS(BIT_ACTIVATIONS) || is_sign == is_bits) &&
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

/* What one operator is checked against. */
typedef struct {
    thimble_step_context step;
    uint32_t next; /* where the operator behind it stands in the file, if there is one */
    int is_last;
    thimble_tensor_set written; /* model inputs and outputs of operators */
    thimble_tensor_set hidden;  /* between fused operators, behind the second one */
} check_state;

static int has_value(const check_state *state, uint32_t tensor) {
    if (THIMBLE_HAS(PERSISTENT_TENSORS) && thimble_tensor_at(state->step.model, tensor).flags != 0) {
        return 1;
    }
    return thimble_set_has(&state->written, tensor) && !(THIMBLE_HAS_FUSED && thimble_set_has(&state->hidden, tensor));
}

/* Numbers and kinds of inputs, outputs and constants; something was written to the inputs. */
static int check_operands(const check_state *state) {
    const thimble_operator *op = state->step.op;
    const thimble_operator_type *type = op->type;
    if ((type->input_count ? op->input_count != type->input_count : op->input_count == 0) || op->output_count != 1 ||
        op->constant_count < type->required_constants || op->constant_count > 3) {
        return 0;
    }
    for (uint32_t i = 0; i < op->constant_count; i++) {
        if (op->constants[i] == 0) {
            return 0;
        }
        thimble_constant constant;
        thimble_find_constant(state->step.model, op, i, &constant);
        if (constant.kind + 1 != type->constant_kinds[i]) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < op->input_count; i++) {
        int is_other = THIMBLE_HAS(BIT_ACTIVATIONS) && i > 0;
        if (!has_value(state, op->inputs[i]) ||
            (is_other && thimble_tensor_at(state->step.model, op->inputs[i]).bits)) {
            return 0;
        }
    }
    return !thimble_set_has(&state->written, op->output);
}

static int is_apart(const thimble_tensor *first, const thimble_tensor *second) {
    if (first->offset > second->offset) {
        return first->offset - second->offset >= second->bytes;
    }
    return second->offset - first->offset >= first->bytes;
}

static int is_element_wise(uint32_t kind) {
    return (kind >= THIMBLE_OPERATOR_ADD && kind <= THIMBLE_OPERATOR_MUL) || kind == THIMBLE_OPERATOR_LOOKUP ||
           kind >= THIMBLE_OPERATOR_MAXIMUM;
}

/* The output overlaps no input, unless it takes the place of one, which then has its size where elements are combined:
 * if `replaces` it must, and that of a RESHAPE may. The tensor between fused operators has no place. */
static int check_places(const thimble_step_context *context, int replaces) {
    const thimble_operator *op = context->op;
    int may_replace = replaces || (THIMBLE_HAS_OPERATOR(RESHAPE) && op->kind == THIMBLE_OPERATOR_RESHAPE);
    for (uint32_t i = 0; i < op->input_count; i++) {
        if (THIMBLE_HAS_FUSED && context->head && op->inputs[i] == context->head->output) {
            continue;
        }
        thimble_tensor input = thimble_tensor_at(context->model, op->inputs[i]);
        if (may_replace && input.offset == context->out.offset &&
            (input.bytes == context->out.bytes || !is_element_wise(op->kind))) {
            replaces = 0;
        } else if (!is_apart(&input, &context->out)) {
            return 0;
        }
    }
    return !replaces;
}

static int check_in_place(const thimble_step_context *context) {
    const thimble_operator *op = context->op;
    const int32_t *a = op->attributes, *before = context->x.shape, *after = context->out.shape;
    if (op->kind > THIMBLE_OPERATOR_DEPTHWISE_CONV_2D) {
        return op->parameter == 0 && is_element_wise(op->kind);
    }
    int is_conv = op->kind == THIMBLE_OPERATOR_CONV_2D;
    for (uint32_t i = is_conv ? THIMBLE_CONV_2D_KERNEL_H : THIMBLE_CONV_2D_STRIDE_H; i <= THIMBLE_CONV_2D_STRIDE_W; i++) {
        if (a[i] != 1) {
            return 0;
        }
    }
    if (before[1] != after[1] || before[2] != after[2]) {
        return 0;
    }
    return is_conv ? a[THIMBLE_CONV_2D_GROUPS] == 1 && after[3] <= before[3] && op->parameter >= 1 &&
                         op->parameter <= (uint32_t)after[1]
                   : op->parameter == 0 && before[3] == after[3];
}

/* A convolution that is fused with the next operator. The stack of this function and of check_operator is to be free
 * again when the memory is searched for, where loading is deepest. */
THIMBLE_NOT_INLINED static int check_fused_head(const check_state *state) {
    const thimble_step_context *context = &state->step;
    const thimble_operator *op = context->op;
    thimble_operator tail;
    thimble_tensor_set outputs;
    if (op->kind != THIMBLE_OPERATOR_CONV_2D || state->is_last || op->parameter != 0 || context->out.flags != 0) {
        return 0;
    }
    memset(&outputs, 0, sizeof outputs);
    thimble_add_ports(&outputs, context->model, context->model->first_output, context->model->output_count);
    thimble_cursor cursor = thimble_cursor_at(context->model, state->next);
    thimble_read_operator(&cursor, &tail);
    uint32_t reads = 0;
    for (uint32_t i = 0; i < tail.input_count; i++) {
        reads += tail.inputs[i] == op->output;
    }
    int fits = op->schedule == THIMBLE_SCHEDULE_FUSED_DEPTHWISE
                   ? tail.kind == THIMBLE_OPERATOR_DEPTHWISE_CONV_2D
                   : tail.kind == THIMBLE_OPERATOR_ADD || tail.kind == THIMBLE_OPERATOR_SUB;
    return fits && reads == 1 && !thimble_set_has(&outputs, op->output);
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
    return op->schedule <= THIMBLE_SCHEDULE_IN_PLACE && thimble_same_shape(&context->x, &context->out) &&
           thimble_same_shape(&y, &context->out);
}

static int check_schedule(const check_state *state) {
    const thimble_step_context *context = &state->step;
    const thimble_operator *op = context->op;
    int replaces = THIMBLE_HAS(IN_PLACE) && op->schedule == THIMBLE_SCHEDULE_IN_PLACE, right = 1;
    if (THIMBLE_HAS_FUSED && context->head) {
        right = check_fused_tail(context);
    } else if (thimble_is_fused_head(op->schedule)) {
        return check_fused_head(state);
    } else if (replaces) {
        right = check_in_place(context);
    } else if (THIMBLE_HAS(BANDS) && op->schedule == THIMBLE_SCHEDULE_BANDS) {
        right = op->kind <= THIMBLE_OPERATOR_DEPTHWISE_CONV_2D && op->parameter >= 1 &&
                op->parameter <= (uint32_t)context->out.shape[1];
    }
    return right && check_places(context, replaces);
}

/* Everything about one operator; its tensors exist. */
THIMBLE_NOT_INLINED static int check_operator(check_state *state) {
    thimble_step_context *context = &state->step;
    const thimble_operator *op = context->op;
    if (!check_operands(state)) {
        return 0;
    }
    thimble_find_tensor(context->model, op->inputs[0], &context->x);
    thimble_find_tensor(context->model, op->output, &context->out);
    int (*check)(thimble_step_context *) =
        thimble_has_bits(context) ? context->model->registry->bits->check : op->type->check;
    return check(context) && check_schedule(state);
}

static uint32_t format_scratch_bytes(thimble_model *model, const thimble_operator *op) {
    if (!thimble_is_weighted(op->kind)) {
        return 0;
    }
    thimble_constant weights;
    thimble_find_constant(model, op, 0, &weights);
    return thimble_format_stream_bytes(model->registry, &weights);
}

/* The arena holds all tensors with a place and nothing more. */
static int32_t check_arena(thimble_model *model, const thimble_tensor_set *hidden) {
    uint32_t largest = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        thimble_tensor tensor = thimble_tensor_at(model, i);
        if (THIMBLE_HAS_FUSED && thimble_set_has(hidden, i)) {
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

static int32_t check_outputs(thimble_model *model, const check_state *state) {
    thimble_cursor cursor = thimble_cursor_at(model, model->first_output);
    for (uint32_t i = 0; i < model->output_count; i++) {
        thimble_port port;
        thimble_read_port(&cursor, &port);
        if (!has_value(state, port.tensor)) {
            return THIMBLE_ERROR_BAD_PORT;
        }
    }
    return 0;
}

int32_t thimble_check_operators(thimble_model *model, const thimble_envelope *envelope) {
    check_state state;
    thimble_operator operators[2], *op = operators;
    memset(&state, 0, sizeof state);
    state.step.model = model;
    thimble_add_ports(&state.written, model, model->first_input, model->input_count);
    thimble_cursor cursor = thimble_cursor_at(model, model->first_operator);
    uint32_t largest = 0, head_bytes = 0, at = cursor.at, first = 0;
    model->memory_bytes = model->arena_bytes;
    for (uint32_t i = 0; i < model->operator_count; i++) {
        thimble_read_operator(&cursor, op);
        state.step.op = op;
        state.next = cursor.at;
        state.is_last = i + 1 == model->operator_count;
        if (!check_operator(&state)) {
            return THIMBLE_ERROR_BAD_OPERATOR;
        }
        if (THIMBLE_LACKS_PATHS && !thimble_has_path(model, op)) {
            return THIMBLE_ERROR_UNSUPPORTED_OPERATOR;
        }
        thimble_set_add(&state.written, op->output);
        /* Both streams of a pair are open at once. */
        uint32_t bytes = format_scratch_bytes(model, op) + head_bytes;
        if (bytes > envelope->declared_scratch_bytes) {
            return THIMBLE_ERROR_SCRATCH_TOO_SMALL;
        }
        largest = bytes > largest ? bytes : largest;
        if (THIMBLE_HAS_FUSED && !state.step.head && thimble_is_fused_head(op->schedule)) {
            state.step.head = op;
            head_bytes = bytes;
            op = operators + 1;
            continue;
        }
        const thimble_operator *tail = NULL;
        if (THIMBLE_HAS_FUSED && state.step.head) {
            thimble_set_add(&state.hidden, state.step.head->output);
            tail = op;
        }
        uint32_t scratch = thimble_scratch_bytes(model, operators, tail);
        /* Most steps cannot raise the figure, wherever their tensors end. */
        if (model->arena_bytes + scratch > model->memory_bytes) {
            uint32_t memory = thimble_living_end(model, first, i + 1 - first, at, operators) + scratch;
            model->memory_bytes = memory > model->memory_bytes ? memory : model->memory_bytes;
        }
        state.step.head = NULL;
        head_bytes = 0;
        op = operators;
        first = i + 1;
        at = cursor.at;
    }
    if (largest < envelope->declared_scratch_bytes) {
        return THIMBLE_ERROR_BAD_CONSTANT;
    }
    int32_t error = check_arena(model, &state.hidden);
    if (error >= 0) {
        error = check_outputs(model, &state);
    }
    return error >= 0 && model->memory_bytes > (uint32_t)THIMBLE_MAX_TENSOR_BYTES * 2 ? THIMBLE_ERROR_OUT_OF_MEMORY
                                                                                     : error;
}
