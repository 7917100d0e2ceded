/* The agent's framing and codec as a filter, for comparison with Python's. A request on standard input is one
 * byte of what to do, a length (4 bytes, little-endian) and that many bytes; every reply has a length and
 * bytes. 'f'  bytes of a line -> how many frames were bad, how many too long (a byte each), then each
 * message: length, bytes 'e'  a message -> its frame 0..  CBOR, by the codec of that index in probe_table.h
 * -> 1 and the CBOR encoded again; or 0 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "codec_decode.h"
#include "codec_encode.h"
#include "framing.h"
#include "hal.h"

enum { FRAME = 0x7E, FRAMES = 0x7F };

typedef int decoder(const uint8_t *from, size_t size, union codec_any *to, size_t *used);
typedef int encoder(uint8_t *to, size_t room, const union codec_any *from, size_t *used);

/* zcbor's functions differ in the type behind one pointer: wrappers, as calling through another type is
 * undefined. */
#define CODEC(name)                                                                                          \
    static int decode_##name(const uint8_t *from, size_t size, union codec_any *to, size_t *used) {          \
        return cbor_decode_##name(from, size, (void *)to, used);                                             \
    }                                                                                                        \
    static int encode_##name(uint8_t *to, size_t room, const union codec_any *from, size_t *used) {          \
        return cbor_encode_##name(to, room, (const void *)from, used);                                       \
    }
#include "probe_table.h"
#undef CODEC

static const struct {
    decoder *decode;
    encoder *encode;
} zcbor[] = {
#define CODEC(name) {decode_##name, encode_##name},
#include "probe_table.h"
#undef CODEC
};

static uint8_t out[1 << 20];
static size_t out_length;

static void put(const void *from, size_t length) {
    if (length > sizeof out - out_length) {
        abort();
    }
    if (length != 0) {
        memcpy(&out[out_length], from, length);
        out_length += length;
    }
}

static void put_u32(uint32_t value) {
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t byte = (uint8_t)(value >> (8u * i));

        put(&byte, 1);
    }
}

void hal_serial_write(const uint8_t *from, size_t length) {
    put(from, length);
}

static void frames(const uint8_t *from, size_t length) {
    static struct frame_reader reader;
    uint8_t counts[2] = {0, 0};

    memset(&reader, 0, sizeof reader);
    put(counts, sizeof counts);
    for (size_t i = 0; i < length; i++) {
        switch (frame_push(&reader, from[i])) {
        case FRAME_COMPLETE:
            put_u32((uint32_t)reader.length);
            put(reader.bytes, reader.length);
            break;
        case FRAME_BAD:
            out[0]++;
            break;
        case FRAME_OVERSIZE:
            out[1]++;
            break;
        case FRAME_PARTIAL:
            break;
        }
    }
}

/* Reads by our codec or zcbor's, writes by both, which must agree. */
static void transcode(enum codec_map map, bool ours, const uint8_t *from, size_t length) {
    union codec_any message;
    uint8_t again[2][4096];
    size_t used = 0;
    uint8_t good;

    memset(&message, 0, sizeof message);
    if (ours) {
        good = codec_decode(map, from, length, &message);
    } else {
        good = zcbor[map].decode(from, length, &message, &used) == 0 && used == length;
    }
    put(&good, 1);
    if (good) {
        if (zcbor[map].encode(again[0], sizeof again[0], &message, &used) != 0 ||
            codec_encode(map, &message, again[1], sizeof again[1]) != used ||
            memcmp(again[0], again[1], used) != 0) {
            abort();
        }
        /* without room for the last byte there is no message, nor a write beside the buffer */
        uint8_t *tight = malloc(used);
        if (tight == NULL || codec_encode(map, &message, tight, used) != used ||
            codec_encode(map, &message, tight, used - 1) != 0) {
            abort();
        }
        free(tight);
        put(again[0], used);
    }
}

int main(void) {
    uint8_t head[5];

    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        const size_t length =
            (size_t)head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;
        uint8_t *data = malloc(length + CRC_BYTES); /* exactly, so that a read beside it shows */

        if (data == NULL || fread(data, 1, length, stdin) != length) {
            return 1;
        }
        out_length = 0;
        if (head[0] == FRAMES) {
            frames(data, length);
        } else if (head[0] == FRAME) {
            frame_send(data, length);
        } else {
            uint8_t *exact = malloc(length == 0 ? 1 : length);

            if (exact == NULL) {
                return 1;
            }
            memcpy(exact, data, length);
            transcode((enum codec_map)(head[0] & 0x7Fu), head[0] < 0x80, exact, length);
            free(exact);
        }
        free(data);
        const uint8_t reply[4] = {(uint8_t)out_length, (uint8_t)(out_length >> 8),
                                  (uint8_t)(out_length >> 16), 0};
        fwrite(reply, 1, sizeof reply, stdout);
        fwrite(out, 1, out_length, stdout);
        fflush(stdout);
    }
    return 0;
}
