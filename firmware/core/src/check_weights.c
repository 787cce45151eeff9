/* The fields of a WEIGHTS constant against each other: docs/FORMAT.md, section 5.2. */
#include "stream.h"

static int is_between(uint32_t value, uint32_t low, uint32_t high) {
    return value - low <= high - low;
}

int thimble_is_plain(const thimble_constant *weights) {
    const uint32_t *f = weights->fields;
    return f[THIMBLE_FIELD_WEIGHTS_LAYOUT] == THIMBLE_LAYOUT_DENSE &&
           f[THIMBLE_FIELD_WEIGHTS_CODER] == THIMBLE_CODER_FIXED &&
           f[THIMBLE_FIELD_WEIGHTS_VALUE_MAP] == THIMBLE_MAP_IDENTITY && f[THIMBLE_FIELD_WEIGHTS_VALUE_BITS] == 8;
}

static int is_coder(const uint32_t *f, uint32_t coder) {
    return ((THIMBLE_BUILD_FEATURES) >> coder & 1u) && f[THIMBLE_FIELD_WEIGHTS_CODER] == coder;
}

/* value_bits, gap_bits and value_count. */
static int check_symbols(const uint32_t *f) {
    static const uint8_t widths[5][2] = {{2, 8}, {1, 8}, {2, 2}, {4, 4}, {1, 8}}; /* of FIXED, by value map */
    static const uint8_t indexes[3] = {3, 16, 0};                                  /* TERNARY, LOG2, BINARY */
    uint32_t value_bits = f[THIMBLE_FIELD_WEIGHTS_VALUE_BITS], gap_bits = f[THIMBLE_FIELD_WEIGHTS_GAP_BITS];
    uint32_t count = f[THIMBLE_FIELD_WEIGHTS_VALUE_COUNT], map = f[THIMBLE_FIELD_WEIGHTS_VALUE_MAP];
    int is_class = is_coder(f, THIMBLE_CODER_CLASS), has_codes = is_class || is_coder(f, THIMBLE_CODER_HUFFMAN);
    int is_sparse = THIMBLE_IS_LAYOUT(SPARSE, f[THIMBLE_FIELD_WEIGHTS_LAYOUT]);
    uint32_t least = 0, most = 0;
    if (is_coder(f, THIMBLE_CODER_RANGE)) {
        if (!is_between(gap_bits & 7, THIMBLE_RANGE_SHIFT_MIN, THIMBLE_RANGE_SHIFT_MAX) ||
            gap_bits >> THIMBLE_RANGE_SHIFT_BITS > (is_sparse ? 0 : f[THIMBLE_FIELD_WEIGHTS_COLS])) {
            return 0;
        }
        least = 1, most = 8;
    } else {
        if (is_sparse && !is_class ? !is_between(gap_bits, 1, 8) : gap_bits != 0) {
            return 0;
        }
        if (is_coder(f, THIMBLE_CODER_FIXED)) {
            least = widths[map][0], most = widths[map][1];
        }
    }
    if (THIMBLE_IS_LAYOUT(BITS, f[THIMBLE_FIELD_WEIGHTS_LAYOUT])) {
        least = most = map == THIMBLE_MAP_TERNARY ? 2 : 1;
    }
    if (!is_between(value_bits, least, most)) {
        return 0;
    }
    if (map == THIMBLE_MAP_CODEBOOK || has_codes) {
        int is_bytes = !(THIMBLE_HAS_MAP(TERNARY) || THIMBLE_HAS_MAP(LOG2)) || map < THIMBLE_MAP_TERNARY;
        return is_between(count, 1, is_bytes ? 256 : indexes[map - THIMBLE_MAP_TERNARY]);
    }
    return count == 0;
}

static int check_entries(const uint32_t *f) {
    uint32_t entries = f[THIMBLE_FIELD_WEIGHTS_ENTRY_COUNT], most = f[THIMBLE_FIELD_WEIGHTS_MAX_ROW_ENTRIES];
    uint32_t cols = f[THIMBLE_FIELD_WEIGHTS_COLS];
    if (!THIMBLE_IS_LAYOUT(SPARSE, f[THIMBLE_FIELD_WEIGHTS_LAYOUT])) {
        return (entries | most) == 0;
    }
    return entries <= f[THIMBLE_FIELD_WEIGHTS_ROWS] * cols && most <= cols && most <= entries &&
           (entries != 0 || is_coder(f, THIMBLE_CODER_FIXED));
}

int32_t thimble_check_weights(const thimble_constant *weights) {
    const uint32_t *f = weights->fields;
    uint32_t rows = f[THIMBLE_FIELD_WEIGHTS_ROWS], cols = f[THIMBLE_FIELD_WEIGHTS_COLS];
    uint32_t layout = f[THIMBLE_FIELD_WEIGHTS_LAYOUT], coder = f[THIMBLE_FIELD_WEIGHTS_CODER];
    uint32_t map = f[THIMBLE_FIELD_WEIGHTS_VALUE_MAP];
    if (layout > THIMBLE_LAYOUT_BITS || coder > THIMBLE_CODER_RANGE || map > THIMBLE_MAP_BINARY) {
        return THIMBLE_ERROR_BAD_CONSTANT;
    }
    uint32_t features = 1u << coder | (layout ? (uint32_t)THIMBLE_FEATURE_SPARSE >> 1 << layout : 0u);
    if ((features & ~(THIMBLE_BUILD_FEATURES)) || !((THIMBLE_BUILD_LAYOUTS) >> layout & 1u) ||
        !((THIMBLE_BUILD_VALUE_MAPS) >> map & 1u)) {
        return THIMBLE_ERROR_UNSUPPORTED_FEATURE; /* before the rules for it, which are left out too */
    }
    uint32_t longest = layout == THIMBLE_LAYOUT_SPARSE ? THIMBLE_MAX_SPARSE_ROW_LENGTH : THIMBLE_MAX_ROW_LENGTH;
    if (cols > longest || (cols != 0 && rows > (uint32_t)THIMBLE_MAX_WEIGHTS / cols)) {
        return THIMBLE_ERROR_LIMIT_EXCEEDED;
    }
    /* BINARY only in rows of bits, which are FIXED and BINARY or TERNARY. */
    int is_bits = layout == THIMBLE_LAYOUT_BITS, is_binary = map == THIMBLE_MAP_BINARY;
    int fits = is_bits ? coder == THIMBLE_CODER_FIXED && (is_binary || map == THIMBLE_MAP_TERNARY) : !is_binary;
    if (rows == 0 || cols == 0 || !fits || !check_symbols(f) || !check_entries(f)) {
        return THIMBLE_ERROR_BAD_STREAM;
    }
    return (int32_t)features;
}
