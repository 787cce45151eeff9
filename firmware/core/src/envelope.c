/* Header, section table, sections and trailer: docs/FORMAT.md, sections 7.1 and 7.2. */
#include "loader.h"

static int32_t check_header(const uint8_t *data, uint32_t length, uint32_t *body_end, uint32_t *table_end) {
    if (length < THIMBLE_HEADER_BYTES + THIMBLE_SHA256_BYTES) {
        return THIMBLE_ERROR_TRUNCATED;
    }
    if (thimble_read_u32(data) != thimble_read_u32((const uint8_t *)THIMBLE_MAGIC)) {
        return THIMBLE_ERROR_BAD_MAGIC;
    }
    if (data[THIMBLE_HEADER_VERSION_OFFSET] != THIMBLE_FORMAT_VERSION) {
        return THIMBLE_ERROR_UNSUPPORTED_VERSION;
    }
    uint32_t flags = data[THIMBLE_HEADER_FLAGS_OFFSET];
    if (flags & ~(uint32_t)THIMBLE_HEADER_FLAG_SIGNED) {
        return THIMBLE_ERROR_RESERVED_BITS;
    }
    uint32_t file_bytes = thimble_read_u32(data + THIMBLE_HEADER_FILE_BYTES_OFFSET);
    if (file_bytes > THIMBLE_MAX_FILE_BYTES) {
        return THIMBLE_ERROR_LIMIT_EXCEEDED;
    }
    if (file_bytes != length) {
        return file_bytes > length ? THIMBLE_ERROR_TRUNCATED : THIMBLE_ERROR_BAD_SECTION;
    }
    uint32_t count = thimble_read_u16(data + THIMBLE_HEADER_SECTION_COUNT_OFFSET);
    if (count > THIMBLE_MAX_SECTIONS) {
        return THIMBLE_ERROR_LIMIT_EXCEEDED;
    }
    uint32_t trailer = THIMBLE_SHA256_BYTES + (flags & THIMBLE_HEADER_FLAG_SIGNED ? THIMBLE_SIGNATURE_BYTES : 0u);
    *table_end = THIMBLE_HEADER_BYTES + count * THIMBLE_SECTION_ENTRY_BYTES;
    if (length < *table_end + trailer) {
        return THIMBLE_ERROR_TRUNCATED;
    }
    *body_end = length - trailer;
    uint32_t crc = thimble_crc32(0, data, THIMBLE_HEADER_HEADER_CRC32_OFFSET);
    crc = thimble_crc32(crc, data + THIMBLE_HEADER_BYTES, *table_end - THIMBLE_HEADER_BYTES);
    return crc == thimble_read_u32(data + THIMBLE_HEADER_HEADER_CRC32_OFFSET) ? 0 : THIMBLE_ERROR_BAD_HEADER_CRC;
}

/* Kind, flags and reserved field of a section's entry are its first word. */
#define KIND_BITS (8 * THIMBLE_SECTION_ENTRY_FLAGS_OFFSET)

static int32_t check_sections(thimble_model *model, uint32_t table_end, uint32_t body_end, thimble_envelope *envelope) {
    const uint8_t *data = model->data;
    uint32_t end = table_end, seen = 0;
    for (uint32_t at = THIMBLE_HEADER_BYTES; at < table_end; at += THIMBLE_SECTION_ENTRY_BYTES) {
        const uint8_t *entry = data + at;
        uint32_t kind = entry[THIMBLE_SECTION_ENTRY_KIND_OFFSET], flags = thimble_read_u32(entry) >> KIND_BITS;
        uint32_t offset = thimble_read_u32(entry + THIMBLE_SECTION_ENTRY_OFFSET_OFFSET);
        uint32_t length = thimble_read_u32(entry + THIMBLE_SECTION_ENTRY_LENGTH_OFFSET);
        if (flags & ~(uint32_t)THIMBLE_SECTION_FLAG_CRITICAL) {
            return THIMBLE_ERROR_RESERVED_BITS;
        }
        if (offset != thimble_align4(end) || offset > body_end || length > body_end - offset ||
            !thimble_is_zero(data, end, offset)) {
            return THIMBLE_ERROR_BAD_SECTION;
        }
        end = offset + length;
        if (kind < THIMBLE_SECTION_PROGRAM || kind > THIMBLE_SECTION_GOLDEN) {
            if (flags) {
                return THIMBLE_ERROR_UNSUPPORTED_SECTION;
            }
        } else {
            if ((seen >> kind & 1) || (kind <= THIMBLE_SECTION_DATA && !flags) ||
                (kind == THIMBLE_SECTION_GOLDEN && length != THIMBLE_GOLDEN_BYTES)) {
                return THIMBLE_ERROR_BAD_SECTION;
            }
            seen |= 1u << kind;
        }
        if (thimble_crc32(0, data + offset, length) != thimble_read_u32(entry + THIMBLE_SECTION_ENTRY_CRC32_OFFSET)) {
            return THIMBLE_ERROR_BAD_SECTION_CRC;
        }
        if (kind == THIMBLE_SECTION_GOLDEN && thimble_read_u32(data + offset) == 0) {
            return THIMBLE_ERROR_BAD_SECTION;
        }
        if (kind == THIMBLE_SECTION_PROGRAM) {
            envelope->program_offset = offset;
            model->program_end = end;
        } else if (kind == THIMBLE_SECTION_DATA) {
            model->data_offset = offset;
            model->data_bytes = length;
        }
    }
    uint32_t required = 1u << THIMBLE_SECTION_PROGRAM | 1u << THIMBLE_SECTION_DATA;
    int complete = (seen & required) == required && thimble_align4(end) == body_end;
    return complete && thimble_is_zero(data, end, body_end) ? 0 : THIMBLE_ERROR_BAD_SECTION;
}

int32_t thimble_check_envelope(thimble_model *model, uint32_t length, thimble_envelope *envelope) {
    const uint8_t *data = model->data;
    const thimble_registry *registry = model->registry;
    uint32_t body_end = 0, table_end = 0;
    int32_t error = check_header(data, length, &body_end, &table_end);
    if (error >= 0) {
        error = check_sections(model, table_end, body_end, envelope);
    }
    if (error < 0) {
        return error;
    }
    model->sha256_offset = body_end;
    if (registry->sha256_matches && !registry->sha256_matches(data, body_end, data + body_end)) {
        return THIMBLE_ERROR_BAD_HASH;
    }
    model->features = thimble_read_u32(data + THIMBLE_HEADER_REQUIRED_FEATURES_OFFSET);
    model->operators = thimble_read_u32(data + THIMBLE_HEADER_REQUIRED_OPERATORS_OFFSET);
    model->arena_bytes = thimble_read_u32(data + THIMBLE_HEADER_ARENA_BYTES_OFFSET);
    model->model_id = thimble_read_u32(data + THIMBLE_HEADER_MODEL_ID_OFFSET);
    model->model_version = thimble_read_u32(data + THIMBLE_HEADER_MODEL_VERSION_OFFSET);
    envelope->declared_scratch_bytes = thimble_read_u32(data + THIMBLE_HEADER_SCRATCH_BYTES_OFFSET);
    if (model->features & ~(registry->features & THIMBLE_BUILD_FEATURES)) {
        return THIMBLE_ERROR_UNSUPPORTED_FEATURE;
    }
    if (model->operators & ~(registry->operators & THIMBLE_BUILD_OPERATORS)) {
        return THIMBLE_ERROR_UNSUPPORTED_OPERATOR;
    }
    if (model->arena_bytes > THIMBLE_MAX_TENSOR_BYTES || envelope->declared_scratch_bytes > THIMBLE_MAX_TENSOR_BYTES) {
        return THIMBLE_ERROR_LIMIT_EXCEEDED;
    }
    return 0;
}
