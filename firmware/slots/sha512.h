/* SHA-512 (FIPS 180-4). */
#ifndef INTAGLIO_SHA512_H
#define INTAGLIO_SHA512_H

#include <stddef.h>
#include <stdint.h>

enum { SHA512_BYTES = 64 };

struct sha512 {
    uint64_t state[8];
    uint32_t length; /* bytes so far */
    uint8_t block[128];
};

void sha512_begin(struct sha512 *hash);
void sha512_add(struct sha512 *hash, const void *from, size_t bytes);
void sha512_end(struct sha512 *hash, uint8_t digest[SHA512_BYTES]);

#endif
