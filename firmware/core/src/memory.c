/* How much memory a model needs. Arena and scratch are one block: a step's scratch lies at the block's end,
 * over tensors that are not alive then. model_packager/passes/kernel_scratch.py has the same formulas, for the
 * executor "c"; a test compares them. */
#include <string.h>

#include "loader.h"
#include "columns.h"
#include "plane_3x3.h"
#include "stream.h"

/* Stands for a plane or a band that no 32-bit machine holds; with the arena it still fits 32 bits. */
#define TOO_MUCH ((uint64_t)THIMBLE_MAX_TENSOR_BYTES * 2)

static uint64_t aligned(uint64_t bytes) {
    return (bytes + 3) & ~(uint64_t)3;
}

int thimble_is_3x3(const thimble_operator *op) {
    const int32_t *a = op->attributes;
    return a[THIMBLE_CONV_2D_KERNEL_H] == 3 && a[THIMBLE_CONV_2D_KERNEL_W] == 3 &&
           a[THIMBLE_CONV_2D_DILATION_H] == 1 && a[THIMBLE_CONV_2D_DILATION_W] == 1 &&
           a[THIMBLE_CONV_2D_STRIDE_H] == a[THIMBLE_CONV_2D_STRIDE_W] && a[THIMBLE_CONV_2D_STRIDE_H] <= 2;
}

/* A pitch is even, whether rows or columns are lines. */
uint64_t thimble_padded_plane_bytes(const thimble_operator *op, const thimble_tensor *out) {
    const int32_t *a = op->attributes;
    uint64_t reach[2];
    for (uint32_t axis = 0; axis < 2; axis++) {
        reach[axis] = (uint64_t)(out->shape[1 + axis] - 1) * (uint32_t)a[THIMBLE_CONV_2D_STRIDE_H + axis] +
                      (uint64_t)(a[THIMBLE_CONV_2D_KERNEL_H + axis] - 1) *
                          (uint32_t)a[THIMBLE_CONV_2D_DILATION_H + axis] +
                      1;
    }
    if (thimble_is_3x3(op)) {
        return aligned((reach[0] + 1) * (reach[1] + 1) * 2) + THIMBLE_PLANE_SLACK + THIMBLE_PLANE_JOB_BYTES;
    }
    return aligned(reach[0] * reach[1]);
}

/* Asked before a tensor is, which may lie before the last one that was looked for. */
static int has_bits(const thimble_model *model) {
    return THIMBLE_HAS(BIT_ACTIVATIONS) && (model->features & THIMBLE_FEATURE_BIT_ACTIVATIONS) != 0;
}

static uint64_t stream_bytes(thimble_model *model, const thimble_operator *op) {
    thimble_constant weights;
    thimble_find_constant(model, op, 0, &weights);
    int is_depthwise = THIMBLE_HAS_OPERATOR(DEPTHWISE_CONV_2D) && op->kind == THIMBLE_OPERATOR_DEPTHWISE_CONV_2D;
    int takes = is_depthwise ? 0 : THIMBLE_TAKES_PAIRS;
    if (THIMBLE_HAS_OPERATOR(FULLY_CONNECTED) && op->kind == THIMBLE_OPERATOR_FULLY_CONNECTED) {
        /* One that makes bits runs as a convolution, which takes whole rows. */
        takes |= has_bits(model) && thimble_tensor_at(model, op->output).bits ? 0 : THIMBLE_TAKES_PARTS;
    }
    uint64_t bytes = thimble_stream_bytes(model->registry, &weights, takes);
    if (THIMBLE_HAS_LAYOUT(SPARSE) && THIMBLE_HAS_OPERATOR(CONV_2D) && op->kind == THIMBLE_OPERATOR_CONV_2D &&
        thimble_has_pairs(&weights)) {
        /* Where the pairs of each kernel cell start. */
        uint32_t cells =
            (uint32_t)(op->attributes[THIMBLE_CONV_2D_KERNEL_H] * op->attributes[THIMBLE_CONV_2D_KERNEL_W]);
        bytes += cells > 1 ? aligned(2 * (uint64_t)(cells + 1)) : 0;
    }
    return bytes;
}

/* Whether what is made goes elsewhere first: to be added, or signs are taken of it. */
static int is_aside(thimble_model *model, const thimble_operator *op) {
    return op->schedule == THIMBLE_SCHEDULE_FUSED_ADD ||
           (has_bits(model) && thimble_tensor_at(model, op->output).bits != 0);
}

/* What a CONV_2D takes that goes by columns; 0: it goes row by row. */
static uint32_t column_bytes(thimble_model *model, const thimble_operator *op) {
    thimble_constant weights;
    thimble_find_constant(model, op, 0, &weights);
    if (thimble_has_pairs(&weights) || op->schedule == THIMBLE_SCHEDULE_FUSED_DEPTHWISE) {
        return 0;
    }
    thimble_column_need need = thimble_column_need_of(&weights, op, is_aside(model, op));
    thimble_column_plan plan = thimble_least_columns(&need);
    if (op->schedule == THIMBLE_SCHEDULE_IN_PLACE && plan.channels < need.channels) {
        return 0;
    }
    return plan.positions > 0 ? thimble_column_bytes(&need, plan) : 0;
}

/* Whether columns can do with more memory than is planned for. */
static int takes_more_columns(thimble_model *model, const thimble_operator *op) {
    thimble_constant weights;
    thimble_find_constant(model, op, 0, &weights);
    thimble_column_need need = thimble_column_need_of(&weights, op, is_aside(model, op));
    return op->schedule != THIMBLE_SCHEDULE_FUSED_DEPTHWISE && !thimble_has_pairs(&weights) &&
           !(need.is_raw && thimble_least_columns(&need).positions == THIMBLE_MOST_POSITIONS);
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

uint32_t thimble_scratch_bytes(thimble_model *model, const thimble_operator *op, const thimble_operator *tail) {
    if (!thimble_is_weighted(op->kind)) {
        return 0;
    }
    if (has_bits(model) && thimble_tensor_at(model, op->inputs[0]).bits) {
        return gathered_bytes(model, op);
    }
    uint64_t bytes = stream_bytes(model, op);
    int is_conv = THIMBLE_HAS_OPERATOR(CONV_2D) && op->kind == THIMBLE_OPERATOR_CONV_2D;
    uint32_t columns = is_conv ? column_bytes(model, op) : 0;
    if (columns > 0) {
        bytes += columns;
    } else if (THIMBLE_HAS(FUSED_DEPTHWISE) && op->schedule == THIMBLE_SCHEDULE_FUSED_DEPTHWISE) {
        bytes += stream_bytes(model, tail);
        thimble_tensor out = thimble_tensor_at(model, tail->output);
        bytes += thimble_padded_plane_bytes(tail, &out);
    } else if ((THIMBLE_HAS(FUSED_ADD) || THIMBLE_HAS(BIT_ACTIVATIONS)) && is_aside(model, op)) {
        thimble_tensor out = thimble_tensor_at(model, op->output);
        bytes += aligned((uint64_t)out.shape[1] * (uint32_t)out.shape[2]);
    } else if (THIMBLE_HAS_OPERATOR(DEPTHWISE_CONV_2D) && op->kind == THIMBLE_OPERATOR_DEPTHWISE_CONV_2D) {
        thimble_tensor out = thimble_tensor_at(model, op->output);
        bytes += thimble_padded_plane_bytes(op, &out);
    } else if (THIMBLE_HAS(IN_PLACE) && is_conv && op->schedule == THIMBLE_SCHEDULE_IN_PLACE) {
        thimble_tensor x = thimble_tensor_at(model, op->inputs[0]);
        bytes += aligned((uint64_t)op->parameter * (uint32_t)x.shape[2] * (uint32_t)x.shape[3]);
    }
    return (uint32_t)(bytes > TOO_MUCH ? TOO_MUCH : bytes);
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
    if (THIMBLE_HAS_OPERATOR(CONV_2D) && op->kind == THIMBLE_OPERATOR_CONV_2D &&
        takes_more_columns(context->model, op)) {
        thimble_operator op_ahead;
        context->scratch = context->arena + thimble_living_end(context->model, context->index, context->head ? 2 : 1,
                                                               context->at, &op_ahead);
    }
}
