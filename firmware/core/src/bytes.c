#include "bytes.h"

void thimble_fail(thimble_cursor *cursor, int32_t negated) {
    if (cursor->error == 0) {
        cursor->error = -negated;
    }
}

uint32_t thimble_read_u(thimble_cursor *cursor) {
    const thimble_model *model = cursor->model;
    uint32_t value = 0, at = cursor->at, shift = 0, byte;
    if (cursor->error) {
        return 0;
    }
    do {
        if (at >= model->program_end) {
            thimble_expect(cursor, 0, THIMBLE_ERROR_TRUNCATED);
            return 0;
        }
        byte = model->data[at++];
        if (shift != 0 && (byte == 0 || (shift == 28 && byte > 15))) {
            thimble_expect(cursor, 0, THIMBLE_ERROR_BAD_VARINT);
            return 0;
        }
        value |= (byte & 127) << shift;
        shift += 7;
    } while (byte > 127);
    cursor->at = at;
    return value;
}

int32_t thimble_read_s(thimble_cursor *cursor) {
    uint32_t value = thimble_read_u(cursor);
    return (int32_t)(value >> 1 ^ (0u - (value & 1)));
}

uint32_t thimble_read_below(thimble_cursor *cursor, uint32_t end, int32_t error) {
    uint32_t value = thimble_read_u(cursor);
    thimble_expect(cursor, value < end, error);
    return cursor->error ? 0 : value;
}

uint32_t thimble_read_count(thimble_cursor *cursor, uint32_t limit) {
    return thimble_read_below(cursor, limit + 1, THIMBLE_ERROR_LIMIT_EXCEEDED);
}

uint32_t thimble_read_scale(thimble_cursor *cursor) {
    thimble_expect(cursor, cursor->model->program_end - cursor->at >= 4, THIMBLE_ERROR_TRUNCATED);
    if (cursor->error) {
        return 0;
    }
    cursor->at += 4;
    return thimble_read_u32(cursor->model->data + cursor->at - 4);
}

uint32_t thimble_crc32(uint32_t crc, const uint8_t *data, uint32_t length) {
    /* Entry n is the CRC of the nibble n: 64 bytes instead of a table's 1024. */
    static const uint32_t nibbles[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    };
    crc = ~crc;
    for (uint32_t i = 0; i < length; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ nibbles[crc & 15];
        crc = crc >> 4 ^ nibbles[crc & 15];
    }
    return ~crc;
}

int thimble_is_zero(const uint8_t *data, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        if (data[i] != 0) {
            return 0;
        }
    }
    return 1;
}
