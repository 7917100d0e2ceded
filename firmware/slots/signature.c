#include "signature.h"

#include <string.h>

#include <monocypher.h>

#include "sha512.h"
#include "trust.h"

bool signature_holds(const uint8_t signature[SIGNATURE_BYTES], const uint8_t *manifest, size_t bytes,
                     const uint8_t key[PUBLIC_KEY_BYTES]) {
    static const char prefix[] = "intaglio package 1"; /* signed with its zero */
    uint8_t digest[SHA512_BYTES];
    struct sha512 hash;

    /* RFC 8032, 5.1.7: R, A and the message. */
    sha512_begin(&hash);
    sha512_add(&hash, signature, SIGNATURE_BYTES / 2);
    sha512_add(&hash, key, PUBLIC_KEY_BYTES);
    sha512_add(&hash, prefix, sizeof prefix);
    sha512_add(&hash, manifest, bytes);
    sha512_end(&hash, digest);
    crypto_eddsa_reduce(digest, digest);
    return crypto_eddsa_check_equation(signature, key, digest) == 0;
}

bool signature_is_trusted(const uint8_t signature[SIGNATURE_BYTES], const uint8_t *manifest, size_t bytes,
                          const uint8_t id[KEY_ID_BYTES]) {
    static const struct {
        uint8_t id[KEY_ID_BYTES];
        uint8_t key[PUBLIC_KEY_BYTES];
    } trusted[] = TRUSTED_KEYS;

    for (size_t i = 0; i < sizeof trusted / sizeof trusted[0]; i++) {
        if (memcmp(trusted[i].id, id, KEY_ID_BYTES) == 0) {
            return signature_holds(signature, manifest, bytes, trusted[i].key);
        }
    }
    return false;
}
