/* The three parts of thimble_load, in the order of docs/FORMAT.md, section 7. */
#ifndef THIMBLE_LOADER_H
#define THIMBLE_LOADER_H

#include "program.h"
#include "tensor_set.h"

/* What the header says for the parts behind it. */
typedef struct {
    uint32_t program_offset;
    uint32_t declared_scratch_bytes;
} thimble_envelope;

int32_t thimble_check_envelope(thimble_model *model, uint32_t length, thimble_envelope *envelope); /* 7.1, 7.2 */
int32_t thimble_check_program(thimble_model *model, const thimble_envelope *envelope);             /* 7.3 */

/* 7.4, and how much memory the model needs. */
int32_t thimble_check_operators(thimble_model *model, const thimble_envelope *envelope);

/* Adds the tensors of the `count` ports that are described from `at` on. */
void thimble_add_ports(thimble_tensor_set *set, const thimble_model *model, uint32_t at, uint32_t count);

#endif
