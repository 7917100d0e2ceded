/* The agent under a fuzzer. An input is a list of messages, each behind one byte: below 0xF0 that many bytes
 * are framed as a valid frame, so that the fuzzer need not guess a CRC; from 0xF0 up the next byte & 63 bytes
 * go to the line as they are. */
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "mock_models.h"

enum { LINE_BYTES = 2 * AGENT_FRAME_BYTES, RAW = 0xF0 };

const struct hal_board hal_board = {.name = "fuzz", .core = "host", .baud = 115200, .rx_window = 600};

static uint8_t line[LINE_BYTES];
static size_t line_length;
static bool to_agent;
static size_t answered;

void hal_init(void) {
}

size_t hal_serial_read(uint8_t *to, size_t room) {
    const size_t count = line_length < room ? line_length : room;

    memcpy(to, line, count);
    memmove(line, &line[count], line_length - count);
    line_length -= count;
    return count;
}

/* While the harness frames a message its bytes are the agent's input; else they are the agent's answer. */
void hal_serial_write(const uint8_t *from, size_t length) {
    if (!to_agent) {
        answered += length;
        return;
    }
    if (length > LINE_BYTES - line_length) {
        abort();
    }
    if (length != 0) {
        memcpy(&line[line_length], from, length);
        line_length += length;
    }
}

uint32_t hal_serial_lost(void) {
    return 0;
}

uint64_t hal_time_us(void) {
    static uint64_t now;

    return now += 100;
}

uint32_t hal_cycles(void) {
    return 0;
}

uint32_t hal_stack_peak(void) {
    return 0;
}

void hal_idle(void) {
}

void hal_watchdog_feed(void) {
}

size_t hal_unique_id(uint8_t *to, size_t room) {
    memset(to, 1, room);
    return room;
}

bool hal_fault_take(struct hal_fault *fault) {
    memset(fault, 2, sizeof *fault);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct agent agent;
    static void *arenas[MOCK_MODELS];
    uint8_t message[RAW + CRC_BYTES];

    for (int i = 0; i < MOCK_MODELS; i++) {
        if (arenas[i] == NULL) {
            arenas[i] = malloc(mock_models[i]->arena_bytes);
        }
    }
    line_length = 0;
    agent_init(&agent, mock_models, MOCK_MODELS, arenas);
    while (size > 1) {
        const bool raw = data[0] >= RAW;
        size_t length = raw ? data[1] & 63u : data[0];
        const size_t skip = raw ? 2 : 1;

        data += skip;
        size -= skip;
        length = length < size ? length : size;
        to_agent = true;
        if (raw) {
            hal_serial_write(data, length);
        } else {
            memcpy(message, data, length);
            frame_send(message, length);
        }
        to_agent = false;
        data += length;
        size -= length;
        while (line_length != 0) {
            (void)agent_step(&agent);
        }
        if (agent.ring.used > AGENT_CAPTURE_BYTES || agent.ring.head >= AGENT_CAPTURE_BYTES) {
            abort();
        }
    }
    return 0;
}
