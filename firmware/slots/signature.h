/* Ed25519 signatures (RFC 8032) of packages, by the keys that the firmware was built to trust. */
#ifndef INTAGLIO_SIGNATURE_H
#define INTAGLIO_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIGNATURE_BYTES = 64, PUBLIC_KEY_BYTES = 32, KEY_ID_BYTES = 8 };

/* What the check needs of stack, interrupts included: 2 KB, more than is kept for the agent. A test holds it
 * against the worst case of the code. */
enum { SIGNATURE_STACK_BYTES = 2304 };

/* Whether `signature` is that of a manifest by a key. */
bool signature_holds(const uint8_t signature[SIGNATURE_BYTES], const uint8_t *manifest, size_t bytes,
                     const uint8_t key[PUBLIC_KEY_BYTES]);

/* Whether the trusted key of that id has signed a manifest. */
bool signature_is_trusted(const uint8_t signature[SIGNATURE_BYTES], const uint8_t *manifest, size_t bytes,
                          const uint8_t id[KEY_ID_BYTES]);

#endif
