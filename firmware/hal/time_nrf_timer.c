/* TIMER of the nRF51 at 1 MHz, 32 bits, extended by its wrap-around interrupt (the nRF51 has no SysTick). */
#include "board.h"
#include "clock.h"
#include "hal.h"
#include "mmio.h"

#define START REG(HAL_TIME_BASE + 0x000u)
#define CAPTURE0 REG(HAL_TIME_BASE + 0x040u)
#define COMPARE1 REG(HAL_TIME_BASE + 0x144u)
#define INTENSET REG(HAL_TIME_BASE + 0x304u)
#define BITMODE REG(HAL_TIME_BASE + 0x508u)
#define PRESCALER REG(HAL_TIME_BASE + 0x510u)
#define CC0 REG(HAL_TIME_BASE + 0x540u)
#define CC1 REG(HAL_TIME_BASE + 0x544u)

static volatile uint32_t wraps;

void clock_start(void) {
    BITMODE = 3u;
    PRESCALER = 4u;
    CC1 = 0u;
    COMPARE1 = 0u;
    INTENSET = UINT32_C(1) << 17;
    irq_enable(HAL_TIME_IRQ);
    START = 1u;
}

void hal_time_irq(void) {
    COMPARE1 = 0u;
    wraps++;
}

uint64_t hal_time_us(void) {
    uint32_t seen, now, late;
    do {
        seen = wraps;
        CAPTURE0 = 1u;
        now = CC0;
        late = COMPARE1 && now < 0x80000000u;
    } while (seen != wraps);
    return ((uint64_t)(seen + late) << 32) | now;
}

uint32_t hal_cycles(void) {
    return 0u;
}
