/* The board's data at work: set-up sequences, facts, unique id. */
#include "board.h"

#include "clock.h"
#include "hal.h"
#include "mmio.h"
#include "serial_ring.h"
#include "watchdog.h"

const struct hal_board hal_board = {
    .name = HAL_BOARD_NAME,
    .core = HAL_CORE_NAME,
    .baud = HAL_BAUD,
    .rx_window = HAL_RX_WINDOW,
    .clock_hz = HAL_CLOCK_HZ,
};

/* One access of a set-up sequence: poll while `poll`, else read, change the bits of the mask, write. */
struct step {
    uint32_t address;
    uint32_t mask;
    uint32_t value;
    uint32_t poll;
};

static const struct step steps[] = {HAL_SETUP_STEPS{0u, 0u, 0u, 0u}};

void hal_init(void) {
    for (const struct step *s = steps; s->address; s++) {
        if (s->poll) {
            while ((REG(s->address) & s->mask) != s->value) {
            }
        } else if (s->mask == 0xFFFFFFFFu) {
            REG(s->address) = s->value;
        } else {
            REG(s->address) = (REG(s->address) & ~s->mask) | s->value;
        }
    }
    clock_start();
    serial_start();
    watchdog_start();
    __asm__ volatile("cpsie i" ::: "memory");
}

size_t hal_unique_id(uint8_t *to, size_t room) {
#if HAL_UNIQUE_ID_BYTES
    const volatile uint8_t *from = (const volatile uint8_t *)HAL_UNIQUE_ID_ADDRESS;
    size_t count = 0;
    while (count < room && count < HAL_UNIQUE_ID_BYTES) {
        to[count] = from[count];
        count++;
    }
    return count;
#else
    (void)to;
    (void)room;
    return 0;
#endif
}
