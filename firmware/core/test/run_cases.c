/* Runs models and weight streams for tests/test_core.py, each in buffers of its exact size, so that a
 * sanitizer sees every byte too far.
 *
 *     run_cases CASES RESULTS
 *
 * CASES: u32 number of cases; each: u8 kind ('f' file, 's' stream), u32 length, bytes, u32 input length, input
 * bytes, u32 runs. RESULTS: for each case i32 code (0 or the error), u32 bytes of memory, u32 length, bytes. A
 * file's result is all outputs of all runs; with 0 runs it runs once on zeros. A stream is its 12 descriptor
 * fields as u32 and the payload; its result is the matrix, decoded twice for each choice of what a caller takes,
 * which must agree. Each result is written before the next case starts, so that a crash names its case. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/stream.h"

static void die(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(2);
}

static uint32_t read_u32(FILE *file) {
    uint8_t bytes[4];
    if (fread(bytes, 1, 4, file) != 4) {
        die("the list of cases is too short");
    }
    return thimble_read_u32(bytes);
}

static uint8_t *read_bytes(FILE *file, uint32_t length) {
    uint8_t *bytes = malloc(length ? length : 1);
    if (!bytes || fread(bytes, 1, length, file) != length) {
        die("the list of cases is too short");
    }
    return bytes;
}

static void write_u32(FILE *file, uint32_t value) {
    uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    fwrite(bytes, 1, 4, file);
}

static void *exactly(uint32_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) {
        die("out of memory");
    }
    memset(memory, 0xA5, bytes);
    return memory;
}

typedef struct {
    int32_t code;
    uint32_t memory_bytes;
    uint32_t length;
    uint8_t *bytes;
} result;

static void append(result *to, const void *bytes, uint32_t length) {
    to->bytes = realloc(to->bytes, to->length + length + 1);
    if (!to->bytes) {
        die("out of memory");
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

static result run_file(const uint8_t *data, uint32_t length, const uint8_t *input, uint32_t runs) {
    thimble_model model;
    thimble_port port;
    result found = {thimble_load(&model, &thimble_registry_all, data, length), 0, 0, NULL};
    if (found.code < 0) {
        return found;
    }
    uint8_t *memory = exactly(model.memory_bytes);
    found.memory_bytes = model.memory_bytes;
    found.code = thimble_reset(&model, memory, model.memory_bytes);
    for (uint32_t run = 0; run < (runs ? runs : 1) && found.code >= 0; run++) {
        for (uint32_t i = 0; i < model.input_count; i++) {
            thimble_input(&model, i, &port);
            if (runs) {
                memcpy(memory + port.offset, input, port.bytes);
                input += port.bytes;
            } else {
                memset(memory + port.offset, 0, port.bytes);
            }
        }
        found.code = thimble_run(&model, memory, model.memory_bytes);
        for (uint32_t i = 0; i < model.output_count && found.code >= 0; i++) {
            thimble_output(&model, i, &port);
            append(&found, memory + port.offset, port.bytes);
        }
    }
    free(memory);
    return found;
}

/* The newest row of an open stream, or part of it, as dense weights. */
static void fill_row(const thimble_stream *stream, int8_t *row) {
    if (!stream->positions) {
        memcpy(row + (stream->cols - stream->left - stream->count), stream->row, stream->count);
        return;
    }
    memset(row, 0, stream->cols);
    for (uint32_t i = 0; i < stream->count; i++) {
        row[stream->positions[i]] = stream->row[i];
    }
}

/* Decodes the matrix once. The first time its rows are appended to `matrix`; again, they must be the same. */
static void read_matrix(thimble_stream *stream, result *matrix, int again) {
    int8_t *row = exactly(stream->cols);
    for (uint32_t i = 0; i < stream->rows && matrix->code >= 0; i++) {
        do {
            matrix->code = thimble_stream_next(stream);
            if (matrix->code >= 0) {
                fill_row(stream, row);
            }
        } while (matrix->code >= 0 && stream->left > 0);
        if (matrix->code >= 0) {
            if (!again) {
                append(matrix, row, stream->cols);
            } else if (memcmp(matrix->bytes + (size_t)i * stream->cols, row, stream->cols) != 0) {
                die("two ways of decoding differ");
            }
        }
    }
    free(row);
}

static result run_stream(const uint8_t *data, uint32_t length) {
    thimble_model model;
    thimble_constant weights = {THIMBLE_CONSTANT_WEIGHTS, {0}};
    result found = {0, 0, 0, NULL};
    uint32_t head = 4 * THIMBLE_WEIGHTS_FIELD_COUNT;
    for (uint32_t i = 0; i < THIMBLE_WEIGHTS_FIELD_COUNT; i++) {
        weights.fields[i] = thimble_read_u32(data + 4 * i);
    }
    found.code = thimble_check_weights(&weights);
    if (found.code < 0) {
        return found;
    }
    uint8_t *payload = exactly(length - head + THIMBLE_SHA256_BYTES); /* in a file, the trailer lies behind it */
    memcpy(payload, data + head, length - head);
    memset(&model, 0, sizeof model);
    model.data = payload;
    model.registry = &thimble_registry_all;
    for (int takes = 0; takes < 4 && found.code >= 0; takes++) {
        thimble_stream stream;
        uint8_t *scratch = exactly(thimble_stream_bytes(&thimble_registry_all, &weights, takes));
        found.code = thimble_stream_open(&stream, &model, &weights, takes, scratch);
        for (int pass = 0; pass < 2 && found.code >= 0; pass++) {
            read_matrix(&stream, &found, takes || pass);
            if (found.code >= 0) {
                found.code = thimble_stream_rewind(&stream);
            }
        }
        free(scratch);
    }
    found.length = found.code < 0 ? 0 : found.length;
    found.memory_bytes = thimble_format_stream_bytes(&thimble_registry_all, &weights);
    free(payload);
    return found;
}

int main(int argc, char **argv) {
    FILE *cases = argc == 3 ? fopen(argv[1], "rb") : NULL, *results = argc == 3 ? fopen(argv[2], "wb") : NULL;
    if (!cases || !results) {
        die("usage: run_cases CASES RESULTS");
    }
    for (uint32_t left = read_u32(cases); left > 0; left--) {
        int kind = fgetc(cases);
        uint32_t length = read_u32(cases);
        uint8_t *data = read_bytes(cases, length);
        uint32_t input_length = read_u32(cases);
        uint8_t *input = read_bytes(cases, input_length);
        uint32_t runs = read_u32(cases);
        result found = kind == 'f' ? run_file(data, length, input, runs) : run_stream(data, length);
        write_u32(results, (uint32_t)found.code);
        write_u32(results, found.memory_bytes);
        write_u32(results, found.length);
        fwrite(found.bytes ? found.bytes : data, 1, found.length, results);
        fflush(results);
        free(found.bytes);
        free(data);
        free(input);
    }
    return fclose(results);
}
