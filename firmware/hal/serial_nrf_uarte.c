/* UARTE of the nRF52 (nRF52840 Product Specification, 6.34). Reception by EasyDMA of one byte at a time, so
 * that every byte reaches the ring as it arrives; between the end of one and the start of the next the
 * peripheral's FIFO takes what comes. */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "serial_ring.h"

#define STARTRX REG(HAL_SERIAL_BASE + 0x000u)
#define STARTTX REG(HAL_SERIAL_BASE + 0x008u)
#define ENDRX REG(HAL_SERIAL_BASE + 0x110u)
#define ENDTX REG(HAL_SERIAL_BASE + 0x120u)
#define EVENT_ERROR REG(HAL_SERIAL_BASE + 0x124u)
#define INTENSET REG(HAL_SERIAL_BASE + 0x304u)
#define ERRORSRC REG(HAL_SERIAL_BASE + 0x480u)
#define ENABLE REG(HAL_SERIAL_BASE + 0x500u)
#define PSELTXD REG(HAL_SERIAL_BASE + 0x50Cu)
#define PSELRXD REG(HAL_SERIAL_BASE + 0x514u)
#define BAUDRATE REG(HAL_SERIAL_BASE + 0x524u)
#define RXPTR REG(HAL_SERIAL_BASE + 0x534u)
#define RXMAXCNT REG(HAL_SERIAL_BASE + 0x538u)
#define TXPTR REG(HAL_SERIAL_BASE + 0x544u)
#define TXMAXCNT REG(HAL_SERIAL_BASE + 0x548u)

#define ENABLE_UARTE 8u
#define INT_ENDRX (1u << 4)
#define INT_ERROR (1u << 9)
#define ERROR_OVERRUN 1u

/* BAUDRATE counts 16 MHz in units of 2^-32, in steps of 2^12. */
#define BAUD_SETTING ((uint32_t)(((((uint64_t)HAL_BAUD << 32) / 16000000u) + 0x800u) & 0xFFFFF000u))

/* EasyDMA reads and writes RAM only. One byte is received at a time; the room behind it is for Renode, whose
 * model takes the bytes that arrive between the end of one transfer and the start of the next into memory
 * behind it. */
static volatile uint8_t received[1u + HAL_RX_WINDOW];
static volatile uint8_t sent;

void serial_start(void) {
    PSELTXD = HAL_SERIAL_TX_PIN;
    PSELRXD = HAL_SERIAL_RX_PIN;
    BAUDRATE = BAUD_SETTING;
    ENABLE = ENABLE_UARTE;
    RXPTR = (uint32_t)(uintptr_t)received;
    RXMAXCNT = 1u;
    TXPTR = (uint32_t)(uintptr_t)&sent;
    TXMAXCNT = 1u;
    ENDRX = 0u;
    INTENSET = INT_ENDRX | INT_ERROR;
    irq_enable(HAL_SERIAL_IRQ);
    STARTRX = 1u;
}

void serial_write(uint8_t byte) {
    sent = byte;
    ENDTX = 0u;
    STARTTX = 1u;
    while (!ENDTX) {
    }
}

void hal_serial_irq(void) {
    if (ENDRX) {
        const uint8_t byte = received[0];
        ENDRX = 0u;
        STARTRX = 1u;
        serial_ring_put(byte);
    }
    if (EVENT_ERROR) {
        const uint32_t source = ERRORSRC;
        EVENT_ERROR = 0u;
        ERRORSRC = source;
        if (source & ERROR_OVERRUN) {
            serial_ring_lost(1);
        }
    }
}
