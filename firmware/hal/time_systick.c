/* SysTick, one interrupt in ten milliseconds; DWT's cycle counter where the core has one. */
#include "board.h"
#include "clock.h"
#include "hal.h"
#include "mmio.h"

#define CSR REG(0xE000E010u)
#define RVR REG(0xE000E014u)
#define CVR REG(0xE000E018u)
#define ICSR REG(0xE000ED04u)

#define CSR_ENABLE 1u
#define CSR_INTERRUPT 2u
#define CSR_CORE_CLOCK 4u
#define ICSR_SYSTICK_PENDING (UINT32_C(1) << 26)

#define DEMCR REG(0xE000EDFCu)
#define DEMCR_TRCENA (UINT32_C(1) << 24)
#define DWT_CTRL REG(0xE0001000u)
#define DWT_CTRL_CYCCNTENA 1u
#define DWT_CYCCNT REG(0xE0001004u)
#define DWT_LAR REG(0xE0001FB0u) /* the Cortex-M7 locks its DWT; others ignore the write */
#define DWT_UNLOCK 0xC5ACCE55u

#define TICK_US 10000u
#define CYCLES_PER_US (HAL_CLOCK_HZ / 1000000u)
#define PERIOD (CYCLES_PER_US * TICK_US)
_Static_assert(PERIOD <= 0x1000000u, "SysTick has 24 bits");

static uint64_t ticks;
static uint64_t last;

void clock_start(void) {
    RVR = PERIOD - 1u;
    CVR = 0u;
    CSR = CSR_CORE_CLOCK | CSR_INTERRUPT | CSR_ENABLE;
#if HAL_CYCLE_COUNTER
    DEMCR |= DEMCR_TRCENA;
    DWT_LAR = DWT_UNLOCK;
    DWT_CYCCNT = 0u;
    DWT_CTRL |= DWT_CTRL_CYCCNTENA;
#endif
}

void hal_time_irq(void) {
    ticks++;
}

uint64_t hal_time_us(void) {
    const uint32_t masked = irq_mask();
    uint64_t whole = ticks;
    uint32_t left, pending;

    /* At 0 the interrupt is pending: a model of the timer that shows the one before the other is waited for.
     */
    do {
        left = CVR;
        pending = ICSR & ICSR_SYSTICK_PENDING;
    } while (left == 0u && !pending);
    if (pending) {
        /* It has wrapped, before the first look at the count or after: the second look is surely after. */
        whole++;
        left = CVR;
    }
    uint64_t now = whole * TICK_US + (left == 0u ? 0u : PERIOD - left) / CYCLES_PER_US;
    if (now < last) {
        /* Renode's ICSR does not show that the interrupt is pending: the wrap shows in the time going back.
         */
        now += TICK_US;
    }
    last = now;
    irq_restore(masked);
    return now;
}

uint32_t hal_cycles(void) {
#if HAL_CYCLE_COUNTER
    return DWT_CYCCNT;
#else
    return 0u;
#endif
}
