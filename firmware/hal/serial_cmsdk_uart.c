/* CMSDK APB UART (Arm Cortex-M System Design Kit TRM, DDI 0479, 4.3). */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "serial_ring.h"

#define DATA REG(HAL_SERIAL_BASE + 0x000u)
#define STATE REG(HAL_SERIAL_BASE + 0x004u)
#define CTRL REG(HAL_SERIAL_BASE + 0x008u)
#define INTCLEAR REG(HAL_SERIAL_BASE + 0x00Cu)
#define BAUDDIV REG(HAL_SERIAL_BASE + 0x010u)

#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define STATE_RX_OVERRUN 8u
#define CTRL_TX 1u
#define CTRL_RX 2u
#define CTRL_RX_INTERRUPT 8u

void serial_start(void) {
    BAUDDIV = HAL_SERIAL_CLOCK_HZ / HAL_BAUD;
    CTRL = CTRL_TX | CTRL_RX | CTRL_RX_INTERRUPT;
    irq_enable(HAL_SERIAL_IRQ);
}

void serial_write(uint8_t byte) {
    while (STATE & STATE_TX_FULL) {
    }
    DATA = byte;
}

void hal_serial_irq(void) {
    INTCLEAR = 2u;
    while (STATE & STATE_RX_FULL) {
        serial_ring_put((uint8_t)DATA);
    }
    if (STATE & STATE_RX_OVERRUN) {
        STATE = STATE_RX_OVERRUN;
        serial_ring_lost(1);
    }
}
