/* The device's check of signatures as a filter: a length (4 bytes, little-endian), key, signature and so many
 * bytes of manifest on standard input; '1' or '0' on standard output. */
#include <stdio.h>

#include "signature.h"

static uint8_t bytes[4 + PUBLIC_KEY_BYTES + SIGNATURE_BYTES + 65536];

int main(void) {
    while (fread(bytes, 1, 4, stdin) == 4) {
        const size_t length = bytes[0] | (size_t)bytes[1] << 8;

        if (fread(bytes, 1, PUBLIC_KEY_BYTES + SIGNATURE_BYTES + length, stdin) !=
            PUBLIC_KEY_BYTES + SIGNATURE_BYTES + length) {
            return 2;
        }
        putchar(signature_holds(&bytes[PUBLIC_KEY_BYTES], &bytes[PUBLIC_KEY_BYTES + SIGNATURE_BYTES], length,
                                bytes)
                    ? '1'
                    : '0');
    }
    return 0;
}
