/* Flash in RAM with the rules of flash, for boards that have none for models, and for tests. */
#ifndef THIMBLE_EMULATED_FLASH_H
#define THIMBLE_EMULATED_FLASH_H

#include "thimble_server.h"

/* Fills in a flash of `length` bytes of memory, which may hold models already. Erasing outside of a page's start, a
 * program that is not made of whole units, and one that would set a bit are refused with WRITE_FAILED, and change
 * nothing. */
void thimble_emulate_flash(thimble_flash *flash, void *memory, uint32_t length, uint32_t page_bytes,
                           uint32_t unit_bytes);

#endif
