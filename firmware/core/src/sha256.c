/* SHA-256 (FIPS 180-4) of one buffer, for loaders that check the trailer. */
#include "fast.h"

#include <string.h>

#include "thimble_registry.h"

static uint32_t rotate(uint32_t x, uint32_t count) {
    return x >> count | x << (32 - count);
}

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Leaves the new a in h and the new e in d: the caller moves the names on. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                                               \
    do {                                                                                                               \
        (h) += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((((f) ^ (g)) & (e)) ^ (g)) + round_constants[i] + w[i];  \
        (d) += (h);                                                                                                    \
        (h) += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (((a) & (b)) | (((a) | (b)) & (c)));                   \
    } while (0)

static void add_block(uint32_t state[8], const uint8_t *block) {
    uint32_t w[64];
    for (uint32_t i = 0; i < 16; i++) {
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    }
    for (uint32_t i = 0; i < 48; i++) {
        uint32_t early = w[i + 1], late = w[i + 14];
        w[i + 16] = w[i] + (rotate(early, 7) ^ rotate(early, 18) ^ early >> 3) + w[i + 9] +
                    (rotate(late, 17) ^ rotate(late, 19) ^ late >> 10);
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (uint32_t i = 0; i < 64; i += 4) {
        ROUND(a, b, c, d, e, f, g, h, i);
        ROUND(h, a, b, c, d, e, f, g, i + 1);
        ROUND(g, h, a, b, c, d, e, f, i + 2);
        ROUND(f, g, h, a, b, c, d, e, i + 3);
        uint32_t swapped = a;
        a = e, e = swapped;
        swapped = b, b = f, f = swapped;
        swapped = c, c = g, g = swapped;
        swapped = d, d = h, h = swapped;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

int32_t thimble_sha256_matches(const uint8_t *data, uint32_t length, const uint8_t *digest) {
    uint32_t state[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    uint8_t block[64];
    uint32_t at = 0;
    for (; length - at >= 64; at += 64) {
        add_block(state, data + at);
    }
    uint32_t rest = length - at;
    memset(block, 0, sizeof block);
    memcpy(block, data + at, rest);
    block[rest] = 0x80;
    if (rest >= 56) {
        add_block(state, block);
        memset(block, 0, sizeof block);
    }
    for (uint32_t i = 0; i < 4; i++) {
        block[63 - i] = (uint8_t)(length << 3 >> 8 * i);
    }
    block[59] = (uint8_t)(length >> 29);
    add_block(state, block);
    for (uint32_t i = 0; i < 32; i++) {
        if ((uint8_t)(state[i >> 2] >> (24 - 8 * (i & 3))) != digest[i]) {
            return 0;
        }
    }
    return 1;
}
