/* Fuzz target: any bytes as a file, and where it loads, as a network to run. Lengths and checksums are put right
 * first, since no mutation would ever get past them otherwise; SHA-256 is left out. A model that loads is run twice
 * on the same inputs, over memory filled with other bytes: the outputs must be the same.
 *
 * benchmarks/fuzz_core.py builds it with libFuzzer and runs it, tests/test_core_fuzz.py for a short time. */
#include <stdlib.h>
#include <string.h>

#include "../src/program.h"

#define LARGEST_MEMORY (1u << 20)
#define MOST_WORK (1u << 24) /* products and decoded weights in one run */

static void write_u32(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)value, p[1] = (uint8_t)(value >> 8), p[2] = (uint8_t)(value >> 16), p[3] = (uint8_t)(value >> 24);
}

static void repair(uint8_t *data, uint32_t length) {
    uint32_t count = thimble_read_u16(data + THIMBLE_HEADER_SECTION_COUNT_OFFSET);
    uint32_t table_end = THIMBLE_HEADER_BYTES + count * THIMBLE_SECTION_ENTRY_BYTES;
    if (count > THIMBLE_MAX_SECTIONS || table_end > length) {
        return;
    }
    for (uint32_t at = THIMBLE_HEADER_BYTES; at < table_end; at += THIMBLE_SECTION_ENTRY_BYTES) {
        uint32_t from = thimble_read_u32(data + at + THIMBLE_SECTION_ENTRY_OFFSET_OFFSET);
        uint32_t bytes = thimble_read_u32(data + at + THIMBLE_SECTION_ENTRY_LENGTH_OFFSET);
        if (from <= length && bytes <= length - from) {
            write_u32(data + at + THIMBLE_SECTION_ENTRY_CRC32_OFFSET, thimble_crc32(0, data + from, bytes));
        }
    }
    write_u32(data + THIMBLE_HEADER_FILE_BYTES_OFFSET, length);
    uint32_t crc = thimble_crc32(0, data, THIMBLE_HEADER_HEADER_CRC32_OFFSET);
    crc = thimble_crc32(crc, data + THIMBLE_HEADER_BYTES, table_end - THIMBLE_HEADER_BYTES);
    write_u32(data + THIMBLE_HEADER_HEADER_CRC32_OFFSET, crc);
}

/* Products and decoded weights of one run: files of a few bytes can ask for hours. */
static uint64_t work_of(thimble_model *model) {
    thimble_cursor cursor = thimble_cursor_at(model, model->first_operator);
    uint64_t work = 0;
    for (uint32_t i = 0; i < model->operator_count; i++) {
        thimble_operator op;
        thimble_read_operator(&cursor, &op);
        thimble_tensor out = thimble_tensor_at(model, op.output);
        work += out.bytes;
        if (thimble_is_weighted(op.kind)) {
            thimble_constant weights;
            thimble_find_constant(model, &op, 0, &weights);
            uint64_t cols = weights.fields[THIMBLE_FIELD_WEIGHTS_COLS];
            work += (uint64_t)out.bytes * cols;
            work += cols * weights.fields[THIMBLE_FIELD_WEIGHTS_ROWS] * (uint64_t)out.shape[1];
        }
    }
    return work;
}

static void fill_inputs(thimble_model *model, uint8_t *memory) {
    thimble_port port;
    uint32_t state = 1;
    for (uint32_t i = 0; i < model->input_count; i++) {
        thimble_input(model, i, &port);
        for (uint32_t j = 0; j < port.bytes; j++) {
            state = state * 1664525 + 1013904223;
            memory[port.offset + j] = (uint8_t)(state >> 24);
        }
    }
}

/* The error, or the CRC-32 of the outputs in `crc`. Persistent tensors are part of what a run leaves behind. */
static int32_t run(thimble_model *model, uint8_t fill, uint32_t *crc) {
    uint8_t *memory = malloc(model->memory_bytes ? model->memory_bytes : 1);
    thimble_port port;
    if (!memory) {
        abort();
    }
    memset(memory, fill, model->memory_bytes);
    int32_t error = thimble_reset(model, memory, model->memory_bytes);
    fill_inputs(model, memory);
    error = error < 0 ? error : thimble_run(model, memory, model->memory_bytes);
    *crc = 0;
    for (uint32_t i = 0; i < model->output_count; i++) {
        thimble_output(model, i, &port);
        *crc = thimble_crc32(*crc, memory + port.offset, port.bytes);
    }
    free(memory);
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    thimble_registry registry = thimble_registry_all;
    thimble_model model;
    registry.sha256_matches = NULL;
    uint8_t *data = malloc(length ? length : 1); /* its own: a byte too far is seen */
    if (!data) {
        return 0;
    }
    memcpy(data, bytes, length);
    if (length >= THIMBLE_HEADER_BYTES + THIMBLE_SHA256_BYTES) {
        repair(data, (uint32_t)length);
    }
    if (thimble_load(&model, &registry, data, (uint32_t)length) >= 0 && model.memory_bytes <= LARGEST_MEMORY &&
        work_of(&model) <= MOST_WORK) {
        uint32_t crc, again;
        int32_t error = run(&model, 0x00, &crc);
        if (run(&model, 0xFF, &again) != error || (error >= 0 && crc != again)) {
            abort();
        }
    }
    free(data);
    return 0;
}
