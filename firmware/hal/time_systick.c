/* SysTick, one interrupt a millisecond; DWT's cycle counter where the core has one. */
#include "board.h"
#include "clock.h"
#include "hal.h"
#include "mmio.h"

#define CSR REG(0xE000E010u)
#define RVR REG(0xE000E014u)
#define CVR REG(0xE000E018u)
#define ICSR REG(0xE000ED04u)

#define PERIOD (HAL_CLOCK_HZ / 1000u)

static volatile uint32_t low;
static volatile uint32_t high;

void clock_start(void) {
    RVR = PERIOD - 1u;
    CVR = 0u;
    CSR = 7u;
#if HAL_CYCLE_COUNTER
    REG(0xE000EDFCu) |= UINT32_C(1) << 24; /* DEMCR.TRCENA */
    REG(0xE0001004u) = 0u;
    REG(0xE0001000u) |= 1u;
#endif
}

void hal_time_irq(void) {
    low++;
    if (low == 0u) {
        high++;
    }
}

uint64_t hal_time_us(void) {
    uint32_t seen, upper, value, pending;
    do {
        upper = high;
        seen = low;
        value = CVR;
        pending = ICSR & (UINT32_C(1) << 26);
        if (pending) {
            value = CVR;
        }
    } while (seen != low || upper != high);
    /* A wrap whose interrupt has not run yet counts for a millisecond. */
    const uint64_t ms = (((uint64_t)upper << 32) | seen) + (pending ? 1u : 0u);
    return ms * 1000u + (uint32_t)(PERIOD - 1u - value) / (HAL_CLOCK_HZ / 1000000u);
}

uint32_t hal_cycles(void) {
#if HAL_CYCLE_COUNTER
    return REG(0xE0001004u);
#else
    return 0u;
#endif
}
