/* Registers and interrupts. */
#ifndef INTAGLIO_MMIO_H
#define INTAGLIO_MMIO_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

static inline void irq_enable(uint32_t number) {
    REG(0xE000E100u + 4u * (number / 32u)) = UINT32_C(1) << (number % 32u);
}

/* Masks interrupts; returns what irq_restore wants. */
static inline uint32_t irq_mask(void) {
    uint32_t before;
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(before)::"memory");
    return before;
}

static inline void irq_restore(uint32_t before) {
    __asm__ volatile("msr primask, %0" ::"r"(before) : "memory");
}

#endif
