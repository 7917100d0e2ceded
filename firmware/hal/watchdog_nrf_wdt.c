/* WDT of the nRF51 and nRF52 (nRF51 Series Reference Manual, chapter 24). Its interrupt comes two cycles of
 * its 32 kHz clock before the reset: enough to record where the core was. */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "watchdog.h"

#define START REG(HAL_WATCHDOG_BASE + 0x000u)
#define INTENSET REG(HAL_WATCHDOG_BASE + 0x304u)
#define CRV REG(HAL_WATCHDOG_BASE + 0x504u)
#define RREN REG(HAL_WATCHDOG_BASE + 0x508u)
#define CONFIG REG(HAL_WATCHDOG_BASE + 0x50Cu)
#define RR0 REG(HAL_WATCHDOG_BASE + 0x600u)

#define INT_TIMEOUT 1u
#define RUN_IN_SLEEP 1u
#define RELOAD 0x6E524635u

void watchdog_start(void) {
    CRV = (uint32_t)((uint64_t)HAL_WATCHDOG_CLOCK_HZ * HAL_WATCHDOG_PERIOD_MS / 1000u);
    CONFIG = RUN_IN_SLEEP;
    RREN = 1u;
    INTENSET = INT_TIMEOUT;
    irq_enable(HAL_WATCHDOG_IRQ);
    START = 1u;
}

void hal_watchdog_feed(void) {
    RR0 = RELOAD;
}
