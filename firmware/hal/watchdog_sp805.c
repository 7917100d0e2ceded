/* SP805 (Watchdog Module TRM, DDI 0270): the first time-out interrupts, the second resets. */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "watchdog.h"

#define LOAD REG(HAL_WATCHDOG_BASE + 0x000u)
#define CONTROL REG(HAL_WATCHDOG_BASE + 0x008u)
#define INTCLR REG(HAL_WATCHDOG_BASE + 0x00Cu)
#define LOCK REG(HAL_WATCHDOG_BASE + 0xC00u)

void watchdog_start(void) {
    LOCK = 0x1ACCE551u;
    LOAD = (uint32_t)((uint64_t)HAL_WATCHDOG_CLOCK_HZ * HAL_WATCHDOG_PERIOD_MS / 2000u);
    CONTROL = 3u;
    LOCK = 0u;
#ifdef HAL_WATCHDOG_IRQ
    irq_enable(HAL_WATCHDOG_IRQ);
#endif
}

void hal_watchdog_feed(void) {
    LOCK = 0x1ACCE551u;
    INTCLR = 1u;
    LOCK = 0u;
}
