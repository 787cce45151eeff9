/* The device's side of MLPerf Tiny's text protocol (docs/MLPERF.md), on the line that the device server has.
 *
 * Commands are text and end with "%"; frames of docs/PROTOCOL.md are told from them by how they begin and go on to the
 * server, so that models are deployed on the same line. The command is collected in the server's request buffer, and the
 * input in the memory that the model leaves.
 *
 *     thimble_server_start(&server, &setup);
 *     thimble_mlperf_start(&mlperf, &server, clock_us, 0);
 *     for (;;) thimble_mlperf_receive(&mlperf, uart_read());
 */
#ifndef THIMBLE_MLPERF_H
#define THIMBLE_MLPERF_H

#include "thimble_server.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    thimble_server *server;
    uint32_t (*clock_us)(void *context); /* of the board's context; runs on and wraps at 32 bits */
    uint32_t announced;                  /* bytes of the input, by `db load`; 0 before it */
    uint32_t received;                   /* of them so far */
    uint8_t is_energy;                   /* timestamps are pulses on the trigger pin, not text */
    uint8_t pin_is_up;
    uint8_t place; /* in the line: in a command, in a frame, or behind a delimiter */
    uint8_t length; /* of the command so far, up to one more than the longest */
    uint8_t has_results;
} thimble_mlperf;

/* Says that the device is ready. The server must have been started. */
void thimble_mlperf_start(thimble_mlperf *mlperf, thimble_server *server, uint32_t (*clock_us)(void *context),
                          int is_energy);

/* Takes one byte from the line, in place of thimble_server_receive. */
void thimble_mlperf_receive(thimble_mlperf *mlperf, uint8_t byte);

#ifdef __cplusplus
}
#endif

#endif
