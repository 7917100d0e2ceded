/* WDT of the nRF51 and nRF52 (nRF51 Series Reference Manual, chapter 24). */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "watchdog.h"

void watchdog_start(void) {
    REG(HAL_WATCHDOG_BASE + 0x504u) =
        (uint32_t)((uint64_t)HAL_WATCHDOG_CLOCK_HZ * HAL_WATCHDOG_PERIOD_MS / 1000u);
    REG(HAL_WATCHDOG_BASE + 0x50Cu) = 1u; /* counts while the core sleeps */
    REG(HAL_WATCHDOG_BASE + 0x508u) = 1u; /* reload register 0 */
    REG(HAL_WATCHDOG_BASE + 0x000u) = 1u;
}

void hal_watchdog_feed(void) {
    REG(HAL_WATCHDOG_BASE + 0x600u) = 0x6E524635u;
}
