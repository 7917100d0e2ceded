/* UARTE of the nRF52 (nRF52840 Product Specification, 6.34): EasyDMA into one byte at a time, so that every
 * byte reaches the ring as it arrives. */
#include "board.h"
#include "hal.h"
#include "mmio.h"
#include "serial_ring.h"

#define STARTRX REG(HAL_SERIAL_BASE + 0x000u)
#define STARTTX REG(HAL_SERIAL_BASE + 0x008u)
#define ENDRX REG(HAL_SERIAL_BASE + 0x110u)
#define ENDTX REG(HAL_SERIAL_BASE + 0x120u)
#define EVENT_ERROR REG(HAL_SERIAL_BASE + 0x124u)
#define SHORTS REG(HAL_SERIAL_BASE + 0x200u)
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

#define BAUD_SETTING ((uint32_t)(((((uint64_t)HAL_BAUD << 32) / 16000000u) + 0x800u) & 0xFFFFF000u))

static volatile uint8_t received;
static volatile uint8_t sent;

void serial_start(void) {
    PSELTXD = HAL_SERIAL_TX_PIN;
    PSELRXD = HAL_SERIAL_RX_PIN;
    BAUDRATE = BAUD_SETTING;
    ENABLE = 8u;
    RXPTR = (uint32_t)(uintptr_t)&received;
    RXMAXCNT = 1u;
    TXPTR = (uint32_t)(uintptr_t)&sent;
    TXMAXCNT = 1u;
    SHORTS = 1u << 5; /* ENDRX starts the next reception: the peripheral's FIFO bridges the gap */
    INTENSET = (1u << 4) | (1u << 9);
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
        ENDRX = 0u;
        serial_ring_put(received);
    }
    if (EVENT_ERROR) {
        EVENT_ERROR = 0u;
        if (ERRORSRC & 1u) {
            serial_ring_lost(1);
        }
        ERRORSRC = 0xFu;
    }
}
