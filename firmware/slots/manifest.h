/* The manifest of a package (host/package.cddl), as far as a device reads it. */
#ifndef INTAGLIO_MANIFEST_H
#define INTAGLIO_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zcbor_common.h>

enum { MANIFEST_BYTES = 1024 };

/* Strings point into the manifest. */
struct manifest {
    uint32_t format;
    uint32_t counter;
    uint32_t abi;
    uint32_t arena;
    uint32_t state;
    uint32_t stack;
    struct zcbor_string name;
    struct zcbor_string version;
    struct zcbor_string board;
    struct zcbor_string core;
    struct zcbor_string graph;  /* 32 bytes */
    struct zcbor_string key;    /* 8 bytes */
    uint32_t image_bytes;       /* of the image for the slot asked for; 0: there is none */
    struct zcbor_string digest; /* of that image, 32 bytes */
};

/* Reads a manifest; the image is that of the slot at `address`. False: it is not one. */
bool manifest_read(const uint8_t *from, size_t bytes, uint32_t address, struct manifest *to);

#endif
