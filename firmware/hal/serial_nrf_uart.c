/* UART of the nRF51 (nRF51 Series Reference Manual, chapter 28). */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "serial_ring.h"

#define STARTRX REG(HAL_SERIAL_BASE + 0x000u)
#define STARTTX REG(HAL_SERIAL_BASE + 0x008u)
#define RXDRDY REG(HAL_SERIAL_BASE + 0x108u)
#define TXDRDY REG(HAL_SERIAL_BASE + 0x11Cu)
#define EVENT_ERROR REG(HAL_SERIAL_BASE + 0x124u)
#define INTENSET REG(HAL_SERIAL_BASE + 0x304u)
#define ERRORSRC REG(HAL_SERIAL_BASE + 0x480u)
#define ENABLE REG(HAL_SERIAL_BASE + 0x500u)
#define PSELTXD REG(HAL_SERIAL_BASE + 0x50Cu)
#define PSELRXD REG(HAL_SERIAL_BASE + 0x514u)
#define RXD REG(HAL_SERIAL_BASE + 0x518u)
#define TXD REG(HAL_SERIAL_BASE + 0x51Cu)
#define BAUDRATE REG(HAL_SERIAL_BASE + 0x524u)

/* BAUDRATE counts 16 MHz in units of 2^-32, in steps of 2^12 (the manual's table is this formula rounded). */
#define BAUD_SETTING ((uint32_t)(((((uint64_t)HAL_BAUD << 32) / 16000000u) + 0x800u) & 0xFFFFF000u))

static uint32_t sending;

void serial_start(void) {
    PSELTXD = HAL_SERIAL_TX_PIN;
    PSELRXD = HAL_SERIAL_RX_PIN;
    BAUDRATE = BAUD_SETTING;
    ENABLE = 4u;
    INTENSET = (1u << 2) | (1u << 9);
    irq_enable(HAL_SERIAL_IRQ);
    STARTRX = 1u;
    STARTTX = 1u;
}

void serial_write(uint8_t byte) {
    if (sending) {
        while (!TXDRDY) {
        }
    }
    TXDRDY = 0u;
    TXD = byte;
    sending = 1u;
}

void hal_serial_irq(void) {
    /* RXD is the head of a queue of six: the event is cleared first, so that the next byte raises it again.
     */
    while (RXDRDY) {
        RXDRDY = 0u;
        serial_ring_put((uint8_t)RXD);
    }
    if (EVENT_ERROR) {
        EVENT_ERROR = 0u;
        if (ERRORSRC & 1u) {
            serial_ring_lost(1);
        }
        ERRORSRC = 0xFu;
    }
}
