#ifndef INTAGLIO_CRC32_H
#define INTAGLIO_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32 as zlib computes it. */
uint32_t crc32(const uint8_t *from, size_t length);

#endif
