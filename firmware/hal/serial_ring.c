#include "serial_ring.h"

#include "board.h"
#include "hal.h"

#define SIZE HAL_RX_WINDOW
_Static_assert((SIZE & (SIZE - 1u)) == 0, "the ring's size is a power of two");

/* One writer, the interrupt, and one reader: each owns one index, which only grows. */
static volatile uint32_t head;
static volatile uint32_t tail;
static volatile uint32_t lost;
static volatile uint8_t ring[SIZE];

void serial_ring_put(uint8_t byte) {
    if (head - tail == SIZE) {
        lost++;
        return;
    }
    ring[head % SIZE] = byte;
    head++;
}

void serial_ring_lost(uint32_t bytes) {
    lost += bytes;
}

size_t hal_serial_read(uint8_t *to, size_t room) {
    size_t count = 0;
    while (count < room && tail != head) {
        to[count++] = ring[tail % SIZE];
        tail++;
    }
    return count;
}

void hal_serial_write(const uint8_t *from, size_t length) {
    for (size_t i = 0; i < length; i++) {
        serial_write(from[i]);
    }
}

uint32_t hal_serial_lost(void) {
    return lost;
}

void hal_idle(void) {
    /* With interrupts masked, a byte that arrives after the look still wakes the core: WFI takes it as
     * pending. */
    __asm__ volatile("cpsid i" ::: "memory");
    if (head == tail) {
        __asm__ volatile("wfi" ::: "memory");
    }
    __asm__ volatile("cpsie i" ::: "memory");
}
