/* TIMER of the nRF51 at 1 MHz, 32 bits (nRF51 Series Reference Manual, chapter 18): the nRF51 has no SysTick.
 */
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

#define BITMODE_32 3u
#define PRESCALER_1_MHZ 4u
#define TICK_US 10000u

static uint32_t last;
static uint32_t wraps;

void clock_start(void) {
    BITMODE = BITMODE_32;
    PRESCALER = PRESCALER_1_MHZ;
    CC1 = TICK_US;
    COMPARE1 = 0u;
    INTENSET = UINT32_C(1) << 17;
    irq_enable(HAL_TIME_IRQ);
    START = 1u;
}

/* The tick wakes a sleeping core, and sees every wrap of the counter, once in 71 minutes, whoever else looks.
 */
void hal_time_irq(void) {
    COMPARE1 = 0u;
    CC1 = (uint32_t)hal_time_us() + TICK_US;
}

uint64_t hal_time_us(void) {
    const uint32_t masked = irq_mask();
    CAPTURE0 = 1u;
    const uint32_t now = CC0;
    if (now < last) {
        wraps++;
    }
    last = now;
    const uint64_t time = ((uint64_t)wraps << 32) | now;
    irq_restore(masked);
    return time;
}

uint32_t hal_cycles(void) {
    return 0u;
}
