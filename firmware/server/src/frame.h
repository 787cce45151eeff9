/* Frames of docs/PROTOCOL.md, section 1, byte by byte. */
#ifndef THIMBLE_FRAME_H
#define THIMBLE_FRAME_H

#include "thimble_server.h"

enum thimble_piece { THIMBLE_PIECE_NONE, THIMBLE_PIECE_GOOD, THIMBLE_PIECE_DAMAGED };

/* Takes a byte of the line. GOOD: reader->content holds id, sequence number, payload and CRC-32, of reader->length
 * bytes in all, of which those beyond its capacity are gone. thimble_frame_clear before the next byte. */
enum thimble_piece thimble_frame_receive(thimble_frame_reader *reader, uint32_t max_payload, uint8_t byte);

void thimble_frame_clear(thimble_frame_reader *reader);

/* Sends `content` (id, sequence number, payload) of `length` bytes as a frame. */
void thimble_frame_send(const thimble_board *board, const uint8_t *content, uint32_t length);

#endif
