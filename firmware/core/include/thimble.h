/* Thimble: runs a compressed integer network where it lies, in flash or in memory.
 *
 * A model's bytes and one block of memory come from the caller. Tensors lie at the block's start, what kernels
 * and decoders need aside at its end; the two share bytes where a tensor is not alive. Outputs are left in the
 * block. Every function returns 0 or a number that is not negative, or an error of enum thimble_error_code,
 * which is negative. Nothing is allocated and nothing is kept outside of the structs below.
 *
 *     thimble_model model;
 *     if (thimble_load(&model, &thimble_registry_all, flash, flash_bytes) < 0) ...
 *     thimble_input(&model, 0, &port);  memcpy(memory + port.offset, samples, port.bytes);
 *     thimble_run(&model, memory, model.memory_bytes);
 *
 * The bytes of the model and the memory must be aligned to 4. A model must not be changed while it is in use;
 * its bytes are checked once, by thimble_load. */
#ifndef THIMBLE_H
#define THIMBLE_H

#include <stdint.h>

#include "thimble_format.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct thimble_registry thimble_registry;

/* Where the varints of one tensor or constant start: forward searches go on from there. */
typedef struct {
    uint32_t index;
    uint32_t at;
} thimble_place;

/* A loaded model. The fields are for reading; offsets count bytes from the start of the file. */
typedef struct {
    const uint8_t *data;
    const thimble_registry *registry;
    uint32_t memory_bytes; /* that thimble_run needs: tensors, decoders and kernels */
    uint32_t arena_bytes;  /* of it the tensors */
    uint32_t model_id;
    uint32_t model_version;
    uint32_t sha256_offset; /* of the trailer */
    uint32_t tensor_count;
    uint32_t constant_count;
    uint32_t operator_count;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t features; /* that the header declares */
    uint32_t operators;
    uint32_t program_end;
    uint32_t data_offset; /* of the DATA section */
    uint32_t data_bytes;
    uint32_t first_tensor;
    uint32_t first_constant;
    uint32_t first_operator;
    uint32_t first_input;
    uint32_t first_output;
    thimble_place tensor_place;
    thimble_place constant_places[4]; /* for each constant of an operator: weights, scales and biases lie apart */
} thimble_model;

/* A model input or output. real = scale * (integer - zero_point). */
typedef struct {
    uint32_t tensor;
    uint32_t offset; /* of its bytes in the memory */
    uint32_t bytes;
    uint32_t flags; /* enum thimble_port_flag */
    int32_t zero_point;
    uint32_t scale_bits; /* IEEE 754 single precision: the core has no floats */
} thimble_port;

/* A run in progress, for callers that time each operator. */
typedef struct {
    thimble_model *model;
    uint8_t *memory;
    uint32_t memory_bytes;
    uint32_t index; /* of the next operator */
    uint32_t at;    /* of its bytes in the file */
} thimble_progress;

/* Checks a file of `length` bytes and makes `model` ready. A registry without SHA-256 leaves the trailer unchecked;
 * the CRC-32 of every section is checked always. Errors: all of docs/FORMAT.md, section 7, and misaligned. */
int32_t thimble_load(thimble_model *model, const thimble_registry *registry, const void *data, uint32_t length);

/* Sets persistent tensors to zero: before the first run, where a model has some. Errors: arena_too_small,
 * misaligned. */
int32_t thimble_reset(thimble_model *model, void *memory, uint32_t memory_bytes);

/* Describes a model input or output. Error: bad_input for an index that there is not. */
int32_t thimble_input(thimble_model *model, uint32_t index, thimble_port *port);
int32_t thimble_output(thimble_model *model, uint32_t index, thimble_port *port);

/* One inference on what the inputs' places in the memory hold; they may be overwritten by it. `memory_bytes`
 * is at least the model's. Errors: arena_too_small, misaligned, bad_stream (weights that do not decode). */
int32_t thimble_run(thimble_model *model, void *memory, uint32_t memory_bytes);

/* The same in steps: thimble_begin, then thimble_step until it returns 0. A step returns the number of
 * operators that it has run, two for a fused pair. Errors as thimble_run. */
int32_t thimble_begin(thimble_progress *progress, thimble_model *model, void *memory, uint32_t memory_bytes);
int32_t thimble_step(thimble_progress *progress);

#ifdef __cplusplus
}
#endif

#endif
