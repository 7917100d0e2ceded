/* PL011 (PrimeCell UART TRM, DDI 0183); also the UART of the Stellaris LM3S parts and of the RP2040. */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "serial_ring.h"

#define DR REG(HAL_SERIAL_BASE + 0x000u)
#define FR REG(HAL_SERIAL_BASE + 0x018u)
#define IBRD REG(HAL_SERIAL_BASE + 0x024u)
#define FBRD REG(HAL_SERIAL_BASE + 0x028u)
#define LCRH REG(HAL_SERIAL_BASE + 0x02Cu)
#define CR REG(HAL_SERIAL_BASE + 0x030u)
#define IFLS REG(HAL_SERIAL_BASE + 0x034u)
#define IMSC REG(HAL_SERIAL_BASE + 0x038u)
#define ICR REG(HAL_SERIAL_BASE + 0x044u)

#define FR_RX_EMPTY 0x10u
#define FR_TX_FULL 0x20u
#define DR_OVERRUN 0x800u
#define LCRH_FIFOS 0x10u
#define LCRH_8_BITS 0x60u
#define RX_INTERRUPTS 0x50u /* receive level and receive time-out */

/* Divisor in sixty-fourths, rounded. */
#define DIVISOR ((uint32_t)(((uint64_t)HAL_SERIAL_CLOCK_HZ * 4u + HAL_BAUD / 2u) / HAL_BAUD))

void serial_start(void) {
    CR = 0u;
    /* Turning the FIFOs off flushes them. Bytes from before a reset would hold the receive FIFO above the
     * level that interrupts, and no later byte would cross it. */
    LCRH = LCRH_8_BITS;
    ICR = 0x7FFu;
    IBRD = DIVISOR / 64u;
    FBRD = DIVISOR % 64u;
    LCRH = LCRH_8_BITS | LCRH_FIFOS;
    IFLS = 0u; /* interrupt from an eighth full on */
    IMSC = RX_INTERRUPTS;
    CR = 0x301u;
    irq_enable(HAL_SERIAL_IRQ);
}

void serial_write(uint8_t byte) {
    while (FR & FR_TX_FULL) {
    }
    DR = byte;
}

void hal_serial_irq(void) {
    ICR = RX_INTERRUPTS;
    while (!(FR & FR_RX_EMPTY)) {
        const uint32_t data = DR;
        serial_ring_put((uint8_t)data);
        if (data & DR_OVERRUN) {
            serial_ring_lost(1);
        }
    }
}
