/* The golden test of a model (docs/FORMAT.md, section 2.4): inputs from a seed, and the CRC-32 of the outputs. */
#include "server.h"

static void fill_inputs(thimble_model *model, uint8_t *memory, uint32_t state) {
    thimble_port port;
    for (uint32_t i = 0; i < model->input_count; i++) {
        thimble_input(model, i, &port);
        for (uint32_t at = 0; at < port.bytes; at++) {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            memory[port.offset + at] = (uint8_t)state;
        }
    }
}

int32_t thimble_golden_test(thimble_server *server) {
    thimble_model *model = &server->model;
    uint8_t *memory = server->setup->memory;
    const uint8_t *section = thimble_find_section(model->data, THIMBLE_SECTION_GOLDEN);
    uint32_t crc = 0;
    if (!section) {
        return 0;
    }
    uint32_t offset = thimble_read_u32(section + THIMBLE_SECTION_ENTRY_OFFSET_OFFSET);
    int32_t error = thimble_reset(model, memory, model->memory_bytes);
    if (error >= 0) {
        fill_inputs(model, memory, thimble_read_u32(model->data + offset + THIMBLE_GOLDEN_SEED_OFFSET));
        error = thimble_run(model, memory, model->memory_bytes);
    }
    if (error < 0) {
        return error;
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        thimble_port port;
        thimble_output(model, i, &port);
        crc = thimble_crc32(crc, memory + port.offset, port.bytes);
    }
    uint32_t expected = thimble_read_u32(model->data + offset + THIMBLE_GOLDEN_OUTPUT_CRC32_OFFSET);
    return crc == expected ? 0 : THIMBLE_ERROR_GOLDEN_MISMATCH;
}
