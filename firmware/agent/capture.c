#include "capture.h"

#include <string.h>

_Static_assert(AGENT_CAPTURE_BYTES >= CAPTURE_HEADER_BYTES, "the ring must hold a record");
_Static_assert(AGENT_CAPTURE_BYTES <= UINT32_MAX / 2u, "positions are added before they are wrapped");

static uint32_t wrap(uint32_t position) {
    return position < AGENT_CAPTURE_BYTES ? position : position - AGENT_CAPTURE_BYTES;
}

static uint32_t in_one_piece(uint32_t position, uint32_t size) {
    const uint32_t piece = AGENT_CAPTURE_BYTES - position;

    return size < piece ? size : piece;
}

static void put(struct capture_ring *ring, uint32_t position, const void *from, uint32_t size) {
    const uint32_t piece = in_one_piece(position, size);

    memcpy(&ring->bytes[position], from, piece);
    memcpy(ring->bytes, (const uint8_t *)from + piece, size - piece);
}

static void get(const struct capture_ring *ring, uint32_t position, void *to, uint32_t size) {
    const uint32_t piece = in_one_piece(position, size);

    memcpy(to, &ring->bytes[position], piece);
    memcpy((uint8_t *)to + piece, ring->bytes, size - piece);
}

static void free_oldest(struct capture_ring *ring, const struct capture_header *header) {
    const uint32_t size = CAPTURE_HEADER_BYTES + header->total;

    ring->head = wrap(ring->head + size);
    ring->used -= size;
    ring->pending--;
}

static bool fits(const struct capture_ring *ring, uint32_t total) {
    return total <= AGENT_CAPTURE_BYTES - CAPTURE_HEADER_BYTES &&
           ring->used <= AGENT_CAPTURE_BYTES - CAPTURE_HEADER_BYTES - total;
}

bool capture_begin(struct capture_ring *ring, uint32_t total, enum capture_policy policy) {
    struct capture_header oldest;
    const bool ever = total <= AGENT_CAPTURE_BYTES - CAPTURE_HEADER_BYTES;

    ring->fill = 0;
    while (ever && policy == CAPTURE_DROP_OLDEST && !fits(ring, total)) {
        get(ring, ring->head, &oldest, sizeof oldest);
        free_oldest(ring, &oldest);
        ring->dropped++;
    }
    if (!fits(ring, total)) {
        ring->dropped++;
        ring->next++; /* a gap in the numbers shows the loss */
        return false;
    }
    return true;
}

void capture_append(struct capture_ring *ring, const void *from, uint32_t size) {
    put(ring, wrap(wrap(ring->head + ring->used) + CAPTURE_HEADER_BYTES + ring->fill), from, size);
    ring->fill += size;
}

void capture_commit(struct capture_ring *ring, struct capture_header *header) {
    header->sequence = ring->next++;
    put(ring, wrap(ring->head + ring->used), header, sizeof *header);
    ring->used += CAPTURE_HEADER_BYTES + header->total;
    ring->pending++;
}

bool capture_find(const struct capture_ring *ring, uint32_t from, uint32_t *at,
                  struct capture_header *header) {
    *at = ring->head;
    for (uint32_t i = 0; i < ring->pending; i++) {
        get(ring, *at, header, sizeof *header);
        if (header->sequence >= from) {
            return true;
        }
        *at = wrap(*at + CAPTURE_HEADER_BYTES + header->total);
    }
    return false;
}

const uint8_t *capture_bytes(const struct capture_ring *ring, uint32_t at, uint32_t offset, uint32_t *size) {
    const uint32_t position = wrap(wrap(at + CAPTURE_HEADER_BYTES) + offset);

    *size = in_one_piece(position, *size);
    return &ring->bytes[position];
}

void capture_acknowledge(struct capture_ring *ring, uint32_t sequence) {
    struct capture_header oldest;

    while (ring->pending != 0) {
        get(ring, ring->head, &oldest, sizeof oldest);
        if (oldest.sequence > sequence) {
            break;
        }
        free_oldest(ring, &oldest);
    }
}
