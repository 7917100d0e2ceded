#include "sha256.h"

#include <string.h>

enum { BLOCK = 64, ROUNDS = 64 };

static uint32_t turn(uint32_t x, uint32_t by) {
    return x >> by | x << (32u - by);
}

/* FIPS 180-4, 6.2.2. The message schedule is kept in a ring of 16 words. */
static void take_block(struct sha256 *hash) {
    static const uint32_t k[ROUNDS] = {
        0x428A2F98u, 0x71374491u, 0xB5C0FBCFu, 0xE9B5DBA5u, 0x3956C25Bu, 0x59F111F1u, 0x923F82A4u,
        0xAB1C5ED5u, 0xD807AA98u, 0x12835B01u, 0x243185BEu, 0x550C7DC3u, 0x72BE5D74u, 0x80DEB1FEu,
        0x9BDC06A7u, 0xC19BF174u, 0xE49B69C1u, 0xEFBE4786u, 0x0FC19DC6u, 0x240CA1CCu, 0x2DE92C6Fu,
        0x4A7484AAu, 0x5CB0A9DCu, 0x76F988DAu, 0x983E5152u, 0xA831C66Du, 0xB00327C8u, 0xBF597FC7u,
        0xC6E00BF3u, 0xD5A79147u, 0x06CA6351u, 0x14292967u, 0x27B70A85u, 0x2E1B2138u, 0x4D2C6DFCu,
        0x53380D13u, 0x650A7354u, 0x766A0ABBu, 0x81C2C92Eu, 0x92722C85u, 0xA2BFE8A1u, 0xA81A664Bu,
        0xC24B8B70u, 0xC76C51A3u, 0xD192E819u, 0xD6990624u, 0xF40E3585u, 0x106AA070u, 0x19A4C116u,
        0x1E376C08u, 0x2748774Cu, 0x34B0BCB5u, 0x391C0CB3u, 0x4ED8AA4Au, 0x5B9CCA4Fu, 0x682E6FF3u,
        0x748F82EEu, 0x78A5636Fu, 0x84C87814u, 0x8CC70208u, 0x90BEFFFAu, 0xA4506CEBu, 0xBEF9A3F7u,
        0xC67178F2u,
    };
    uint32_t s[8], w[16];

    memcpy(s, hash->state, sizeof s);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t *word = &w[i & 15u];

        if (i < 16) {
            const uint8_t *b = &hash->block[4 * i];
            *word = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
        } else {
            const uint32_t early = w[(i + 1u) & 15u], late = w[(i + 14u) & 15u];
            *word += (turn(early, 7) ^ turn(early, 18) ^ early >> 3) + w[(i + 9u) & 15u] +
                     (turn(late, 17) ^ turn(late, 19) ^ late >> 10);
        }
        const uint32_t one = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) +
                             ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + *word;
        const uint32_t two = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) +
                             ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(&s[1], &s[0], 7 * sizeof s[0]);
        s[4] += one;
        s[0] = one + two;
    }
    for (uint32_t i = 0; i < 8; i++) {
        hash->state[i] += s[i];
    }
}

void sha256_begin(struct sha256 *hash) {
    static const uint32_t start[8] = {0x6A09E667u, 0xBB67AE85u, 0x3C6EF372u, 0xA54FF53Au,
                                      0x510E527Fu, 0x9B05688Cu, 0x1F83D9ABu, 0x5BE0CD19u};

    memcpy(hash->state, start, sizeof start);
    hash->length = 0;
}

void sha256_add(struct sha256 *hash, const void *from, size_t bytes) {
    const uint8_t *next = from;

    while (bytes != 0) {
        const uint32_t at = hash->length % BLOCK;
        const uint32_t piece = bytes < BLOCK - at ? (uint32_t)bytes : BLOCK - at;

        memcpy(&hash->block[at], next, piece);
        hash->length += piece;
        next += piece;
        bytes -= piece;
        if (hash->length % BLOCK == 0) {
            take_block(hash);
        }
    }
}

void sha256_end(struct sha256 *hash, uint8_t digest[SHA256_BYTES]) {
    static const uint8_t mark = 0x80, zero = 0;
    const uint32_t length = hash->length;
    uint8_t bits[8] = {0};

    sha256_add(hash, &mark, 1);
    while (hash->length % BLOCK != BLOCK - sizeof bits) {
        sha256_add(hash, &zero, 1);
    }
    for (uint32_t i = 0; i < 5; i++) {
        bits[7 - i] = (uint8_t)((uint64_t)length << 3 >> 8 * i);
    }
    sha256_add(hash, bits, sizeof bits);
    for (uint32_t i = 0; i < SHA256_BYTES; i++) {
        digest[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
    }
}
