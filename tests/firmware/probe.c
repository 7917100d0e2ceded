/* A program on the HAL alone, for the tests of the drivers: obeys one-letter commands, answers in lines of
 * text. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hal.h"

static void text(const char *string) {
    while (*string) {
        hal_serial_write((const uint8_t *)string++, 1);
    }
}

static void number(const char *name, uint32_t value) {
    static const char digits[] = "0123456789abcdef";

    text(" ");
    text(name);
    text("=");
    for (int shift = 28; shift >= 0; shift -= 4) {
        hal_serial_write((const uint8_t *)&digits[(value >> shift) & 15u], 1);
    }
}

static uint8_t next(void) {
    uint8_t byte;

    while (hal_serial_read(&byte, 1) == 0) {
        hal_watchdog_feed();
        hal_idle();
    }
    return byte;
}

/* Computes without looking at the serial line until as many bytes as the host says have found no room, then
 * returns all that came. */
static void echo_after_work(void) {
    const uint32_t overrun = hal_serial_lost() + next();
    uint8_t bytes[64];
    size_t count;
    uint32_t total = 0;
    volatile uint32_t work = 1;

    text("busy\n");
    while (hal_serial_lost() != overrun) {
        work = work * 1664525u + 1013904223u;
        hal_watchdog_feed();
    }
    while ((count = hal_serial_read(bytes, sizeof bytes)) != 0) {
        hal_serial_write(bytes, count);
        total += count;
    }
    number("echoed", total);
    number("lost", hal_serial_lost());
    text("\n");
}

/* Echoes as it comes: as many bytes as the host announces, in 256s. */
static void echo_stream(void) {
    uint32_t left = 256u * next();
    uint8_t bytes[64];

    while (left != 0) {
        const size_t count = hal_serial_read(bytes, left < sizeof bytes ? left : sizeof bytes);
        if (count == 0) {
            hal_idle();
        }
        hal_serial_write(bytes, count);
        left -= (uint32_t)count;
        hal_watchdog_feed();
    }
    number("lost", hal_serial_lost());
    text("\n");
}

static void time_runs(void) {
    uint64_t last = hal_time_us();
    const uint64_t start = last;
    uint32_t backwards = 0;

    while (last < start + 200000u) {
        const uint64_t now = hal_time_us();
        if (now < last) {
            backwards++;
        }
        last = now;
        hal_watchdog_feed();
    }
    for (int i = 0; i < 3; i++) {
        hal_idle();
    }
    number("backwards", backwards);
    number("idled", (uint32_t)(hal_time_us() - last));
    number("high", (uint32_t)(hal_time_us() >> 32));
    text("\n");
}

static uint32_t dig(volatile uint32_t depth) {
    volatile uint32_t waste[16];

    waste[depth % 16u] = depth;
    return depth == UINT32_MAX ? 0u : dig(depth + 1u) + waste[depth % 16u];
}

int main(void) {
    struct hal_fault fault = {0};

    hal_init();
    text("boot");
    const bool faulted = hal_fault_take(&fault);
    number("kind", faulted ? fault.kind : 0u);
    number("pc", fault.pc);
    number("sp", fault.sp);
    number("again", hal_fault_take(&fault));
    text("\n");
    for (;;) {
        uint8_t id[32];
        switch (next()) {
        case 'B':
            echo_after_work();
            break;
        case 'E':
            echo_stream();
            break;
        case 'T':
            time_runs();
            break;
        case 'I':
            number("id", (uint32_t)hal_unique_id(id, sizeof id));
            number("short", (uint32_t)hal_unique_id(id, 3));
            number("stack", hal_stack_peak());
            text("\n");
            break;
        case 'F':
            __asm__ volatile(".globl planted_fault\nplanted_fault: udf #0");
            break;
        case 'S':
            number("bottom", dig(0));
            break;
        case 'P':
            hal_panic();
        case 'W':
            for (;;) {
            }
        case 'R':
            hal_reset();
        default:
            text("what\n");
        }
    }
}
