#include "store.h"

#include <string.h>

#include "bytes.h"
#include "write.h"

/* The record: generation, length of the file, 4 bytes not written, CRC-32 of the first two. The mark behind it is a
 * unit. Known to this file alone. */
enum { RECORD_BYTES = 16, CHECKED_BYTES = 8, LENGTH_OFFSET = 4, CRC_OFFSET = 12 };

static uint32_t half_bytes(const thimble_flash *flash) {
    return flash->length / 2;
}

static uint32_t record_bytes(const thimble_flash *flash) {
    return flash->unit_bytes > RECORD_BYTES ? flash->unit_bytes : RECORD_BYTES;
}

uint32_t thimble_store_capacity(const thimble_flash *flash) {
    return half_bytes(flash) - record_bytes(flash) - flash->unit_bytes;
}

const uint8_t *thimble_store_file(const thimble_flash *flash, uint32_t half) {
    return flash->bytes + half * half_bytes(flash);
}

/* The file in one half, or one of 0 bytes. */
static thimble_stored read_half(const thimble_flash *flash, uint32_t half) {
    thimble_stored found = {thimble_store_file(flash, half), 0, 0, (uint8_t)half, 0};
    const uint8_t *record = found.file + thimble_store_capacity(flash);
    uint32_t length = thimble_read_u32(record + LENGTH_OFFSET);
    if (thimble_crc32(0, record, CHECKED_BYTES) == thimble_read_u32(record + CRC_OFFSET) &&
        length <= thimble_store_capacity(flash)) {
        found.file_bytes = length;
        found.generation = thimble_read_u32(record);
        found.is_confirmed = (uint8_t)thimble_is_zero(record + record_bytes(flash), 0, flash->unit_bytes);
    }
    return found;
}

thimble_stored thimble_store_find(const thimble_flash *flash) {
    thimble_stored newer = read_half(flash, 1), other = read_half(flash, 0);
    if (other.file_bytes > 0 &&
        (newer.file_bytes == 0 || (int32_t)(other.generation - newer.generation) > 0)) {
        thimble_stored swapped = newer;
        newer = other;
        other = swapped;
    }
    if (newer.is_confirmed || other.file_bytes == 0) {
        return newer;
    }
    other.generation = newer.generation;
    return other;
}

int32_t thimble_store_erase(const thimble_flash *flash, const thimble_transfer *transfer) {
    uint32_t start = transfer->half * half_bytes(flash), record_page = half_bytes(flash) - flash->page_bytes;
    /* The record goes first: a half that is partly erased must not be taken for a file. */
    int32_t error = flash->erase(flash->context, start + record_page);
    for (uint32_t page = 0; page < record_page && page < transfer->file_bytes && error >= 0; page += flash->page_bytes) {
        error = flash->erase(flash->context, start + page);
    }
    return error;
}

static int32_t program(const thimble_flash *flash, const thimble_transfer *transfer, uint32_t offset,
                       const uint8_t *data, uint32_t length) {
    return flash->program(flash->context, transfer->half * half_bytes(flash) + offset, data, length);
}

int32_t thimble_store_append(const thimble_flash *flash, thimble_transfer *transfer, const uint8_t *data,
                             uint32_t length) {
    int32_t error = 0;
    while (length > 0 && error >= 0) {
        uint32_t pending = transfer->pending_bytes, at = transfer->received - pending, taken;
        if (pending == 0 && length >= flash->unit_bytes) {
            taken = length & ~(flash->unit_bytes - 1);
            error = program(flash, transfer, at, data, taken);
        } else {
            taken = flash->unit_bytes - pending;
            taken = taken < length ? taken : length;
            memcpy(transfer->pending + pending, data, taken);
            transfer->pending_bytes = (uint8_t)(pending + taken);
            if (transfer->pending_bytes == flash->unit_bytes) {
                error = program(flash, transfer, at, transfer->pending, flash->unit_bytes);
                transfer->pending_bytes = 0;
            }
        }
        transfer->received += taken;
        data += taken;
        length -= taken;
    }
    return error;
}

int32_t thimble_store_finish(const thimble_flash *flash, thimble_transfer *transfer) {
    uint32_t pending = transfer->pending_bytes;
    if (pending == 0) {
        return 0;
    }
    memset(transfer->pending + pending, 0xFF, flash->unit_bytes - pending);
    transfer->pending_bytes = 0;
    return program(flash, transfer, transfer->received - pending, transfer->pending, flash->unit_bytes);
}

static int32_t program_and_compare(const thimble_flash *flash, uint32_t half, uint32_t at, const uint8_t *data,
                                   uint32_t length) {
    int32_t error = flash->program(flash->context, half * half_bytes(flash) + at, data, length);
    if (error < 0) {
        return error;
    }
    /* Everything else in flash has been checked by the loader. */
    return memcmp(thimble_store_file(flash, half) + at, data, length) == 0 ? 0 : THIMBLE_ERROR_WRITE_FAILED;
}

int32_t thimble_store_commit(const thimble_flash *flash, const thimble_transfer *transfer) {
    uint8_t record[THIMBLE_SERVER_LARGEST_UNIT_BYTES];
    memset(record, 0xFF, sizeof record);
    thimble_write_u32(record, thimble_store_find(flash).generation + 1);
    thimble_write_u32(record + LENGTH_OFFSET, transfer->file_bytes);
    thimble_write_u32(record + CRC_OFFSET, thimble_crc32(0, record, CHECKED_BYTES));
    return program_and_compare(flash, transfer->half, thimble_store_capacity(flash), record, record_bytes(flash));
}

int32_t thimble_store_confirm(const thimble_flash *flash, uint32_t half) {
    uint8_t mark[THIMBLE_SERVER_LARGEST_UNIT_BYTES];
    memset(mark, 0, sizeof mark);
    uint32_t at = thimble_store_capacity(flash) + record_bytes(flash);
    return program_and_compare(flash, half, at, mark, flash->unit_bytes);
}
