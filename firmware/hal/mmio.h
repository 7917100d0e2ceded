/* Registers. */
#ifndef INTAGLIO_MMIO_H
#define INTAGLIO_MMIO_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

static inline void irq_enable(uint32_t number) {
    REG(0xE000E100u + 4u * (number / 32u)) = UINT32_C(1) << (number % 32u);
}

#endif
