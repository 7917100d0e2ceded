/* USART of the STM32F0, F3, F7, H7, L0, L4 and L5 (RM0091 chapter 27, RM0433 chapter 48). */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "serial_ring.h"

#define CR1 REG(HAL_SERIAL_BASE + 0x00u)
#define BRR REG(HAL_SERIAL_BASE + 0x0Cu)
#define ISR REG(HAL_SERIAL_BASE + 0x1Cu)
#define ICR REG(HAL_SERIAL_BASE + 0x20u)
#define RDR REG(HAL_SERIAL_BASE + 0x24u)
#define TDR REG(HAL_SERIAL_BASE + 0x28u)

#define ISR_OVERRUN 0x08u
#define ISR_RX_FULL 0x20u
#define ISR_TX_EMPTY 0x80u

void serial_start(void) {
    BRR = (HAL_SERIAL_CLOCK_HZ + HAL_BAUD / 2u) / HAL_BAUD;
    CR1 = 0x2Du; /* UE, RE, TE, RXNEIE */
    irq_enable(HAL_SERIAL_IRQ);
}

void serial_write(uint8_t byte) {
    while (!(ISR & ISR_TX_EMPTY)) {
    }
    TDR = byte;
}

void hal_serial_irq(void) {
    while (ISR & ISR_RX_FULL) {
        serial_ring_put((uint8_t)RDR);
    }
    if (ISR & ISR_OVERRUN) {
        ICR = ISR_OVERRUN;
        serial_ring_lost(1);
    }
}
