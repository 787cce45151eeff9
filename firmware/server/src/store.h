/* Models in flash: two halves, each with a file at its start, and a record and a mark at its end.
 *
 * The record says how long the file is and which of the two is newer. It is written in one program, after the file
 * has been verified; a half whose record fails its CRC holds nothing. The mark, zeros, says that the file need not be
 * tried any more: a newer file without it gives way to the other half at the next start. So the stored model changes
 * with the last bit of the mark, and a power cut before leaves the old one. Neither is programmed twice between two
 * erases, as flash with error correction asks. */
#ifndef THIMBLE_STORE_H
#define THIMBLE_STORE_H

#include "thimble_server.h"

typedef struct {
    const uint8_t *file;
    uint32_t file_bytes;
    uint32_t generation; /* of the record; grows by one with each model */
    uint8_t half;
    uint8_t is_confirmed;
} thimble_stored;

/* Bytes of the longest file. */
uint32_t thimble_store_capacity(const thimble_flash *flash);

/* The file that counts at a start: the newer one, unless it was never confirmed and there is another. One of 0 bytes
 * where none is stored; half is then 1, so that the first file comes into half 0. `generation` is that of the newer. */
thimble_stored thimble_store_find(const thimble_flash *flash);

/* Where a half starts in the address space. */
const uint8_t *thimble_store_file(const thimble_flash *flash, uint32_t half);

/* Makes room for transfer->file_bytes in its half. */
int32_t thimble_store_erase(const thimble_flash *flash, const thimble_transfer *transfer);

/* Writes the next bytes; what does not fill a unit waits for more, or for thimble_store_finish. */
int32_t thimble_store_append(const thimble_flash *flash, thimble_transfer *transfer, const uint8_t *data,
                             uint32_t length);
int32_t thimble_store_finish(const thimble_flash *flash, thimble_transfer *transfer);

/* Makes the transferred file the newer one. */
int32_t thimble_store_commit(const thimble_flash *flash, const thimble_transfer *transfer);

/* Makes the newer file, in `half`, the one that counts. */
int32_t thimble_store_confirm(const thimble_flash *flash, uint32_t half);

#endif
