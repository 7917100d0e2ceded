/* A board made of a process: the agent on the HAL below, whose serial line is standard input and output. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "mock_models.h"

const struct hal_board hal_board = {
    .name = "mock", .core = "host", .baud = 115200, .rx_window = 600, .clock_hz = 1000000};

static uint64_t started;

static uint64_t now_us(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

void hal_init(void) {
    started = now_us();
    signal(SIGPIPE, SIG_IGN); /* a host that goes away ends the board at its next write */
}

size_t hal_serial_read(uint8_t *to, size_t room) {
    struct pollfd line = {.fd = STDIN_FILENO, .events = POLLIN};

    if (poll(&line, 1, 0) <= 0) {
        return 0;
    }
    const ssize_t count = read(STDIN_FILENO, to, room);
    if (count <= 0) {
        exit(0); /* the host has gone */
    }
    return (size_t)count;
}

void hal_serial_write(const uint8_t *from, size_t length) {
    while (length != 0) {
        const ssize_t count = write(STDOUT_FILENO, from, length);

        if (count < 0) {
            if (errno == EINTR) {
                continue;
            }
            exit(0);
        }
        from += count;
        length -= (size_t)count;
    }
}

uint32_t hal_serial_lost(void) {
    return 0;
}

uint64_t hal_time_us(void) {
    return now_us() - started;
}

uint32_t hal_cycles(void) {
    return (uint32_t)now_us();
}

uint32_t hal_stack_peak(void) {
    return 1234;
}

void hal_idle(void) {
    struct pollfd line = {.fd = STDIN_FILENO, .events = POLLIN};

    (void)poll(&line, 1, 5);
}

void hal_watchdog_feed(void) {
}

size_t hal_unique_id(uint8_t *to, size_t room) {
    const char *id = getenv("MOCK_ID");
    const size_t length = id == NULL ? 0 : strlen(id);

    if (length > room) {
        abort();
    }
    if (length != 0) {
        memcpy(to, id, length);
    }
    return length;
}

bool hal_fault_take(struct hal_fault *fault) {
    if (getenv("MOCK_FAULT") == NULL) {
        return false;
    }
    *fault = (struct hal_fault){HAL_FAULT_HARD, 1, 2, 3, 4, 5, 6, 0x08001234u, 8, 9, 10, 11, 12, 13, 14};
    return true;
}

int main(void) {
    /* malloc, so that the sanitizer sees a write beside an arena */
    static void *arenas[MOCK_MODELS];

    for (int i = 0; i < MOCK_MODELS; i++) {
        arenas[i] = malloc(mock_models[i]->arena_bytes);
        if (arenas[i] == NULL) {
            return 1;
        }
    }
    agent_run(mock_models, MOCK_MODELS, arenas);
}
