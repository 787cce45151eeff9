/* A new model: BEGIN, DATA, COMMIT, ABORT. The stored one stays as it is until the new one has passed every check. */
#include <string.h>

#include "server.h"

void thimble_forget_tensors(thimble_server *server) {
    memset(server->filled, 0, sizeof server->filled);
    server->has_output = 0;
    server->has_profile = 0;
}

void thimble_clear_memory(thimble_server *server) {
    thimble_forget_tensors(server);
    if (server->has_model) {
        memset(server->setup->memory, 0, server->model.memory_bytes);
    }
}

/* Checks a file in flash; on success it can run in the server's memory. */
static int32_t load(thimble_server *server, const uint8_t *file, uint32_t length) {
    int32_t error = thimble_load(&server->model, server->setup->registry, file, length);
    return error >= 0 && server->model.memory_bytes > server->setup->memory_bytes ? THIMBLE_ERROR_OUT_OF_MEMORY : error;
}

void thimble_load_stored(thimble_server *server) {
    thimble_stored stored = thimble_store_find(server->setup->flash);
    server->has_model = 0;
    server->model_error = 0;
    if (stored.file_bytes > 0) {
        int32_t error = load(server, stored.file, stored.file_bytes);
        server->has_model = error >= 0;
        server->model_error = (int8_t)(error < 0 ? error : 0);
    }
    thimble_clear_memory(server);
}

/* Refuses what cannot fit before it is sent; the loader checks everything again, in its own order. */
static int32_t check_header(const thimble_server *server, const uint8_t *header, uint32_t length, uint32_t file_bytes,
                            uint32_t flags) {
    const thimble_server_setup *setup = server->setup;
    if (length != THIMBLE_HEADER_BYTES || file_bytes <= THIMBLE_HEADER_BYTES) {
        return THIMBLE_ERROR_TRUNCATED;
    }
    if (memcmp(header + THIMBLE_HEADER_MAGIC_OFFSET, THIMBLE_MAGIC, 4) != 0) {
        return THIMBLE_ERROR_BAD_MAGIC;
    }
    if (header[THIMBLE_HEADER_VERSION_OFFSET] != THIMBLE_FORMAT_VERSION) {
        return THIMBLE_ERROR_UNSUPPORTED_VERSION;
    }
    if (thimble_read_u32(header + THIMBLE_HEADER_REQUIRED_FEATURES_OFFSET) & ~setup->registry->features) {
        return THIMBLE_ERROR_UNSUPPORTED_FEATURE;
    }
    if (thimble_read_u32(header + THIMBLE_HEADER_REQUIRED_OPERATORS_OFFSET) & ~setup->registry->operators) {
        return THIMBLE_ERROR_UNSUPPORTED_OPERATOR;
    }
    uint32_t arena = thimble_read_u32(header + THIMBLE_HEADER_ARENA_BYTES_OFFSET);
    uint32_t scratch = thimble_read_u32(header + THIMBLE_HEADER_SCRATCH_BYTES_OFFSET);
    if (arena >= setup->memory_bytes || scratch >= setup->memory_bytes - arena) {
        return THIMBLE_ERROR_OUT_OF_MEMORY;
    }
    uint32_t id = thimble_read_u32(header + THIMBLE_HEADER_MODEL_ID_OFFSET);
    uint32_t version = thimble_read_u32(header + THIMBLE_HEADER_MODEL_VERSION_OFFSET);
    if (server->has_model && id != 0 && id == server->model.model_id && version < server->model.model_version &&
        !(flags & THIMBLE_BEGIN_FLAG_FORCE)) {
        return THIMBLE_ERROR_DOWNGRADE;
    }
    return file_bytes > thimble_store_capacity(setup->flash) ? THIMBLE_ERROR_NO_SPACE : 0;
}

static void forget_transfer(thimble_server *server) {
    memset(&server->transfer, 0, sizeof server->transfer);
}

int32_t thimble_act_abort(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    (void)payload, (void)length, (void)reply;
    forget_transfer(server);
    return 0;
}

int32_t thimble_act_begin(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    thimble_transfer *transfer = &server->transfer;
    const thimble_flash *flash = server->setup->flash;
    uint32_t file_bytes = thimble_read_u32(payload + THIMBLE_BEGIN_REQUEST_FILE_BYTES_OFFSET);
    const uint8_t *sha256 = payload + THIMBLE_BEGIN_REQUEST_SHA256_OFFSET;
    uint32_t flags = payload[THIMBLE_BEGIN_REQUEST_FLAGS_OFFSET];
    if (flags & ~(uint32_t)THIMBLE_BEGIN_FLAG_FORCE) {
        return THIMBLE_ERROR_RESERVED_BITS;
    }
    if (transfer->is_open && transfer->file_bytes == file_bytes &&
        memcmp(transfer->sha256, sha256, THIMBLE_SHA256_BYTES) == 0) {
        return thimble_reply_u32(reply, transfer->received);
    }
    forget_transfer(server);
    int32_t error = check_header(server, payload + THIMBLE_BEGIN_REQUEST_BYTES, length, file_bytes, flags);
    if (error < 0) {
        return error;
    }
    transfer->half = (uint8_t)!thimble_store_find(flash).half;
    transfer->file_bytes = file_bytes;
    memcpy(transfer->sha256, sha256, THIMBLE_SHA256_BYTES);
    error = thimble_store_erase(flash, transfer);
    transfer->is_open = error >= 0;
    return error < 0 ? error : thimble_reply_u32(reply, 0);
}

int32_t thimble_act_data(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    thimble_transfer *transfer = &server->transfer;
    if (!transfer->is_open) {
        return THIMBLE_ERROR_BAD_STATE;
    }
    /* A piece at any other place is left alone: the reply says which one is wanted. */
    if (thimble_read_u32(payload + THIMBLE_DATA_REQUEST_OFFSET_OFFSET) == transfer->received) {
        if (length > transfer->file_bytes - transfer->received) {
            return THIMBLE_ERROR_BAD_OFFSET;
        }
        const uint8_t *data = payload + THIMBLE_DATA_REQUEST_BYTES;
        int32_t error = thimble_store_append(server->setup->flash, transfer, data, length);
        if (error < 0) {
            forget_transfer(server);
            return error;
        }
    }
    return thimble_reply_u32(reply, transfer->received);
}

/* Verifies the transferred file where it lies, and makes it the stored one. */
static int32_t verify_and_commit(thimble_server *server) {
    thimble_transfer *transfer = &server->transfer;
    const thimble_flash *flash = server->setup->flash;
    int32_t error = thimble_store_finish(flash, transfer);
    if (error >= 0) {
        error = load(server, thimble_store_file(flash, transfer->half), transfer->file_bytes);
    }
    const thimble_model *model = &server->model;
    if (error >= 0 && memcmp(model->data + model->sha256_offset, transfer->sha256, THIMBLE_SHA256_BYTES) != 0) {
        error = THIMBLE_ERROR_BAD_HASH;
    }
    return error < 0 ? error : thimble_store_commit(flash, transfer, thimble_store_find(flash).generation + 1);
}

int32_t thimble_act_commit(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    (void)payload, (void)length;
    const thimble_board *board = server->setup->board;
    if (!server->transfer.is_open) {
        return THIMBLE_ERROR_BAD_STATE;
    }
    if (server->transfer.received < server->transfer.file_bytes) {
        return THIMBLE_ERROR_TRUNCATED;
    }
    board->start_stopwatch(board->context);
    server->has_model = 0; /* a second struct of a model would be the largest part of the stack here */
    int32_t error = verify_and_commit(server);
    forget_transfer(server);
    if (error < 0) {
        thimble_load_stored(server);
        return error;
    }
    server->has_model = 1;
    server->model_error = 0;
    thimble_clear_memory(server);
    return thimble_reply_u32(reply, board->read_stopwatch(board->context));
}
