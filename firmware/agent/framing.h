/* Frames on the serial line: COBS(message + CRC-32, little-endian) + 0x00. */
#ifndef INTAGLIO_FRAMING_H
#define INTAGLIO_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crc32.h"

/* Longest message either way, header and CRC included; announced in hello. */
#ifndef AGENT_FRAME_BYTES
#define AGENT_FRAME_BYTES 512
#endif
_Static_assert(AGENT_FRAME_BYTES >= 264, "the longest response must fit");

enum { CRC_BYTES = 4 };

enum frame_status {
    FRAME_PARTIAL,  /* go on */
    FRAME_COMPLETE, /* a message is in the buffer */
    FRAME_BAD,      /* dropped: COBS or CRC wrong */
    FRAME_OVERSIZE  /* dropped: longer than the buffer */
};

struct frame_reader {
    size_t length;   /* bytes decoded so far; of a complete message: without its CRC */
    uint8_t left;    /* bytes until the next code byte */
    bool zero;       /* a zero belongs between the block just read and the next */
    bool started;    /* a code byte has been read */
    bool overflowed; /* the rest of the frame is skipped */
    bool held;       /* the buffer holds a complete message: the next byte starts a frame */
    uint8_t bytes[AGENT_FRAME_BYTES];
};

/* Takes in one byte of the line. After FRAME_COMPLETE the message stays in `bytes` until the next call. */
enum frame_status frame_push(struct frame_reader *reader, uint8_t byte);

/* Sends a message. The CRC is written behind it: `message` has room for length + CRC_BYTES bytes. */
void frame_send(uint8_t *message, size_t length);

#endif
