/* The running model: SET_INPUT, RUN, GET_OUTPUT, BENCH, PROFILE. Inputs and outputs share the arena: a run uses its
 * inputs up, and a new input spoils the outputs of the last run. */
#include <string.h>

#include "server.h"

enum { TIME_BYTES = 4 };

static uint8_t *memory_of(const thimble_server *server) {
    return server->setup->memory;
}

int32_t thimble_act_set_input(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    uint32_t index = payload[THIMBLE_SET_INPUT_REQUEST_INPUT_OFFSET];
    uint32_t offset = thimble_read_u32(payload + THIMBLE_SET_INPUT_REQUEST_OFFSET_OFFSET);
    thimble_port port;
    if (!server->has_model) {
        return THIMBLE_ERROR_NO_MODEL;
    }
    if (thimble_input(&server->model, index, &port) < 0) {
        return THIMBLE_ERROR_BAD_ARGUMENT;
    }
    if (offset == 0 || offset == server->filled[index]) {
        if (length > port.bytes - offset) {
            return THIMBLE_ERROR_BAD_INPUT;
        }
        memcpy(memory_of(server) + port.offset + offset, payload + THIMBLE_SET_INPUT_REQUEST_BYTES, length);
        server->filled[index] = offset + length;
        server->has_output = 0;
    }
    return thimble_reply_u32(reply, server->filled[index]);
}

static void set_trigger(const thimble_board *board, int on) {
    if (board->set_trigger) {
        board->set_trigger(board->context, on);
    }
}

/* Inferences behind each other; `time` takes what the stopwatch says of all. They get the memory that the model asks for
 * and no more, so that they take as long on every board of a kind, and INFO's free memory is free. */
static int32_t timed_runs(thimble_server *server, uint32_t runs, uint32_t *time) {
    const thimble_server_setup *setup = server->setup;
    const thimble_board *board = setup->board;
    int32_t error = 0;
    thimble_forget_tensors(server);
    set_trigger(board, 1);
    board->start_stopwatch(board->context);
    for (uint32_t i = 0; i < runs && error >= 0; i++) {
        error = thimble_run(&server->model, setup->memory, server->model.memory_bytes);
    }
    *time = board->read_stopwatch(board->context);
    set_trigger(board, 0);
    return error;
}

int32_t thimble_act_run(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    (void)payload, (void)length;
    if (!server->has_model) {
        return THIMBLE_ERROR_NO_MODEL;
    }
    for (uint32_t i = 0; i < server->model.input_count; i++) {
        thimble_port port;
        thimble_input(&server->model, i, &port);
        if (server->filled[i] != port.bytes) {
            return THIMBLE_ERROR_BAD_INPUT;
        }
    }
    uint32_t time;
    int32_t error = timed_runs(server, 1, &time);
    server->has_output = error >= 0;
    return error < 0 ? error : thimble_reply_u32(reply, time);
}

int32_t thimble_act_get_output(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    uint32_t offset = thimble_read_u32(payload + THIMBLE_GET_OUTPUT_REQUEST_OFFSET_OFFSET);
    uint32_t room = server->setup->max_payload - THIMBLE_GET_OUTPUT_REPLY_BYTES;
    thimble_port port;
    if (!server->has_model) {
        return THIMBLE_ERROR_NO_MODEL;
    }
    if (thimble_output(&server->model, payload[THIMBLE_GET_OUTPUT_REQUEST_OUTPUT_OFFSET], &port) < 0) {
        return THIMBLE_ERROR_BAD_ARGUMENT;
    }
    if (!server->has_output) {
        return THIMBLE_ERROR_BAD_STATE;
    }
    if (offset > port.bytes) {
        return THIMBLE_ERROR_BAD_OFFSET;
    }
    length = thimble_read_u16(payload + THIMBLE_GET_OUTPUT_REQUEST_LENGTH_OFFSET);
    length = length < room ? length : room;
    length = length < port.bytes - offset ? length : port.bytes - offset;
    thimble_write_u32(reply + THIMBLE_GET_OUTPUT_REPLY_OUTPUT_BYTES_OFFSET, port.bytes);
    memcpy(reply + THIMBLE_GET_OUTPUT_REPLY_BYTES, memory_of(server) + port.offset + offset, length);
    return (int32_t)(THIMBLE_GET_OUTPUT_REPLY_BYTES + length);
}

int32_t thimble_act_bench(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    (void)length;
    uint32_t runs = thimble_read_u16(payload + THIMBLE_BENCH_REQUEST_RUNS_OFFSET), time;
    uint32_t flags = payload[THIMBLE_BENCH_REQUEST_FLAGS_OFFSET];
    if (flags & ~(server->setup->board->set_trigger ? (uint32_t)THIMBLE_BENCH_FLAG_WINDOW : 0u)) {
        return THIMBLE_ERROR_RESERVED_BITS;
    }
    if (!server->has_model) {
        return THIMBLE_ERROR_NO_MODEL;
    }
    if (runs == 0 || (!flags && runs > server->setup->max_payload / TIME_BYTES)) {
        return THIMBLE_ERROR_BAD_ARGUMENT;
    }
    if (flags) {
        int32_t error = timed_runs(server, runs, &time);
        return error < 0 ? error : thimble_reply_u32(reply, time);
    }
    for (uint32_t i = 0; i < runs; i++) {
        int32_t error = timed_runs(server, 1, &time);
        if (error < 0) {
            return error;
        }
        thimble_write_u32(reply + i * TIME_BYTES, time);
    }
    return (int32_t)(runs * TIME_BYTES);
}

/* Runs once and writes the times of operators `first` to `first + count - 1`. */
static int32_t profiled_run(thimble_server *server, uint32_t first, uint32_t count, uint8_t *times) {
    const thimble_server_setup *setup = server->setup;
    const thimble_board *board = setup->board;
    thimble_progress progress;
    memset(times, 0, count * TIME_BYTES); /* the first operator of a fused pair keeps 0 */
    set_trigger(board, 1);
    int32_t result = thimble_begin(&progress, &server->model, setup->memory, server->model.memory_bytes);
    while (result >= 0 && progress.index < server->model.operator_count) {
        board->start_stopwatch(board->context);
        result = thimble_step(&progress);
        uint32_t time = board->read_stopwatch(board->context), last = progress.index - 1;
        if (last >= first && last - first < count) {
            thimble_write_u32(times + (last - first) * TIME_BYTES, time);
        }
    }
    set_trigger(board, 0);
    return result;
}

int32_t thimble_act_profile(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    (void)length;
    uint32_t first = thimble_read_u16(payload + THIMBLE_PROFILE_REQUEST_FIRST_OFFSET);
    uint32_t room = (server->setup->max_payload - THIMBLE_PROFILE_REPLY_BYTES) / TIME_BYTES;
    if (!server->has_model) {
        return THIMBLE_ERROR_NO_MODEL;
    }
    uint32_t total = first == 0 || server->has_profile ? server->model.operator_count : 0;
    uint32_t count = first < total ? total - first : 0;
    count = count < room ? count : room;
    if (count > 0) {
        thimble_forget_tensors(server);
        int32_t error = profiled_run(server, first, count, reply + THIMBLE_PROFILE_REPLY_BYTES);
        if (error < 0) {
            return error;
        }
        server->has_profile = 1;
    }
    memset(reply, 0, THIMBLE_PROFILE_REPLY_BYTES);
    thimble_write_u16(reply + THIMBLE_PROFILE_REPLY_OPERATOR_COUNT_OFFSET, total);
    return (int32_t)(THIMBLE_PROFILE_REPLY_BYTES + count * TIME_BYTES);
}
