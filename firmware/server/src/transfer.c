/* A new model: BEGIN, DATA, COMMIT, CONFIRM, ABORT. The stored one stays as it is until the new one has passed every
 * check, and is confirmed. */
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
    server->is_on_trial = 0;
    server->model_error = 0;
    if (stored.file_bytes > 0) {
        int32_t error = load(server, stored.file, stored.file_bytes);
        server->has_model = error >= 0;
        server->model_error = (int8_t)(error < 0 ? error : 0);
    }
    thimble_clear_memory(server);
}

static int32_t check_version(const thimble_server *server, const uint8_t *header, uint32_t flags) {
    uint32_t id = thimble_read_u32(header + THIMBLE_HEADER_MODEL_ID_OFFSET);
    uint32_t version = thimble_read_u32(header + THIMBLE_HEADER_MODEL_VERSION_OFFSET);
    int is_older = server->has_model && id != 0 && id == server->model.model_id && version < server->model.model_version;
    return is_older && !(flags & THIMBLE_BEGIN_FLAG_FORCE) ? THIMBLE_ERROR_DOWNGRADE : 0;
}

/* `signature` is there if the header says so. */
static int32_t check_signature(const thimble_server *server, const uint8_t *header, const uint8_t *sha256,
                               const uint8_t *signature) {
    const thimble_board *board = server->setup->board;
    if (!board->verify_signature) {
        return 0;
    }
    if (!(header[THIMBLE_HEADER_FLAGS_OFFSET] & THIMBLE_HEADER_FLAG_SIGNED)) {
        return THIMBLE_ERROR_UNSIGNED;
    }
    return board->verify_signature(board->context, sha256, signature) ? 0 : THIMBLE_ERROR_BAD_SIGNATURE;
}

/* Refuses what cannot fit before it is sent; the loader checks everything again, in its own order. */
static int32_t check_header(const thimble_server *server, const uint8_t *header, uint32_t length, uint32_t file_bytes,
                            uint32_t flags) {
    const thimble_server_setup *setup = server->setup;
    if (length < THIMBLE_HEADER_BYTES || file_bytes <= THIMBLE_HEADER_BYTES) {
        return THIMBLE_ERROR_TRUNCATED;
    }
    if (memcmp(header + THIMBLE_HEADER_MAGIC_OFFSET, THIMBLE_MAGIC, 4) != 0) {
        return THIMBLE_ERROR_BAD_MAGIC;
    }
    if (header[THIMBLE_HEADER_VERSION_OFFSET] != THIMBLE_FORMAT_VERSION) {
        return THIMBLE_ERROR_UNSUPPORTED_VERSION;
    }
    int is_signed = header[THIMBLE_HEADER_FLAGS_OFFSET] & THIMBLE_HEADER_FLAG_SIGNED && setup->board->verify_signature;
    if (length != THIMBLE_HEADER_BYTES + (is_signed ? THIMBLE_SIGNATURE_BYTES : 0u)) {
        return THIMBLE_ERROR_TRUNCATED;
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
    return check_version(server, header, flags);
}

static void forget_transfer(thimble_server *server) {
    memset(&server->transfer, 0, sizeof server->transfer);
}

int32_t thimble_act_abort(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    (void)payload, (void)length, (void)reply;
    forget_transfer(server);
    if (server->is_on_trial) {
        thimble_load_stored(server); /* what was not confirmed gives way to the one before */
    }
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
        transfer->flags = (uint8_t)flags;
        return thimble_reply_u32(reply, transfer->received);
    }
    thimble_act_abort(server, payload, length, reply);
    const uint8_t *header = payload + THIMBLE_BEGIN_REQUEST_BYTES;
    int32_t error = check_header(server, header, length, file_bytes, flags);
    if (error >= 0) {
        error = check_signature(server, header, sha256, header + THIMBLE_HEADER_BYTES);
    }
    if (error >= 0 && file_bytes > thimble_store_capacity(flash)) {
        error = THIMBLE_ERROR_NO_SPACE;
    }
    if (error < 0) {
        return error;
    }
    transfer->flags = (uint8_t)flags;
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

/* Verifies the transferred file where it lies, and makes it the newer one. */
static int32_t verify_and_commit(thimble_server *server) {
    thimble_transfer *transfer = &server->transfer;
    const thimble_flash *flash = server->setup->flash;
    const uint8_t *file = thimble_store_file(flash, transfer->half);
    int32_t error = thimble_store_finish(flash, transfer);
    if (error >= 0) {
        error = check_version(server, file, transfer->flags); /* BEGIN has seen a header that may have been another */
    }
    server->has_model = 0; /* a second struct of a model would be the largest part of the stack here */
    if (error >= 0) {
        error = load(server, file, transfer->file_bytes);
    }
    const uint8_t *sha256 = file + server->model.sha256_offset;
    if (error >= 0 && memcmp(sha256, transfer->sha256, THIMBLE_SHA256_BYTES) != 0) {
        error = THIMBLE_ERROR_BAD_HASH;
    }
    if (error >= 0) {
        error = check_signature(server, file, sha256, sha256 + THIMBLE_SHA256_BYTES);
    }
    if (error >= 0) {
        error = thimble_golden_test(server);
    }
    return error < 0 ? error : thimble_store_commit(flash, transfer);
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
    uint8_t had_model = server->has_model;
    int32_t error = verify_and_commit(server);
    if (error >= 0 && !had_model) {
        error = thimble_store_confirm(server->setup->flash, server->transfer.half); /* nothing to go back to */
    }
    forget_transfer(server);
    if (error < 0) {
        thimble_load_stored(server);
        return error;
    }
    server->has_model = 1;
    server->is_on_trial = had_model;
    server->model_error = 0;
    thimble_clear_memory(server);
    return thimble_reply_u32(reply, board->read_stopwatch(board->context));
}

int32_t thimble_act_confirm(thimble_server *server, const uint8_t *payload, uint32_t length, uint8_t *reply) {
    (void)payload, (void)length, (void)reply;
    if (!server->is_on_trial) {
        return THIMBLE_ERROR_BAD_STATE;
    }
    int32_t error = thimble_store_confirm(server->setup->flash, thimble_running_half(server));
    server->is_on_trial = error < 0;
    return error < 0 ? error : 0;
}

uint32_t thimble_running_half(const thimble_server *server) {
    /* Without CONFIRM it is the other one that counts. */
    return (uint32_t)thimble_store_find(server->setup->flash).half ^ server->is_on_trial;
}
