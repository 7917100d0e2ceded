/* SHA-256 and SHA-512 of standard input, taken in in pieces of the size that the argument says, as
 * hexadecimal. */
#include <stdio.h>
#include <stdlib.h>

#include "sha256.h"
#include "sha512.h"

static uint8_t bytes[1 << 20];

int main(int count, char **arguments) {
    const size_t piece = (size_t)strtoul(arguments[count - 1], NULL, 10);
    const size_t length = fread(bytes, 1, sizeof bytes, stdin);
    uint8_t digest[SHA512_BYTES];
    struct sha256 small;
    struct sha512 large;

    sha256_begin(&small);
    sha512_begin(&large);
    for (size_t at = 0; at < length; at += piece) {
        sha256_add(&small, &bytes[at], length - at < piece ? length - at : piece);
        sha512_add(&large, &bytes[at], length - at < piece ? length - at : piece);
    }
    sha256_end(&small, digest);
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        printf("%02x", digest[i]);
    }
    sha512_end(&large, digest);
    for (size_t i = 0; i < SHA512_BYTES; i++) {
        printf("%02x", digest[i]);
    }
    return 0;
}
