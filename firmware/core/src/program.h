/* The PROGRAM section as structs. Nothing of it is kept in RAM: tensors, constants and operators are read from the
 * file when they are needed; a place remembers where the last search ended, so that going on is cheap. */
#ifndef THIMBLE_PROGRAM_H
#define THIMBLE_PROGRAM_H

#include <stddef.h>

#include "build.h"
#include "bytes.h"
#include "thimble_registry.h"

typedef struct {
    uint32_t offset; /* in the arena */
    uint32_t bytes;
    uint32_t flags;
    int32_t bits;     /* channels of a tensor of bits, else 0 */
    int32_t shape[4]; /* N, H, W, C; of a tensor of bits, the bytes of a position are in the place of C */
} thimble_tensor;

/* `fields` by enum thimble_weights_field and so on. */
typedef struct {
    uint32_t kind;
    uint32_t fields[THIMBLE_WEIGHTS_FIELD_COUNT];
} thimble_constant;

#define THIMBLE_LARGEST_ATTRIBUTE_COUNT THIMBLE_CONV_2D_ATTRIBUTE_COUNT

/* `attributes` includes the defaults; constants are index + 1, 0 for none. */
typedef struct {
    const thimble_operator_type *type;
    uint8_t kind;
    uint8_t schedule;
    uint8_t input_count;
    uint8_t output_count;
    uint8_t constant_count;
    uint32_t parameter;
    uint16_t inputs[THIMBLE_MAX_OPERATOR_INPUTS];
    uint16_t output; /* the first one */
    uint16_t constants[THIMBLE_MAX_OPERATOR_CONSTANTS];
    int32_t attributes[THIMBLE_LARGEST_ATTRIBUTE_COUNT];
} thimble_operator;

/* What an operator's functions work on. `head` is the convolution that this operator, then `op`, is fused to. */
struct thimble_step_context {
    thimble_model *model;
    thimble_operator *op;
    const thimble_operator *head;
    thimble_tensor x; /* first input */
    thimble_tensor out;
    uint8_t *arena;
    uint8_t *scratch; /* behind the tensors that live, up to memory_end */
    uint8_t *memory_end;
    uint32_t index; /* of the step's first operator */
    uint32_t at;    /* where that stands in the file */
};

struct thimble_operator_type {
    uint8_t kind;
    uint8_t attribute_count;
    uint8_t input_count; /* 0: one or more */
    uint8_t constant_kinds[3]; /* kind + 1 of the constants in order, 0 ends the list */
    uint8_t required_constants;
    const int8_t *defaults;
    int (*check)(thimble_step_context *context); /* shapes and attributes: 1 if they agree */
    int32_t (*run)(thimble_step_context *context);
};

/* Constants are only located; thimble_read_constant also checks the varints. */
void thimble_read_constant(thimble_cursor *cursor, thimble_constant *constant);
void thimble_read_tensor(thimble_cursor *cursor, thimble_tensor *tensor);
void thimble_read_operator(thimble_cursor *cursor, thimble_operator *op);
void thimble_read_port(thimble_cursor *cursor, thimble_port *port);

void thimble_find_tensor(thimble_model *model, uint32_t index, thimble_tensor *tensor);
static inline thimble_tensor thimble_tensor_at(thimble_model *model, uint32_t index) {
    thimble_tensor tensor;
    thimble_find_tensor(model, index, &tensor);
    return tensor;
}
/* Constant number `which` of an operator that has it. */
void thimble_find_constant(thimble_model *model, const thimble_operator *op, uint32_t which,
                           thimble_constant *constant);

static inline int thimble_is_weighted(uint32_t kind) {
    const uint32_t first_three = 2u << THIMBLE_OPERATOR_FULLY_CONNECTED;
    return (THIMBLE_BUILD_OPERATORS) < first_three || kind <= THIMBLE_OPERATOR_FULLY_CONNECTED;
}

static inline int thimble_is_fused_head(uint32_t schedule) {
    return THIMBLE_HAS_FUSED && schedule >= THIMBLE_SCHEDULE_FUSED_DEPTHWISE;
}

/* The bytes of a constant in the file. */
static inline const uint8_t *thimble_payload(const thimble_model *model, const thimble_constant *constant) {
    return model->data + model->data_offset + constant->fields[0];
}

/* Bytes of scratch that a step needs: the streams and the kernel. `tail` is the fused operator or NULL. */
uint32_t thimble_scratch_bytes(thimble_model *model, const thimble_operator *op, const thimble_operator *tail);

/* Whether a build that THIMBLE_LACKS_PATHS has a way for the operator. */
int thimble_has_path(thimble_model *model, const thimble_operator *op);

/* Whether a depthwise convolution is one that plane_3x3.h is for. */
int thimble_is_3x3(const thimble_operator *op);

/* What its windows reach of one channel, with a border of zero points, as its kernel keeps it: bytes, whole words. */
uint32_t thimble_padded_plane_bytes(const thimble_operator *op, const thimble_tensor *out);

/* Where the tensors end that are written by then and needed by the step of `count` operators from `index` on, which
 * stand at `at` in the file, by a later one or by the caller. `op` is for its use: stacks are deep here. */
uint32_t thimble_living_end(thimble_model *model, uint32_t index, uint32_t count, uint32_t at, thimble_operator *op);

/* Sets the step's scratch: what thimble_scratch_bytes says, or all that is free where more is of use. */
void thimble_find_scratch(thimble_step_context *context);

#endif
