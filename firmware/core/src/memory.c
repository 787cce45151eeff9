/* How much memory a model needs. Arena and scratch are one block: a step's scratch lies at the block's end,
 * over tensors that are not alive then. model_packager/passes/kernel_scratch.py has the same formulas, for the
 * executor "c"; a test compares them. */
#include <string.h>

#include "loader.h"
#include "columns.h"
#include "plane_3x3.h"
#include "stream.h"

/* Stands for a plane that no 32-bit machine holds; with arena and streams it still fits 32 bits. */
#define TOO_MUCH ((uint32_t)THIMBLE_MAX_TENSOR_BYTES * 2)

int thimble_is_3x3(const thimble_operator *op) {
    const int32_t *a = op->attributes;
    return a[THIMBLE_CONV_2D_KERNEL_H] == 3 && a[THIMBLE_CONV_2D_KERNEL_W] == 3 &&
           a[THIMBLE_CONV_2D_DILATION_H] == 1 && a[THIMBLE_CONV_2D_DILATION_W] == 1 &&
           a[THIMBLE_CONV_2D_STRIDE_H] == a[THIMBLE_CONV_2D_STRIDE_W] && a[THIMBLE_CONV_2D_STRIDE_H] <= 2;
}

/* Rows or columns of a channel that the windows reach. */
static uint32_t reach_of(const thimble_operator *op, const thimble_tensor *out, uint32_t axis) {
    const int32_t *a = op->attributes + axis;
    return (uint32_t)(out->shape[1 + axis] - 1) * (uint32_t)a[THIMBLE_CONV_2D_STRIDE_H] +
           (uint32_t)(a[THIMBLE_CONV_2D_KERNEL_H] - 1) * (uint32_t)a[THIMBLE_CONV_2D_DILATION_H] + 1;
}

/* A pitch is even, whether rows or columns are lines. */
uint32_t thimble_padded_plane_bytes(const thimble_operator *op, const thimble_tensor *out) {
    uint32_t one = thimble_is_3x3(op) ? 1 : 0;
    uint64_t pixels = (uint64_t)(reach_of(op, out, 0) + one) * (reach_of(op, out, 1) + one);
    if (pixels > TOO_MUCH / 4) {
        return TOO_MUCH;
    }
    uint32_t bytes = thimble_align4((uint32_t)pixels << one);
    return one ? bytes + THIMBLE_PLANE_SLACK + THIMBLE_PLANE_JOB_BYTES : bytes;
}

/* Asked before a tensor is, which may lie before the last one that was looked for. */
static int has_bits(const thimble_model *model) {
    return THIMBLE_HAS(BIT_ACTIVATIONS) && (model->features & THIMBLE_FEATURE_BIT_ACTIVATIONS) != 0;
}

static int makes_bits(thimble_model *model, const thimble_operator *op) {
    return has_bits(model) && thimble_tensor_at(model, op->output).bits != 0;
}

static int is_kind(const thimble_operator *op, uint32_t kind) {
    return ((THIMBLE_BUILD_OPERATORS) >> kind & 1) && op->kind == kind;
}

static uint32_t stream_bytes(thimble_model *model, const thimble_operator *op) {
    thimble_constant weights;
    if (!THIMBLE_HAS_PATH(DECODED)) {
        return 0;
    }
    thimble_find_constant(model, op, 0, &weights);
    int takes = is_kind(op, THIMBLE_OPERATOR_DEPTHWISE_CONV_2D) ? 0 : THIMBLE_TAKES_PAIRS;
    /* A fully connected operator that makes bits runs as a convolution, which takes whole rows. */
    if (is_kind(op, THIMBLE_OPERATOR_FULLY_CONNECTED) && !makes_bits(model, op)) {
        takes |= THIMBLE_TAKES_PARTS;
    }
    uint32_t bytes = thimble_stream_bytes(model->registry, &weights, takes);
    if (THIMBLE_HAS_LAYOUT(SPARSE) && is_kind(op, THIMBLE_OPERATOR_CONV_2D) && thimble_has_pairs(&weights)) {
        /* Where the pairs of each kernel cell start. */
        uint32_t cells =
            (uint32_t)(op->attributes[THIMBLE_CONV_2D_KERNEL_H] * op->attributes[THIMBLE_CONV_2D_KERNEL_W]);
        bytes += cells > 1 ? thimble_align4(2 * (cells + 1)) : 0;
    }
    return bytes;
}

/* The columns that are planned for, and what they are made of; none: the convolution goes row by row. */
static thimble_column_plan find_plan(thimble_model *model, const thimble_operator *op, thimble_column_need *need) {
    thimble_column_plan plan = {0, 0};
    if (is_kind(op, THIMBLE_OPERATOR_CONV_2D) && THIMBLE_HAS_PATH(COLUMNS) &&
        !(THIMBLE_HAS(FUSED_DEPTHWISE) && op->schedule == THIMBLE_SCHEDULE_FUSED_DEPTHWISE)) {
        thimble_constant weights;
        thimble_find_constant(model, op, 0, &weights);
        if (!thimble_has_pairs(&weights)) {
            /* What is made goes elsewhere first, to be added, or signs are taken of it. */
            int is_aside = (THIMBLE_HAS(FUSED_ADD) && op->schedule == THIMBLE_SCHEDULE_FUSED_ADD) || makes_bits(model, op);
            *need = thimble_column_need_of(&weights, op, is_aside);
            plan = thimble_least_columns(need);
        }
    }
    return plan;
}

/* Whether a convolution goes by columns with no more memory than is planned. IN_PLACE wants all channels at a time. */
static int is_planned(const thimble_operator *op, const thimble_column_need *need, thimble_column_plan plan) {
    int is_in_place = THIMBLE_HAS(IN_PLACE) && op->schedule == THIMBLE_SCHEDULE_IN_PLACE;
    return plan.positions > 0 && !(THIMBLE_HAS_PATH(DECODED) && is_in_place && plan.channels < need->channels);
}

/* A window of bits, unless it is one cell, which is read in place. */
static uint32_t gathered_bytes(thimble_model *model, const thimble_operator *op) {
    const int32_t *a = op->attributes;
    if (op->kind != THIMBLE_OPERATOR_CONV_2D || a[THIMBLE_CONV_2D_KERNEL_H] * a[THIMBLE_CONV_2D_KERNEL_W] == 1) {
        return 0;
    }
    thimble_constant weights;
    thimble_find_constant(model, op, 0, &weights);
    return weights.fields[THIMBLE_FIELD_WEIGHTS_COLS] / 8;
}

/* What the kernel takes beside the streams. */
static uint32_t kernel_bytes(thimble_model *model, const thimble_operator *op, const thimble_operator *tail) {
    thimble_column_need need;
    thimble_column_plan plan = find_plan(model, op, &need);
    if (is_planned(op, &need, plan)) {
        return thimble_column_bytes(&need, plan);
    }
    const thimble_operator *last = THIMBLE_HAS(FUSED_DEPTHWISE) && tail ? tail : op;
    if (is_kind(last, THIMBLE_OPERATOR_DEPTHWISE_CONV_2D)) {
        thimble_tensor out = thimble_tensor_at(model, last->output);
        return thimble_padded_plane_bytes(last, &out);
    }
    if (THIMBLE_HAS_PATH(ROWS) && THIMBLE_HAS(IN_PLACE) && op->kind == THIMBLE_OPERATOR_CONV_2D &&
        op->schedule == THIMBLE_SCHEDULE_IN_PLACE) {
        thimble_tensor x = thimble_tensor_at(model, op->inputs[0]);
        return thimble_align4(op->parameter * (uint32_t)(x.shape[2] * x.shape[3]));
    }
    if (THIMBLE_HAS_PATH(ROWS) && ((THIMBLE_HAS(FUSED_ADD) && tail) || makes_bits(model, op))) {
        thimble_tensor out = thimble_tensor_at(model, op->output);
        return thimble_align4((uint32_t)(out.shape[1] * out.shape[2]));
    }
    return 0;
}

uint32_t thimble_scratch_bytes(thimble_model *model, const thimble_operator *op, const thimble_operator *tail) {
    if (!thimble_is_weighted(op->kind)) {
        return 0;
    }
    if (has_bits(model) && thimble_tensor_at(model, op->inputs[0]).bits) {
        return gathered_bytes(model, op);
    }
    uint32_t bytes = stream_bytes(model, op) + kernel_bytes(model, op, tail);
    if (THIMBLE_HAS(FUSED_DEPTHWISE) && tail && tail->kind == THIMBLE_OPERATOR_DEPTHWISE_CONV_2D) {
        bytes += stream_bytes(model, tail);
    }
    return bytes > TOO_MUCH ? TOO_MUCH : bytes;
}

int thimble_has_path(thimble_model *model, const thimble_operator *op) {
    thimble_column_need need;
    if (has_bits(model) && thimble_tensor_at(model, op->inputs[0]).bits) {
        return 1;
    }
    if (is_kind(op, THIMBLE_OPERATOR_CONV_2D)) {
        thimble_column_plan plan = find_plan(model, op, &need);
        return is_planned(op, &need, plan);
    }
    return !is_kind(op, THIMBLE_OPERATOR_DEPTHWISE_CONV_2D) || (THIMBLE_HAS_PATH(PLANES) && thimble_is_3x3(op));
}

void thimble_add_ports(thimble_tensor_set *set, const thimble_model *model, uint32_t at, uint32_t count) {
    thimble_cursor cursor = thimble_cursor_at(model, at);
    for (; count > 0; count--) {
        thimble_port port;
        thimble_read_port(&cursor, &port);
        thimble_set_add(set, port.tensor);
    }
}

/* The higher one of `end` and the end of a tensor, unless a later operator writes that. */
THIMBLE_NOT_INLINED static uint32_t end_with(thimble_model *model, const thimble_tensor_set *later, uint32_t index, uint32_t end) {
    if (thimble_set_has(later, index)) {
        return end;
    }
    thimble_tensor tensor = thimble_tensor_at(model, index);
    uint32_t own = tensor.offset + tensor.bytes;
    return own > end ? own : end;
}

uint32_t thimble_living_end(thimble_model *model, uint32_t index, uint32_t count, uint32_t at,
                            thimble_operator *op) {
    thimble_tensor_set later; /* written by later operators, or between those of a pair, where it has no place */
    uint32_t end = 0, last = index + count - 1;
    memset(&later, 0, sizeof later);
    thimble_cursor cursor = thimble_cursor_at(model, at);
    for (uint32_t i = index; i < model->operator_count; i++) {
        thimble_read_operator(&cursor, op);
        for (uint32_t j = 0; j < op->input_count; j++) {
            end = end_with(model, &later, op->inputs[j], end);
        }
        if (i == last) {
            end = end_with(model, &later, op->output, end);
        } else {
            thimble_set_add(&later, op->output);
        }
    }
    cursor = thimble_cursor_at(model, model->first_output);
    for (uint32_t i = 0; i < model->output_count; i++) {
        thimble_port port;
        thimble_read_port(&cursor, &port);
        end = end_with(model, &later, port.tensor, end);
    }
    for (uint32_t i = 0; THIMBLE_HAS(PERSISTENT_TENSORS) && i < model->tensor_count; i++) {
        thimble_tensor tensor = thimble_tensor_at(model, i);
        if (tensor.flags != 0) {
            end = end_with(model, &later, i, end);
        }
    }
    return thimble_align4(end);
}

void thimble_find_scratch(thimble_step_context *context) {
    const thimble_operator *op = context->head ? context->head : context->op;
    context->scratch = context->memory_end - thimble_scratch_bytes(context->model, op, context->head ? context->op : NULL);
    /* More columns than are planned for can be of use. */
    thimble_column_need need;
    thimble_column_plan plan = find_plan(context->model, op, &need);
    if (plan.positions > 0 && !(need.is_raw && plan.positions == THIMBLE_MOST_POSITIONS)) {
        thimble_operator op_ahead;
        context->scratch = context->arena + thimble_living_end(context->model, context->index, context->head ? 2 : 1,
                                                               context->at, &op_ahead);
    }
}
