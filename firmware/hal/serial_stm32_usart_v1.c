/* USART of the STM32F1, F2, F4 and L1 (RM0008 chapter 27, RM0090 chapter 30). */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "serial_ring.h"

#define SR REG(HAL_SERIAL_BASE + 0x00u)
#define DR REG(HAL_SERIAL_BASE + 0x04u)
#define BRR REG(HAL_SERIAL_BASE + 0x08u)
#define CR1 REG(HAL_SERIAL_BASE + 0x0Cu)

#define SR_OVERRUN 0x08u
#define SR_RX_FULL 0x20u
#define SR_TX_EMPTY 0x80u

void serial_start(void) {
    BRR = (HAL_SERIAL_CLOCK_HZ + HAL_BAUD / 2u) / HAL_BAUD;
    CR1 = 0x202Cu; /* UE, RXNEIE, TE, RE */
    irq_enable(HAL_SERIAL_IRQ);
}

void serial_write(uint8_t byte) {
    while (!(SR & SR_TX_EMPTY)) {
    }
    DR = byte;
}

void hal_serial_irq(void) {
    /* Reading SR, then DR, clears the overrun. */
    const uint32_t status = SR;
    if (status & (SR_RX_FULL | SR_OVERRUN)) {
        serial_ring_put((uint8_t)DR);
    }
    if (status & SR_OVERRUN) {
        serial_ring_lost(1);
    }
}
