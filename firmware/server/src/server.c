/* Sessions, repetitions and complaints (docs/PROTOCOL.md, section 2), and the messages about the device itself. */
#include "server.h"

#include <string.h>

#define PAYLOAD_OFFSET 4 /* in the buffers: two bytes are free, then id and sequence number */
#define CONTENT_OFFSET 2

/* Beside two chunks and the model's memory, a server takes 512 bytes at most; on a host, pointers are longer. */
typedef char thimble_server_is_small[sizeof(thimble_server) + 2 * THIMBLE_SERVER_BUFFER_BYTES(0) <= 512 ||
                                             sizeof(void *) > 4
                                         ? 1
                                         : -1];

static int32_t hello(thimble_server *server, uint32_t sequence, const uint8_t *payload, uint8_t *reply);
static int32_t info(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply);
static int32_t reset(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply);

/* What the dispatcher checks: the fixed part's length, where its reserved fields begin, whether bytes may follow. */
static const struct {
    thimble_action *act;
    uint8_t fixed_bytes;
    uint8_t reserved_offset;
    uint8_t takes_rest;
} messages[] = {
    [THIMBLE_MESSAGE_BEGIN] = {thimble_act_begin, THIMBLE_BEGIN_REQUEST_BYTES, THIMBLE_BEGIN_REQUEST_SLOT_OFFSET, 1},
    [THIMBLE_MESSAGE_DATA] = {thimble_act_data, THIMBLE_DATA_REQUEST_BYTES, THIMBLE_DATA_REQUEST_BYTES, 1},
    [THIMBLE_MESSAGE_COMMIT] = {thimble_act_commit, THIMBLE_COMMIT_REQUEST_BYTES, 0, 0},
    [THIMBLE_MESSAGE_CONFIRM] = {thimble_act_confirm, 0, 0, 0},
    [THIMBLE_MESSAGE_ABORT] = {thimble_act_abort, 0, 0, 0},
    [THIMBLE_MESSAGE_INFO] = {info, 0, 0, 0},
    [THIMBLE_MESSAGE_SET_INPUT] = {thimble_act_set_input, THIMBLE_SET_INPUT_REQUEST_BYTES,
                                   THIMBLE_SET_INPUT_REQUEST_RESERVED_OFFSET, 1},
    [THIMBLE_MESSAGE_RUN] = {thimble_act_run, THIMBLE_RUN_REQUEST_BYTES, 0, 0},
    [THIMBLE_MESSAGE_GET_OUTPUT] = {thimble_act_get_output, THIMBLE_GET_OUTPUT_REQUEST_BYTES,
                                    THIMBLE_GET_OUTPUT_REQUEST_RESERVED_OFFSET, 0},
    [THIMBLE_MESSAGE_BENCH] = {thimble_act_bench, THIMBLE_BENCH_REQUEST_BYTES, THIMBLE_BENCH_REQUEST_RESERVED_OFFSET, 0},
    [THIMBLE_MESSAGE_PROFILE] = {thimble_act_profile, THIMBLE_PROFILE_REQUEST_BYTES,
                                 THIMBLE_PROFILE_REQUEST_RESERVED_OFFSET, 0},
    [THIMBLE_MESSAGE_RESET] = {reset, THIMBLE_RESET_REQUEST_BYTES, THIMBLE_RESET_REQUEST_BYTES, 0},
};

void thimble_server_start(thimble_server *server, const thimble_server_setup *setup) {
    memset(server, 0, sizeof *server);
    server->setup = setup;
    server->reader.content = (uint8_t *)setup->request_buffer + CONTENT_OFFSET;
    server->reader.capacity = setup->max_payload + THIMBLE_WIRE_OVERHEAD_BYTES;
    thimble_frame_clear(&server->reader);
    thimble_load_stored(server);
}

/* ------------------------------------------------------------------------------------------------- frames */

/* Puts the head of a reply before its payload: of an ERROR, if `result` is one. Gives the payload's length. */
static uint32_t finish_reply(uint8_t *buffer, uint32_t message, uint32_t sequence, int32_t result) {
    uint8_t *payload = buffer + PAYLOAD_OFFSET;
    uint32_t length = (uint32_t)result, id = message;
    if (result < 0) {
        payload[THIMBLE_ERROR_REPLY_CODE_OFFSET] = (uint8_t)result;
        payload[THIMBLE_ERROR_REPLY_MESSAGE_OFFSET] = (uint8_t)message;
        length = THIMBLE_ERROR_REPLY_BYTES;
        id = THIMBLE_MESSAGE_ERROR;
    }
    buffer[CONTENT_OFFSET] = (uint8_t)(id | THIMBLE_WIRE_REPLY_BIT);
    buffer[CONTENT_OFFSET + 1] = (uint8_t)sequence;
    return length;
}

static void send(const thimble_server *server, const uint8_t *buffer, uint32_t payload_bytes) {
    thimble_frame_send(server->setup->board, buffer + CONTENT_OFFSET,
                       PAYLOAD_OFFSET - CONTENT_OFFSET + payload_bytes);
}

static int32_t act(thimble_server *server, uint32_t message, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    if (message >= sizeof messages / sizeof *messages || !messages[message].act) {
        return THIMBLE_ERROR_UNKNOWN_MESSAGE;
    }
    uint32_t fixed = messages[message].fixed_bytes;
    if (length < fixed || length > (messages[message].takes_rest ? server->setup->max_payload : fixed)) {
        return THIMBLE_ERROR_BAD_ARGUMENT;
    }
    if (server->session_count == 0) {
        return THIMBLE_ERROR_BAD_STATE;
    }
    if (!thimble_is_zero(payload, messages[message].reserved_offset, fixed)) {
        return THIMBLE_ERROR_RESERVED_BITS;
    }
    return messages[message].act(server, payload, length - fixed, reply);
}

static void answer_request(thimble_server *server, uint32_t message, uint32_t sequence, uint32_t length) {
    uint8_t *request = server->setup->request_buffer, *reply = server->setup->reply_buffer;
    if (message == THIMBLE_MESSAGE_HELLO) {
        /* The remembered reply has to stay, so that this one goes over its own request. */
        int32_t result = length == THIMBLE_HELLO_REQUEST_BYTES
                             ? hello(server, sequence, request + PAYLOAD_OFFSET, request + PAYLOAD_OFFSET)
                             : THIMBLE_ERROR_BAD_ARGUMENT;
        send(server, request, finish_reply(request, message, sequence, result));
        return;
    }
    if (server->session_count > 0) {
        if (sequence == server->sequence) {
            if (server->has_reply && server->request_message == message) {
                send(server, reply, server->reply_bytes);
            }
            return;
        }
        if (sequence != (uint8_t)(server->sequence + 1)) {
            return; /* an older frame that was held up somewhere */
        }
        server->sequence = (uint8_t)sequence;
    }
    int32_t result = act(server, message, request + PAYLOAD_OFFSET, length, reply + PAYLOAD_OFFSET);
    server->reply_bytes = (uint16_t)finish_reply(reply, message, sequence, result);
    server->request_message = (uint8_t)message;
    server->has_reply = 1;
    send(server, reply, server->reply_bytes);
}

void thimble_server_receive(thimble_server *server, uint8_t byte) {
    thimble_frame_reader *reader = &server->reader;
    enum thimble_piece piece = thimble_frame_receive(reader, server->setup->max_payload, byte);
    if (piece == THIMBLE_PIECE_NONE) {
        return;
    }
    if (piece == THIMBLE_PIECE_GOOD) {
        server->has_complained = 0;
        answer_request(server, reader->content[0], reader->content[1], reader->length - THIMBLE_WIRE_OVERHEAD_BYTES);
    } else {
        server->bad_frames++;
        if (!server->has_complained) { /* once until a good frame: noise is not answered with more traffic */
            uint8_t *buffer = server->setup->request_buffer;
            server->has_complained = 1;
            send(server, buffer, finish_reply(buffer, 0, 0, THIMBLE_ERROR_BAD_FRAME));
        }
    }
    thimble_frame_clear(reader);
}

/* ------------------------------------------------------------------------------------------------- the device */

static void open_session(thimble_server *server, uint32_t session, uint32_t sequence) {
    for (uint32_t i = 0; i < server->session_count; i++) {
        if (server->sessions[i] == session) {
            return; /* a repetition, or one that was held up: it must not put the host out of step */
        }
    }
    for (uint32_t i = THIMBLE_SERVER_SESSIONS - 1; i > 0; i--) {
        server->sessions[i] = server->sessions[i - 1];
    }
    server->sessions[0] = session;
    if (server->session_count < THIMBLE_SERVER_SESSIONS) {
        server->session_count++;
    }
    server->sequence = (uint8_t)sequence;
    server->has_reply = 0;
}

static uint32_t free_memory_bytes(const thimble_server *server) {
    return server->setup->memory_bytes - (server->has_model ? server->model.memory_bytes : 0);
}

/* `reply` may be where `payload` is. */
static int32_t hello(thimble_server *server, uint32_t sequence, const uint8_t *payload, uint8_t *reply) {
    const thimble_server_setup *setup = server->setup;
    if (thimble_read_u16(payload + THIMBLE_HELLO_REQUEST_MAX_PAYLOAD_OFFSET) < setup->max_payload) {
        return THIMBLE_ERROR_BAD_ARGUMENT;
    }
    open_session(server, thimble_read_u32(payload + THIMBLE_HELLO_REQUEST_SESSION_OFFSET), sequence);
    memset(reply, 0, THIMBLE_HELLO_REPLY_BYTES); /* no native .mpy code is taken */
    reply[THIMBLE_HELLO_REPLY_PROTOCOL_VERSION_OFFSET] = THIMBLE_PROTOCOL_VERSION;
    reply[THIMBLE_HELLO_REPLY_FORMAT_VERSION_OFFSET] = THIMBLE_FORMAT_VERSION;
    reply[THIMBLE_HELLO_REPLY_SLOT_COUNT_OFFSET] = 2;
    thimble_write_u16(reply + THIMBLE_HELLO_REPLY_MAX_PAYLOAD_OFFSET, setup->max_payload);
    uint32_t capabilities = THIMBLE_CAPABILITY_PROFILE | THIMBLE_CAPABILITY_SLOTS | THIMBLE_CAPABILITY_TRIAL;
    capabilities |= setup->board->verify_signature ? THIMBLE_CAPABILITY_SIGNATURES : 0u;
    capabilities |= setup->board->set_trigger ? THIMBLE_CAPABILITY_TRIGGER : 0u;
    thimble_write_u32(reply + THIMBLE_HELLO_REPLY_CAPABILITIES_OFFSET, capabilities | setup->board->capabilities);
    thimble_write_u32(reply + THIMBLE_HELLO_REPLY_FEATURES_OFFSET, setup->registry->features);
    thimble_write_u32(reply + THIMBLE_HELLO_REPLY_OPERATORS_OFFSET, setup->registry->operators);
    thimble_write_u32(reply + THIMBLE_HELLO_REPLY_HEAP_FREE_BYTES_OFFSET, free_memory_bytes(server));
    thimble_write_u32(reply + THIMBLE_HELLO_REPLY_SLOT_BYTES_OFFSET, thimble_store_capacity(setup->flash));
    if (server->has_model) {
        const thimble_model *model = &server->model;
        reply[THIMBLE_HELLO_REPLY_MODEL_STATE_OFFSET] =
            server->is_on_trial ? THIMBLE_MODEL_STATE_TRIAL : THIMBLE_MODEL_STATE_READY;
        reply[THIMBLE_HELLO_REPLY_ACTIVE_SLOT_OFFSET] = (uint8_t)thimble_running_half(server);
        thimble_write_u32(reply + THIMBLE_HELLO_REPLY_MODEL_ID_OFFSET, model->model_id);
        thimble_write_u32(reply + THIMBLE_HELLO_REPLY_MODEL_VERSION_OFFSET, model->model_version);
        memcpy(reply + THIMBLE_HELLO_REPLY_MODEL_SHA256_OFFSET, model->data + model->sha256_offset,
               THIMBLE_SHA256_BYTES);
    } else if (server->model_error) {
        reply[THIMBLE_HELLO_REPLY_MODEL_STATE_OFFSET] = THIMBLE_MODEL_STATE_BAD;
    }
    uint32_t name_bytes = 0;
    while (name_bytes < THIMBLE_SERVER_BOARD_NAME_BYTES && setup->board->name[name_bytes]) {
        name_bytes++;
    }
    memcpy(reply + THIMBLE_HELLO_REPLY_BYTES, setup->board->name, name_bytes);
    return (int32_t)(THIMBLE_HELLO_REPLY_BYTES + name_bytes);
}

static int32_t info(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    (void)payload, (void)length;
    const thimble_server_setup *setup = server->setup;
    memset(reply, 0, THIMBLE_INFO_REPLY_BYTES);
    thimble_write_u32(reply + THIMBLE_INFO_REPLY_HEAP_FREE_BYTES_OFFSET, free_memory_bytes(server));
    thimble_write_u32(reply + THIMBLE_INFO_REPLY_HEAP_BYTES_OFFSET, setup->memory_bytes);
    thimble_write_u32(reply + THIMBLE_INFO_REPLY_STORAGE_FREE_BYTES_OFFSET, thimble_store_capacity(setup->flash));
    thimble_write_u32(reply + THIMBLE_INFO_REPLY_RECEIVED_BYTES_OFFSET, server->transfer.received);
    thimble_write_u32(reply + THIMBLE_INFO_REPLY_BAD_FRAMES_OFFSET, server->bad_frames);
    thimble_write_u32(reply + THIMBLE_INFO_REPLY_UPTIME_MS_OFFSET, setup->board->uptime_ms(setup->board->context));
    reply[THIMBLE_INFO_REPLY_MODEL_ERROR_OFFSET] = (uint8_t)server->model_error;
    if (!server->has_model) {
        return THIMBLE_INFO_REPLY_BYTES;
    }
    thimble_model *model = &server->model;
    thimble_write_u32(reply + THIMBLE_INFO_REPLY_ARENA_BYTES_OFFSET, model->arena_bytes);
    memcpy(reply + THIMBLE_INFO_REPLY_SCRATCH_BYTES_OFFSET, model->data + THIMBLE_HEADER_SCRATCH_BYTES_OFFSET, 4);
    thimble_write_u16(reply + THIMBLE_INFO_REPLY_OPERATOR_COUNT_OFFSET, model->operator_count);
    reply[THIMBLE_INFO_REPLY_INPUT_COUNT_OFFSET] = (uint8_t)model->input_count;
    reply[THIMBLE_INFO_REPLY_OUTPUT_COUNT_OFFSET] = (uint8_t)model->output_count;
    /* 16 inputs and 16 outputs at most: 168 bytes may not fit the smallest payload of 128. */
    uint32_t count = model->input_count + model->output_count, at = THIMBLE_INFO_REPLY_BYTES;
    if (at + 4 * count > setup->max_payload) {
        return THIMBLE_ERROR_OUT_OF_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++, at += 4) {
        thimble_port port;
        if (i < model->input_count) {
            thimble_input(model, i, &port);
        } else {
            thimble_output(model, i - model->input_count, &port);
        }
        thimble_write_u32(reply + at, port.bytes);
    }
    return (int32_t)at;
}

static int32_t reset(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    uint32_t kind = payload[THIMBLE_RESET_REQUEST_KIND_OFFSET];
    if (kind == THIMBLE_RESET_KIND_STATE) {
        if (!server->has_model) {
            return THIMBLE_ERROR_NO_MODEL;
        }
        thimble_forget_tensors(server);
        return thimble_reset(&server->model, server->setup->memory, server->setup->memory_bytes);
    }
    if (kind != THIMBLE_RESET_KIND_SERVER) {
        return THIMBLE_ERROR_BAD_ARGUMENT;
    }
    thimble_act_abort(server, payload, length, reply);
    thimble_load_stored(server);
    return 0;
}
