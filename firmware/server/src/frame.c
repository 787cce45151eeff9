/* Escapes and checksums are undone and done while bytes pass, so that a frame needs no second buffer. */
#include "frame.h"

#include "bytes.h"

static int is_escaped(uint8_t byte) {
    return byte == THIMBLE_WIRE_INTERRUPT || byte == THIMBLE_WIRE_DELIMITER || byte == THIMBLE_WIRE_RETURN ||
           byte == THIMBLE_WIRE_ESCAPE;
}

static void take(thimble_frame_reader *reader, uint8_t byte) {
    reader->crc = thimble_crc32(reader->crc, &byte, 1);
    if (reader->length < reader->capacity) {
        reader->content[reader->length] = byte;
    }
    reader->length++;
}

void thimble_frame_clear(thimble_frame_reader *reader) {
    reader->length = 0;
    reader->wire_bytes = 0;
    reader->crc = 0;
    reader->escape = 0;
}

enum thimble_piece thimble_frame_receive(thimble_frame_reader *reader, uint32_t max_payload, uint8_t byte) {
    uint32_t limit = 2 * (THIMBLE_WIRE_OVERHEAD_BYTES + max_payload);
    if (byte == THIMBLE_WIRE_DELIMITER) {
        if (reader->wire_bytes == 0) {
            return THIMBLE_PIECE_NONE;
        }
        if (reader->escape) {
            take(reader, THIMBLE_WIRE_ESCAPE);
        }
        return reader->wire_bytes <= limit && reader->length >= THIMBLE_WIRE_OVERHEAD_BYTES &&
                       reader->crc == THIMBLE_WIRE_CRC_RESIDUE
                   ? THIMBLE_PIECE_GOOD
                   : THIMBLE_PIECE_DAMAGED;
    }
    if (reader->wire_bytes > limit) {
        return THIMBLE_PIECE_NONE; /* dropped up to its end */
    }
    reader->wire_bytes++;
    if (byte == THIMBLE_WIRE_RETURN) {
        return THIMBLE_PIECE_NONE;
    }
    if (reader->escape) {
        reader->escape = 0;
        if (is_escaped(byte ^ THIMBLE_WIRE_ESCAPE_XOR)) {
            take(reader, byte ^ THIMBLE_WIRE_ESCAPE_XOR);
            return THIMBLE_PIECE_NONE;
        }
        take(reader, THIMBLE_WIRE_ESCAPE);
    }
    if (byte == THIMBLE_WIRE_ESCAPE) {
        reader->escape = 1;
    } else {
        take(reader, byte);
    }
    return THIMBLE_PIECE_NONE;
}

static void send_escaped(const thimble_board *board, uint8_t byte) {
    if (is_escaped(byte)) {
        board->send(board->context, THIMBLE_WIRE_ESCAPE);
        byte ^= THIMBLE_WIRE_ESCAPE_XOR;
    }
    board->send(board->context, byte);
}

void thimble_frame_send(const thimble_board *board, const uint8_t *content, uint32_t length) {
    uint32_t crc = thimble_crc32(0, content, length);
    board->send(board->context, THIMBLE_WIRE_DELIMITER);
    for (uint32_t i = 0; i < length; i++) {
        send_escaped(board, content[i]);
    }
    for (uint32_t shift = 0; shift < 32; shift += 8) {
        send_escaped(board, (uint8_t)(crc >> shift));
    }
    board->send(board->context, THIMBLE_WIRE_DELIMITER);
}
