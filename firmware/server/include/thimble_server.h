/* The device server of docs/PROTOCOL.md: bytes in, bytes out, and one model kept in flash.
 *
 * It knows no port, no clock and no flash chip: those come as the two structs of functions below. Nothing is
 * allocated; the caller gives the server struct, two buffers, and the memory that models run in.
 *
 *     static uint32_t memory[4096], request[THIMBLE_SERVER_BUFFER_BYTES(256) / 4], reply[...];
 *     thimble_server_start(&server, &setup);
 *     for (;;) thimble_server_receive(&server, uart_read());
 */
#ifndef THIMBLE_SERVER_H
#define THIMBLE_SERVER_H

#include "thimble_registry.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Flash that models live in. It is memory-mapped: reading is a pointer. The region is halved; a new model is written
 * into the half that the stored one does not lie in. */
typedef struct {
    const uint8_t *bytes; /* start of the region, aligned to 4 */
    uint32_t length;      /* of the region, a multiple of two pages */
    uint32_t page_bytes;  /* what one erase sets to 0xFF, 64 at least */
    uint32_t unit_bytes;  /* offset and length of a program are multiples of it: a power of two, 4 to 32 */
    /* Both give 0, or a negative error of thimble_format.h. Programming only ever clears bits, and `data` may be at
     * any address. */
    int32_t (*erase)(void *context, uint32_t offset);
    int32_t (*program)(void *context, uint32_t offset, const uint8_t *data, uint32_t length);
    void *context;
} thimble_flash;

/* What the server asks of a board. */
typedef struct {
    const char *name; /* for people, UTF-8, at most 56 bytes */
    void (*send)(void *context, uint8_t byte);
    void (*start_stopwatch)(void *context);
    /* Since it was started, in microseconds, or in instructions with THIMBLE_CAPABILITY_INSTRUCTIONS. */
    uint32_t (*read_stopwatch)(void *context);
    uint32_t (*uptime_ms)(void *context);
    void (*set_trigger)(void *context, int on); /* for a power meter: on while a model runs; NULL without a pin */
    /* 1 if `signature` (64 bytes) is the Ed25519 signature of `sha256` (32 bytes) by the key that the board was given, else
     * 0. NULL without a key: then models need no signature. With a key, payloads have 144 bytes at least. */
    int32_t (*verify_signature)(void *context, const uint8_t *sha256, const uint8_t *signature);
    uint32_t capabilities; /* enum thimble_capability, beside those that every server has */
    void *context;
} thimble_board;

#define THIMBLE_SERVER_BOARD_NAME_BYTES 56
#define THIMBLE_SERVER_SESSIONS 4
#define THIMBLE_SERVER_LARGEST_UNIT_BYTES 32
/* Of each of the two buffers: id and sequence number at an offset of 2, so that a payload is aligned; then the CRC. */
#define THIMBLE_SERVER_BUFFER_BYTES(max_payload) ((max_payload) + 8)

typedef struct {
    const thimble_board *board;
    const thimble_flash *flash;
    const thimble_registry *registry;
    void *memory; /* of models: tensors and scratch; aligned to 4 */
    uint32_t memory_bytes;
    void *request_buffer; /* THIMBLE_SERVER_BUFFER_BYTES(max_payload) each, aligned to 4 */
    void *reply_buffer;
    uint32_t max_payload; /* 128 to 4096 */
} thimble_server_setup;

/* A piece of a line as it arrives; see src/frame.c. */
typedef struct {
    uint8_t *content;
    uint32_t capacity;   /* bytes that `content` has room for; more are only counted */
    uint32_t length;     /* of the content so far */
    uint32_t wire_bytes; /* of the piece so far, up to one more than a frame may have */
    uint32_t crc;
    uint8_t escape; /* the byte before was an escape */
} thimble_frame_reader;

/* A file on its way into the unused half. */
typedef struct {
    uint8_t is_open;
    uint8_t half;
    uint8_t flags;         /* of BEGIN */
    uint8_t pending_bytes; /* that do not fill a unit yet */
    uint32_t file_bytes;
    uint32_t received;
    uint8_t sha256[THIMBLE_SHA256_BYTES];
    uint8_t pending[THIMBLE_SERVER_LARGEST_UNIT_BYTES];
} thimble_transfer;

typedef struct {
    const thimble_server_setup *setup;
    thimble_frame_reader reader;
    thimble_model model;
    thimble_transfer transfer;
    uint32_t filled[THIMBLE_MAX_MODEL_INPUTS]; /* bytes of each input that have been set */
    uint32_t sessions[THIMBLE_SERVER_SESSIONS]; /* the newest first */
    uint32_t bad_frames;
    uint16_t reply_bytes; /* of the remembered reply's payload */
    uint8_t session_count;
    uint8_t sequence;
    uint8_t request_message; /* id of the request that the remembered reply answers */
    uint8_t has_reply;
    uint8_t has_complained;
    uint8_t has_model;
    uint8_t is_on_trial; /* the model is not confirmed yet, and there is one to go back to */
    uint8_t has_output;
    uint8_t has_profile;
    int8_t model_error; /* of a stored file that did not load */
} thimble_server;

/* Loads the stored model. `setup` and what it points to must stay. */
void thimble_server_start(thimble_server *server, const thimble_server_setup *setup);

/* Takes one byte from the line; sends the reply when it ends a request, after acting on it. */
void thimble_server_receive(thimble_server *server, uint8_t byte);

#ifdef __cplusplus
}
#endif

#endif
