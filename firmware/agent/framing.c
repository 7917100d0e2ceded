#include "framing.h"

#include "hal.h"

static uint32_t read_u32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static void restart(struct frame_reader *reader) {
    reader->length = 0;
    reader->left = 0;
    reader->zero = false;
    reader->started = false;
    reader->overflowed = false;
    reader->held = false;
}

static enum frame_status finish(struct frame_reader *reader) {
    const bool empty = !reader->started;
    const bool overflowed = reader->overflowed;
    const bool cut = reader->left != 0;
    const size_t length = reader->length;

    restart(reader);
    if (empty) {
        return FRAME_PARTIAL;
    }
    if (overflowed) {
        return FRAME_OVERSIZE;
    }
    if (cut || length < CRC_BYTES) {
        return FRAME_BAD;
    }
    if (crc32(reader->bytes, length - CRC_BYTES) != read_u32(&reader->bytes[length - CRC_BYTES])) {
        return FRAME_BAD;
    }
    reader->length = length - CRC_BYTES;
    reader->held = true;
    return FRAME_COMPLETE;
}

static void append(struct frame_reader *reader, uint8_t byte) {
    if (reader->length == AGENT_FRAME_BYTES) {
        reader->overflowed = true;
    } else {
        reader->bytes[reader->length++] = byte;
    }
}

enum frame_status frame_push(struct frame_reader *reader, uint8_t byte) {
    if (reader->held) {
        restart(reader);
    }
    if (byte == 0) {
        return finish(reader);
    }
    if (reader->left != 0) {
        reader->left--;
        append(reader, byte);
        return FRAME_PARTIAL;
    }
    if (reader->zero) {
        append(reader, 0);
    }
    reader->started = true;
    reader->left = (uint8_t)(byte - 1u);
    reader->zero = byte != 0xFFu;
    return FRAME_PARTIAL;
}

void frame_send(uint8_t *message, size_t length) {
    static const uint8_t delimiter = 0;
    const uint32_t crc = crc32(message, length);
    size_t start = 0;

    for (size_t i = 0; i < CRC_BYTES; i++) {
        message[length++] = (uint8_t)(crc >> (8u * i));
    }
    /* Blocks go out as they are found: no buffer for the encoded frame. A zero stands behind the last byte.
     */
    while (start <= length) {
        size_t end = start;

        while (end < length && end - start < 254u && message[end] != 0) {
            end++;
        }
        const uint8_t code = (uint8_t)(end - start + 1u);
        hal_serial_write(&code, 1);
        hal_serial_write(&message[start], end - start);
        if (code != 0xFFu) {
            end++; /* the zero that the code stands for */
        } else if (end == length) {
            break;
        }
        start = end;
    }
    hal_serial_write(&delimiter, 1);
}
