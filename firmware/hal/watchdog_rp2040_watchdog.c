/* Watchdog of the RP2040 (data sheet, 4.7). */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "watchdog.h"

#define CTRL REG(HAL_WATCHDOG_BASE + 0x00u)
#define LOAD REG(HAL_WATCHDOG_BASE + 0x04u)

#define CTRL_ENABLE (UINT32_C(1) << 30)
/* Erratum RP2040-E1: the counter goes down twice a tick. */
#define LOAD_VALUE ((uint32_t)((uint64_t)HAL_WATCHDOG_CLOCK_HZ * HAL_WATCHDOG_PERIOD_MS / 500u))
_Static_assert(LOAD_VALUE <= 0xFFFFFFu, "the counter has 24 bits");

void watchdog_start(void) {
    LOAD = LOAD_VALUE;
    CTRL = CTRL_ENABLE;
}

void hal_watchdog_feed(void) {
    LOAD = LOAD_VALUE;
}
