/* Captured predictions, kept in a ring in RAM until they are acknowledged. */
#ifndef INTAGLIO_CAPTURE_H
#define INTAGLIO_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the ring. A record takes its inputs, its outputs and CAPTURE_HEADER_BYTES. */
#ifndef AGENT_CAPTURE_BYTES
#define AGENT_CAPTURE_BYTES 2048
#endif

enum capture_policy { CAPTURE_DROP_OLDEST = 0, CAPTURE_DROP_NEWEST = 1 };

struct capture_header {
    uint64_t up;    /* hal_time_us() at the start of the prediction */
    uint32_t total; /* bytes of inputs and outputs, which follow */
    uint32_t sequence;
    uint32_t model;
    uint32_t cycles;
};

enum { CAPTURE_HEADER_BYTES = sizeof(struct capture_header) };

struct capture_ring {
    uint32_t head;    /* position of the oldest record */
    uint32_t used;    /* bytes of all records */
    uint32_t pending; /* number of records */
    uint32_t next;    /* sequence number of the next record */
    uint32_t dropped; /* records that left, or never fitted in, without an acknowledgement */
    uint32_t fill;    /* bytes appended to the record under construction */
    uint8_t bytes[AGENT_CAPTURE_BYTES];
};

/* Makes room for a record of `total` bytes behind the last one. False, and the record counts as dropped, when
 * it does not fit or the policy keeps the older ones. */
bool capture_begin(struct capture_ring *ring, uint32_t total, enum capture_policy policy);

void capture_append(struct capture_ring *ring, const void *from, uint32_t size);

/* Completes the record that was begun: sets header->sequence and takes it into the ring. */
void capture_commit(struct capture_ring *ring, struct capture_header *header);

/* Finds the oldest record whose sequence number is at least `from`; `at` is its position. */
bool capture_find(const struct capture_ring *ring, uint32_t from, uint32_t *at,
                  struct capture_header *header);

/* The bytes of the record at `at` from offset `offset` on, as many as lie in one piece, at most `size`. */
const uint8_t *capture_bytes(const struct capture_ring *ring, uint32_t at, uint32_t offset, uint32_t *size);

/* Frees every record up to `sequence`. */
void capture_acknowledge(struct capture_ring *ring, uint32_t sequence);

#endif
