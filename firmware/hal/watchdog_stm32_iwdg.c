/* Independent watchdog of the STM32 (RM0090 chapter 21), prescaler 256. */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "watchdog.h"

#define KR REG(HAL_WATCHDOG_BASE + 0x00u)
#define PR REG(HAL_WATCHDOG_BASE + 0x04u)
#define RLR REG(HAL_WATCHDOG_BASE + 0x08u)

#define TICKS ((uint32_t)((uint64_t)HAL_WATCHDOG_CLOCK_HZ * HAL_WATCHDOG_PERIOD_MS / 256000u))

void watchdog_start(void) {
    KR = 0xCCCCu;
    KR = 0x5555u;
    PR = 6u;
    RLR = TICKS > 0xFFFu ? 0xFFFu : TICKS;
    KR = 0xAAAAu;
}

void hal_watchdog_feed(void) {
    KR = 0xAAAAu;
}
