/* CBOR maps to structs and back, by the tables generated from host/protocol.cddl. */
#ifndef INTAGLIO_CODEC_H
#define INTAGLIO_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec_maps.h"

/* Reads the map that is the whole of `from`; strings in `to` point into it. False: it is not that map. Knows
 * the kinds of field that requests have. */
bool codec_decode(enum codec_map map, const uint8_t *from, size_t size, union codec_any *to);

/* Writes a map; returns its length, 0 when it does not fit. Lengths and counts are taken to be in their
 * bounds. */
size_t codec_encode(enum codec_map map, const union codec_any *from, uint8_t *to, size_t room);

#endif
