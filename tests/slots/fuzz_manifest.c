/* The reader of manifests under libFuzzer. The bytes lie in memory of just their size, so that the address
 * sanitizer sees every read behind them; what the reader gives out must lie in them too. */
#include <stdlib.h>
#include <string.h>

#include "manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const uint8_t *from, size_t size, const struct zcbor_string *string, size_t most) {
    if (string->len > most || string->value < from || string->value + string->len > from + size) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct manifest manifest;
    uint8_t *copy = malloc(size != 0 ? size : 1);

    if (copy == NULL) {
        return 0;
    }
    if (size != 0) {
        memcpy(copy, data, size);
    }
    if (manifest_read(copy, size, 0x1C000, &manifest)) {
        check(copy, size, &manifest.name, 64);
        check(copy, size, &manifest.version, 64);
        check(copy, size, &manifest.board, 64);
        check(copy, size, &manifest.core, 64);
        check(copy, size, &manifest.graph, 32);
        check(copy, size, &manifest.key, 8);
        if (manifest.image_bytes != 0) {
            check(copy, size, &manifest.digest, 32);
        }
    }
    free(copy);
    return 0;
}
