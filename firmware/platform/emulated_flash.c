#include "emulated_flash.h"

#include <string.h>

static int is_inside(const thimble_flash *flash, uint32_t offset, uint32_t length, uint32_t step) {
    return offset % step == 0 && length % step == 0 && offset <= flash->length && length <= flash->length - offset;
}

static int32_t erase(void *context, uint32_t offset) {
    const thimble_flash *flash = context;
    if (!is_inside(flash, offset, flash->page_bytes, flash->page_bytes)) {
        return THIMBLE_ERROR_WRITE_FAILED;
    }
    memset((uint8_t *)flash->bytes + offset, 0xFF, flash->page_bytes);
    return 0;
}

static int32_t program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    const thimble_flash *flash = context;
    if (!is_inside(flash, offset, length, flash->unit_bytes)) {
        return THIMBLE_ERROR_WRITE_FAILED;
    }
    for (uint32_t i = 0; i < length; i++) {
        if (data[i] & ~flash->bytes[offset + i]) {
            return THIMBLE_ERROR_WRITE_FAILED;
        }
    }
    memcpy((uint8_t *)flash->bytes + offset, data, length);
    return 0;
}

void thimble_emulate_flash(thimble_flash *flash, void *memory, uint32_t length, uint32_t page_bytes,
                           uint32_t unit_bytes) {
    flash->bytes = memory;
    flash->length = length;
    flash->page_bytes = page_bytes;
    flash->unit_bytes = unit_bytes;
    flash->erase = erase;
    flash->program = program;
    flash->context = flash;
}
