/* The three parts of thimble_load, in the order of docs/FORMAT.md, section 7. */
#ifndef THIMBLE_LOADER_H
#define THIMBLE_LOADER_H

#include "program.h"

/* Sections of a file whose envelope is right. */
typedef struct {
    uint32_t program_offset;
    uint32_t program_bytes;
    uint32_t declared_scratch_bytes;
} thimble_envelope;

int32_t thimble_check_envelope(thimble_model *model, uint32_t length, thimble_envelope *envelope); /* 7.1, 7.2 */
int32_t thimble_check_program(thimble_model *model, const thimble_envelope *envelope);             /* 7.3 */
int32_t thimble_check_operators(thimble_model *model, uint32_t declared_scratch_bytes);            /* 7.4 */

#endif
