/* The device server on a host for tests/c_server.py, which compiles it with sanitizers: commands come on stdin, results
 * go to stdout. Its flash is a file, which a killed process leaves as it was.
 *
 *     host_server FLASH FLASH_BYTES PAGE_BYTES UNIT_BYTES MAX_PAYLOAD MEMORY_BYTES
 *
 * A command is a letter, a u32 and that many bytes: 'b' bytes from the line; 'e' erase the page at the offset (u32);
 * 'p' offset (u32) and data to program; 'f' number of bytes (u32) after which programming fails; 'n' count of bad
 * frames; 's' content to send as a frame; 'd' bytes to cut into frames of the largest payload, apart from the server;
 * 't' count of times that the trigger was set on; 'q' no trigger pin is there;
 * 'c' operations of flash (u32: pages erased, units programmed) before the power fails within the next one, and a seed
 * (u32) for what that one leaves; 'o' count of operations since then; 'r' power on again; 'k' a key is provisioned;
 * 'm' power on again as a device for MLPerf Tiny, in its mode energy if the u32 is 1: that shows the edges of the pin.
 * A result is a u32 and that many bytes: what was sent; one u32, the code of erase and program or the count; or for
 * each piece of 'd' its enum thimble_piece (u8), a u32 and that many bytes of content without CRC-32. With a key, the
 * number 2^32 - 1, a SHA-256 and a signature may come before a result: the caller answers one byte, 1 if they fit. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bytes.h"
#include "emulated_flash.h"
#include "frame.h"
#include "thimble_mlperf.h"
#include "write.h"

static uint8_t *sent;
static uint32_t sent_bytes, sent_room;
static uint32_t bytes_until_failure = UINT32_MAX;
static thimble_flash emulated; /* `flash` below fails on demand, then asks this one */
static uint32_t operations, operations_until_cut = UINT32_MAX, cut_seed;
static int is_off;
static jmp_buf power_cut;
static int has_mlperf, shows_edges;
static thimble_mlperf mlperf;
static struct timespec started;

static void die(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(2);
}

static void *exactly(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) {
        die("out of memory");
    }
    return memory;
}

static void send_byte(void *context, uint8_t byte) {
    (void)context;
    if (sent_bytes == sent_room) {
        sent_room = 2 * sent_room + 64;
        sent = realloc(sent, sent_room);
        if (!sent) {
            die("out of memory");
        }
    }
    sent[sent_bytes++] = byte;
}

/* The stopwatch counts nanoseconds: small networks take less than a microsecond here. */
static uint32_t nanoseconds(void *context) {
    (void)context;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((now.tv_sec - started.tv_sec) * 1000000000 + now.tv_nsec - started.tv_nsec);
}

static void start_stopwatch(void *context) {
    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &started);
}

static uint32_t uptime_ms(void *context) {
    (void)context;
    return (uint32_t)(clock() / (CLOCKS_PER_SEC / 1000));
}

static uint32_t windows;
static uint32_t clock_us(void *context) {
    (void)context;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)(now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

static void set_trigger(void *context, int on) {
    int *is_on = context;
    if (*is_on == on) {
        die("the trigger is set twice");
    }
    *is_on = on;
    windows += on ? 1 : 0;
    for (const char *edge = on ? "<high>" : "<low>"; shows_edges && *edge; edge++) {
        send_byte(NULL, (uint8_t)*edge);
    }
}

static int trigger_is_on;
static thimble_board board = {
    "host", send_byte, start_stopwatch, nanoseconds, uptime_ms, set_trigger, NULL, 0, &trigger_is_on,
};

static uint32_t random_bits(void) {
    cut_seed ^= cut_seed << 13;
    cut_seed ^= cut_seed >> 17;
    return cut_seed ^= cut_seed << 5;
}

/* Counts an operation. In the one in which the power fails, each byte becomes what it was, what it was to be, or has some
 * of the bits changed that were to change: `becomes` says what a byte was to be. Erasing and programming go through here
 * alike. Does not return then. */
static void count_operation(uint32_t offset, const uint8_t *becomes, uint32_t length) {
    if (operations++ != operations_until_cut) {
        return;
    }
    uint8_t *bytes = (uint8_t *)emulated.bytes + offset;
    uint32_t kind = random_bits() % 4, done = random_bits() % (length + 1);
    for (uint32_t i = 0; i < length; i++) {
        uint8_t to = becomes ? becomes[i] : 0xFF;
        uint8_t changed = kind == 0   ? 0
                          : kind == 1 ? 0xFF
                          : kind == 2 ? (uint8_t)(i < done ? 0xFF : 0)
                                      : (uint8_t)random_bits();
        bytes[i] = (uint8_t)((bytes[i] & ~changed) | (to & changed));
    }
    is_off = 1;
    longjmp(power_cut, 1);
}

static int32_t erase(void *context, uint32_t offset) {
    (void)context;
    count_operation(offset, NULL, emulated.page_bytes);
    return emulated.erase(emulated.context, offset);
}

static int32_t program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    (void)context;
    if (length > bytes_until_failure) {
        return THIMBLE_ERROR_WRITE_FAILED;
    }
    bytes_until_failure -= bytes_until_failure == UINT32_MAX ? 0 : length;
    int32_t error = 0;
    for (uint32_t at = 0; at < length && error == 0; at += emulated.unit_bytes) {
        count_operation(offset + at, data + at, emulated.unit_bytes);
        error = emulated.program(emulated.context, offset + at, data + at, emulated.unit_bytes);
    }
    if (error < 0) {
        die("the server broke a rule of flash");
    }
    return error;
}

static int32_t ask_for_verification(void *context, const uint8_t *sha256, const uint8_t *signature) {
    (void)context;
    uint8_t head[4];
    thimble_write_u32(head, UINT32_MAX);
    fwrite(head, 1, sizeof head, stdout);
    fwrite(sha256, 1, THIMBLE_SHA256_BYTES, stdout);
    fwrite(signature, 1, THIMBLE_SIGNATURE_BYTES, stdout);
    fflush(stdout);
    return getchar() == 1;
}

static void answer(const void *bytes, uint32_t length) {
    uint8_t head[4];
    thimble_write_u32(head, length);
    fwrite(head, 1, 4, stdout);
    fwrite(bytes, 1, length, stdout);
    fflush(stdout);
}

static void answer_u32(uint32_t value) {
    uint8_t bytes[4];
    thimble_write_u32(bytes, value);
    answer(bytes, 4);
}

static void send_all(const void *bytes, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) {
        send_byte(NULL, ((const uint8_t *)bytes)[i]);
    }
}

static void cut_into_frames(const uint8_t *data, uint32_t length) {
    uint32_t room = THIMBLE_WIRE_OVERHEAD_BYTES + THIMBLE_WIRE_MAX_PAYLOAD_BYTES;
    thimble_frame_reader reader = {exactly(room), room, 0, 0, 0, 0};
    for (uint32_t i = 0; i < length; i++) {
        enum thimble_piece piece = thimble_frame_receive(&reader, THIMBLE_WIRE_MAX_PAYLOAD_BYTES, data[i]);
        if (piece != THIMBLE_PIECE_NONE) {
            uint8_t head[5] = {(uint8_t)piece};
            uint32_t content_bytes = piece == THIMBLE_PIECE_GOOD ? reader.length - 4 : 0;
            thimble_write_u32(head + 1, content_bytes);
            send_all(head, sizeof head);
            send_all(reader.content, content_bytes);
            thimble_frame_clear(&reader);
        }
    }
    free(reader.content);
}

static void receive(thimble_server *server, const uint8_t *data, uint32_t length) {
    if (!is_off && setjmp(power_cut) == 0) {
        for (uint32_t i = 0; i < length; i++) {
            if (has_mlperf) {
                thimble_mlperf_receive(&mlperf, data[i]);
            } else {
                thimble_server_receive(server, data[i]);
            }
        }
    }
    answer(sent ? sent : data, sent_bytes);
}

static void power_on(thimble_server *server) {
    const thimble_server_setup *setup = server->setup;
    *(int *)setup->board->context = 0; /* the trigger */
    has_mlperf = shows_edges = 0;
    operations_until_cut = UINT32_MAX;
    is_off = 0;
    memset(setup->memory, 0xA5, setup->memory_bytes);
    thimble_server_start(server, setup);
}

static void obey(thimble_server *server, int command, const uint8_t *data, uint32_t length) {
    sent_bytes = 0;
    if (command == 's') {
        thimble_frame_send(server->setup->board, data, length);
        answer(sent, sent_bytes);
    } else if (command == 'd') {
        cut_into_frames(data, length);
        answer(sent ? sent : data, sent_bytes);
    } else if (command == 'b') {
        receive(server, data, length);
    } else if (command == 'n') {
        answer_u32(server->bad_frames);
    } else if (command == 't') {
        answer_u32(windows);
    } else if (command == 'q') {
        board.set_trigger = NULL;
        answer_u32(0);
    } else if (command == 'o') {
        answer_u32(operations);
    } else if (command == 'r') {
        power_on(server);
        answer_u32(0);
    } else if (command == 'k') {
        board.verify_signature = ask_for_verification;
        answer_u32(0);
    } else if (length < 4) {
        die("a command is too short");
    } else if (command == 'm') {
        power_on(server);
        has_mlperf = 1;
        shows_edges = (int)thimble_read_u32(data);
        thimble_mlperf_start(&mlperf, server, clock_us, shows_edges);
        answer(sent, sent_bytes);
    } else if (command == 'f') {
        bytes_until_failure = thimble_read_u32(data);
        answer_u32(0);
    } else if (command == 'c' && length == 8) {
        operations = 0;
        operations_until_cut = thimble_read_u32(data);
        cut_seed = thimble_read_u32(data + 4);
        answer_u32(0);
    } else if (command == 'e') {
        answer_u32((uint32_t)emulated.erase(emulated.context, thimble_read_u32(data)));
    } else if (command == 'p') {
        answer_u32((uint32_t)emulated.program(emulated.context, thimble_read_u32(data), data + 4, length - 4));
    } else {
        die("no such command");
    }
}

int main(int argc, char **argv) {
    uint32_t numbers[5];
    for (int i = 0; i < 5; i++) {
        numbers[i] = argc == 7 ? (uint32_t)strtoul(argv[2 + i], NULL, 0) : 0;
    }
    int file = argc == 7 ? open(argv[1], O_RDWR) : -1;
    void *memory = file < 0 ? MAP_FAILED : mmap(NULL, numbers[0], PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
        die("usage: host_server FLASH FLASH_BYTES PAGE_BYTES UNIT_BYTES MAX_PAYLOAD MEMORY_BYTES");
    }
    thimble_emulate_flash(&emulated, memory, numbers[0], numbers[1], numbers[2]);
    thimble_flash flash = emulated;
    flash.erase = erase;
    flash.program = program;
    size_t buffer_bytes = THIMBLE_SERVER_BUFFER_BYTES(numbers[3]);
    thimble_server_setup setup = {
        &board, &flash, &thimble_registry_all, exactly(numbers[4]), numbers[4], exactly(buffer_bytes),
        exactly(buffer_bytes), numbers[3],
    };
    thimble_server server;
    thimble_server_start(&server, &setup);
    uint8_t head[5];
    while (fread(head, 1, 5, stdin) == 5) {
        uint32_t length = thimble_read_u32(head + 1);
        uint8_t *data = exactly(length);
        if (fread(data, 1, length, stdin) != length) {
            die("a command ends early");
        }
        obey(&server, head[0], data, length);
        free(data);
    }
    free(setup.memory);
    free(setup.request_buffer);
    free(setup.reply_buffer);
    free(sent);
    return 0;
}
