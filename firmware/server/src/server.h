/* What the server's sources share: the messages, and how their fields are read and written. */
#ifndef THIMBLE_SERVER_INTERNAL_H
#define THIMBLE_SERVER_INTERNAL_H

#include "bytes.h"
#include "frame.h"
#include "store.h"
#include "write.h"

/* One for each message id: acts on a payload whose fixed part is there and whose reserved fields are 0. Gives the
 * bytes of the reply's payload, or a negative error. `length` counts what follows the fixed part. */
typedef int32_t thimble_action(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply);

thimble_action thimble_act_begin, thimble_act_data, thimble_act_commit, thimble_act_confirm, thimble_act_abort;
thimble_action thimble_act_set_input, thimble_act_run, thimble_act_get_output, thimble_act_bench, thimble_act_profile;

/* Loads what is stored, or learns that it is bad. */
void thimble_load_stored(thimble_server *server);

/* A model that has just been loaded, or is to start afresh: nothing of earlier runs is left. */
void thimble_clear_memory(thimble_server *server);

/* The entry in a checked file's section table; 0 without such a section. */
static inline const uint8_t *thimble_find_section(const uint8_t *file, uint32_t kind) {
    const uint8_t *entry = file + THIMBLE_HEADER_BYTES;
    uint32_t count = thimble_read_u16(file + THIMBLE_HEADER_SECTION_COUNT_OFFSET);
    for (uint32_t i = 0; i < count; i++, entry += THIMBLE_SECTION_ENTRY_BYTES) {
        if (entry[THIMBLE_SECTION_ENTRY_KIND_OFFSET] == kind) {
            return entry;
        }
    }
    return 0;
}

/* Runs the loaded model on its golden input, if it has one. Error: golden_mismatch, or what the run gives. */
int32_t thimble_golden_test(thimble_server *server);

/* In which half of flash the running model lies. */
uint32_t thimble_running_half(const thimble_server *server);

/* Inputs, outputs and times of the last run are void. */
void thimble_forget_tensors(thimble_server *server);

static inline int32_t thimble_reply_u32(uint8_t *reply, uint32_t value) {
    thimble_write_u32(reply, value);
    return 4;
}

#endif
